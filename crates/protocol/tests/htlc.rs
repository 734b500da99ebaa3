//! Hash-locked refunds and their spends.

mod common;

use bitcoin::secp256k1::{Keypair, Message, PublicKey, Secp256k1, SecretKey};
use bitcoin::taproot::{LeafVersion, TapLeafHash};
use common::{array, assert_is, bytes, key, list, number, public, secret_key, small, text, tx};
use serde_json::Value;
use tinderbox_protocol::refunds::{LeafTxs, RefundPurpose, expected};
use tinderbox_protocol::tx::TxKind;
use tinderbox_protocol::tx::htlc::{HtlcOutput, spend_fee};
use tinderbox_protocol::{Error, LeafSequence, Sats};

fn output(group: &Value) -> HtlcOutput {
    HtlcOutput::new(
        array(&group["payment_hash"]),
        public(&group["hash_lock_destination_pubkey"]),
        public(&group["sequence_lock_destination_pubkey"]),
    )
}

#[test]
fn scripts_and_control_blocks_are_the_recorded_ones() {
    let vectors = common::transactions();
    let group = &vectors["htlc"];
    let htlc = output(group);
    let (hash_lock, timeout) = (htlc.hash_lock_script(), htlc.timeout_script());
    assert_eq!(hash_lock.to_bytes(), bytes(&group["hash_lock_script"]));
    assert_eq!(timeout.to_bytes(), bytes(&group["sequence_lock_script"]));
    for (script, hash) in [
        (&hash_lock, "hash_lock_leaf_hash"),
        (&timeout, "sequence_lock_leaf_hash"),
    ] {
        let leaf = TapLeafHash::from_script(script, LeafVersion::TapScript);
        assert_eq!(AsRef::<[u8]>::as_ref(&leaf).to_vec(), bytes(&group[hash]));
    }
    assert_eq!(
        AsRef::<[u8]>::as_ref(&htlc.merkle_root()).to_vec(),
        bytes(&group["merkle_root"])
    );
    assert_eq!(
        tinderbox_protocol::tx::htlc::NO_KEY.to_vec(),
        bytes(&group["internal_key_xonly"])
    );
    let script = htlc.script_pubkey().unwrap();
    assert_eq!(script.to_bytes(), bytes(&group["output_script"]));
    assert_eq!(
        bitcoin::Address::from_script(&script, bitcoin::Network::Regtest)
            .unwrap()
            .to_string(),
        text(&group["address_local"])
    );
    assert_eq!(
        htlc.hash_lock_control_block().unwrap().serialize(),
        bytes(&group["hash_lock_control_block"])
    );
    assert_eq!(
        htlc.timeout_control_block().unwrap().serialize(),
        bytes(&group["sequence_lock_control_block"])
    );
}

#[test]
fn refund_sets_are_the_recorded_ones() {
    let vectors = common::transactions();
    let group = &vectors["htlc"];
    let timelocked = LeafTxs {
        node_tx: tx(&vectors["timelocked_leaf"]["node"]),
        direct_tx: Some(tx(&vectors["timelocked_leaf"]["directNode"])),
    };
    let root = LeafTxs {
        node_tx: tx(&vectors["deposit_tree"]["root_node_tx"]),
        direct_tx: None,
    };
    let zero_renewed = LeafTxs {
        node_tx: tx(&vectors["renew_node_zero_timelock"]["node"]),
        direct_tx: Some(tx(&vectors["renew_node_zero_timelock"]["directNode"])),
    };
    let leaves = [timelocked, root, zero_renewed];
    let sets = list(&group["refund_sets"]);
    assert_eq!(sets.len(), 4);
    for set in sets {
        let what = text(&set["label"]);
        let spent = text(&set["cpfp_refund"]["inputs"][0]["txid"]);
        let leaf = leaves
            .iter()
            .find(|leaf| leaf.node_tx.compute_txid().to_string() == spent)
            .unwrap_or_else(|| panic!("{what}: unknown leaf"));
        let current = LeafSequence::from_consensus(small(&set["current_refund_sequence"])).unwrap();
        let step = current.next_htlc().unwrap();
        assert_eq!(step.cpfp.to_consensus(), small(&set["htlc_sequence"]));
        assert_eq!(
            step.direct.to_consensus(),
            small(&set["htlc_direct_sequence"])
        );
        let built = expected(
            leaf,
            &RefundPurpose::Htlc {
                current,
                htlc: output(group),
            },
        )
        .unwrap();
        assert_is(&built.cpfp, &set["cpfp_refund"], what);
        assert_is(
            &built.direct_from_cpfp,
            &set["direct_from_cpfp_refund"],
            what,
        );
        match &built.direct {
            Some(direct) => assert_is(direct, &set["direct_refund"], what),
            None => assert!(set["direct_refund"].is_null(), "{what}"),
        }
    }
}

