//! Secrets as the rest of an operator sees them: sealed.

use serde::{Deserialize, Serialize};

/// A key share, sealed by the signer under a key of its own. Only the signer can open it, and only
/// until it has been rotated away: then the sealing key is destroyed, and this is noise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedShare(pub Vec<u8>);

/// One operator's share of a key tweak, sealed by the signer under the key of an epoch. Staged
/// between a flow's vote and its commit; the epoch's key is destroyed when nothing uses it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedTweak {
    /// Which sealing key.
    pub epoch: u64,
    /// The sealed share.
    pub sealed: Vec<u8>,
}

/// This operator's share of a preimage, sealed by the signer. Noise to everybody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedPreimage(pub Vec<u8>);

/// One operator's share of a preimage in the clear: it leaves its operator with the certificate,
/// never before. Not printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreimageShare(pub [u8; 32]);

impl std::fmt::Debug for PreimageShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PreimageShare(..)")
    }
}

/// What a payment hash is the hash of. Not printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preimage(pub [u8; 32]);

impl Preimage {
    /// Its SHA-256.
    #[must_use]
    pub fn payment_hash(&self) -> [u8; 32] {
        use sha2::{Digest, Sha256};
        Sha256::digest(self.0).into()
    }
}

impl std::fmt::Debug for Preimage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Preimage(..)")
    }
}
