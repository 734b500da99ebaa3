//! What a hostile sender, operator or wallet may hand over. The numbers are those of the list of
//! cases that the project is tested against, part A: a wallet receives.

mod common;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::key::TapTweak as _;
use bitcoin::secp256k1::{Keypair, Message, PublicKey, Secp256k1, SecretKey};
use bitcoin::transaction::Version;
use bitcoin::{Amount, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use common::{key, outpoint, secret_key, tx};
use proptest::prelude::*;
use tinderbox_protocol::refunds::{ClaimBasis, LeafTxs, RefundPurpose, RefundSet, expected};
use tinderbox_protocol::renewal::{self, RenewalKind};
use tinderbox_protocol::tx::{
    TxField, TxKind, UnsignedTx, Utxo, anchor, compare, node, p2tr, parse_any, parse_unsigned, root,
};
use tinderbox_protocol::{Error, LeafSequence, Timelock, branch, deposit};

/// The refunds of a payment of the recorded leaf that has a timelock: all three kinds.
fn payment() -> RefundSet {
    let vectors = common::transactions();
    let leaf = LeafTxs {
        node_tx: tx(&vectors["timelocked_leaf"]["node"]),
        direct_tx: Some(tx(&vectors["timelocked_leaf"]["directNode"])),
    };
    let purpose = RefundPurpose::Send {
        current: LeafSequence::INITIAL,
        receiver: key(&vectors, "receiver_identity"),
    };
    expected(&leaf, &purpose).unwrap()
}

/// What the comparison says of a refund that was changed.
fn refusal(refund: &UnsignedTx, change: impl FnOnce(&mut Transaction)) -> Error {
    let mut changed = refund.tx.clone();
    change(&mut changed);
    assert_ne!(changed, refund.tx);
    refund.check(&serialize(&changed)).unwrap_err()
}

fn field(error: &Error) -> TxField {
    match error {
        Error::TxMismatch { field, .. } => *field,
        other => panic!("{other}"),
    }
}

/// Case 1.
#[test]
fn a_refund_with_a_foreign_sequence_is_refused() {
    for refund in payment().iter() {
        for bits in [1 << 31, 1 << 22, 1 << 16, 1 << 29, u32::MAX] {
            let error = refusal(refund, |tx| {
                let sequence = tx.input[0].sequence.to_consensus_u32() | bits;
                tx.input[0].sequence = Sequence::from_consensus(sequence);
            });
            assert!(matches!(error, Error::InvalidSequence { .. }), "{error}");
        }
        for step in [-100_i64, -50, -1, 1, 50, 100] {
            let wanted = refund.tx.input[0].sequence.to_consensus_u32();
            let given = u32::try_from(i64::from(wanted) + step).unwrap();
            let error = refusal(refund, |tx| {
                tx.input[0].sequence = Sequence::from_consensus(given);
            });
            assert_eq!(
                error,
                Error::TimelockMismatch {
                    kind: refund.kind,
                    expected: Timelock(u16::try_from(wanted).unwrap()),
                    provided: Timelock(u16::try_from(given).unwrap()),
                }
            );
        }
    }
}

/// Case 1, the harmless part: bit 30 says nothing to consensus, so it is taken as it comes.
#[test]
fn bit_30_is_taken_over_and_nothing_else_is() {
    for refund in payment().iter() {
        let mut other = refund.tx.clone();
        let sequence = other.input[0].sequence.to_consensus_u32() | 1 << 30;
        other.input[0].sequence = Sequence::from_consensus(sequence);
        let taken = refund.check(&serialize(&other)).unwrap();
        assert_eq!(taken.tx, other);
        assert_ne!(taken.sighash().unwrap(), refund.sighash().unwrap());
        // And back again: a wallet may drop it.
        assert_eq!(taken.check(&refund.serialize()).unwrap().tx, refund.tx);
    }
    // A connector input has no timelock, so not even that bit may differ.
    let attached = tinderbox_protocol::tx::connector::attach(
        payment().cpfp,
        &Utxo {
            outpoint: outpoint(1, 0),
            output: anchor(),
        },
    );
    let error = refusal(&attached, |tx| {
        tx.input[1].sequence = Sequence::from_consensus(0xbfff_ffff);
    });
    assert_eq!(field(&error), TxField::Sequence(1));
}

/// Case 2.
#[test]
fn a_refund_with_a_locktime_is_refused() {
    for refund in payment().iter() {
        for height in [1, 800_000, 1_900_000_000] {
            let error = refusal(refund, |tx| tx.lock_time = LockTime::from_consensus(height));
            assert_eq!(field(&error), TxField::LockTime);
        }
    }
}

/// A root of one deposit, signed with a key that is known here.
fn signed_root(secret: &SecretKey, sighash_byte: Option<u8>) -> (UnsignedTx, Transaction) {
    let curve = Secp256k1::new();
    let public = secret.public_key(&curve);
    let deposit = Utxo {
        outpoint: outpoint(3, 1),
        output: TxOut {
            value: Amount::from_sat(50_000),
            script_pubkey: p2tr(&public),
        },
    };
    let root = root::build(&[deposit]).unwrap();
    let signed = sign(&root, secret, sighash_byte);
    (root, signed)
}

fn sign(unsigned: &UnsignedTx, secret: &SecretKey, sighash_byte: Option<u8>) -> Transaction {
    use bitcoin::hashes::Hash as _;
    let curve = Secp256k1::new();
    let hash_type = match sighash_byte {
        Some(byte) => bitcoin::TapSighashType::from_consensus_u8(byte).unwrap(),
        None => bitcoin::TapSighashType::Default,
    };
    let hash = bitcoin::sighash::SighashCache::new(&unsigned.tx)
        .taproot_key_spend_signature_hash(
            0,
            &bitcoin::sighash::Prevouts::All(&unsigned.prevouts),
            hash_type,
        )
        .unwrap();
    let pair = Keypair::from_secret_key(&curve, secret).tap_tweak(&curve, None);
    let signature = curve.sign_schnorr_no_aux_rand(
        &Message::from_digest(hash.to_byte_array()),
        &pair.to_keypair(),
    );
    let mut element = signature.serialize().to_vec();
    element.extend(sighash_byte);
    let mut tx = unsigned.tx.clone();
    tx.input[0].witness = Witness::from_slice(&[element]);
    tx
}

/// Case 3.
#[test]
fn a_signature_over_less_than_everything_is_refused() {
    let secret = SecretKey::from_slice(&[5; 32]).unwrap();
    for byte in [None, Some(0x01)] {
        let (root, signed) = signed_root(&secret, byte);
        root.check_signed(&serialize(&signed)).unwrap();
    }
    // NONE, SINGLE, and all of them for one input only: valid signatures on chain.
    for byte in [0x02, 0x03, 0x81, 0x82, 0x83] {
        let (root, signed) = signed_root(&secret, Some(byte));
        let error = root.check_signed(&serialize(&signed)).unwrap_err();
        assert_eq!(field(&error), TxField::Witness(0), "{byte:#x}");
    }
    let (root, signed) = signed_root(&secret, None);
    let witness = signed.input[0].witness.to_vec();
    let element = &witness[0];
    let annex = vec![0x50, 0];
    let mut long = element.clone();
    long.push(0);
    for wrong in [
        vec![],
        vec![element.clone(), element.clone()],
        vec![element.clone(), annex],
        vec![element[1..].to_vec()],
        vec![long],
    ] {
        let mut changed = signed.clone();
        changed.input[0].witness = Witness::from_slice(&wrong);
        let error = root.check_signed(&serialize(&changed)).unwrap_err();
        assert_eq!(field(&error), TxField::Witness(0), "{wrong:?}");
    }
    let mut forged = signed;
    forged.input[0].witness = Witness::from_slice(&[[7_u8; 64]]);
    assert!(matches!(
        root.check_signed(&serialize(&forged)),
        Err(Error::BadSignature { .. })
    ));
}

/// Case 4.
#[test]
fn a_refund_of_another_version_is_refused() {
    for refund in payment().iter() {
        for version in [-1, 0, 1, 2, 4] {
            let error = refusal(refund, |tx| tx.version = Version::non_standard(version));
            assert_eq!(field(&error), TxField::Version);
        }
    }
}

/// Case 5.
#[test]
fn a_refund_with_more_or_fewer_inputs_or_outputs_is_refused() {
    for refund in payment().iter() {
        let error = refusal(refund, |tx| {
            tx.input.push(TxIn {
                previous_output: outpoint(9, 0),
                ..TxIn::default()
            });
        });
        assert_eq!(field(&error), TxField::InputCount);
        for extra in [anchor(), refund.tx.output[0].clone()] {
            let error = refusal(refund, |tx| tx.output.push(extra));
            assert_eq!(field(&error), TxField::OutputCount);
        }
        let error = refusal(refund, |tx| tx.output.clear());
        assert!(matches!(error, Error::MalformedTx { .. }));
        let error = refusal(refund, |tx| tx.input.clear());
        assert!(matches!(error, Error::MalformedTx { .. }));
    }
    let cpfp = payment().cpfp;
    let error = refusal(&cpfp, |tx| {
        tx.output.pop();
    });
    assert_eq!(field(&error), TxField::OutputCount);
    for script in [vec![0x51], vec![0x51, 0x02, 0x4e, 0x74], vec![]] {
        let error = refusal(&cpfp, |tx| {
            tx.output[1].script_pubkey = ScriptBuf::from_bytes(script);
        });
        assert_eq!(field(&error), TxField::Script(1));
    }
    let error = refusal(&cpfp, |tx| tx.output[1].value = Amount::from_sat(1));
    assert_eq!(field(&error), TxField::Value(1));
    let error = refusal(&cpfp, |tx| tx.output.reverse());
    assert_eq!(field(&error), TxField::Value(0));
}

/// Case 5: which refunds there are is fixed, too.
#[test]
fn a_refund_too_few_or_too_many_is_refused() {
    let set = payment();
    let raw: Vec<Vec<u8>> = set.iter().map(UnsignedTx::serialize).collect();
    let [cpfp, direct, from_cpfp] = raw.as_slice() else {
        panic!("three refunds")
    };
    assert_eq!(set.check(cpfp, Some(direct), Some(from_cpfp)).unwrap(), set);
    assert_eq!(
        set.check(cpfp, None, Some(from_cpfp)),
        Err(Error::MissingTx {
            kind: TxKind::DirectRefund
        })
    );
    assert_eq!(
        set.check(cpfp, Some(direct), None),
        Err(Error::MissingTx {
            kind: TxKind::DirectFromCpfpRefund
        })
    );
    assert!(set.check(direct, Some(cpfp), Some(from_cpfp)).is_err());
    assert!(set.check(cpfp, Some(from_cpfp), Some(direct)).is_err());
    let mut without = set.clone();
    without.direct = None;
    assert_eq!(
        without.check(cpfp, Some(direct), Some(from_cpfp)),
        Err(Error::UnexpectedTx {
            kind: TxKind::DirectRefund
        })
    );
    assert!(without.check(cpfp, None, Some(from_cpfp)).is_ok());
}

/// Case 6.
#[test]
fn a_refund_that_spends_something_else_is_refused() {
    for refund in payment().iter() {
        let error = refusal(refund, |tx| tx.input[0].previous_output = outpoint(4, 0));
        assert_eq!(field(&error), TxField::Prevout(0));
        let error = refusal(refund, |tx| tx.input[0].previous_output.vout = 1);
        assert_eq!(field(&error), TxField::Prevout(0));
    }
}

/// Case 7.
#[test]
fn a_refund_to_another_key_or_of_less_is_refused() {
    let vectors = common::transactions();
    let other = key(&vectors, "ssp_identity");
    for refund in payment().iter() {
        let error = refusal(refund, |tx| tx.output[0].script_pubkey = p2tr(&other));
        assert_eq!(field(&error), TxField::Script(0));
        for value in [0, 1, u64::from(u32::MAX)] {
            let error = refusal(refund, |tx| tx.output[0].value = Amount::from_sat(value));
            assert_eq!(field(&error), TxField::Value(0));
        }
        let error = refusal(refund, |tx| tx.output[0].value -= Amount::from_sat(1));
        assert_eq!(field(&error), TxField::Value(0));
    }
}

/// Case 7: the key itself, without the taproot tweak, is another script.
#[test]
fn a_refund_to_the_untweaked_key_is_refused() {
    let vectors = common::transactions();
    let receiver = key(&vectors, "receiver_identity");
    let (x_only, _) = receiver.x_only_public_key();
    let untweaked = ScriptBuf::from_bytes([&[0x51, 0x20], x_only.serialize().as_slice()].concat());
    let error = refusal(&payment().cpfp, |tx| tx.output[0].script_pubkey = untweaked);
    assert_eq!(field(&error), TxField::Script(0));
}

/// Case 8.
#[test]
fn keys_that_do_not_add_up_are_refused() {
    let vectors = common::transactions();
    let (user, operators, whole) = (
        key(&vectors, "user_signing_leaf"),
        key(&vectors, "se_keyshare"),
        key(&vectors, "verifying_key"),
    );
    deposit::check_halves(&whole, &user, &operators).unwrap();
    let curve = Secp256k1::new();
    for (whole, user, operators) in [
        (user, user, operators),
        (whole.negate(&curve), user, operators),
        (whole, user.negate(&curve), operators),
        (whole, whole, operators),
        // Halves that cancel have no sum at all.
        (whole, user, user.negate(&curve)),
    ] {
        assert_eq!(
            deposit::check_halves(&whole, &user, &operators),
            Err(Error::KeysDoNotAdd)
        );
    }
}

/// A chain of three nodes below a deposit, all signed.
fn chain(secret: &SecretKey) -> (PublicKey, Vec<Utxo>, Vec<Vec<u8>>) {
    let (root, signed) = signed_root(secret, None);
    let deposit = Utxo {
        outpoint: root.tx.input[0].previous_output,
        output: root.prevouts[0].clone(),
    };
    let split = node::build(&signed, LeafSequence::ZERO).unwrap();
    let leaf = node::build(&split, LeafSequence::INITIAL).unwrap();
    let nodes = vec![
        serialize(&signed),
        serialize(&sign(&split, secret, None)),
        serialize(&sign(&leaf, secret, None)),
    ];
    (secret.public_key(&Secp256k1::new()), vec![deposit], nodes)
}

/// Cases 6 to 8 for the way from the deposit to the leaf.
#[test]
fn a_branch_that_does_not_lead_from_the_deposit_to_the_key_is_refused() {
    let secret = SecretKey::from_slice(&[5; 32]).unwrap();
    let (public, deposits, nodes) = chain(&secret);
    let leaf = branch::verify(&public, &deposits, &nodes).unwrap();
    assert_eq!(serialize(&leaf), nodes[2]);

    // Another key than the one that the deposit pays.
    let other = SecretKey::from_slice(&[6; 32]).unwrap();
    let foreign = other.public_key(&Secp256k1::new());
    let error = branch::verify(&foreign, &deposits, &nodes).unwrap_err();
    assert_eq!(field(&error), TxField::Prevout(0));

    // A node left out, doubled, or in another order; no root; no deposit.
    for wrong in [
        vec![nodes[0].clone(), nodes[2].clone()],
        vec![nodes[1].clone(), nodes[2].clone()],
        vec![nodes[0].clone(), nodes[1].clone(), nodes[1].clone()],
        vec![nodes[0].clone(), nodes[2].clone(), nodes[1].clone()],
        vec![],
    ] {
        assert!(branch::verify(&public, &deposits, &wrong).is_err());
    }
    assert!(branch::verify(&public, &[], &nodes).is_err());

    // A deposit of another value, place or address.
    let mut changed = deposits.clone();
    changed[0].output.value += Amount::from_sat(1);
    assert!(branch::verify(&public, &changed, &nodes).is_err());
    let mut changed = deposits.clone();
    changed[0].outpoint.vout += 1;
    assert!(branch::verify(&public, &changed, &nodes).is_err());
    let mut changed = deposits.clone();
    changed[0].output.script_pubkey = p2tr(&foreign);
    assert!(branch::verify(&public, &changed, &nodes).is_err());

    // A node that keeps something back, pays somebody else, has no anchor, or is not signed.
    let changes: [fn(&mut Transaction); 6] = [
        |tx| tx.output[0].value -= Amount::from_sat(1),
        |tx| tx.output[0].script_pubkey = anchor().script_pubkey,
        |tx| {
            tx.output.pop();
        },
        |tx| tx.input[0].witness = Witness::new(),
        |tx| tx.input[0].sequence = Sequence::from_consensus(5),
        |tx| tx.version = Version::TWO,
    ];
    for place in 0..nodes.len() {
        for change in changes {
            let mut node: Transaction = deserialize(&nodes[place]).unwrap();
            change(&mut node);
            let mut changed = nodes.clone();
            changed[place] = serialize(&node);
            assert!(branch::verify(&public, &deposits, &changed).is_err());
        }
    }
}

#[test]
fn a_receiver_refuses_refunds_that_are_not_signed() {
    let vectors = common::transactions();
    let secret = secret_key(&vectors, "verifying_key");
    let set = payment();
    let signed: Vec<Vec<u8>> = set
        .iter()
        .map(|refund| serialize(&sign(refund, &secret, None)))
        .collect();
    let [cpfp, direct, from_cpfp] = signed.as_slice() else {
        panic!("three refunds")
    };
    set.check_signed(cpfp, Some(direct), Some(from_cpfp))
        .unwrap();
    set.check_signed(cpfp, None, None).unwrap();
    let bare = set.cpfp.serialize();
    assert!(
        set.check_signed(&bare, Some(direct), Some(from_cpfp))
            .is_err()
    );
    let bare = set.direct.as_ref().unwrap().serialize();
    assert!(
        set.check_signed(cpfp, Some(&bare), Some(from_cpfp))
            .is_err()
    );
    let bare = set.direct_from_cpfp.serialize();
    assert!(set.check_signed(cpfp, Some(direct), Some(&bare)).is_err());
    let wrong = SecretKey::from_slice(&[9; 32]).unwrap();
    let forged = serialize(&sign(&set.cpfp, &wrong, None));
    assert!(matches!(
        set.check_signed(&forged, None, None),
        Err(Error::BadSignature { .. })
    ));
}

#[test]
fn a_transaction_is_read_strictly() {
    let refund = payment().cpfp;
    let raw = refund.serialize();
    let read = |bytes: &[u8]| compare(&refund, bytes, refund.kind);
    read(&raw).unwrap();
    for length in 0..raw.len() {
        assert!(
            matches!(read(&raw[..length]), Err(Error::MalformedTx { .. })),
            "{length}"
        );
    }
    let mut longer = raw.clone();
    longer.push(0);
    assert!(matches!(read(&longer), Err(Error::MalformedTx { .. })));

    // The segwit serialization with empty witnesses is the same transaction, a signed one is not.
    let segwit = [
        &raw[..4],
        &[0, 1],
        &raw[4..raw.len() - 4],
        &[0],
        &raw[raw.len() - 4..],
    ]
    .concat();
    assert_eq!(read(&segwit).unwrap(), refund.tx);
    let signed = serialize(&refund.finalize(&[1; 64]));
    assert!(matches!(read(&signed), Err(Error::MalformedTx { .. })));
    let mut flag = segwit.clone();
    flag[5] = 2;
    assert!(read(&flag).is_err());
    let mut scripted = refund.tx.clone();
    scripted.input[0].script_sig = ScriptBuf::from_bytes(vec![0x51]);
    assert!(matches!(
        read(&serialize(&scripted)),
        Err(Error::MalformedTx { .. })
    ));
    // A length that is not written as short as it can be.
    let mut padded = raw[..4].to_vec();
    padded.extend([0xfd, 1, 0]);
    padded.extend(&raw[5..]);
    assert!(read(&padded).is_err());
    assert!(parse_any(&vec![0; 500_000], TxKind::Other).is_err());
}

#[test]
fn deposits_that_cannot_make_a_root_are_refused() {
    let vectors = common::transactions();
    let script = p2tr(&key(&vectors, "verifying_key"));
    let utxo = |byte, value| Utxo {
        outpoint: outpoint(byte, 0),
        output: TxOut {
            value: Amount::from_sat(value),
            script_pubkey: script.clone(),
        },
    };
    let refused = |deposits: &[Utxo]| {
        assert!(matches!(
            root::build(deposits),
            Err(Error::InvalidDeposit { .. })
        ));
    };
    refused(&[]);
    refused(&[utxo(1, 5), utxo(2, 5), utxo(1, 5)]);
    refused(&[utxo(1, 0)]);
    refused(&[utxo(1, 5), utxo(2, 0)]);
    let mut other = utxo(2, 5);
    other.output.script_pubkey = ScriptBuf::new();
    refused(&[utxo(1, 5), other]);
    let many: Vec<Utxo> = (0..12).map(|byte| utxo(byte, 5)).collect();
    refused(&many);
    root::build(&many[..11]).unwrap();
    assert_eq!(
        root::build(&[utxo(1, u64::MAX), utxo(2, 1)]),
        Err(Error::AmountOverflow)
    );
}

#[test]
fn a_leaf_without_timelock_left_cannot_be_sent() {
    let vectors = common::transactions();
    let leaf = LeafTxs {
        node_tx: tx(&vectors["deposit_tree"]["root_node_tx"]),
        direct_tx: None,
    };
    let receiver = key(&vectors, "receiver_identity");
    for blocks in [0, 50, 100, 199] {
        let timelock = Timelock(blocks);
        let purpose = RefundPurpose::Send {
            current: LeafSequence::new(timelock),
            receiver,
        };
        assert!(matches!(
            expected(&leaf, &purpose),
            Err(Error::LeafRenewalRequired { .. })
        ));
    }
    let purpose = RefundPurpose::Claim {
        basis: ClaimBasis::Intermediate(LeafSequence::new(Timelock(99))),
        owner_signing_key: receiver,
    };
    assert!(expected(&leaf, &purpose).is_err());
}

#[test]
fn renewals_are_needed_and_permitted_by_both_timelocks() {
    let at = |blocks| LeafSequence::new(Timelock(blocks));
    for (node, refund, kind) in [
        (0, 2000, None),
        (2000, 200, None),
        (0, 199, Some(RenewalKind::Zero)),
        (0, 100, Some(RenewalKind::Zero)),
        (100, 100, Some(RenewalKind::Node)),
        (199, 100, Some(RenewalKind::Node)),
        (200, 100, Some(RenewalKind::Refund)),
        (2000, 100, Some(RenewalKind::Refund)),
    ] {
        assert_eq!(
            renewal::needed(at(node), at(refund)),
            kind,
            "{node} {refund}"
        );
        if let Some(kind) = kind {
            renewal::permitted(kind, at(node), at(refund)).unwrap();
        }
    }
    // Case 59: the node cannot be lowered any more, though the refund is healthy.
    renewal::permitted(RenewalKind::Node, at(100), at(2000)).unwrap();
    for (kind, node, refund) in [
        (RenewalKind::Refund, 2000, 301),
        (RenewalKind::Refund, 199, 100),
        (RenewalKind::Node, 301, 100),
        // A node without timelock would tie with its successor.
        (RenewalKind::Node, 0, 100),
        (RenewalKind::Zero, 100, 100),
        (RenewalKind::Zero, 0, 301),
    ] {
        assert!(matches!(
            renewal::permitted(kind, at(node), at(refund)),
            Err(Error::RenewalRefused { .. })
        ));
    }
}

proptest! {
    /// Cases 1 to 7 at once: no byte of any refund can be changed.
    #[test]
    fn no_changed_byte_goes_unnoticed(place in 0_usize..1000, flip in 1_u8..=255, which in 0_usize..3) {
        let set = payment();
        let refund = set.iter().nth(which).unwrap();
        let mut raw = refund.serialize();
        let place = place % raw.len();
        raw[place] ^= flip;
        match refund.check(&raw) {
            Err(_) => {}
            // The one exception: bit 30 of the sequence.
            Ok(taken) => {
                prop_assert_eq!((place, flip), (4 + 1 + 36 + 1 + 3, 0x40));
                prop_assert_ne!(taken.tx, refund.tx.clone());
            }
        }
    }

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in any::<Vec<u8>>()) {
        let _ = parse_any(&bytes, TxKind::Other);
        let _ = parse_unsigned(&bytes, TxKind::Other);
        let _ = LeafTxs::parse(&bytes, &bytes);
        let _ = tinderbox_protocol::package::SendLeafKeyTweaks::from_bytes(&bytes);
        let _ = tinderbox_protocol::package::ClaimLeafKeyTweaks::from_bytes(&bytes);
        let _ = tinderbox_protocol::authn::ProtectedSession::from_token(&hex::encode(&bytes));
    }
}
