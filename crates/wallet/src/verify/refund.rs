//! Refunds: the transactions that make a leaf worth something without the operators.

use bitcoin::absolute::LockTime;
use bitcoin::secp256k1::PublicKey;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, Transaction, TxOut};
use tinderbox_protocol::tx::{TxKind, anchor, first_output, p2tr, verify_input};
use tinderbox_protocol::{Error, LeafSequence, Sats};

use super::{Check, Failure};

/// How a refund's timelock follows from the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// A payment: one hop below the sender's refund with this sequence.
    OneHopBelow(LeafSequence),
    /// A claim: the payment's timelock on the grid, from its refund's sequence.
    ClaimOf(LeafSequence),
    /// Fixed: a deposit's or a renewal's first refund.
    Exactly(LeafSequence),
}

impl Expected {
    /// The timelock that follows, in blocks.
    ///
    /// # Errors
    /// [`Failure::UsedUp`] if nothing is left.
    pub fn blocks(self) -> Check<u32> {
        let used_up = |error: Error| match error {
            Error::LeafRenewalRequired { timelock } => Failure::UsedUp {
                blocks: timelock.0.into(),
            },
            other => Failure::Protocol(other),
        };
        let sequence = match self {
            Self::OneHopBelow(current) => current.send().map_err(used_up)?.cpfp,
            Self::ClaimOf(payment) => payment.claim().map_err(used_up)?.cpfp,
            Self::Exactly(sequence) => sequence,
        };
        Ok(sequence.timelock().0.into())
    }
}

/// Reads the sequence of the first input: a relative timelock in blocks and nothing else (case 1).
///
/// # Errors
/// [`Failure::Sequence`]: switched off, final, counting seconds, or with other bits;
/// [`Failure::Form`] without inputs.
pub fn sequence(tx: &Transaction, kind: TxKind) -> Check<LeafSequence> {
    let input = tx
        .input
        .first()
        .ok_or_else(|| form(kind, "it has no input"))?;
    LeafSequence::from_bitcoin(input.sequence).map_err(|_| Failure::Sequence {
        kind,
        sequence: input.sequence.to_consensus_u32(),
    })
}

/// The timelock is the one expected (case 1).
///
/// # Errors
/// [`Failure::Timelock`]; [`Failure::Sequence`]; [`Failure::UsedUp`].
pub fn timelock_is(tx: &Transaction, kind: TxKind, expected: Expected) -> Check {
    let found = u32::from(sequence(tx, kind)?.timelock().0);
    let expected = expected.blocks()?;
    if found == expected {
        Ok(())
    } else {
        Err(Failure::Timelock {
            kind,
            expected,
            found,
        })
    }
}

/// There is no absolute locktime (case 2).
///
/// # Errors
/// [`Failure::Locktime`].
pub fn has_no_locktime(tx: &Transaction, kind: TxKind) -> Check {
    if tx.lock_time == LockTime::ZERO {
        return Ok(());
    }
    Err(Failure::Locktime {
        kind,
        found: tx.lock_time.to_consensus_u32(),
    })
}

/// The first input has one signature that covers the whole transaction and verifies under the key of the
/// output it spends (case 3).
///
/// # Errors
/// [`Failure::SighashType`] for another kind of signature, [`Failure::Signature`].
pub fn is_signed(tx: &Transaction, spent: &[TxOut], kind: TxKind) -> Check {
    for index in 0..tx.input.len() {
        verify_input(tx, index, spent, kind).map_err(|error| match error {
            Error::TxMismatch { provided, .. } if provided == "0 elements" => Failure::Signature {
                kind,
                what: "it is not signed".into(),
            },
            Error::TxMismatch { provided, .. } => Failure::SighashType {
                kind,
                what: provided,
            },
            other => Failure::Signature {
                kind,
                what: other.to_string(),
            },
        })?;
    }
    Ok(())
}

/// It is a version-3 transaction (case 4).
///
/// # Errors
/// [`Failure::Version`].
pub fn has_version_three(tx: &Transaction, kind: TxKind) -> Check {
    if tx.version == Version::non_standard(3) {
        return Ok(());
    }
    Err(Failure::Version {
        kind,
        found: tx.version.0,
    })
}

/// One input, one output with value, and the anchor (case 5).
///
/// # Errors
/// [`Failure::Form`].
pub fn has_one_input_one_output_and_anchor(tx: &Transaction, kind: TxKind) -> Check {
    if tx.input.len() != 1 {
        return Err(form(
            kind,
            &format!("{} inputs instead of 1", tx.input.len()),
        ));
    }
    match tx.output.as_slice() {
        [_, last] if *last == anchor() => Ok(()),
        [_, _] => Err(form(
            kind,
            "its second output is not the anchor that every node relays without value",
        )),
        outputs => Err(form(
            kind,
            &format!("{} outputs instead of 2", outputs.len()),
        )),
    }
}

