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
}

impl Pool {
    /// Takes over what a synchronisation found. Reservations stay.
    pub(crate) fn replace(&mut self, leaves: BTreeMap<LeafId, Node>) {
        self.leaves = leaves;
    }

    /// Adds or renews one leaf.
    pub(crate) fn insert(&mut self, leaf: Node) {
        self.leaves.insert(leaf.id, leaf);
    }

    /// A leaf is gone: its reservation with it.
    pub(crate) fn remove(&mut self, leaf: &LeafId) {
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
}