/// BIP 340 with auxiliary randomness of zeros, as the vectors were made.
fn sign(key: &SecretKey, digest: [u8; 32]) -> [u8; 64] {
    let curve = Secp256k1::new();
    let pair = Keypair::from_secret_key(&curve, key);
    curve
        .sign_schnorr_with_aux_rand(&Message::from_digest(digest), &pair, &[0; 32])
        .serialize()
}

#[test]
fn both_spends_are_the_recorded_ones() {
    let vectors = common::transactions();
    let group = &vectors["htlc"];
    let spends = &group["spends"];
    let htlc = output(group);
    let funding = tx(&group["refund_sets"][0]["cpfp_refund"]);
    assert_eq!(
        funding.compute_txid().to_string(),
        text(&spends["spent_htlc_txid"])
    );
    let fee = spend_fee(2).unwrap();
    assert_eq!(fee.0, number(&spends["fee"]));

    let back = htlc.timeout_spend(&funding, fee).unwrap();
    assert_is(&back, &spends["sender_timeout_spend"], "timeout");
    let signature = sign(
        &secret_key(&vectors, "user_identity"),
        htlc.timeout_sighash(&back).unwrap(),
    );
    let signed = htlc.finalize_timeout(&back, &signature).unwrap();
    assert_eq!(
        bitcoin::consensus::encode::serialize_hex(&signed),
        text(&spends["sender_timeout_spend"]["signed_tx"])
    );

    let taken = htlc.preimage_spend(&funding, fee).unwrap();
    assert_is(&taken, &spends["receiver_preimage_spend"], "preimage");
    let signature = sign(
        &secret_key(&vectors, "ssp_identity"),
        htlc.preimage_sighash(&taken).unwrap(),
    );
    let signed = htlc
        .finalize_preimage(&taken, &signature, &array(&group["preimage"]))
        .unwrap();
    assert_eq!(
        bitcoin::consensus::encode::serialize_hex(&signed),
        text(&spends["receiver_preimage_spend"]["signed_tx"])
    );
    assert!(
        htlc.finalize_preimage(&taken, &signature, &[0; 32])
            .is_err()
    );
}

#[test]
fn a_fee_that_leaves_nothing_is_refused() {
    let vectors = common::transactions();
    let group = &vectors["htlc"];
    let funding = tx(&group["refund_sets"][0]["cpfp_refund"]);
    for fee in [Sats(100_000), Sats(u64::MAX)] {
        assert!(matches!(
            output(group).timeout_spend(&funding, fee),
            Err(Error::InvalidFee { .. })
        ));
    }
}

#[test]
fn an_output_of_other_parties_is_refused() {
    let vectors = common::transactions();
    let group = &vectors["htlc"];
    let node_tx = tx(&vectors["deposit_tree"]["root_node_tx"]);
    let leaf = LeafTxs {
        node_tx,
        direct_tx: None,
    };
    let hash: [u8; 32] = array(&group["payment_hash"]);
    let (us, them) = (
        key(&vectors, "ssp_identity"),
        key(&vectors, "user_identity"),
    );
    let set = |hash: [u8; 32], receiver: PublicKey, sender: PublicKey| {
        let purpose = RefundPurpose::Htlc {
            current: LeafSequence::INITIAL,
            htlc: HtlcOutput::new(hash, receiver, sender),
        };
        expected(&leaf, &purpose).unwrap()
    };
    let wanted = set(hash, us, them);
    assert!(wanted.cpfp.check(&wanted.cpfp.serialize()).is_ok());
    for other in [set(hash, them, us), set([7; 32], us, them)] {
        let refused = wanted.cpfp.check(&other.cpfp.serialize());
        assert!(matches!(
            refused,
            Err(Error::TxMismatch {
                kind: TxKind::CpfpRefund,
                ..
            })
        ));
    }
}
