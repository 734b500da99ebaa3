//! What the chain has said about one node, and what follows for its status.
//!
//! A mark holds heights, so that taking blocks back is exact: whatever is above the new tip is
//! forgotten, and the node's status follows from what is left.

use bitcoin::Txid;
use serde::{Deserialize, Serialize};
use tinderbox_flows::record::{Index, IndexKey, Row, Table};
use tinderbox_flows::rows::{NodeRow, NodeStatus};
use tinderbox_protocol::{BlockHeight, LeafId};

use super::effects;

/// Blocks by which a refund that is not stored with the node may be due before those that are: an
/// unclaimed payment's is one step of 100 lower, and rounded down to a multiple of 100.
const EARLIER: u32 = 250;

/// A transaction of the node that is in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// The block's height.
    pub height: BlockHeight,
    /// The transaction.
    pub txid: Txid,
    /// True: the fee-paying variant.
    pub direct: bool,
}

/// What spent a node's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpentBy {
    /// A refund that is stored with the node.
    Refund,
    /// A refund that pays the receiver of a transfer which is not claimed.
    Intermediate,
    /// The node below.
    Child,
    /// None of these: a former owner's refund, or worse.
    Unknown,
}

/// What the chain has said about one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkRow {
    /// The node.
    pub node: LeafId,
    /// Its own transaction.
    pub confirmed: Option<Confirmed>,
    /// The spend of its output (of a root that is not on chain: of its deposit).
    pub spent: Option<(BlockHeight, SpentBy)>,
    /// The lowest block that holds a transaction of a node above it with which this one dies.
    pub orphaned: Option<BlockHeight>,
    /// From this height on something of the node may be due.
    pub watch_from: BlockHeight,
}

impl MarkRow {
    /// A node of which nothing was seen.
    #[must_use]
    pub const fn new(node: LeafId) -> Self {
        Self {
            node,
            confirmed: None,
            spent: None,
            orphaned: None,
            watch_from: BlockHeight(0),
        }
    }

    /// Its row id. Other rows of the table begin with a letter and are shorter or longer.
    #[must_use]
    pub fn id_of(node: &LeafId) -> Vec<u8> {
        node.bytes16().to_vec()
    }

    /// Notes the node's own transaction. True if that is news.
    pub(super) fn confirm(&mut self, node: &NodeRow, confirmed: Confirmed) -> bool {
        if self.confirmed.is_some() {
            return false;
        }
        let wait = [&node.txs.direct_refund, &node.txs.direct_from_cpfp_refund]
            .into_iter()
            .filter_map(|raw| effects::timelock_of(raw))
            .min()
            .map_or(0, |timelock| timelock.saturating_sub(EARLIER));
        self.watch_from = BlockHeight(confirmed.height.0.saturating_add(wait));
        self.confirmed = Some(confirmed);
        true
    }

    /// Notes what spent its output. True if that is news.
    pub(super) fn spend(&mut self, height: BlockHeight, by: SpentBy) -> bool {
        let news = self.spent.is_none();
        self.spent.get_or_insert((height, by));
        news
    }

    /// Notes that a node above it left. True if that is news.
    pub(super) fn orphan(&mut self, height: BlockHeight) -> bool {
        let news = self.orphaned.is_none_or(|known| height < known);
        if news {
            self.orphaned = Some(height);
        }
        news
    }

    /// Forgets what blocks above `to` said.
    pub(super) fn take_back(&mut self, to: BlockHeight) {
        self.confirmed = self.confirmed.filter(|seen| seen.height <= to);
        self.spent = self.spent.filter(|(height, _)| *height <= to);
        self.orphaned = self.orphaned.filter(|height| *height <= to);
        if self.confirmed.is_none() {
            self.watch_from = BlockHeight(0);
        }
    }

    /// True if nothing is left to remember.
    pub(super) const fn is_empty(&self) -> bool {
        self.confirmed.is_none() && self.spent.is_none() && self.orphaned.is_none()
    }

    /// The status that the chain gives a node whose status would be `base`.
    fn says(&self, base: NodeStatus) -> Option<NodeStatus> {
        match (self.spent, self.confirmed) {
            (Some((_, SpentBy::Refund)), _) => Some(NodeStatus::Exited),
            (Some(_), _) | (_, Some(_)) => Some(NodeStatus::OnChain),
            (None, None) => self
                .orphaned
                .filter(|_| base != NodeStatus::Splitted)
                .map(|_| NodeStatus::ParentExited),
        }
    }

    /// Brings the node's row in line.
    pub(super) fn settle(&self, node: &mut NodeRow) {
        node.node_confirmed = self.confirmed.map(|seen| seen.height);
        node.refund_confirmed = self
            .spent
            .filter(|(_, by)| *by != SpentBy::Child)
            .map(|(height, _)| height);
        let base = if node.status.is_on_chain() {
            // Nothing to go back to: an agreement of the operators took it out, not a block.
            node.before_chain
        } else {
            Some(node.status)
        };
        if let Some(base) = base {
            match self.says(base) {
                Some(status) => {
                    node.before_chain = Some(base);
                    node.status = status;
                }
                None => {
                    node.before_chain = None;
                    node.status = base;
                }
            }
        }
    }
}

impl Row for MarkRow {
    const TABLE: Table = Table::Watch;

    fn id(&self) -> Vec<u8> {
        Self::id_of(&self.node)
    }

    fn listed(&self) -> Vec<IndexKey> {
        if self.confirmed.is_none() || self.spent.is_some() {
            return Vec::new();
        }
        vec![IndexKey::new(
            Index::WatchFrom,
            &[&self.watch_from.0.to_be_bytes(), &self.node.bytes16()],
        )]
    }
}
