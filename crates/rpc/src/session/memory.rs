//! Remembers which challenges were answered, so that each serves once.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;

use crate::{Reason, ServiceError};

/// Shared memory of answered challenges. All processes of one operator use one.
#[async_trait]
pub trait NonceMemory: Send + Sync {
    /// Notes `nonce` until `expires` and says whether it was new. Times in unix seconds; a nonce
    /// may be forgotten once `now` is past its `expires`.
    ///
    /// # Errors
    /// [`NonceMemoryError`]; the answer is then refused, never accepted unseen.
    async fn spend(
        &self,
        nonce: [u8; 32],
        expires: u64,
        now: u64,
    ) -> Result<bool, NonceMemoryError>;
}

/// Why an answer could not be noted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NonceMemoryError {
    /// There is no room until some of what is noted expires.
    #[error("too many sessions are being made; try again in a minute")]
    Full,
    /// The store behind the memory does not answer.
    #[error("cannot note the answered challenge: {0}")]
    Store(String),
}

impl From<NonceMemoryError> for ServiceError {
    fn from(error: NonceMemoryError) -> Self {
        match error {
            NonceMemoryError::Full => Self::new(Reason::RateLimited, error.to_string()),
            NonceMemoryError::Store(_) => {
                tracing::error!(%error, "session refused");
                Self::new(
                    Reason::ExternalOperatorUnavailable,
                    "cannot make a session now; try again",
                )
            }
        }
    }
}

/// Memory of one process.
pub struct InMemoryNonces {
    capacity: usize,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    nonces: HashSet<[u8; 32]>,
    by_expiry: BTreeSet<(u64, [u8; 32])>,
}

impl InMemoryNonces {
    /// Room for `capacity` answered challenges that have not expired.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            noted: Mutex::default(),
        }
    }
}

impl Default for InMemoryNonces {
    fn default() -> Self {
        Self::new(100_000)
    }
}

#[async_trait]
impl NonceMemory for InMemoryNonces {
    async fn spend(
        &self,
        nonce: [u8; 32],
        expires: u64,
        now: u64,
    ) -> Result<bool, NonceMemoryError> {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(&(until, old)) = noted.by_expiry.first() {
            if until >= now {
                break;
            }
            noted.by_expiry.pop_first();
            noted.nonces.remove(&old);
        }
        if noted.nonces.contains(&nonce) {
            return Ok(false);
        }
        if noted.nonces.len() >= self.capacity {
            return Err(NonceMemoryError::Full);
        }
        noted.nonces.insert(nonce);
        noted.by_expiry.insert((expires, nonce));
        Ok(true)
    }
}
