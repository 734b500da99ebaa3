//! Why the signer refused.

use serde::{Deserialize, Serialize};

/// Why the signer refused. No text carries secret material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum SignerError {
    /// The ciphertext or its content is malformed, or a share does not fit its proofs.
    #[error("key tweak package: {0}")]
    BadPackage(String),
    /// A share of a preimage is malformed, or does not fit its proofs.
    #[error("preimage share: {0}")]
    BadPreimage(String),
    /// The sealed share was rotated away, or belongs to another key share or database.
    #[error(
        "key share {} is not the current one: this database is older than the signer's keys; do not restore backups over a live operator",
        hex::encode(.0)
    )]
    Stale([u8; 16]),
    /// The nonces are unknown: never handed out, lapsed, or used up.
    #[error("signing nonces are unknown or used: fetch new signing commitments")]
    UnknownNonce,
    /// The nonces are bound to another job.
    #[error("signing nonces are bound to another message: fetch new signing commitments")]
    NonceReuse,
    /// A signing package was wrong.
    #[error("signing job: {0}")]
    BadJob(String),
    /// The DKG was aborted; culprits are named.
    #[error("key generation failed: {0}")]
    Dkg(String),
    /// The vault cannot be read or written.
    #[error("the signer's vault failed: {0}")]
    Vault(String),
    /// The signer process does not answer.
    #[error("the signer does not answer: {0}")]
    Unreachable(String),
}

impl SignerError {
    pub(crate) fn vault(text: impl Into<String>) -> Self {
        Self::Vault(text.into())
    }

    /// A thread died while it held a lock, so what it guarded may be half changed.
    pub(crate) fn poisoned() -> Self {
        Self::Vault("a thread of the signer failed; restart the signer".into())
    }
}
