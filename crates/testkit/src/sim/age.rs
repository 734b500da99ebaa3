//! Leaves whose timelocks have been used.

use bitcoin::Transaction;
use rand::Rng;
use rand_chacha::ChaCha20Rng;
use tinderbox_flows::rows::{NodeRow, NodeStatus, NodeTxs};
use tinderbox_protocol::renewal::RenewalKind;
use tinderbox_protocol::tx::{UnsignedTx, node, p2tr, refund};
use tinderbox_protocol::{LeafId, LeafSequence, Timelock, renewal};
use uuid::Uuid;

/// Timelocks of a leaf in blocks: of its node, and of its refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// Of its node; 0 for a leaf that is its tree's root.
    pub node: u16,
    /// Of its refund.
    pub refund: u16,
}

impl Age {
    /// Every pair that payments and renewals can lead to.
    pub fn reachable() -> impl Iterator<Item = Self> {
        (0..=20u16).flat_map(|node| {
            (1..=20u16).map(move |refund| Self {
                node: node * 100,
                refund: refund * 100,
            })
        })
    }

    /// A pair near its end: what runs are made of.
    pub(super) fn worn(rng: &mut ChaCha20Rng) -> Self {
        let node = [0, 0, 100, 200, 300, 400, 2000];
        let refund = [100, 100, 200, 200, 300, 400];
        Self {
            node: node[rng.gen_range(0..node.len())],
            refund: refund[rng.gen_range(0..refund.len())],
        }
    }

    /// The renewals that operators accept.
    pub(super) fn permitted(self) -> Vec<RenewalKind> {
        let at = |blocks| LeafSequence::new(Timelock(blocks));
        [RenewalKind::Refund, RenewalKind::Node, RenewalKind::Zero]
            .into_iter()
            .filter(|kind| renewal::permitted(*kind, at(self.node), at(self.refund)).is_ok())
            .collect()
    }

    /// The timelocks that a leaf has.
    pub(super) fn of_leaf(leaf: &NodeRow) -> Self {
        Self {
            node: timelock(&leaf.txs.node),
            refund: timelock(&leaf.txs.refund),
        }
    }

    /// `leaf`, whose transactions are those of a root, at this age, and the node above it if its
    /// node has a timelock.
    pub(super) fn of(
        self,
        leaf: NodeRow,
        root: &UnsignedTx,
        sign: impl Fn(&UnsignedTx) -> Vec<u8>,
    ) -> Vec<NodeRow> {
        let destination = || p2tr(&leaf.owner_signing);
        let sequence = LeafSequence::new(Timelock(self.refund));
        let later = sequence.direct().expect("a timelock of 16 bits");
        let refunds = |node: &Transaction, direct: Option<&UnsignedTx>| {
            let cpfp = refund::cpfp(node, sequence, destination()).expect("it has an output");
            let from_cpfp =
                refund::direct_from_cpfp(node, later, destination()).expect("it has an output");
            let direct = direct
                .map(|tx| refund::direct(tx, later, destination()).expect("it has an output"));
            NodeTxs {
                refund: sign(&cpfp),
                direct_refund: direct.as_ref().map(&sign).unwrap_or_default(),
                direct_from_cpfp_refund: sign(&from_cpfp),
                ..NodeTxs::default()
            }
        };
        if self.node == 0 {
            let txs = NodeTxs {
                node: leaf.txs.node.clone(),
                ..refunds(root, None)
            };
            return vec![NodeRow { txs, ..leaf }];
        }
        let sequence = LeafSequence::new(Timelock(self.node));
        let own = node::build(root, sequence).expect("a root has an output");
        let direct = node::direct(root, sequence).expect("a root has an output");
        let above = NodeRow {
            // Any id will do: half of the bits of the leaf's turned over.
            id: LeafId(Uuid::from_u128(leaf.id.0.as_u128() ^ u128::from(u64::MAX))),
            status: NodeStatus::SplitLocked,
            txs: NodeTxs {
                node: leaf.txs.node.clone(),
                ..NodeTxs::default()
            },
            ..leaf.clone()
        };
        let txs = NodeTxs {
            node: sign(&own),
            direct: sign(&direct),
            ..refunds(&own, Some(&direct))
        };
        let leaf = NodeRow {
            parent: Some(above.id),
            deposits: Vec::new(),
            txs,
            ..leaf
        };
        vec![above, leaf]
    }
}

fn timelock(raw: &[u8]) -> u16 {
    bitcoin::consensus::deserialize::<Transaction>(raw)
        .ok()
        .and_then(|tx| {
            let sequence = tx.input.first()?.sequence;
            LeafSequence::from_bitcoin(sequence).ok()
        })
        .map_or(0, |sequence| sequence.timelock().0)
}
