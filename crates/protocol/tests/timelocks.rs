//! Timelock arithmetic: recorded values and properties.

mod common;

use common::{list, number, small, transactions};
use proptest::prelude::*;
use serde_json::Value;
use tinderbox_protocol::timelock::{DIRECT_OFFSET, INTERVAL, Step};
use tinderbox_protocol::{Error, LeafSequence, Result, Timelock};

const BIT_30: u32 = 1 << 30;

fn assert_step(step: Result<Step>, recorded: &Value, what: &str) {
    if recorded["rejected"] == true {
        assert!(
            matches!(step, Err(Error::LeafRenewalRequired { .. })),
            "{what}: {step:?}"
        );
        return;
    }
    let step = step.unwrap();
    assert_eq!(
        step.cpfp.to_consensus(),
        small(&recorded["nextSequence"]),
        "{what}"
    );
    // The highest recorded timelock leaves its 16 bits; such a sequence is never used.
    assert_eq!(
        step.direct.to_consensus(),
        small(&recorded["nextDirectSequence"]),
        "{what}"
    );
}

#[test]
fn steps_are_the_recorded_ones() {
    for case in list(&transactions()["sequences"]) {
        let raw = small(&case["sequence"]);
        let sequence = LeafSequence::from_consensus(raw).unwrap();
        let what = raw.to_string();
        assert_step(sequence.next_refund(), &case["next_refund"], &what);
        assert_step(sequence.next_node(), &case["next_node"], &what);
        assert_step(sequence.next_htlc(), &case["next_htlc"], &what);
        if raw == 65_535 {
            // Recorded as 65585, which no longer is a timelock of 16 bits.
            assert!(matches!(
                sequence.unchanged(),
                Err(Error::TimelockTooLong { .. })
            ));
        } else {
            assert_step(sequence.unchanged(), &case["current"], &what);
        }
        assert_eq!(u64::from(sequence.timelock().0), number(&case["timelock"]));
        assert_eq!(sequence.needs_renewal(), case["needs_renew_lt_200"] == true);
        assert_eq!(
            sequence.next_refund().is_err(),
            case["needs_refresh_le_100"] == true
        );
        assert_eq!(
            sequence.timelock() == Timelock::ZERO,
            case["is_zero"] == true
        );
    }
}

#[test]
fn sequences_are_valid_as_recorded() {
    for case in list(&transactions()["sequence_validity"]) {
        assert_eq!(
            LeafSequence::from_consensus(small(&case["sequence"])).is_ok(),
            case["valid"] == true,
            "{case}"
        );
    }
}

#[test]
fn a_fresh_leaf_makes_nineteen_hops() {
    let mut sequence = LeafSequence::INITIAL;
    let mut hops = 0;
    while let Ok(step) = sequence.send() {
        assert_eq!(sequence.hops_left(), 19 - hops);
        assert_eq!(step.cpfp.claim().unwrap(), step);
        sequence = step.cpfp;
        hops += 1;
        if hops == 18 {
            assert_eq!(sequence.timelock(), Timelock(200));
            assert!(!sequence.needs_renewal());
        }
    }
    assert_eq!((hops, sequence.timelock()), (19, Timelock(100)));
    assert!(sequence.needs_renewal());
    assert_eq!(sequence.hops_left(), 0);
}

#[test]
fn sequences_serialize_as_numbers() {
    let sequence = LeafSequence::from_consensus(BIT_30 | 2000).unwrap();
    let json = serde_json::to_string(&sequence).unwrap();
    assert_eq!(json, "1073743824");
    assert_eq!(
        serde_json::from_str::<LeafSequence>(&json).unwrap(),
        sequence
    );
    assert!(serde_json::from_str::<LeafSequence>("4294967295").is_err());
}

proptest! {
    /// Case 1: a timelock that is switched off, counts seconds, or has any unknown bit.
    #[test]
    fn unknown_bits_are_refused(raw in any::<u32>()) {
        let known = raw & !(BIT_30 | 0xffff) == 0;
        match LeafSequence::from_consensus(raw) {
            Ok(sequence) => {
                prop_assert!(known);
                prop_assert_eq!(sequence.to_consensus(), raw);
            }
            Err(error) => {
                prop_assert!(!known);
                prop_assert_eq!(error, Error::InvalidSequence { sequence: raw });
            }
        }
    }

    /// The next owner's refunds, the watchtower's too, unlock before the present owner's.
    #[test]
    fn whoever_owns_later_unlocks_earlier(blocks in any::<u16>(), bit in any::<bool>()) {
        let bit = if bit { BIT_30 } else { 0 };
        let current = LeafSequence::from_consensus(u32::from(blocks) | bit).unwrap();
        let Ok(next) = current.send() else {
            prop_assert!(blocks < 2 * INTERVAL);
            return Ok(());
        };
        prop_assert!(next.cpfp.timelock() < next.direct.timelock());
        prop_assert!(next.direct.timelock() < current.timelock());
        prop_assert!(next.cpfp.timelock().0 > 0);
        prop_assert_eq!(next.cpfp.timelock().0 % INTERVAL, 0);
        prop_assert_eq!(next.cpfp.to_consensus() & BIT_30, bit);
        prop_assert_eq!(next.direct.to_consensus() & BIT_30, bit);
        prop_assert_eq!(next.direct.timelock().0 - next.cpfp.timelock().0, DIRECT_OFFSET);

        // Claims of it change nothing, and a hash-locked refund lies between.
        prop_assert_eq!(next.cpfp.claim().unwrap(), next);
        let htlc = current.next_htlc().unwrap();
        prop_assert!(next.cpfp.timelock() < htlc.cpfp.timelock());
        prop_assert!(htlc.cpfp.timelock() < htlc.direct.timelock());
        prop_assert!(htlc.direct.timelock() < current.timelock());
    }

    /// A claim's timelock is the same whether it is made from the refund before the transfer or
    /// from the one that the sender signed, hash-locked or not, for leaves on the grid.
    #[test]
    fn both_bases_of_a_claim_agree_on_the_grid(hundreds in 2_u16..=655) {
        let previous = LeafSequence::new(Timelock(hundreds * 100));
        let plain = previous.send().unwrap();
        let hash_locked = previous.next_htlc().unwrap();
        prop_assert_eq!(plain.cpfp.claim().unwrap(), plain);
        prop_assert_eq!(hash_locked.cpfp.claim().unwrap(), plain);
    }

    /// The rule of operators (round, then lower) and of wallets (lower, then round) agree.
    #[test]
    fn rounding_before_or_after_the_step_is_the_same(blocks in 200_u16..) {
        let sent = LeafSequence::new(Timelock(blocks)).send().unwrap();
        prop_assert_eq!(sent.cpfp.timelock().0, Timelock(blocks).round_down().0 - INTERVAL);
    }
}
