//! Sessions of wallets with one operator.
//!
//! A wallet asks for a challenge, signs it with its identity key, and is given a token that it
//! sends along with every call. Both challenge and token carry their own proof (an HMAC under a
//! key of this operator), so nothing has to be stored but the challenges that were answered.
//!
//! Everything here takes the time and randomness as arguments; [`AuthnService`] brings them in.

mod caller;
mod challenge;
mod keys;
mod memory;
mod service;
mod token;

use std::sync::Arc;
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use rand::{CryptoRng, RngCore};

pub use caller::{Anonymous, Caller};
pub use keys::{Purpose, SessionKeys};
pub use memory::{InMemoryNonces, NonceMemory, NonceMemoryError};
pub use service::AuthnService;

use crate::ServiceError;
use crate::proto::spark_authn as proto;

/// Gives the time in unix seconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    })
}

/// How long things stay valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// A challenge, from its making to its answer.
    pub challenge: Duration,
    /// A token. Wallets drop a token one minute early, so more than that.
    pub token: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            challenge: Duration::from_secs(60),
            token: Duration::from_secs(15 * 60),
        }
    }
}

/// Makes and checks challenges and tokens.
pub struct Sessions {
    keys: SessionKeys,
    memory: Arc<dyn NonceMemory>,
    lifetimes: Lifetimes,
}

impl Sessions {
    /// Sessions under these keys. `memory` is shared by all processes of one operator.
    pub fn new(keys: SessionKeys, memory: Arc<dyn NonceMemory>, lifetimes: Lifetimes) -> Self {
        Self {
            keys,
            memory,
            lifetimes,
        }
    }

    /// A challenge for an identity key. `now` in unix seconds.
    ///
    /// # Errors
    /// INVALID_ARGUMENT if the key is no compressed public key.
    pub fn challenge(
        &self,
        request: &proto::GetChallengeRequest,
        now: u64,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<proto::GetChallengeResponse, ServiceError> {
        challenge::make(&self.keys, &request.public_key, now, rng)
    }

    /// Checks an answered challenge and gives a token. `now` in unix seconds.
    ///
    /// # Errors
    /// "challenge expired" if it took too long; UNAUTHENTICATED or INVALID_ARGUMENT for a
    /// challenge that is not ours, was answered before, or is signed by another key; UNAVAILABLE
    /// or RESOURCE_EXHAUSTED if the memory of answered challenges cannot be used.
    pub async fn verify(
        &self,
        request: &proto::VerifyChallengeRequest,
        now: u64,
        rng: &mut (impl RngCore + CryptoRng + Send),
    ) -> Result<proto::VerifyChallengeResponse, ServiceError> {
        let answered = challenge::check(&self.keys, request, now, self.lifetimes.challenge)?;
        // The token is made first: what follows is the only step that cannot be repeated.
        let response = self.token(&answered.public_key, now, rng)?;
        // Only signed answers get here, so strangers cannot fill the memory.
        let fresh = self
            .memory
            .spend(answered.nonce, answered.expires, now)
            .await?;
        if !fresh {
            return Err(challenge::used());
        }
        Ok(response)
    }

    /// A token for a key that has proved itself.
    fn token(
        &self,
        public_key: &PublicKey,
        now: u64,
        rng: &mut (impl RngCore + CryptoRng),
    ) -> Result<proto::VerifyChallengeResponse, ServiceError> {
        let expires = i64::try_from(now.saturating_add(self.lifetimes.token.as_secs()))
            .map_err(ServiceError::internal)?;
        let mut nonce = [0; 32];
        rng.fill_bytes(&mut nonce);
        let session_token = token::make(&self.keys, public_key, expires, &nonce);
        Ok(proto::VerifyChallengeResponse {
            session_token,
            expiration_timestamp: expires,
        })
    }

    /// Who sent this `authorization` value. Never refuses: what is wrong with a value is kept in
    /// [`Caller::Anonymous`] for the handler to use. `now` in unix seconds.
    pub fn caller(&self, authorization: Option<&[u8]>, now: u64) -> Caller {
        caller::read(&self.keys, authorization, now)
    }
}
