//! What a watchtower says.

use bitcoin::Txid;
use serde::Serialize;
use tinderbox_protocol::{BlockHeight, LeafId};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum WatchEvent {
    /// Somebody published a node of the leaf.
    OnChain {
        /// The leaf.
        leaf: LeafId,
        /// The node.
        node: LeafId,
        /// Its block.
        height: BlockHeight,
    },
    /// The answer was sent.
    Published {
        /// The leaf.
        leaf: LeafId,
        /// The transaction.
        txid: Txid,
    },
    /// The answer was not taken; it is tried again at the next block.
    Refused {
        /// The leaf.
        leaf: LeafId,
        /// Why.
        reason: String,
    },
    /// A refund to the owner is in a block.
    Refunded {
        /// The leaf.
        leaf: LeafId,
        /// The refund.
        txid: Txid,
        /// Its block.
        height: BlockHeight,
    },
    /// The bundle has no answer for what is on chain.
    Lost {
        /// The leaf.
        leaf: LeafId,
        /// Why.
        reason: String,
    },
    /// A leaf of the bundle has no signed fee-paying refund: it is not watched over.
    Unprotected {
        /// The leaf.
        leaf: LeafId,
    },
}

/// One look at the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WatchReport {
    /// The tip that was looked at.
    pub tip: BlockHeight,
    /// Leaves in the bundle.
    pub leaves: usize,
    /// Leaves with a node on chain and no refund yet.
    pub contested: usize,
    /// What is new.
    pub events: Vec<WatchEvent>,
}
