//! Nonce commitments of all operators, fetched ahead, so that wallets get theirs at once.
//!
//! A commitment that is handed out and never used simply lapses. What is fetched ahead lives in
//! memory only: losing it costs nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::rows::Millis;
use tinderbox_frost::{NonceCommitment, OperatorIndex};

use crate::Core;

/// How long a fetched commitment is handed out, in milliseconds: half of the shortest time after
/// which a signer may destroy it.
const MAX_AGE_MS: u64 = 1_800_000;
/// The same for a wallet that may make adaptor signatures with them: signers take only young nonces
/// for these.
const YOUNG_MS: u64 = 60_000;
/// Commitments fetched in one go.
const BATCH: u32 = 256;

/// Hands out nonce commitments.
#[derive(Clone)]
pub struct Nonces {
    core: Core,
    ready: Arc<BTreeMap<OperatorIndex, Pool>>,
}

/// One operator's commitments.
#[derive(Default)]
struct Pool {
    ready: Mutex<VecDeque<(Millis, NonceCommitment)>>,
    /// One fetch at a time: those who wait find its result.
    fetching: tokio::sync::Mutex<()>,
}

impl Pool {
    fn take(&self, count: usize, now: Millis) -> Option<Vec<NonceCommitment>> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        // Oldest first; the signer that made them destroys what nobody uses for long.
        while ready
            .front()
            .is_some_and(|(fetched, _)| fetched.plus(MAX_AGE_MS) < now)
        {
            ready.pop_front();
        }
        if ready.len() < count {
            return None;
        }
        Some(ready.drain(..count).map(|(_, taken)| taken).collect())
    }

    /// The youngest ones, if there are enough that were fetched lately.
    fn take_young(&self, count: usize, now: Millis) -> Option<Vec<NonceCommitment>> {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let at = ready.len().checked_sub(count)?;
        let oldest = ready
            .get(at)
            .is_none_or(|(fetched, _)| fetched.plus(YOUNG_MS) >= now);
        oldest.then(|| ready.drain(at..).map(|(_, taken)| taken).collect())
    }

    /// Drops those that are not young any more.
    fn forget_old(&self, now: Millis) {
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        ready.retain(|(fetched, _)| fetched.plus(YOUNG_MS) >= now);
    }

    fn add(&self, commitments: Vec<NonceCommitment>, now: Millis) {
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(commitments.into_iter().map(|commitment| (now, commitment)));
    }

    fn len(&self) -> usize {
        self.ready
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }
}

impl Nonces {
    /// An empty pool.
    #[must_use]
    pub fn new(core: Core) -> Self {
        let ready = core
            .site
            .everyone()
            .map(|operator| (operator, Pool::default()))
            .collect();
        Self {
            core,
            ready: Arc::new(ready),
        }
    }

    /// `count` sets of commitments, each of the same `threshold` operators.
    ///
    /// # Errors
    /// [`Reason::OperatorUnavailable`] if fewer than `threshold` operators answer.
    pub async fn take(
        &self,
        count: usize,
    ) -> Result<Vec<BTreeMap<OperatorIndex, NonceCommitment>>, Refusal> {
        self.sets(count, false).await
    }

    /// As [`Nonces::take`], of nonces that were made lately: adaptor signatures take no others.
    ///
    /// # Errors
    /// As `take`.
    pub async fn take_young(
        &self,
        count: usize,
    ) -> Result<Vec<BTreeMap<OperatorIndex, NonceCommitment>>, Refusal> {
        self.sets(count, true).await
    }

    async fn sets(
        &self,
        count: usize,
        young: bool,
    ) -> Result<Vec<BTreeMap<OperatorIndex, NonceCommitment>>, Refusal> {
        let mut sets = vec![BTreeMap::new(); count];
        let mut found = 0;
        for operator in self.order() {
            if found == self.core.site.threshold {
                break;
            }
            match self.take_from(operator, count, young).await {
                Ok(commitments) => {
                    for (set, commitment) in sets.iter_mut().zip(commitments) {
                        set.insert(operator, commitment);
                    }
                    found += 1;
                }
                Err(error) => tracing::warn!(%error, "nonces"),
            }
        }
        if found < self.core.site.threshold {
            return Err(Refusal::new(
                Reason::OperatorUnavailable,
                format!(
                    "{found} of the {} operators that must sign answer: try again",
                    self.core.site.threshold
                ),
            ));
        }
        Ok(sets)
    }

    /// This operator first, then the others, beginning anywhere: so that the work is shared.
    fn order(&self) -> Vec<OperatorIndex> {
        let me = self.core.site.me;
        let mut others: Vec<_> = self
            .core
            .site
            .everyone()
            .filter(|operator| *operator != me)
            .collect();
        let mut random = [0; 1];
        self.core.clock.random(&mut random);
        if !others.is_empty() {
            let at = usize::from(random[0]) % others.len();
            others.rotate_left(at);
        }
        let mut order = vec![me];
        order.extend(others);
        order
    }

    async fn take_from(
        &self,
        operator: OperatorIndex,
        count: usize,
        young: bool,
    ) -> Result<Vec<NonceCommitment>, String> {
        let pool = self.ready.get(&operator).ok_or("no such operator")?;
        let take = || {
            let now = self.core.clock.now();
            if young {
                pool.take_young(count, now)
            } else {
                pool.take(count, now)
            }
        };
        if let Some(taken) = take() {
            if pool.len() < usize::try_from(BATCH / 4).unwrap_or(usize::MAX) {
                let nonces = self.clone();
                tokio::spawn(async move {
                    let _ = nonces.fetch(operator, BATCH).await;
                });
            }
            return Ok(taken);
        }
        loop {
            let missing = u32::try_from(count)
                .unwrap_or(u32::MAX)
                .saturating_add(BATCH);
            if young {
                pool.forget_old(self.core.clock.now());
            }
            self.fetch(operator, missing).await?;
            if let Some(taken) = take() {
                return Ok(taken);
            }
        }
    }

    async fn fetch(&self, operator: OperatorIndex, count: u32) -> Result<(), String> {
        let Some(pool) = self.ready.get(&operator) else {
            return Ok(());
        };
        let _turn = pool.fetching.lock().await;
        if pool.len() >= usize::try_from(count).unwrap_or(usize::MAX) {
            return Ok(());
        }
        let commitments = if operator == self.core.site.me {
            self.core
                .signer
                .nonces(count)
                .await
                .map_err(|error| error.to_string())?
        } else {
            self.core
                .peers
                .nonces(operator, count)
                .await
                .map_err(|error| error.to_string())?
        };
        pool.add(commitments, self.core.clock.now());
        Ok(())
    }

    /// Fetches ahead from everybody. For start-up; failures are found again when it matters.
    pub async fn warm(&self) {
        let fetches = self.core.site.everyone().map(|operator| async move {
            if let Err(error) = self.fetch(operator, BATCH).await {
                tracing::warn!(?operator, %error, "nonces");
            }
        });
        futures::future::join_all(fetches).await;
    }
}
