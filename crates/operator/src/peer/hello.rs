//! What operators tell of themselves, so that what should be equal can be compared.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tinderbox_flows::rows::Millis;
use tinderbox_rpc::proto::peer::Envelope;

use super::batch::{BatchError, open, seal};
use crate::config::Config;

/// What an operator says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of its program.
    pub release: String,
    /// Its clock.
    pub now: Millis,
    /// Its place.
    pub index: u16,
    /// How many operators sign.
    pub threshold: u16,
    /// Confirmations that make a deposit spendable.
    pub confirmations: u32,
    /// Its network.
    pub network: String,
    /// Hash of the operators' identity keys, in order.
    pub operators: [u8; 32],
}

impl Hello {
    /// What an operator with this configuration says at `now`.
    #[must_use]
    pub fn of(config: &Config, now: Millis) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"tinderbox/operators/1");
        for operator in &config.operators {
            hash.update(operator.identity.serialize());
        }
        Self {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            now,
            index: config.me.0,
            threshold: config.threshold,
            confirmations: config.deposit_confirmations,
            network: config.network.to_string(),
            operators: hash.finalize().into(),
        }
    }

    /// In an envelope.
    ///
    /// # Errors
    /// [`BatchError`].
    pub fn seal(&self) -> Result<Envelope, BatchError> {
        seal(std::slice::from_ref(self))
    }

    /// Out of an envelope.
    ///
    /// # Errors
    /// [`BatchError`] if it is another release's, or damaged.
    pub fn open(envelope: &Envelope) -> Result<Self, BatchError> {
        open::<Self>(envelope)?
            .pop()
            .ok_or_else(|| BatchError::Damaged("there is nothing in it".into()))
    }
}
