//! [`BlockSource`] of Bitcoin Core.

use std::time::Duration;

use async_trait::async_trait;
use bitcoin::{Block, BlockHash};
use tinderbox_protocol::BlockHeight;

use super::BlockSource;
use crate::error::Result;
use crate::rpc::Rpc;
use crate::source::BlockRef;

#[async_trait]
impl BlockSource for Rpc {
    async fn hashes(&self, from: BlockHeight, count: u32) -> Result<Vec<BlockHash>> {
        self.block_hashes(from, count).await
    }

    async fn blocks(&self, hashes: &[BlockHash]) -> Result<Vec<Block>> {
        Rpc::blocks(self, hashes).await
    }

    async fn wait_for_change(&self, known: Option<BlockRef>, limit: Duration) -> Result<()> {
        let known = match known {
            Some(known) => known,
            None => self.best_block().await?,
        };
        self.wait_for_tip_change(&known, limit).await.map(|_| ())
    }
}
