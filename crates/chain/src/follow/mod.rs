//! Applies the best chain's blocks, in order, to a state that remembers how far it got.
//!
//! The state keeps the last blocks it applied ([`Window`], 100 or more) in the same transaction as their
//! effects. So whatever crashes, the next start goes on at the first block that was not applied, a block is
//! never half applied, and a reorganisation is seen by comparing that window with the node's chain. This
//! module decides; it has no memory of its own that matters.

mod core;
mod event;
mod follower;
mod window;

pub use event::{ChainEvent, ConnectedBlock};
pub use follower::{ChainState, Follower};
pub use window::{WINDOW, Window};

use std::time::Duration;

use async_trait::async_trait;
use bitcoin::{Block, BlockHash};
use tinderbox_protocol::BlockHeight;

use crate::error::Result;
use crate::source::BlockRef;

/// Where blocks come from. [`Rpc`](crate::Rpc) is one; a simulator brings its own.
#[async_trait]
pub trait BlockSource: Send + Sync {
    /// Hashes of the best chain at `count` heights from `from` on; fewer, or none, where it ends.
    async fn hashes(&self, from: BlockHeight, count: u32) -> Result<Vec<BlockHash>>;

    /// The blocks of these hashes, in this order.
    async fn blocks(&self, hashes: &[BlockHash]) -> Result<Vec<Block>>;

    /// Returns when the tip is another than `known`, or after `limit`. `None`: nothing is known yet.
    async fn wait_for_change(&self, known: Option<BlockRef>, limit: Duration) -> Result<()>;
}
