//! Every recorded transaction of the official wallet is built again, byte for byte.

mod common;

use bitcoin::Transaction;
use common::{assert_is, bytes, key, list, number, public, small, text, tx};
use serde_json::Value;
use tinderbox_protocol::refunds::{ClaimBasis, LeafTxs, RefundPurpose, RefundSet, expected};
use tinderbox_protocol::timelock::LeafSequence;
use tinderbox_protocol::tx::fee::after_direct_fee;
use tinderbox_protocol::tx::{Utxo, node, p2tr, root};
use tinderbox_protocol::{Sats, Timelock, renewal};

fn leaf(node_tx: Transaction, direct_tx: Option<Transaction>) -> LeafTxs {
    LeafTxs { node_tx, direct_tx }
}

fn sequence(value: &Value) -> LeafSequence {
    LeafSequence::from_consensus(small(value)).unwrap()
}

/// Asserts a whole set, and that the comparison takes it and nothing less or more.
fn assert_set(set: &RefundSet, recorded: &Value, what: &str) {
    assert_is(&set.cpfp, &recorded["cpfp_refund"], what);
    assert_is(
        &set.direct_from_cpfp,
        &recorded["direct_from_cpfp_refund"],
        what,
    );
    match &set.direct {
        Some(direct) => assert_is(direct, &recorded["direct_refund"], what),
        None => assert!(recorded["direct_refund"].is_null(), "{what}"),
    }
    let raw = |name: &str| {
        recorded[name]["raw_tx"]
            .as_str()
            .map(|hex| hex::decode(hex).unwrap())
    };
    let cpfp = raw("cpfp_refund").unwrap();
    let direct = raw("direct_refund");
    let from_cpfp = raw("direct_from_cpfp_refund");
    let checked = set.check(&cpfp, direct.as_deref(), from_cpfp.as_deref());
    assert_eq!(checked.as_ref(), Ok(set), "{what}");
    assert!(set.check(&cpfp, direct.as_deref(), None).is_err(), "{what}");
    let flipped = if direct.is_some() {
        None
    } else {
        Some(cpfp.as_slice())
    };
    assert!(
        set.check(&cpfp, flipped, from_cpfp.as_deref()).is_err(),
        "{what}"
    );
}

fn root_leaf(vectors: &Value) -> LeafTxs {
    leaf(tx(&vectors["deposit_tree"]["root_node_tx"]), None)
}

fn timelocked_leaf(vectors: &Value) -> LeafTxs {
    leaf(
        tx(&vectors["timelocked_leaf"]["node"]),
        Some(tx(&vectors["timelocked_leaf"]["directNode"])),
    )
}

fn initial(vectors: &Value) -> RefundPurpose {
    RefundPurpose::Initial {
        owner_signing_key: key(vectors, "user_signing_leaf"),
    }
}

