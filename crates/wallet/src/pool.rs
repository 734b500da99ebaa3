//! The leaves that a wallet holds, and which of them are spoken for.

use std::collections::{BTreeMap, BTreeSet};

use tinderbox_protocol::{LeafId, Sats, TransferId};

use crate::error::{Error, Result};
use crate::leaf::{LeafStatus, Node};
use crate::select::{Candidate, select_many};

/// Leaves in memory. Whoever wants to spend reserves first, so that two payments of one process
/// never reach for the same leaf.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    leaves: BTreeMap<LeafId, Node>,
    reserved: BTreeMap<LeafId, TransferId>,
    exiting: BTreeSet<LeafId>,
    /// When a leaf came or went last, in changes of this pool.
    changed: BTreeMap<LeafId, u64>,
    now: u64,
}

/// A moment in a pool's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Pool {
    /// The moment at which operators are asked for all leaves.
    pub(crate) fn moment(&mut self) -> Moment {
        self.now += 1;
        Moment(self.now)
    }

    /// True if a leaf came or went since: what operators were asked before does not count for it.
    pub(crate) fn has_changed(&self, leaf: &LeafId, since: Moment) -> bool {
        self.changed.get(leaf).is_some_and(|at| *at >= since.0)
    }

    /// Takes over what operators said at a moment. Leaves that came or went since stay as they are, and so do
    /// reservations.
    pub(crate) fn replace(&mut self, mut leaves: BTreeMap<LeafId, Node>, asked: Moment) {
        leaves.retain(|id, _| !self.has_changed(id, asked));
        let newer = self
            .leaves
            .values()
            .filter(|leaf| self.has_changed(&leaf.id, asked))
            .cloned();
        leaves.extend(newer.map(|leaf| (leaf.id, leaf)).collect::<Vec<_>>());
        self.leaves = leaves;
        // Synchronisations follow each other: nobody asks about earlier moments any more.
        self.changed.retain(|_, at| *at >= asked.0);
    }

    /// Adds or renews one leaf.
    pub(crate) fn insert(&mut self, leaf: Node) {
        self.changed.insert(leaf.id, self.now);
        self.leaves.insert(leaf.id, leaf);
    }

    /// A leaf is gone: its reservation with it.
    pub(crate) fn remove(&mut self, leaf: &LeafId) {
        self.changed.insert(*leaf, self.now);
        self.leaves.remove(leaf);
        self.reserved.remove(leaf);
    }

    /// Leaves that an exit takes are not for spending.
    pub(crate) fn set_exiting(&mut self, leaves: BTreeSet<LeafId>) {
        self.exiting = leaves;
    }

    /// All leaves.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Node> {
        self.leaves.values()
    }

    /// One leaf.
    pub(crate) fn get(&self, leaf: &LeafId) -> Option<&Node> {
        self.leaves.get(leaf)
    }

    /// The payment that holds a leaf.
    pub(crate) fn reserved_by(&self, leaf: &LeafId) -> Option<TransferId> {
        self.reserved.get(leaf).copied()
    }

    /// True if the leaf is available and nobody has spoken for it.
    pub(crate) fn is_free(&self, leaf: &Node) -> bool {
        leaf.status == LeafStatus::Available
            && !self.reserved.contains_key(&leaf.id)
            && !self.exiting.contains(&leaf.id)
    }

    /// Leaves for each amount, reserved for one payment in the same breath.
    pub(crate) fn reserve(
        &mut self,
        payment: TransferId,
        amounts: &[Sats],
    ) -> Result<Vec<Vec<Node>>> {
        let candidates = self
            .leaves
            .values()
            .filter(|leaf| self.is_free(leaf) && leaf.hops_left() > 0)
            .map(|leaf| Candidate {
                id: leaf.id,
                value: leaf.value,
                hops: leaf.hops_left(),
            })
            .collect::<Vec<_>>();
        let sets = match select_many(&candidates, amounts) {
            Ok(sets) => sets,
            Err(Error::Insufficient {
                wanted, available, ..
            }) => {
                let locked = Sats(self.total().0.saturating_sub(available.0));
                return Err(Error::Insufficient {
                    wanted,
                    available,
                    locked,
                });
            }
            Err(error) => return Err(error),
        };
        for id in sets.iter().flatten() {
            self.reserved.insert(*id, payment);
        }
        Ok(sets
            .iter()
            .map(|set| {
                set.iter()
                    .filter_map(|id| self.leaves.get(id).cloned())
                    .collect()
            })
            .collect())
    }

    /// Reserves leaves by name, known yet or not: those of a payment that was under way at a restart.
    pub(crate) fn hold(&mut self, payment: TransferId, leaves: &[LeafId]) {
        self.reserved
            .extend(leaves.iter().map(|leaf| (*leaf, payment)));
    }

    /// Gives back what a payment had reserved.
    pub(crate) fn release(&mut self, payment: TransferId) {
        self.reserved.retain(|_, holder| *holder != payment);
    }

    fn total(&self) -> Sats {
        let owned = self
            .leaves
            .values()
            .filter(|leaf| !leaf.status.is_on_chain());
        Sats(owned.fold(0, |sum, leaf| leaf.value.0.saturating_add(sum)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::fixture::Scene;

    fn payment(n: u8) -> TransferId {
        TransferId::from_bytes16([n; 16])
    }

    fn pool(values: &[u64]) -> Pool {
        let mut pool = Pool::default();
        for (n, value) in (1u8..).zip(values) {
            let mut leaf = Scene::new().leaf();
            leaf.id = LeafId::from_bytes16([n; 16]);
            leaf.value = Sats(*value);
            pool.insert(leaf);
        }
        pool
    }

    #[test]
    fn two_payments_never_get_the_same_leaf() {
        let mut pool = pool(&[10, 10, 20]);
        let first = pool.reserve(payment(1), &[Sats(10)]).unwrap();
        let second = pool.reserve(payment(2), &[Sats(10)]).unwrap();
        assert_ne!(first[0][0].id, second[0][0].id);
        assert!(matches!(
            pool.reserve(payment(3), &[Sats(10)]),
            Err(Error::NoExactAmount { .. })
        ));
    }

    #[test]
    fn a_failed_reservation_reserves_nothing() {
        let mut pool = pool(&[10, 20]);
        assert!(pool.reserve(payment(1), &[Sats(10), Sats(15)]).is_err());
        pool.reserve(payment(2), &[Sats(10), Sats(20)]).unwrap();
    }

    #[test]
    fn what_is_given_back_can_be_spent_again() {
        let mut pool = pool(&[10]);
        pool.reserve(payment(1), &[Sats(10)]).unwrap();
        let error = pool.reserve(payment(2), &[Sats(10)]).unwrap_err();
        assert!(
            matches!(
                error,
                Error::Insufficient {
                    locked: Sats(10),
                    ..
                }
            ),
            "{error}"
        );
        pool.release(payment(1));
        pool.reserve(payment(2), &[Sats(10)]).unwrap();
    }

    #[test]
    fn leaves_that_are_not_available_are_not_spent() {
        let mut pool = pool(&[10, 10]);
        let mut locked = pool.get(&LeafId::from_bytes16([1; 16])).unwrap().clone();
        locked.status = LeafStatus::TransferLocked;
        pool.insert(locked);
        pool.set_exiting([LeafId::from_bytes16([2; 16])].into());
        assert!(pool.reserve(payment(1), &[Sats(10)]).is_err());
    }

    #[test]
    fn an_old_answer_does_not_bring_a_spent_leaf_back() {
        let mut pool = pool(&[10, 20]);
        let before = pool.leaves.clone();
        let asked = pool.moment();
        pool.remove(&LeafId::from_bytes16([1; 16]));
        pool.replace(before.clone(), asked);
        assert!(pool.get(&LeafId::from_bytes16([1; 16])).is_none());
        assert!(pool.get(&LeafId::from_bytes16([2; 16])).is_some());
        // The next one, asked later, counts again.
        let asked = pool.moment();
        pool.replace(before, asked);
        assert!(pool.get(&LeafId::from_bytes16([1; 16])).is_some());
    }

    #[test]
    fn an_old_answer_does_not_hide_a_leaf_that_has_just_come() {
        let mut pool = pool(&[10]);
        let asked = pool.moment();
        let mut leaf = Scene::new().leaf();
        leaf.id = LeafId::from_bytes16([7; 16]);
        pool.insert(leaf.clone());
        pool.replace(BTreeMap::new(), asked);
        assert_eq!(
            pool.all().map(|leaf| leaf.id).collect::<Vec<_>>(),
            [leaf.id]
        );
    }
}
