//! Leaves and the nodes above them, as operators describe them.

use bitcoin::Transaction;
use bitcoin::secp256k1::PublicKey;
use serde::Serialize;
use tinderbox_protocol::refunds::{LeafTxs, sequence_of};
use tinderbox_protocol::tx::TxKind;
use tinderbox_protocol::{LeafId, LeafSequence, Result, Sats, TreeId};

/// What operators say a node can be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeafStatus {
    /// Its deposit is not confirmed deep enough.
    Creating,
    /// Spendable.
    Available,
    /// In a transfer.
    TransferLocked,
    /// In a renewal.
    RenewLocked,
    /// A node above a renewed leaf.
    SplitLocked,
    /// Split into children.
    Splitted,
    /// Its node transaction is on chain.
    OnChain,
    /// A refund of it is on chain.
    Exited,
    /// A node above it left the tree.
    ParentExited,
    /// Any other: not spendable.
    Other,
}

impl LeafStatus {
    /// From the name on the wire.
    pub fn from_name(name: &str) -> Self {
        match name {
            "CREATING" => Self::Creating,
            "AVAILABLE" => Self::Available,
            "TRANSFER_LOCKED" => Self::TransferLocked,
            "RENEW_LOCKED" => Self::RenewLocked,
            "SPLIT_LOCKED" => Self::SplitLocked,
            "SPLITTED" => Self::Splitted,
            "ON_CHAIN" => Self::OnChain,
            "EXITED" => Self::Exited,
            "PARENT_EXITED" => Self::ParentExited,
            _ => Self::Other,
        }
    }

    /// True once a transaction of the leaf is on chain.
    pub const fn is_on_chain(self) -> bool {
        matches!(self, Self::OnChain | Self::Exited | Self::ParentExited)
    }
}

impl std::fmt::Display for LeafStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Available => "available",
            Self::TransferLocked => "in a transfer",
            Self::RenewLocked => "in a renewal",
            Self::SplitLocked => "split",
            Self::Splitted => "splitted",
            Self::OnChain => "on chain",
            Self::Exited => "exited",
            Self::ParentExited => "parent exited",
            Self::Other => "unavailable",
        })
    }
}

/// A node of a tree: a leaf, or one above it. All of it is hearsay until it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: LeafId,
    /// Its tree.
    pub tree: TreeId,
    /// The node above; roots have none.
    pub parent: Option<LeafId>,
    /// Its value.
    pub value: Sats,
    /// What it can be used for.
    pub status: LeafStatus,
    /// User's and operators' keys together; fixed for its life.
    pub verifying_key: PublicKey,
    /// The operators' half.
    pub keyshare: PublicKey,
    /// Identity key of its owner.
    pub owner: PublicKey,
    /// Fee-less node transaction.
    pub node_tx: Transaction,
    /// Fee-paying node transaction.
    pub direct_tx: Option<Transaction>,
    /// Fee-less refund; nodes above leaves may have none.
    pub refund_tx: Option<Transaction>,
    /// Refund of the direct node transaction.
    pub direct_refund_tx: Option<Transaction>,
    /// Fee-paying refund of the node transaction.
    pub direct_from_cpfp_refund_tx: Option<Transaction>,
}

impl Node {
    /// The transactions that refunds are built on.
    pub fn txs(&self) -> LeafTxs {
        LeafTxs {
            node_tx: self.node_tx.clone(),
            direct_tx: self.direct_tx.clone(),
        }
    }

    /// The timelock of the current refund; a node without one has nothing to send.
    ///
    /// # Errors
    /// If the sequence is no relative timelock in blocks.
    pub fn refund_sequence(&self) -> Result<LeafSequence> {
        match &self.refund_tx {
            Some(tx) => sequence_of(tx, TxKind::CpfpRefund),
            None => Ok(LeafSequence::ZERO),
        }
    }

    /// How often it can still be sent before it must be renewed.
    pub fn hops_left(&self) -> u16 {
        self.refund_sequence().map_or(0, LeafSequence::hops_left)
    }
}
