//! Blocks on demand or on a timer.

use std::time::Duration;

use bitcoin::BlockHash;

use super::{Faucet, Result};

/// Mines until it is dropped.
pub struct MiningTimer {
    task: tokio::task::JoinHandle<()>,
}

impl Drop for MiningTimer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Faucet {
    /// Mines blocks now; the rewards are the faucet's.
    pub async fn mine(&self, blocks: u32) -> Result<Vec<BlockHash>> {
        Ok(self
            .rpc()
            .generate_to_address(blocks, self.address())
            .await?)
    }

    /// Mines a block each `interval`, the first after one interval. Off unless somebody asks: the official
    /// test suites want to decide themselves when blocks come.
    pub fn mine_every(&self, interval: Duration) -> MiningTimer {
        let faucet = self.clone();
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(10)));
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks.tick().await; // the first comes at once
            loop {
                ticks.tick().await;
                if let Err(error) = faucet.mine(1).await {
                    tracing::warn!(%error, "mining on the timer failed; trying again at the next tick");
                }
            }
        });
        MiningTimer { task }
    }
}