#[test]
fn constants_are_the_recorded_ones() {
    use tinderbox_protocol::timelock as t;
    use tinderbox_protocol::tx::{anchor, fee, htlc};
    let vectors = common::transactions();
    let c = &vectors["constants"];
    assert_eq!(u64::from(t::INITIAL.0), number(&c["INITIAL_SEQUENCE"]));
    assert_eq!(u64::from(t::INTERVAL), number(&c["TIME_LOCK_INTERVAL"]));
    assert_eq!(
        u64::from(t::DIRECT_OFFSET),
        number(&c["DIRECT_TIMELOCK_OFFSET"])
    );
    assert_eq!(
        u64::from(t::HTLC_OFFSET),
        number(&c["HTLC_TIMELOCK_OFFSET"])
    );
    assert_eq!(
        u64::from(t::DIRECT_HTLC_OFFSET),
        number(&c["DIRECT_HTLC_TIMELOCK_OFFSET"])
    );
    assert_eq!(u64::from(t::HTLC_TIMEOUT.0), number(&c["HTLC_CSV"]));
    assert_eq!(
        LeafSequence::ZERO.to_consensus(),
        small(&c["ZERO_SEQUENCE"])
    );
    assert_eq!(fee::DIRECT_FEE.0, number(&c["DEFAULT_FEE_SATS"]));
    assert_eq!(
        fee::DIRECT_FEE.0,
        number(&c["ESTIMATED_TX_SIZE"]) * number(&c["DEFAULT_SATS_PER_VBYTE"])
    );
    assert_eq!(
        fee::ESTIMATED_VSIZE,
        number(&c["estimated_vbytes_1in_1out"])
    );
    assert_eq!(
        anchor().script_pubkey.to_bytes(),
        bytes(&c["EPHEMERAL_ANCHOR_SCRIPT"])
    );
    assert_eq!(
        anchor().value.to_sat(),
        number(&c["EPHEMERAL_ANCHOR_VALUE"])
    );
    assert_eq!(htlc::NO_KEY.to_vec(), bytes(&c["NUMS_XONLY"]));
    // A leaf can only reach the test wallet's timelock of 100 by being sent down to it.
    let last = LeafSequence::new(Timelock(200)).send().unwrap();
    assert_eq!(
        last.cpfp.to_consensus(),
        small(&c["TEST_UNILATERAL_SEQUENCE"])
    );
    assert_eq!(
        last.direct.to_consensus(),
        small(&c["TEST_UNILATERAL_DIRECT_SEQUENCE"])
    );
}

#[test]
fn the_direct_fee_is_taken_where_something_is_left() {
    for case in list(&common::transactions()["maybe_apply_fee"]) {
        assert_eq!(
            after_direct_fee(Sats(number(&case["amount"]))).0,
            number(&case["result"])
        );
    }
}

#[test]
fn a_deposit_becomes_the_recorded_tree() {
    let vectors = common::transactions();
    let tree = &vectors["deposit_tree"];
    let vout = small(&tree["deposit_vout"]);
    let deposit = Utxo::of(&tx(&tree["deposit_tx"]), vout).unwrap();
    let built = root::build(std::slice::from_ref(&deposit)).unwrap();
    assert_is(&built, &tree["root_node_tx"], "root");
    assert_is(
        &root::direct(&deposit),
        &tree["root_direct_node_tx_not_submitted_by_sdk"],
        "direct root",
    );
    assert_eq!(
        public(&tree["refund_destination"]),
        key(&vectors, "user_signing_leaf")
    );
    let set = expected(&leaf(built.tx, None), &initial(&vectors)).unwrap();
    assert_set(&set, &tree["refunds"], "deposit refunds");
}

#[test]
fn a_deposit_in_another_output_becomes_the_recorded_root() {
    let vectors = common::transactions();
    let tree = &vectors["deposit_tree_vout1"];
    let deposit = Utxo::of(&tx(&tree["deposit_tx"]), small(&tree["deposit_vout"])).unwrap();
    assert_is(
        &root::build(&[deposit]).unwrap(),
        &tree["root_node_tx"],
        "root",
    );
}

#[test]
fn several_deposits_become_the_recorded_root() {
    let vectors = common::transactions();
    let tree = &vectors["deposit_multi_utxo"];
    let deposits: Vec<Utxo> = list(&tree["deposit_txs"])
        .iter()
        .map(|one| Utxo::of(&tx(&one["tx"]), small(&one["vout"])).unwrap())
        .collect();
    let built = root::build(&deposits).unwrap();
    assert_is(&built, &tree["root_tx"], "root");
    assert_eq!(built.prevouts, common::prevouts(&tree["prevouts"]));
    for (input, hash) in list(&tree["sighash_per_input"]).iter().enumerate() {
        assert_eq!(hex::encode(built.sighash_of(input).unwrap()), text(hash));
    }
    assert!(built.sighash_of(deposits.len()).is_err());
    let set = expected(&leaf(built.tx, None), &initial(&vectors)).unwrap();
    assert_set(&set, &tree["refunds"], "refunds");
}

