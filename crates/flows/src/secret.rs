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
