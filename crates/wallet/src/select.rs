//! Which whole leaves pay an amount.
//!
//! A leaf moves whole or not at all, so a payment is a set of leaves that sums to exactly the
//! amount. Equal values are interchangeable, so the search runs over the sums that can be reached
//! with the values seen so far, largest values first: few leaves, and sums that can no longer grow
//! to the amount are dropped at once.

use std::collections::{BTreeMap, BTreeSet};

use tinderbox_protocol::{LeafId, Sats};

use crate::error::{Error, Result};

/// More reachable sums than this are not followed; the nearest amounts named are then the nearest
/// found, not necessarily the nearest of all.
const MAX_SUMS: usize = 400_000;

/// A leaf that may be spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its id.
    pub id: LeafId,
    /// Its value.
    pub value: Sats,
    /// How many more times it can move; of equal values those that can move most often go first.
    pub hops: u16,
}

/// How a sum was reached: with `taken` leaves of the value, from the sum before.
#[derive(Debug, Clone, Copy)]
struct Step {
    before: u64,
    group: usize,
    taken: usize,
}

/// Leaves that sum to exactly `amount`.
///
/// # Errors
/// [`Error::ZeroAmount`]; [`Error::Insufficient`]; [`Error::NoExactAmount`] with the nearest amounts
/// that are possible.
pub fn select(candidates: &[Candidate], amount: Sats) -> Result<Vec<LeafId>> {
    select_many(candidates, &[amount]).map(|mut sets| sets.pop().unwrap_or_default())
}

/// One set of leaves per amount, no leaf twice.
///
/// Amounts are served largest first, each from what is left, so it may fail although another
/// distribution exists; it then says which amount could not be made.
///
/// # Errors
/// As [`select`]; [`Error::NoReceiver`] for no amounts at all.
pub fn select_many(candidates: &[Candidate], amounts: &[Sats]) -> Result<Vec<Vec<LeafId>>> {
    if amounts.is_empty() {
        return Err(Error::NoReceiver);
    }
    if amounts.iter().any(|amount| amount.0 == 0) {
        return Err(Error::ZeroAmount);
    }
    let wanted = amounts
        .iter()
        .try_fold(0u64, |sum, a| sum.checked_add(a.0))
        .ok_or(Error::AmountOverflow)?;
    let available = candidates
        .iter()
        .fold(0u64, |sum, c| sum.saturating_add(c.value.0));
    if wanted > available {
        return Err(Error::Insufficient {
            wanted: Sats(wanted),
            available: Sats(available),
            locked: Sats(0),
        });
    }
    let mut order = (0..amounts.len()).collect::<Vec<_>>();
    order.sort_by_key(|i| std::cmp::Reverse(amounts[*i]));
    let mut used = BTreeSet::new();
    let mut sets = vec![Vec::new(); amounts.len()];
    for index in order {
        let left = candidates
            .iter()
            .filter(|c| !used.contains(&c.id))
            .copied()
            .collect::<Vec<_>>();
        let set = exact(&left, amounts[index])?;
        used.extend(set.iter().copied());
        sets[index] = set;
    }
    Ok(sets)
}