/// It spends the node's own output (case 6).
///
/// # Errors
/// [`Failure::Prevout`].
pub fn spends(tx: &Transaction, node: &Transaction, kind: TxKind) -> Check {
    let expected = OutPoint::new(node.compute_txid(), 0);
    let found = tx
        .input
        .first()
        .map(|input| input.previous_output)
        .unwrap_or_default();
    if found == expected {
        Ok(())
    } else {
        Err(Failure::Prevout {
            kind,
            expected,
            found,
        })
    }
}

/// It pays everything to `key` (case 7).
///
/// # Errors
/// [`Failure::Destination`], [`Failure::Value`].
pub fn pays_all_to(tx: &Transaction, key: &PublicKey, value: Sats, kind: TxKind) -> Check {
    let output = tx
        .output
        .first()
        .ok_or_else(|| form(kind, "it has no output"))?;
    if output.script_pubkey != p2tr(key) {
        return Err(Failure::Destination { kind });
    }
    let found = Sats::from(output.value);
    if found == value {
        Ok(())
    } else {
        Err(Failure::Value {
            kind,
            expected: value,
            found,
        })
    }
}

/// All of the above: what a fee-less refund of `node` to `key` must be. The signature is checked if
/// `signed`.
///
/// # Errors
/// The first that does not hold.
pub fn check(
    tx: &Transaction,
    node: &Transaction,
    key: &PublicKey,
    expected: Expected,
    signed: bool,
) -> Check {
    let kind = TxKind::CpfpRefund;
    let spent = first_output(node)?;
    has_version_three(tx, kind)?;
    has_no_locktime(tx, kind)?;
    has_one_input_one_output_and_anchor(tx, kind)?;
    spends(tx, node, kind)?;
    timelock_is(tx, kind, expected)?;
    pays_all_to(tx, key, spent.output.value.into(), kind)?;
    if signed {
        is_signed(tx, &[spent.output], kind)?;
    }
    Ok(())
}

