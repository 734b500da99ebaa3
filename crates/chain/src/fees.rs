//! A fee rate with sane bounds.

use bitcoin::{Amount, FeeRate};

use crate::error::Result;
use crate::rpc::Rpc;

/// Asks the node for fee rates and keeps them within bounds.
#[derive(Debug, Clone)]
pub struct FeeEstimator {
    rpc: Rpc,
    /// Used when the node has no estimate (regtest, a node just started).
    pub fallback: FeeRate,
    /// Never more than this: an estimate can be absurd.
    pub ceiling: FeeRate,
}

impl FeeEstimator {
    /// Falls back to 2 sat/vB and never gives more than 500 sat/vB.
    pub fn new(rpc: Rpc) -> Self {
        Self {
            rpc,
            fallback: FeeRate::from_sat_per_vb_u32(2),
            ceiling: FeeRate::from_sat_per_vb_u32(500),
        }
    }

    /// A rate that should confirm within `blocks` blocks, at least what the mempool takes at present.
    pub async fn fee_rate(&self, blocks: u16) -> Result<FeeRate> {
        // Core knows targets from 1 to 1008.
        let estimate = self.rpc.estimate_smart_fee(blocks.clamp(1, 1008)).await?;
        let wanted = estimate.fee_rate.map_or(self.fallback, per_kvb);
        let floor = per_kvb(self.rpc.mempool_info().await?.min_fee);
        // The floor wins: below it nothing is relayed at all.
        Ok(wanted.min(self.ceiling).max(floor))
    }
}

/// From an amount per 1000 vbytes, rounded up.
fn per_kvb(amount: Amount) -> FeeRate {
    FeeRate::from_sat_per_kwu(amount.to_sat().div_ceil(4))
}
