//! Cooperative exits, refunds of static deposits, unilateral exits.

mod common;

use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash as _;
use bitcoin::psbt::Psbt;
use bitcoin::secp256k1::{Message, Secp256k1};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{Address, Amount, OutPoint, ScriptBuf, Transaction, TxOut, Witness};
use common::{
    ANY, array, assert_is, bytes, key, list, number, outpoint, public, secret_key, small, text, tx,
};
use serde_json::Value;
use tinderbox_protocol::hash::{StaticDepositRequest, StaticDepositStatement};
use tinderbox_protocol::refunds::{LeafTxs, RefundPurpose, expected};
use tinderbox_protocol::tx::connector::ConnectorTx;
use tinderbox_protocol::tx::fee_bump::{self, find_anchor};
use tinderbox_protocol::tx::{TxField, Utxo, is_anchor, parse_any, static_deposit, verify_input};
use tinderbox_protocol::{Error, LeafSequence, Network, Sats};

fn leaf_of(vectors: &Value, label: &str) -> LeafTxs {
    match label {
        "zero node" => LeafTxs {
            node_tx: tx(&vectors["deposit_tree"]["root_node_tx"]),
            direct_tx: None,
        },
        "timelocked node" => LeafTxs {
            node_tx: tx(&vectors["timelocked_leaf"]["node"]),
            direct_tx: Some(tx(&vectors["timelocked_leaf"]["directNode"])),
        },
        other => panic!("unknown leaf {other}"),
    }
}

#[test]
fn connector_refunds_are_the_recorded_ones() {
    let vectors = common::transactions();
    let group = &vectors["coop_exit"];
    let exit = tx(&group["exit_tx"]).compute_txid();
    assert_eq!(exit.to_string(), text(&group["exit_txid_request_bytes"]));
    let leaves = list(&group["leaf_refunds"]);
    let raw = bytes(&group["connector_tx"]["raw_tx"]);
    let connectors = ConnectorTx::parse(&raw, exit, leaves.len()).unwrap();
    for (place, case) in leaves.iter().enumerate() {
        let what = text(&case["label"]);
        let connector = connectors.connector(place).unwrap();
        assert_eq!(connector.outpoint.vout, small(&case["connector_vout"]));
        let purpose = RefundPurpose::CoopExit {
            current: LeafSequence::from_consensus(small(&case["current_refund_sequence"])).unwrap(),
            receiver: public(&group["receiver_identity"]),
            connector,
        };
        let set = expected(&leaf_of(&vectors, what), &purpose).unwrap();
        assert_is(&set.cpfp, &case["cpfp_refund"], what);
        assert_is(
            &set.direct_from_cpfp,
            &case["direct_from_cpfp_refund"],
            what,
        );
        match &set.direct {
            Some(direct) => assert_is(direct, &case["direct_refund"], what),
            None => assert!(case["direct_refund"].is_null(), "{what}"),
        }
    }
    // The last output pays the fee and is no connector.
    assert!(matches!(
        connectors.connector(leaves.len()),
        Err(Error::MissingOutput { .. })
    ));
}

#[test]
fn a_payout_to_another_address_or_of_less_is_refused() {
    use tinderbox_protocol::tx::connector::check_payout;
    let vectors = common::transactions();
    let group = &vectors["coop_exit"];
    let exit = tx(&group["exit_tx"]);
    let txid = exit.compute_txid();
    let address: Address = text(&group["withdrawal_address"])
        .parse::<Address<_>>()
        .unwrap()
        .assume_checked();
    let paid = Sats(exit.output[0].value.to_sat());
    let check = |txid, to: &ScriptBuf, least| check_payout(&exit, txid, to, least);
    let script = address.script_pubkey();
    let recorded = &group["payout_check"];
    assert_eq!(recorded["exact"], "ok");
    check(txid, &script, paid).unwrap();
    assert_eq!(recorded["lower_expected"], "ok");
    check(txid, &script, Sats(paid.0 - 1)).unwrap();
    assert_eq!(recorded["higher_expected"]["rejected"], true);
    assert!(check(txid, &script, Sats(paid.0 + 1)).is_err());
    assert_eq!(recorded["txid_bytes_reversed"]["rejected"], true);
    let mut reversed = txid.to_byte_array();
    reversed.reverse();
    let reversed = bitcoin::Txid::from_byte_array(reversed);
    assert!(check(reversed, &script, paid).is_err());
    assert_eq!(recorded["other_address"]["rejected"], true);
    let other = tinderbox_protocol::tx::p2tr(&key(&vectors, "connector_0"));
    assert!(check(txid, &other, paid).is_err());
}