fn exact(candidates: &[Candidate], amount: Sats) -> Result<Vec<LeafId>> {
    let groups = group(candidates);
    let mut rest = groups
        .iter()
        .map(|(value, ids)| value.saturating_mul(ids.len() as u64))
        .fold(0, u64::saturating_add);
    let mut reached = BTreeMap::from([(0u64, None::<Step>)]);
    // Sums that can still become the amount.
    let mut open = vec![0u64];
    let (mut below, mut above) = (None::<u64>, None::<u64>);
    for (index, (value, ids)) in groups.iter().enumerate() {
        rest = rest.saturating_sub(value.saturating_mul(ids.len() as u64));
        let mut next = Vec::new();
        for sum in &open {
            for taken in 0..=ids.len() {
                let Some(total) = value
                    .checked_mul(taken as u64)
                    .and_then(|v| v.checked_add(*sum))
                else {
                    break;
                };
                if total > amount.0 {
                    above = Some(above.map_or(total, |a| a.min(total)));
                    break;
                }
                below = below.max(Some(total));
                if total.saturating_add(rest) < amount.0 {
                    // Even everything that is left does not suffice: the best of it is all of it.
                    below = below.max(Some(total.saturating_add(rest)));
                    continue;
                }
                if taken > 0 {
                    match reached.entry(total) {
                        std::collections::btree_map::Entry::Occupied(_) => continue,
                        std::collections::btree_map::Entry::Vacant(entry) => {
                            entry.insert(Some(Step {
                                before: *sum,
                                group: index,
                                taken,
                            }));
                        }
                    }
                }
                if total == amount.0 {
                    return Ok(collect(&groups, &reached, total));
                }
                next.push(total);
            }
        }
        next.sort_unstable();
        next.dedup();
        if next.len() > MAX_SUMS {
            let surplus = next.len() - MAX_SUMS;
            next.drain(..surplus);
        }
        open = next;
    }
    let some = |sum: u64| (sum > 0).then_some(Sats(sum));
    Err(Error::NoExactAmount {
        wanted: amount,
        below: below.and_then(some),
        above: above.and_then(some),
    })
}

/// Equal values together, largest value first; within a value the leaves with most hops first.
fn group(candidates: &[Candidate]) -> Vec<(u64, Vec<LeafId>)> {
    let mut sorted = candidates
        .iter()
        .filter(|c| c.value.0 > 0)
        .copied()
        .collect::<Vec<_>>();
    sorted.sort_by(|a, b| {
        b.value
            .cmp(&a.value)
            .then(b.hops.cmp(&a.hops))
            .then(a.id.cmp(&b.id))
    });
    let mut groups = Vec::<(u64, Vec<LeafId>)>::new();
    for candidate in sorted {
        match groups.last_mut() {
            Some((value, ids)) if *value == candidate.value.0 => ids.push(candidate.id),
            _ => groups.push((candidate.value.0, vec![candidate.id])),
        }
    }
    groups
}

