//! What an operator does about the chain: follows it, and answers what must not stand.
//!
//! | file | is |
//! |---|---|
//! | [`state`] | applies blocks and undoes them, in one conditional write each |
//! | `connect`, `disconnect` | what a batch of blocks changes, and what taking blocks back changes |
//! | `effects` | what one confirmed transaction means for a node |
//! | `undo` | what each recent block changed |
//! | `flip` | deposits that are deep enough become spendable |
//! | [`watchtower`] | broadcasts refunds whose time has come |
//!
//! Handlers that must not be late ask the node itself; the rows that are written here are for
//! everything that happens without anybody asking.

mod connect;
mod disconnect;
mod effects;
mod flip;
pub mod state;
#[cfg(test)]
mod tests;
mod undo;
pub mod watchtower;

pub use flip::run_flips;
pub use state::Duties;
pub use undo::UndoRow;
pub use watchtower::Watchtower;