#[test]
fn a_connector_transaction_of_another_exit_or_shape_is_refused() {
    let vectors = common::transactions();
    let group = &vectors["coop_exit"];
    let exit = tx(&group["exit_tx"]).compute_txid();
    let good = tx(&group["connector_tx"]);
    let parse = |tx: &Transaction, leaves| {
        ConnectorTx::parse(&bitcoin::consensus::serialize(tx), exit, leaves)
    };
    parse(&good, 2).unwrap();
    let field = |tx: &Transaction, leaves| match parse(tx, leaves) {
        Err(Error::TxMismatch { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(field(&good, 1), TxField::OutputCount);
    assert_eq!(field(&good, 3), TxField::OutputCount);
    let mut other = good.clone();
    other.input[0].previous_output.txid = bitcoin::Txid::from_byte_array([9; 32]);
    assert_eq!(field(&other, 2), TxField::Prevout(0));
    let mut other = good.clone();
    other.input.push(good.input[0].clone());
    assert_eq!(field(&other, 2), TxField::InputCount);
    let mut other = good.clone();
    other.version = bitcoin::transaction::Version::TWO;
    assert_eq!(field(&other, 2), TxField::Version);
    let mut other = good.clone();
    other.lock_time = bitcoin::absolute::LockTime::from_consensus(1);
    assert_eq!(field(&other, 2), TxField::LockTime);
    let mut other = good;
    other.input[0].witness = Witness::from_slice(&[[1_u8; 64]]);
    assert!(matches!(parse(&other, 2), Err(Error::MalformedTx { .. })));
}

#[test]
fn a_static_deposit_refund_and_its_statement_are_the_recorded_ones() {
    let vectors = common::transactions();
    let group = &vectors["static_deposit_refund"];
    let deposit_tx = tx(&group["deposit_tx"]);
    let deposit = Utxo::of(&deposit_tx, small(&group["vout"])).unwrap();
    let verifying_key = key(&vectors, "static_verifying_key");
    assert_eq!(
        tinderbox_protocol::deposit::address(&verifying_key, Network::Local).to_string(),
        text(&group["deposit_address"])
    );
    let fee = static_deposit::fee(&deposit, number(&group["sats_per_vbyte"])).unwrap();
    assert_eq!(fee.0, number(&group["fee"]));
    let destination: Address = text(&group["destination"])
        .parse::<Address<_>>()
        .unwrap()
        .assume_checked();
    let refund = static_deposit::refund(&deposit, destination.script_pubkey(), fee).unwrap();
    assert_is(&refund, &group["refund_tx"], "refund");
    let credit = Sats(number(&group["credit_amount_sats"]));
    assert_eq!(Sats(refund.tx.output[0].value.to_sat()), credit);

    let txid = deposit_tx.compute_txid().to_string();
    let statement = StaticDepositStatement {
        network: Network::Local,
        txid: &txid,
        vout: small(&group["vout"]),
        credit,
        request: StaticDepositRequest::Refund {
            spend_sighash: &refund.sighash().unwrap(),
        },
    };
    assert_eq!(statement.payload(), bytes(&group["user_statement_payload"]));
    assert_eq!(
        statement.digest(),
        array::<32>(&group["user_statement_hash"])
    );
}

#[test]
fn a_static_deposit_refund_with_an_impossible_fee_is_refused() {
    let deposit = Utxo {
        outpoint: outpoint(1, 0),
        output: TxOut {
            value: Amount::from_sat(1000),
            script_pubkey: ScriptBuf::new(),
        },
    };
    let refund = |fee| static_deposit::refund(&deposit, ScriptBuf::new(), Sats(fee));
    assert!(refund(193).is_err());
    assert!(refund(194).is_ok());
    assert!(refund(999).is_ok());
    assert!(refund(1000).is_err());
    assert!(static_deposit::fee(&deposit, 0).is_err());
    assert!(static_deposit::fee(&deposit, 150).is_ok());
    assert!(static_deposit::fee(&deposit, 151).is_err());
    assert!(static_deposit::fee(&deposit, u64::MAX).is_err());
}

fn signed(value: &Value) -> Transaction {
    parse_any(&bytes(value), ANY).unwrap()
}

/// Signs the P2WPKH inputs as the recorded wallet did, and leaves the anchor's witness empty.
fn fund(vectors: &Value, bump: &fee_bump::FeeBump) -> Transaction {
    let curve = Secp256k1::new();
    let secret = secret_key(vectors, "funding_p2wpkh");
    let public = key(vectors, "funding_p2wpkh");
    let mut done = bump.child.tx.clone();
    for (input, utxo) in bump.used.iter().enumerate() {
        let hash = SighashCache::new(&bump.child.tx)
            .p2wpkh_signature_hash(
                input,
                &utxo.output.script_pubkey,
                utxo.output.value,
                EcdsaSighashType::All,
            )
            .unwrap();
        let signature = bitcoin::ecdsa::Signature::sighash_all(
            curve.sign_ecdsa(&Message::from_digest(hash.to_byte_array()), &secret),
        );
        done.input[input].witness = Witness::p2wpkh(&signature, &public);
    }
    done
}

fn assert_package(vectors: &Value, name: &str, parent: &Transaction) {
    let group = &vectors["unilateral_exit"];
    let package = &group[name];
    let script = ScriptBuf::from_bytes(bytes(&group["funding_script"]));
    let mut funding: Vec<Utxo> = list(&package["used_utxos"])
        .iter()
        .map(|utxo| Utxo {
            outpoint: OutPoint {
                txid: text(&utxo["txid"]).parse().unwrap(),
                vout: small(&utxo["vout"]),
            },
            output: TxOut {
                value: Amount::from_sat(number(&utxo["value"])),
                script_pubkey: script.clone(),
            },
        })
        .collect();
    // Given in any order, the largest is used first.
    funding.reverse();
    assert_eq!(
        parent.vsize(),
        usize::try_from(number(&package["parent_vsize"])).unwrap()
    );
    let bump = fee_bump::build(parent, &funding, Some(number(&package["sat_per_vbyte"]))).unwrap();
    assert_is(&bump.child, &package["child"], name);
    assert_eq!(bump.fee.0, number(&package["fee"]));
    assert_eq!(bump.change.output.script_pubkey, script);
    assert_eq!(bump.change.outpoint.txid, bump.child.compute_txid());
    assert_eq!(
        bitcoin::consensus::encode::serialize_hex(&fund(vectors, &bump)),
        text(&package["signed_child"])
    );
    let recorded = Psbt::deserialize(&bytes(&package["psbt"])).unwrap();
    let psbt = bump.psbt().unwrap();
    assert_eq!(psbt.unsigned_tx, recorded.unsigned_tx);
    for (ours, theirs) in psbt.inputs.iter().zip(&recorded.inputs) {
        assert_eq!(ours.witness_utxo, theirs.witness_utxo);
    }
}

#[test]
fn exit_packages_are_the_recorded_ones() {
    let vectors = common::transactions();
    let group = &vectors["unilateral_exit"];
    let node = signed(&group["signed_node_tx"]);
    let refund = signed(&group["signed_cpfp_refund_tx"]);
    let direct = signed(&group["signed_direct_from_cpfp_refund_tx"]);
    let sizes = &group["vsizes"];
    for (tx, size) in [
        (&node, &sizes["node"]),
        (&refund, &sizes["cpfp_refund"]),
        (&direct, &sizes["direct_from_cpfp_refund"]),
    ] {
        assert_eq!(u64::try_from(tx.vsize()).unwrap(), number(size));
    }
    assert_package(&vectors, "node_package", &node);
    assert_package(&vectors, "refund_package", &refund);
    assert_package(&vectors, "two_funding_inputs", &node);
    // Direct transactions have no anchor: they pay for themselves.
    assert!(find_anchor(&direct).is_err());
}

#[test]
fn recorded_signatures_verify_and_changed_ones_do_not() {
    let vectors = common::transactions();
    let group = &vectors["unilateral_exit"];
    let tree = &vectors["deposit_tree"];
    let root = &tree["root_node_tx"];
    let refund = &tree["refunds"]["cpfp_refund"];
    let from_cpfp = &tree["refunds"]["direct_from_cpfp_refund"];
    for (name, unsigned, signature) in [
        ("signed_node_tx", root, Some("node_signature")),
        (
            "signed_cpfp_refund_tx",
            refund,
            Some("cpfp_refund_signature"),
        ),
        ("signed_direct_from_cpfp_refund_tx", from_cpfp, None),
    ] {
        let prevouts = common::prevouts(&unsigned["prevouts"]);
        let complete = signed(&group[name]);
        verify_input(&complete, 0, &prevouts, ANY).unwrap();
        if let Some(signature) = signature {
            let made = tinderbox_protocol::tx::finalize(tx(unsigned), 0, &array(&group[signature]));
            assert_eq!(made, complete, "{name}");
        }
        let mut other = complete.clone();
        other.output[0].value = Amount::from_sat(1);
        assert!(matches!(
            verify_input(&other, 0, &prevouts, ANY),
            Err(Error::BadSignature { .. })
        ));
        assert!(verify_input(&tx(unsigned), 0, &prevouts, ANY).is_err());
    }
    let timelocked = &vectors["timelocked_leaf"];
    let timelocked_signed = &group["timelocked_leaf_signed"];
    for (name, unsigned) in [
        ("direct_node", &timelocked["directNode"]),
        ("direct_refund", &timelocked["refunds"]["direct_refund"]),
    ] {
        let case = &timelocked_signed[name];
        let complete = signed(&case["raw"]);
        let prevouts = common::prevouts(&unsigned["prevouts"]);
        verify_input(&complete, 0, &prevouts, ANY).unwrap();
        assert_eq!(complete.compute_txid().to_string(), text(&unsigned["txid"]));
        assert_eq!(
            u64::try_from(complete.vsize()).unwrap(),
            number(&case["vsize"])
        );
        let fee = prevouts[0].value - complete.output[0].value;
        assert_eq!(fee.to_sat(), number(&case["fee"]));
    }
}

#[test]
fn anchors_are_recognised_as_recorded() {
    for case in list(&common::transactions()["unilateral_exit"]["anchor_detection"]) {
        let output = TxOut {
            value: Amount::from_sat(number(&case["value"])),
            script_pubkey: ScriptBuf::from_bytes(bytes(&case["script"])),
        };
        assert_eq!(is_anchor(&output), case["is_anchor"] == true, "{case}");
    }
}

fn funding(values: &[u64]) -> Vec<Utxo> {
    values
        .iter()
        .enumerate()
        .map(|(place, value)| Utxo {
            outpoint: outpoint(7, u32::try_from(place).unwrap()),
            output: TxOut {
                value: Amount::from_sat(*value),
                script_pubkey: ScriptBuf::from_bytes(vec![0, 20]),
            },
        })
        .collect()
}

#[test]
fn a_fee_bump_without_a_rate_spends_everything_for_a_flat_fee() {
    let vectors = common::transactions();
    let parent = signed(&vectors["unilateral_exit"]["signed_node_tx"]);
    let bump = fee_bump::build(&parent, &funding(&[1000, 1501]), None).unwrap();
    assert_eq!(bump.used.len(), 2);
    assert_eq!(bump.child.output[0].value.to_sat(), 1001);
    assert_eq!(bump.fee, Sats(1500));
}

/// Case 56: the child of a version 3 transaction may have 1,000 virtual bytes, no more.
#[test]
fn a_fee_bump_that_would_not_relay_is_refused() {
    let vectors = common::transactions();
    let parent = signed(&vectors["unilateral_exit"]["signed_node_tx"]);
    let fits = fee_bump::build(&parent, &funding(&[200; 13]), Some(1)).unwrap();
    assert!(fits.used.len() <= 13);
    assert!(fee_bump::build(&parent, &funding(&[200; 13]), None).is_ok());
    assert!(matches!(
        fee_bump::build(&parent, &funding(&[200; 14]), None),
        Err(Error::TooLarge { vsize: 1035, .. })
    ));
}

#[test]
fn a_fee_bump_without_enough_funding_is_refused() {
    let vectors = common::transactions();
    let parent = signed(&vectors["unilateral_exit"]["signed_node_tx"]);
    for rate in [None, Some(5), Some(u64::MAX)] {
        assert!(fee_bump::build(&parent, &[], rate).is_err());
        assert!(fee_bump::build(&parent, &funding(&[100]), rate).is_err());
    }
    assert!(matches!(
        fee_bump::build(&parent, &funding(&[1375]), Some(5)),
        Err(Error::NotEnoughFunds {
            needed: Sats(1375),
            ..
        })
    ));
    let anchorless: Transaction =
        deserialize(&bytes(&vectors["deposit_tree"]["deposit_tx"]["raw_tx"])).unwrap();
    assert!(fee_bump::build(&anchorless, &funding(&[10_000]), Some(1)).is_err());
}
