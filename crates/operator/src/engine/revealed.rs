//! Settling what must be settled: transfers whose preimage the operators know.
//!
//! The coordinator of a payment from Lightning settles it at once. Should it not, because it died or
//! lies, any operator does: the preimage is the authority.

use futures::future::join_all;
use tinderbox_flows::htlc::settle::PreimageRequest;
use tinderbox_flows::record::{Index, Row};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{HashLockRow, HashLockState, Millis};
use tinderbox_store::Scan;

use super::Engine;

/// For how long the coordinator is left alone, in milliseconds.
const OWN_TIME_MS: u64 = 10_000;
/// How much longer each operator waits than the one before it, so that they do not meet.
const STEP_MS: u64 = 5_000;
/// Transfers that one round settles.
const ROUND: usize = 16;

impl Engine {
    /// Settles transfers whose preimage has been known for a while. Returns how many wait still.
    pub async fn settle_revealed(&self) -> usize {
        let turn = STEP_MS.saturating_mul(u64::from(self.core.site.me.0));
        let wait = OWN_TIME_MS.saturating_add(turn);
        let mut scan = Scan::all(Index::HashLockRevealed);
        scan.limit = ROUND;
        let found = match self.core.store.scan(scan).await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "known preimages");
                return 0;
            }
        };
        let rows = found
            .iter()
            .filter_map(|found| HashLockRow::decode(&found.key.id, &found.stored.body).ok());
        let settled = join_all(rows.map(|lock| self.settle_one(lock, wait))).await;
        settled.into_iter().filter(|settled| !settled).count()
    }

    async fn settle_one(&self, lock: HashLockRow, wait: u64) -> bool {
        let HashLockState::Revealed(preimage) = lock.state else {
            return true;
        };
        // The row has its coordinator's time: a clock that is far off must not hold this up.
        let now = self.core.clock.now();
        if now.0.abs_diff(lock.updated.0) < wait {
            return false;
        }
        let settle = PreimageRequest {
            now: Millis(now.0.max(lock.updated.0)),
            transfer: lock.transfer,
            receiver: lock.receiver,
            preimage,
        };
        match self.run(Request::Preimage(Box::new(settle))).await {
            Ok(_) => true,
            Err(refusal) => {
                tracing::warn!(transfer = %lock.transfer, %refusal, "a known preimage");
                false
            }
        }
    }
}