fn collect(
    groups: &[(u64, Vec<LeafId>)],
    reached: &BTreeMap<u64, Option<Step>>,
    sum: u64,
) -> Vec<LeafId> {
    let mut ids = Vec::new();
    let mut at = sum;
    while let Some(Some(step)) = reached.get(&at) {
        if let Some((_, group)) = groups.get(step.group) {
            ids.extend(group.iter().take(step.taken).copied());
        }
        at = step.before;
    }
    ids
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaves(values: &[u64]) -> Vec<Candidate> {
        values
            .iter()
            .enumerate()
            .map(|(i, value)| Candidate {
                id: id(i),
                value: Sats(*value),
                hops: 19,
            })
            .collect()
    }

    fn id(i: usize) -> LeafId {
        format!("0195d5ae-0000-7000-8000-{i:012x}").parse().unwrap()
    }

    fn sum(candidates: &[Candidate], ids: &[LeafId]) -> u64 {
        ids.iter()
            .map(|id| candidates.iter().find(|c| c.id == *id).unwrap().value.0)
            .sum()
    }

    /// The truth, for few leaves: every subset.
    fn all_sums(values: &[u64]) -> BTreeSet<u64> {
        (0u32..1 << values.len())
            .map(|mask| {
                values
                    .iter()
                    .enumerate()
                    .filter(|(i, _)| mask >> i & 1 == 1)
                    .map(|(_, v)| v)
                    .sum()
            })
            .collect()
    }

    #[test]
    fn few_large_leaves_go_before_many_small_ones() {
        let leaves = leaves(&[1, 1, 1, 1, 4, 2]);
        assert_eq!(select(&leaves, Sats(4)).unwrap(), [id(4)]);
    }

    #[test]
    fn of_equal_leaves_those_with_most_hops_left_go_first() {
        let mut leaves = leaves(&[5, 5, 5]);
        leaves[0].hops = 2;
        leaves[1].hops = 17;
        leaves[2].hops = 9;
        assert_eq!(select(&leaves, Sats(5)).unwrap(), [id(1)]);
    }

    #[test]
    fn an_impossible_amount_names_the_nearest_possible_ones() {
        let error = select(&leaves(&[1000, 300, 20]), Sats(500)).unwrap_err();
        let Error::NoExactAmount { below, above, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!((*below, *above), (Some(Sats(320)), Some(Sats(1000))));
        assert!(error.to_string().contains("320"), "{error}");
    }

    #[test]
    fn more_than_there_is_says_what_there_is() {
        let error = select(&leaves(&[10, 20]), Sats(31)).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Insufficient {
                    available: Sats(30),
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn nothing_is_not_an_amount() {
        assert!(matches!(
            select(&leaves(&[10]), Sats(0)),
            Err(Error::ZeroAmount)
        ));
        assert!(matches!(
            select_many(&leaves(&[10]), &[]),
            Err(Error::NoReceiver)
        ));
    }

    #[test]
    fn amounts_that_overflow_are_refused() {
        let error = select_many(&leaves(&[1]), &[Sats(u64::MAX), Sats(1)]).unwrap_err();
        assert!(matches!(error, Error::AmountOverflow), "{error}");
    }

    #[test]
    fn a_thousand_equal_leaves_are_no_problem() {
        let leaves = leaves(&vec![7; 1000]);
        assert_eq!(select(&leaves, Sats(7 * 999)).unwrap().len(), 999);
        assert!(matches!(
            select(&leaves, Sats(8)),
            Err(Error::NoExactAmount {
                below: Some(Sats(7)),
                ..
            })
        ));
    }

    #[test]
    fn powers_of_two_make_every_amount() {
        let leaves = leaves(&(0..30).map(|i| 1 << i).collect::<Vec<_>>());
        let set = select(&leaves, Sats(0x2AAA_AAAA)).unwrap();
        assert_eq!(sum(&leaves, &set), 0x2AAA_AAAA);
    }

    proptest! {
        #[test]
        fn a_set_is_found_exactly_when_there_is_one(
            values in prop::collection::vec(1u64..60, 1..9),
            amount in 1u64..300,
        ) {
            let leaves = leaves(&values);
            let sums = all_sums(&values);
            match select(&leaves, Sats(amount)) {
                Ok(set) => {
                    prop_assert_eq!(sum(&leaves, &set), amount);
                    let unique = set.iter().collect::<BTreeSet<_>>();
                    prop_assert_eq!(unique.len(), set.len());
                }
                Err(Error::NoExactAmount { below, above, .. }) => {
                    prop_assert!(!sums.contains(&amount));
                    let lower = sums.range(1..amount).next_back().map(|s| Sats(*s));
                    let upper = sums.range(amount..).next().map(|s| Sats(*s));
                    prop_assert_eq!(below, lower);
                    prop_assert_eq!(above, upper);
                }
                Err(Error::Insufficient { .. }) => prop_assert!(values.iter().sum::<u64>() < amount),
                Err(other) => prop_assert!(false, "{}", other),
            }
        }

        #[test]
        fn several_amounts_never_share_a_leaf(
            values in prop::collection::vec(1u64..20, 1..12),
            amounts in prop::collection::vec(1u64..30, 1..4),
        ) {
            let leaves = leaves(&values);
            let amounts = amounts.into_iter().map(Sats).collect::<Vec<_>>();
            if let Ok(sets) = select_many(&leaves, &amounts) {
                let all = sets.iter().flatten().collect::<Vec<_>>();
                prop_assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
                for (set, amount) in sets.iter().zip(&amounts) {
                    prop_assert_eq!(sum(&leaves, set), amount.0);
                }
            }
        }
    }
}