#[test]
fn a_root_leaf_is_sent_with_the_recorded_refunds() {
    let vectors = common::transactions();
    let group = &vectors["transfer_from_root_leaf"];
    // A direct transaction of a node without timelock must not lead to a direct refund.
    let direct = tx(&vectors["deposit_tree"]["root_direct_node_tx_not_submitted_by_sdk"]);
    for direct in [None, Some(direct)] {
        for case in list(&group["cases"]) {
            let purpose = RefundPurpose::Send {
                current: sequence(&case["current_refund_sequence"]),
                receiver: key(&vectors, "receiver_identity"),
            };
            let leaf = leaf(root_leaf(&vectors).node_tx, direct.clone());
            let set = expected(&leaf, &purpose).unwrap();
            assert_set(
                &set,
                &case["send"],
                &case["current_refund_sequence"].to_string(),
            );
        }
    }
}

#[test]
fn a_timelocked_leaf_is_sent_with_the_recorded_refunds() {
    let vectors = common::transactions();
    let case = &vectors["transfer_from_timelocked_leaf"];
    let purpose = RefundPurpose::Send {
        current: sequence(&case["current_refund_sequence"]),
        receiver: key(&vectors, "receiver_identity"),
    };
    let set = expected(&timelocked_leaf(&vectors), &purpose).unwrap();
    assert_set(&set, &case["send"], "send");
}

#[test]
fn a_claim_makes_the_recorded_refunds() {
    let vectors = common::transactions();
    for case in list(&vectors["claim_refunds"]["cases"]) {
        let purpose = RefundPurpose::Claim {
            basis: ClaimBasis::Intermediate(sequence(&case["intermediate_refund_sequence"])),
            owner_signing_key: key(&vectors, "receiver_signing_leaf"),
        };
        let set = expected(&root_leaf(&vectors), &purpose).unwrap();
        assert_set(
            &set,
            &case["claim"],
            &case["intermediate_refund_sequence"].to_string(),
        );
    }
}

#[test]
fn a_timelocked_leaf_is_built_as_recorded() {
    let vectors = common::transactions();
    let group = &vectors["timelocked_leaf"];
    let parent = tx(&vectors["deposit_tree"]["root_node_tx"]);
    assert_eq!(
        parent.compute_txid().to_string(),
        text(&group["parent_node_txid"])
    );
    let built = node::build(&parent, LeafSequence::INITIAL).unwrap();
    let direct = node::direct(&parent, LeafSequence::INITIAL).unwrap();
    assert_is(&built, &group["node"], "node");
    assert_is(&direct, &group["directNode"], "direct node");
    let set = expected(&leaf(built.tx, Some(direct.tx)), &initial(&vectors)).unwrap();
    assert_set(&set, &group["refunds"], "refunds");
}

#[test]
fn a_small_leaf_pays_no_direct_fee() {
    let vectors = common::transactions();
    let group = &vectors["small_leaf_512"];
    let deposit = Utxo::of(&tx(&group["deposit_tx"]), 0).unwrap();
    let built = root::build(std::slice::from_ref(&deposit)).unwrap();
    assert_is(&built, &group["node"], "node");
    assert_is(&root::direct(&deposit), &group["directNode"], "direct");
    let set = expected(&leaf(built.tx, None), &initial(&vectors)).unwrap();
    assert_set(&set, &group["refunds"], "refunds");
}

#[test]
fn a_refund_renewal_is_built_as_recorded() {
    let vectors = common::transactions();
    let group = &vectors["renew_refund_timelock"];
    let parent = tx(&vectors["deposit_tree"]["root_node_tx"]);
    assert_eq!(
        parent.compute_txid().to_string(),
        text(&group["parent_txid"])
    );
    let leaf = timelocked_leaf(&vectors);
    assert_eq!(
        leaf.node_sequence().unwrap(),
        sequence(&group["old_node_sequence"])
    );
    let built = renewal::refund(&parent, &leaf, &key(&vectors, "user_signing_leaf")).unwrap();
    assert_is(&built.node, &group["node"], "node");
    assert_is(&built.direct_node, &group["directNode"], "direct node");
    assert_set(&built.refunds, &group["refunds"], "refunds");
}

