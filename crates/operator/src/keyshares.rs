//! The pool of key shares that deposit addresses and tokens draw on, and its refill by DKG.
//!
//! Each operator draws only on keys of runs that it coordinated itself, so that two coordinators
//! never take the same key. A run makes many keys at once:
//!
//! 1. The coordinator asks everybody for first-round packages.
//! 2. It shows all packages to everybody. Each signs what it saw.
//! 3. It shows all signatures to everybody: if all saw the same, each makes its second-round
//!    shares and sends them directly to each peer.
//! 4. When an operator has all shares it computes its own, seals it and stores it; the coordinator
//!    stores its own last, so that it never hands out a key that somebody lacks.
//!
//! No party ever sees another's secrets; whoever breaks the protocol is named and the run stores
//! nothing. A process remembers nothing of a run: secrets and the shares that came are with the
//! signer, which all processes of an operator share, everything else is in the messages. So each
//! message may reach another process.

mod messages;
mod run;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tinderbox_flows::record::Index;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::rows::{KeyshareId, Millis};
use tinderbox_frost::OperatorIndex;
use tinderbox_store::{Scan, successor};

pub use messages::{DkgMessage, DkgReply};

use crate::Core;

/// Keys per run at most.
pub const MAX_RUN: u32 = 1000;
/// Candidates among which a draw chooses, so that draws at the same time rarely meet.
const CANDIDATES: usize = 64;
/// Milliseconds after which a key share that was drawn and is still free is free again. Longer than
/// a coordinator waits for votes.
const DRAW_LASTS_MS: u64 = 30_000;

/// The pool.
#[derive(Clone)]
pub struct Keyshares {
    core: Core,
    refilling: Arc<tokio::sync::Mutex<()>>,
    /// Drawn by this process and perhaps not yet marked in the database, with the time of the draw.
    drawn: Arc<Mutex<BTreeMap<KeyshareId, Millis>>>,
}

impl Keyshares {
    /// The pool of this operator.
    #[must_use]
    pub fn new(core: Core) -> Self {
        Self {
            core,
            refilling: Arc::default(),
            drawn: Arc::default(),
        }
    }

    async fn available(&self, limit: usize) -> Result<Vec<KeyshareId>, Refusal> {
        let prefix = self.core.site.me.0.to_be_bytes();
        let found = self
            .core
            .store
            .scan(Scan {
                index: Index::KeyshareAvailable,
                from: prefix.to_vec(),
                to: successor(&prefix),
                descending: false,
                limit,
            })
            .await
            .map_err(|error| {
                tracing::error!(%error, "key share pool");
                Refusal::new(Reason::Internal, "the operator's database does not answer")
            })?;
        Ok(found
            .into_iter()
            .filter_map(|row| row.key.id.try_into().ok().map(KeyshareId))
            .collect())
    }

    /// How many key shares are left, counted up to `limit`.
    ///
    /// # Errors
    /// A refusal if the database does not answer.
    pub async fn count(&self, limit: usize) -> Result<usize, Refusal> {
        Ok(self.available(limit).await?.len())
    }

    /// One key share that is free as far as this process knows. The flow that uses it makes sure.
    ///
    /// # Errors
    /// [`Reason::LimitExceeded`] if the pool is empty.
    pub async fn draw(&self) -> Result<KeyshareId, Refusal> {
        let candidates = self.available(CANDIDATES * 4).await?;
        let mut random = [0; 8];
        self.core.clock.random(&mut random);
        let now = self.core.clock.now();
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        // What is marked in the database needs no memory here. What was drawn long ago and is free
        // all the same was drawn for something that did not come about.
        drawn.retain(|id, at| now.0.abs_diff(at.0) < DRAW_LASTS_MS && candidates.contains(id));
        let fresh: Vec<KeyshareId> = candidates
            .iter()
            .filter(|id| !drawn.contains_key(id))
            .copied()
            .collect();
        let place = u64::from_be_bytes(random)
            .checked_rem(u64::try_from(fresh.len()).unwrap_or(1))
            .and_then(|place| usize::try_from(place).ok());
        match place.and_then(|place| fresh.get(place)) {
            Some(id) => {
                drawn.insert(*id, now);
                Ok(*id)
            }
            None => Err(Refusal::new(
                Reason::LimitExceeded,
                "not enough signing keyshares available: the pool is being refilled, try again",
            )),
        }
    }

    /// Runs DKG until the pool holds `target` key shares.
    ///
    /// # Errors
    /// A refusal that names who did not take part or broke the protocol.
    pub async fn refill(&self, target: u32) -> Result<u32, Refusal> {
        let _turn = self.refilling.lock().await;
        let mut made = 0;
        loop {
            let limit = usize::try_from(target).unwrap_or(usize::MAX);
            let have = u32::try_from(self.count(limit).await?).unwrap_or(u32::MAX);
            if have >= target {
                return Ok(made);
            }
            made += self.coordinate((target - have).min(MAX_RUN)).await?;
        }
    }

    /// Answers another operator's key generation message.
    pub async fn handle(&self, from: OperatorIndex, message: DkgMessage) -> DkgReply {
        match self.take_part(from, message).await {
            Ok(reply) => reply,
            Err(refusal) => {
                tracing::warn!(?from, %refusal, "key generation");
                DkgReply::Refused(refusal)
            }
        }
    }
}
