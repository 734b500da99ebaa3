//! Returning what has expired: the transfers that waited for something that did not come.
//!
//! Every operator looks, one of them acts: the transfer's id says who is first, and the others
//! follow one by one in case it does not. All of them judge by their own clocks, in the flow; a
//! return that one clock is not ready for is refused as a whole and tried again.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use futures::StreamExt as _;
use tinderbox_flows::record::Index;
use tinderbox_flows::refusal::Refusal;
use tinderbox_flows::request::Request;
use tinderbox_flows::return_rule::{self, MARGIN_MS, Why};
use tinderbox_flows::returns::ReturnRequest;
use tinderbox_flows::rows::{Millis, TransferRow};
use tinderbox_protocol::TransferId;
use tinderbox_store::Scan;

use crate::Engine;
use crate::tables::{TableError, Tables};

/// How often expired transfers are looked for.
const PERIOD: Duration = Duration::from_secs(5);
/// How much later than the one before it each operator acts, in milliseconds.
const TURN_MS: u64 = 30_000;
/// Transfers read at a time.
const CHUNK: usize = 256;
/// Returns that run at once.
const AT_ONCE: usize = 8;
/// The first pause after a return that was refused, in milliseconds; it doubles.
const FIRST_PAUSE_MS: u64 = 5_000;
/// The longest pause.
const LONGEST_PAUSE_MS: u64 = 300_000;

/// Whose turn a return is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// This operator's, when those before it have had theirs.
    Own,
    /// This operator's, now.
    Now,
}

/// Looks for transfers that have expired, and returns them.
pub struct Returns {
    engine: Engine,
    tables: Tables,
    /// Refused returns: when to try again, and the pause before that. Lost with the process, which
    /// only means that it tries earlier.
    paused: BTreeMap<TransferId, (Millis, u64)>,
}

impl Returns {
    /// With this engine.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self {
            tables: Tables::new(engine.core().store.clone()),
            engine,
            paused: BTreeMap::new(),
        }
    }

    /// Looks again and again, until `stop`.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
            // A flow that has begun is not given up: it would hold its transfer until recovery.
            if let Err(error) = self.round(Turn::Own).await {
                tracing::warn!(%error, "expired transfers could not be looked for; trying again");
            }
        }
    }

    /// Looks once. Returns how many transfers went back.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn round(&mut self, turn: Turn) -> Result<usize, TableError> {
        let now = self.engine.core().clock.now();
        let due = self.due(now, turn).await?;
        let engine = &self.engine;
        let ended: Vec<(TransferId, Result<(), Refusal>)> = futures::stream::iter(due)
            .map(|transfer| async move {
                let request = ReturnRequest {
                    now: engine.core().clock.now(),
                    transfer,
                    why: Why::Expired,
                };
                let outcome = engine.run(Request::Return(Box::new(request))).await;
                (transfer, outcome.map(drop))
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut returned = 0;
        for (transfer, outcome) in ended {
            match outcome {
                Ok(()) => {
                    returned += 1;
                    tracing::info!(%transfer, "expired: given back to its sender");
                    metrics::counter!("tinderbox_transfers_returned_total").increment(1);
                }
                Err(refusal) => {
                    tracing::debug!(%transfer, %refusal, "not returned yet");
                    let pause = self
                        .paused
                        .get(&transfer)
                        .map_or(FIRST_PAUSE_MS, |(_, pause)| {
                            pause.saturating_mul(2).min(LONGEST_PAUSE_MS)
                        });
                    self.paused.insert(transfer, (now.plus(pause), pause));
                }
            }
        }
        Ok(returned)
    }

    /// The transfers to return now.
    async fn due(&mut self, now: Millis, turn: Turn) -> Result<Vec<TransferId>, TableError> {
        let mut scan = Scan {
            index: Index::TransferByExpiry,
            from: Vec::new(),
            to: Millis(now.0.saturating_sub(MARGIN_MS)).sort().to_vec(),
            descending: false,
            limit: CHUNK,
        };
        // What is not listed any more need not be remembered.
        let mut paused = BTreeMap::new();
        let mut due = Vec::new();
        loop {
            let found = self.tables.scan::<TransferRow>(scan.clone()).await?;
            let full = found.len() == CHUNK;
            if let Some(last) = found.last() {
                scan.from.clone_from(&last.listed);
                scan.from.push(0);
            }
            for row in found.into_iter().map(|found| found.row) {
                let pause = self.paused.get(&row.id).copied();
                if let Some(pause) = pause {
                    paused.insert(row.id, pause);
                }
                let waits = turn == Turn::Own
                    && (!self.is_turn(&row, now) || pause.is_some_and(|(until, _)| now < until));
                if row.held.is_none() && return_rule::is_returnable(&row) && !waits {
                    due.push(row.id);
                }
            }
            if !full {
                break;
            }
        }
        self.paused = paused;
        Ok(due)
    }

    /// True if this operator may act: the first one at once, every other after those before it.
    fn is_turn(&self, row: &TransferRow, now: Millis) -> bool {
        let site = &self.engine.core().site;
        let [.., last] = row.id.bytes16();
        let rank = rank(
            u64::from(last),
            u64::from(site.me.0),
            u64::from(site.count()),
        );
        return_rule::due(row).is_some_and(|due| due.plus(rank.saturating_mul(TURN_MS)) <= now)
    }
}

/// How many operators come before operator `me` of `count`, for a transfer with this number.
fn rank(number: u64, me: u64, count: u64) -> u64 {
    let count = count.max(1);
    (me + count - number % count) % count
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn every_operator_has_a_turn_of_its_own() {
        for number in 0..7 {
            let mut ranks: Vec<u64> = (0..5).map(|me| rank(number, me, 5)).collect();
            assert_eq!(ranks[usize::try_from(number % 5).unwrap()], 0);
            ranks.sort_unstable();
            assert_eq!(ranks, [0, 1, 2, 3, 4]);
        }
    }
}
