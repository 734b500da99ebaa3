use bitcoin::{OutPoint, Txid};
use serde::Serialize;
use tinderbox_protocol::{BlockHeight, LeafId, Sats};

/// Something that happened in a step of an exit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ExitEvent {
    /// A package went out.
    Sent {
        /// The leaf.
        leaf: LeafId,
        /// Step, from 0; the last is the refund.
        step: usize,
        /// How many steps there are.
        steps: usize,
        /// The step's transaction.
        txid: Txid,
        /// What its child pays.
        fee: Sats,
    },
    /// A package that did not confirm went out again with a higher fee.
    Bumped {
        /// The leaf.
        leaf: LeafId,
        /// The transaction.
        txid: Txid,
        /// What its new child pays.
        fee: Sats,
    },
    /// A step's transaction is in a block.
    Confirmed {
        /// The leaf.
        leaf: LeafId,
        /// Step, from 0.
        step: usize,
        /// How many steps there are.
        steps: usize,
        /// The transaction.
        txid: Txid,
        /// Its block.
        height: BlockHeight,
    },
    /// A timelock runs.
    Waiting {
        /// The leaf.
        leaf: LeafId,
        /// The step that waits.
        step: usize,
        /// The tip at which it can be sent.
        until: BlockHeight,
    },
    /// The leaf's money is in an output that only this wallet can spend.
    Refunded {
        /// The leaf.
        leaf: LeafId,
        /// The output.
        outpoint: OutPoint,
        /// What it holds.
        value: Sats,
    },
    /// A confirmed transaction left the chain again; the exit goes back.
    Reorganised {
        /// The leaf.
        leaf: LeafId,
        /// The step that must confirm again.
        step: usize,
    },
    /// A package was refused; it is tried again.
    Refused {
        /// The leaf.
        leaf: LeafId,
        /// Why.
        reason: String,
    },
    /// A leaf is given up.
    Failed {
        /// The leaf.
        leaf: LeafId,
        /// Why.
        reason: String,
    },
    /// The sweep went out.
    SweepSent {
        /// The sweep.
        txid: Txid,
        /// What it pays to the destination.
        value: Sats,
        /// Its fee.
        fee: Sats,
    },
    /// The sweep is in a block: the exit is done.
    SweepConfirmed {
        /// The sweep.
        txid: Txid,
        /// Its block.
        height: BlockHeight,
    },
}

/// What an exit waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "wanted", rename_all = "snake_case")]
pub enum Wanted {
    /// A new block; nothing can happen below `at_least`.
    Block {
        /// The tip at which the next thing can be done.
        at_least: BlockHeight,
    },
    /// A confirmed coin on the funding address; other leaves may go on meanwhile.
    Funding {
        /// Where to send it.
        address: String,
        /// What is needed at least.
        at_least: Sats,
    },
    /// Nothing: it is done.
    Nothing,
}

/// One leaf's line in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeafReport {
    /// The leaf.
    pub leaf: LeafId,
    /// Its value.
    pub value: Sats,
    /// Transactions confirmed.
    pub confirmed: usize,
    /// Transactions in all.
    pub steps: usize,
    /// Where it stands, in words.
    pub stage: String,
}

/// The exit after a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExitReport {
    /// The tip that was looked at.
    pub tip: BlockHeight,
    /// Every leaf.
    pub leaves: Vec<LeafReport>,
    /// What happened in this step.
    pub events: Vec<ExitEvent>,
    /// What it waits for.
    pub wanted: Wanted,
    /// Fees of confirmed packages and of the confirmed sweep.
    pub fees_paid: Sats,
    /// The sweep, once sent.
    pub sweep: Option<Txid>,
    /// True when nothing remains to be done.
    pub done: bool,
}