fn form(kind: TxKind, what: &str) -> Failure {
    Failure::Form {
        kind,
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::{Amount, ScriptBuf, Sequence, TxIn, Txid, Witness};

    use super::super::fixture::Scene;
    use super::*;

    const KIND: TxKind = TxKind::CpfpRefund;

    /// A good payment refund, changed by a hostile sender (and signed anew, so that only the change is wrong).
    fn hostile(change: impl FnOnce(&Scene, &mut Transaction)) -> Check {
        let scene = Scene::new();
        let leaf = scene.leaf();
        let mut refund = scene.payment_refund();
        change(&scene, &mut refund);
        let refund = scene.sign(refund, &leaf.node_tx.output[..1]);
        let expected = Expected::OneHopBelow(leaf.refund_sequence().unwrap());
        check(
            &refund,
            &leaf.node_tx,
            &scene.receiver_key(),
            expected,
            true,
        )
    }

    #[test]
    fn an_honest_refund_is_accepted() {
        hostile(|_, _| {}).unwrap();
        // Bit 30 means nothing.
        hostile(|_, tx| tx.input[0].sequence = Sequence(1900 | 1 << 30)).unwrap();
    }

    #[test]
    fn case_1_a_sequence_that_never_binds_is_refused() {
        for sequence in [
            0xffff_ffff,
            0xffff_fffd,
            1 << 31 | 1900,
            1 << 22 | 1900,
            1 << 29 | 1900,
        ] {
            let result = hostile(|_, tx| tx.input[0].sequence = Sequence(sequence));
            assert_eq!(
                result,
                Err(Failure::Sequence {
                    kind: KIND,
                    sequence
                }),
                "{sequence:#x}"
            );
        }
    }

    #[test]
    fn case_1_a_timelock_that_is_not_exactly_one_step_lower_is_refused() {
        for blocks in [0, 1, 1800, 1899, 1901, 1950, 2000, 2100] {
            let result = hostile(|_, tx| tx.input[0].sequence = Sequence(blocks));
            assert_eq!(
                result,
                Err(Failure::Timelock {
                    kind: KIND,
                    expected: 1900,
                    found: blocks
                })
            );
        }
    }

    #[test]
    fn case_2_an_absolute_locktime_is_refused() {
        for time in [1, 900_000, 1_900_000_000] {
            let result = hostile(|_, tx| tx.lock_time = LockTime::from_consensus(time));
            assert_eq!(
                result,
                Err(Failure::Locktime {
                    kind: KIND,
                    found: time
                })
            );
        }
    }

    #[test]
    fn case_3_a_signature_that_does_not_cover_everything_is_refused() {
        let scene = Scene::new();
        let leaf = scene.leaf();
        let spent = &leaf.node_tx.output[..1];
        let good = scene.sign(scene.payment_refund(), spent);
        let signature = good.input[0].witness.nth(0).unwrap().to_vec();
        for byte in [0x00, 0x02, 0x03, 0x81, 0x82, 0x83, 0x7f] {
            let mut bad = good.clone();
            bad.input[0].witness = Witness::from_slice(&[[signature.as_slice(), &[byte]].concat()]);
            let result = is_signed(&bad, spent, KIND);
            assert!(
                matches!(result, Err(Failure::SighashType { .. })),
                "{byte:#x}: {result:?}"
            );
        }
    }

    #[test]
    fn case_3_an_unsigned_or_foreign_signature_is_refused() {
        let scene = Scene::new();
        let leaf = scene.leaf();
        let spent = &leaf.node_tx.output[..1];
        let unsigned = scene.payment_refund();
        assert!(matches!(
            is_signed(&unsigned, spent, KIND),
            Err(Failure::Signature { .. })
        ));
        // A signature of the same key over another transaction.
        let mut moved = scene.sign(scene.payment_refund(), spent);
        moved.output[0].value = Amount::from_sat(moved.output[0].value.to_sat() - 1);
        assert!(matches!(
            is_signed(&moved, spent, KIND),
            Err(Failure::Signature { .. })
        ));
    }

    #[test]
    fn case_4_another_version_is_refused() {
        for version in [1, 2, 4, -1] {
            let result = hostile(|_, tx| tx.version = Version::non_standard(version));
            assert_eq!(
                result,
                Err(Failure::Version {
                    kind: KIND,
                    found: version
                })
            );
        }
    }

    #[test]
    fn case_5_an_extra_input_or_output_is_refused() {
        let input = TxIn {
            previous_output: OutPoint::new(
                Txid::from_raw_hash(bitcoin::hashes::Hash::all_zeros()),
                0,
            ),
            ..TxIn::default()
        };
        let result = hostile(|_, tx| tx.input.push(input));
        assert!(matches!(result, Err(Failure::Form { .. })), "{result:?}");
        let result = hostile(|_, tx| tx.output.push(anchor()));
        assert!(matches!(result, Err(Failure::Form { .. })), "{result:?}");
    }

    #[test]
    fn case_5_a_missing_or_other_anchor_is_refused() {
        let result = hostile(|_, tx| drop(tx.output.pop()));
        assert!(matches!(result, Err(Failure::Form { .. })), "{result:?}");
        for script in [
            ScriptBuf::new(),
            ScriptBuf::from_bytes(vec![0x51]),
            ScriptBuf::from_bytes(vec![0x6a]),
        ] {
            let result = hostile(|_, tx| tx.output[1].script_pubkey = script);
            assert!(matches!(result, Err(Failure::Form { .. })), "{result:?}");
        }
        let result = hostile(|_, tx| tx.output[1].value = Amount::from_sat(1));
        assert!(matches!(result, Err(Failure::Form { .. })), "{result:?}");
        let result = hostile(|_, tx| tx.output.swap(0, 1));
        assert!(matches!(result, Err(Failure::Form { .. })), "{result:?}");
    }

    #[test]
    fn case_6_a_refund_of_another_output_is_refused() {
        let result = hostile(|_, tx| tx.input[0].previous_output.vout = 1);
        assert!(matches!(result, Err(Failure::Prevout { .. })), "{result:?}");
        let result = hostile(|scene, tx| {
            tx.input[0].previous_output = scene.leaf().node_tx.input[0].previous_output;
        });
        assert!(matches!(result, Err(Failure::Prevout { .. })), "{result:?}");
    }

    #[test]
    fn case_7_a_refund_to_somebody_else_is_refused() {
        let result = hostile(|scene, tx| tx.output[0].script_pubkey = p2tr(&scene.stranger()));
        assert_eq!(result, Err(Failure::Destination { kind: KIND }));
    }

    #[test]
    fn case_7_a_shaved_value_is_refused() {
        let result = hostile(|_, tx| tx.output[0].value = Amount::from_sat(99_999));
        assert_eq!(
            result,
            Err(Failure::Value {
                kind: KIND,
                expected: Sats(100_000),
                found: Sats(99_999)
            })
        );
    }

    #[test]
    fn a_leaf_that_cannot_move_any_more_is_refused() {
        let last = LeafSequence::new(tinderbox_protocol::Timelock(100));
        assert_eq!(
            Expected::OneHopBelow(last).blocks(),
            Err(Failure::UsedUp { blocks: 100 })
        );
    }
}