#[test]
fn a_node_renewal_is_built_as_recorded() {
    let vectors = common::transactions();
    let group = &vectors["renew_node_timelock"];
    let parent = tx(&vectors["deposit_tree"]["root_node_tx"]);
    assert_eq!(
        parent.compute_txid().to_string(),
        text(&group["parent_txid"])
    );
    let built = renewal::node(&parent, &key(&vectors, "user_signing_leaf")).unwrap();
    assert_is(&built.split, &group["split"], "split");
    assert_is(&built.direct_split, &group["directSplit"], "direct split");
    assert_is(&built.node, &group["node"], "node");
    assert_is(&built.direct_node, &group["directNode"], "direct node");
    assert_set(&built.refunds, &group["refunds"], "refunds");
}

#[test]
fn a_zero_renewal_is_built_as_recorded() {
    let vectors = common::transactions();
    let group = &vectors["renew_node_zero_timelock"];
    let leaf = root_leaf(&vectors);
    assert_eq!(
        leaf.node_tx.compute_txid().to_string(),
        text(&group["parent_is_old_node_tx"])
    );
    let built = renewal::zero(&leaf, &key(&vectors, "user_signing_leaf")).unwrap();
    assert_is(&built.node, &group["node"], "node");
    assert_is(&built.direct_node, &group["directNode"], "direct node");
    assert_set(&built.refunds, &group["refunds"], "refunds");
    assert!(
        renewal::zero(
            &timelocked_leaf(&vectors),
            &key(&vectors, "user_signing_leaf")
        )
        .is_err()
    );
}

#[test]
fn keys_and_output_scripts_are_the_recorded_ones() {
    use common::{public_of, secret_key};
    use tinderbox_protocol::deposit;
    let vectors = common::transactions();
    for (name, pair) in vectors["keys"].as_object().unwrap() {
        assert_eq!(
            public_of(&secret_key(&vectors, name)),
            public(&pair["public_key"]),
            "{name}"
        );
    }
    for (whole, user, operators) in [
        ("verifying_key", "user_signing_leaf", "se_keyshare"),
        (
            "static_verifying_key",
            "user_static_deposit",
            "se_static_keyshare",
        ),
    ] {
        let (whole, user, operators) = (
            key(&vectors, whole),
            key(&vectors, user),
            key(&vectors, operators),
        );
        assert_eq!(deposit::verifying_key(&user, &operators).unwrap(), whole);
        assert_eq!(deposit::operators_key(&whole, &user).unwrap(), operators);
        deposit::check_halves(&whole, &user, &operators).unwrap();
        assert!(deposit::check_halves(&whole, &user, &user).is_err());
    }
    for case in list(&vectors["p2tr"]) {
        let public_key = public(&case["public_key"]);
        let script = p2tr(&public_key);
        assert_eq!(script.to_bytes(), bytes(&case["output_script"]));
        assert_eq!(script.to_bytes()[2..], bytes(&case["output_xonly"]));
        assert_eq!(
            public_key.x_only_public_key().0.serialize().to_vec(),
            bytes(&case["internal_xonly"])
        );
        assert_eq!(public_key, key(&vectors, text(&case["key_label"])));
        for (network, address) in case["addresses"].as_object().unwrap() {
            let network = network.parse().unwrap();
            assert_eq!(
                deposit::address(&public_key, network).to_string(),
                text(address)
            );
        }
    }
}

/// A vector that no test reads would be a vector that proves nothing.
#[test]
fn every_group_of_vectors_has_a_test() {
    let tests = concat!(
        include_str!("transactions.rs"),
        include_str!("timelocks.rs"),
        include_str!("htlc.rs"),
        include_str!("exits.rs"),
        include_str!("addresses.rs"),
        include_str!("deposit_proofs.rs"),
    );
    let plain = ["format", "generated_from", "conventions", "rounding_note"];
    for group in common::transactions().as_object().unwrap().keys() {
        assert!(
            plain.contains(&group.as_str()) || tests.contains(&format!("[\"{group}\"]")),
            "{group} has no test"
        );
    }
}
