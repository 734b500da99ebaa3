//! A watchtower for somebody's wallet: anybody may run it, and nothing that it knows can spend.
//!
//! When a former owner publishes a node of a leaf, the present owner's refund must be on chain
//! before the former owner's could be. The [`Bundle`](crate::Bundle) that a wallet exports holds
//! the fee-paying transactions for that, signed; they pay the owner and nobody else. The watchtower
//! looks at every block and publishes each as soon as a block may hold it, again and again until it
//! is confirmed.
//!
//! A bundle tells of one moment: after every payment the wallet must export a new one.

mod check;
mod report;
mod state;
#[cfg(test)]
mod tests;
mod tower;

pub use check::check;
pub use report::{WatchEvent, WatchReport};
pub use state::{LeafWatch, SeenNode, WatchState};
pub use tower::Watchtower;
