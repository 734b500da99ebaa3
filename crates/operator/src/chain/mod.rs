//! What an operator does about the chain: follows it, and answers what must not stand.
//!
//! | file | is |
//! |---|---|
//! | [`state`] | applies blocks and undoes them, in one conditional write each |
//! | `connect`, `disconnect` | what a batch of blocks changes, and what taking blocks back changes |
//! | `payments`, `spends`, `orphans` | its three parts: deposits, our transactions, nodes that die with those above |
//! | `exits` | payouts of cooperative exits |
//! | `effects` | what a confirmed transaction is to a node |
//! | `mark` | what the chain has said about one node, and the status that follows |
//! | `work` | what a batch changes, before it is written |
//! | `undo` | what each recent block changed |
//! | `flip` | deposits that are deep enough become spendable |
//! | [`watchtower`] | broadcasts refunds whose time has come |
//!
//! Handlers that must not be late ask the node itself; the rows that are written here are for
//! everything that happens without anybody asking.

mod connect;
mod disconnect;
mod effects;
mod exits;
mod flip;
mod mark;
mod orphans;
mod payments;
mod spends;
pub mod state;
#[cfg(test)]
mod tests;
mod undo;
pub mod watchtower;
mod work;

pub use flip::run_flips;
pub use mark::{Confirmed, MarkRow, SpentBy};
pub use state::Duties;
pub use undo::UndoRow;
pub use watchtower::Watchtower;
