//! Trees and their nodes.

use std::borrow::Cow;

use bitcoin::consensus::deserialize;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, Transaction, Txid};
use serde::{Deserialize, Serialize};
use tinderbox_protocol::renewal::RenewalKind;
use tinderbox_protocol::{BlockHeight, LeafId, Network, Sats, TreeId};

use super::{FlowId, KeyshareId, Millis, owner_prefix};
use crate::record::{Index, IndexKey, Row, Table, Unreadable};

/// Where a node stands. The numbers of the wire contract are in `rpc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NodeStatus {
    /// Its deposit is not confirmed.
    Creating,
    /// Spendable by its owner.
    Available,
    /// A transfer holds it.
    TransferLocked,
    /// A node above a renewed leaf; for ever.
    SplitLocked,
    /// Split into children.
    Splitted,
    /// Its own transaction is on chain.
    OnChain,
    /// A refund is on chain.
    Exited,
    /// A renewal holds it.
    RenewLocked,
    /// A node above it left in a way that kills it.
    ParentExited,
}

impl NodeStatus {
    /// True once the chain has spoken: such a node is never spendable in here again.
    #[must_use]
    pub const fn is_on_chain(self) -> bool {
        matches!(self, Self::OnChain | Self::Exited | Self::ParentExited)
    }

    /// The name that wallets see.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Available => "AVAILABLE",
            Self::TransferLocked => "TRANSFER_LOCKED",
            Self::SplitLocked => "SPLIT_LOCKED",
            Self::Splitted => "SPLITTED",
            Self::OnChain => "ON_CHAIN",
            Self::Exited => "EXITED",
            Self::RenewLocked => "RENEW_LOCKED",
            Self::ParentExited => "PARENT_EXITED",
        }
    }
}

/// A node's transactions, consensus-encoded; empty where there is none. With witnesses once the
/// flow that made them is finished.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTxs {
    /// Fee-less, with an anchor.
    pub node: Vec<u8>,
    /// Fee-paying variant for the watchtower.
    pub direct: Vec<u8>,
    /// Refund of the node transaction.
    pub refund: Vec<u8>,
    /// Refund of the direct node transaction.
    pub direct_refund: Vec<u8>,
    /// Fee-paying refund of the node transaction.
    pub direct_from_cpfp_refund: Vec<u8>,
}

impl NodeTxs {
    /// The ids of all transactions that are there.
    pub fn txids(&self) -> impl Iterator<Item = Txid> + '_ {
        [
            &self.node,
            &self.direct,
            &self.refund,
            &self.direct_refund,
            &self.direct_from_cpfp_refund,
        ]
        .into_iter()
        .filter_map(|raw| deserialize::<Transaction>(raw).ok())
        .map(|tx| tx.compute_txid())
    }
}

/// A node of a tree; a leaf if somebody owns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Id, equal on all operators and for ever.
    pub id: LeafId,
    /// The tree it is in.
    pub tree: TreeId,
    /// The node above, `None` for a root.
    pub parent: Option<LeafId>,
    /// Network.
    pub network: Network,
    /// Value of its output.
    pub value: Sats,
    /// Status.
    pub status: NodeStatus,
    /// The flow that holds it.
    pub lock: Option<FlowId>,
    /// Sum of both halves of the key; constant.
    pub verifying_key: PublicKey,
    /// The owner's identity key.
    pub owner: PublicKey,
    /// The owner's half of the key.
    pub owner_signing: PublicKey,
    /// The operators' half.
    pub keyshare: KeyshareId,
    /// Transactions.
    pub txs: NodeTxs,
    /// The deposit outputs that a root spends.
    pub deposits: Vec<OutPoint>,
    /// When it was made.
    pub created: Millis,
    /// When it last changed.
    pub updated: Millis,
    /// Height at which its own transaction confirmed.
    pub node_confirmed: Option<BlockHeight>,
    /// Height at which a refund confirmed.
    pub refund_confirmed: Option<BlockHeight>,
    /// Status to go back to if a reorganisation undoes what the chain said.
    pub before_chain: Option<NodeStatus>,
    /// A renewal of this kind was agreed on, but not every signature was made. Until it is
    /// completed nothing else may happen to the leaf: some of its transactions may exist already.
    pub renewal: Option<RenewalKind>,
}

impl NodeRow {
    /// Ends a lock: its owner may use the leaf again. What the chain said meanwhile stays, and if
    /// a reorganisation takes it back, the leaf is free then.
    pub fn unlock(&mut self) {
        let locked =
            |status| matches!(status, NodeStatus::TransferLocked | NodeStatus::RenewLocked);
        self.lock = None;
        if locked(self.status) {
            self.status = NodeStatus::Available;
        }
        if self.before_chain.is_some_and(locked) {
            self.before_chain = Some(NodeStatus::Available);
        }
    }

    /// The row id of a node.
    #[must_use]
    pub fn id_of(id: &LeafId) -> Vec<u8> {
        id.bytes16().to_vec()
    }
}

impl Row for NodeRow {
    const TABLE: Table = Table::Node;
    const FORMAT: u8 = 2;

    fn id(&self) -> Vec<u8> {
        Self::id_of(&self.id)
    }

    fn listed(&self) -> Vec<IndexKey> {
        let id = self.id.bytes16();
        let mut listed = vec![IndexKey::new(
            Index::NodeByOwner,
            &[&owner_prefix(&self.owner, self.network), &id],
        )];
        if let Some(parent) = &self.parent {
            listed.push(IndexKey::new(
                Index::NodeByParent,
                &[&parent.bytes16(), &id],
            ));
        }
        if self.status == NodeStatus::Creating {
            listed.push(IndexKey::new(Index::NodeCreating, &[&id]));
        }
        for txid in self.txs.txids() {
            listed.push(IndexKey::new(Index::NodeByTxid, &[txid.as_ref(), &id]));
        }
        listed
    }

    /// Format 1 is format 2 without its last field, [`NodeRow::renewal`].
    fn decode(id: &[u8], body: &[u8]) -> Result<Self, Unreadable> {
        let unreadable = |format| Unreadable {
            table: Self::TABLE,
            id: id.to_vec(),
            format,
        };
        let fields = match body.split_first() {
            Some((&Self::FORMAT, fields)) => Cow::Borrowed(fields),
            Some((1, fields)) => Cow::Owned([fields, &[0]].concat()),
            other => return Err(unreadable(other.map_or(0, |(format, _)| *format))),
        };
        postcard::from_bytes(&fields)
            .map_err(|_| unreadable(body.first().copied().unwrap_or_default()))
    }
}

/// Where a tree stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TreeStatus {
    /// Its deposit is not confirmed.
    Pending,
    /// Confirmed.
    Available,
    /// Left for the chain.
    Exited,
}

/// What one deposit became.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeRow {
    /// Id, equal on all operators.
    pub id: TreeId,
    /// Who deposited.
    pub owner: PublicKey,
    /// Network.
    pub network: Network,
    /// The first (or only) output that was deposited.
    pub base: OutPoint,
    /// The node at the top.
    pub root: LeafId,
    /// Status.
    pub status: TreeStatus,
    /// When it was made.
    pub created: Millis,
}

impl Row for TreeRow {
    const TABLE: Table = Table::Tree;

    fn id(&self) -> Vec<u8> {
        self.id.bytes16().to_vec()
    }

    fn listed(&self) -> Vec<IndexKey> {
        match self.status {
            TreeStatus::Pending => {
                vec![IndexKey::new(Index::TreePending, &[&self.id.bytes16()])]
            }
            TreeStatus::Available | TreeStatus::Exited => Vec::new(),
        }
    }
}
