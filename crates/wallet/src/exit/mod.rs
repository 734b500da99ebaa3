//! Leaving alone: a leaf becomes a coin on chain although no operator answers.
//!
//! Own signed transactions are all it takes: every node transaction from the tree's root down to
//! the leaf, then the leaf's refund. They pay no fee; each goes out as a package with a child that
//! spends its anchor and pays for both from a coin of the wallet's funding address. Node
//! transactions and the refund carry relative timelocks, so the exit waits between them. In the end
//! one transaction sweeps all refunds, and what is left of the funding, to an address of choice.
//!
//! [`ExitDriver::step`] does what can be done at the present tip and says what it waits for. All
//! state is written down before anything is sent, and every decision is taken from what the chain
//! says, so the exit goes on after a crash, and on another device from the words and a [`Bundle`].

mod bundle;
mod cost;
mod driver;
mod fund;
mod leaf;
mod otherwise;
mod path;
mod report;
mod send;
mod state;
mod sweep;
#[cfg(test)]
mod tests;
mod tx_hex;

pub use bundle::Bundle;
pub use cost::{Rate, estimate, leaf_cost};
pub use driver::{ExitDriver, lines};
pub use path::{ExitPath, HexTx, PathNode, RefundKey};
pub use report::{ExitEvent, ExitReport, LeafReport, Wanted};
pub use state::{ExitOptions, ExitState, FundingCoin, LeafExit, Sent, Stage, Sweep, Version};
