//! What a signer must know about its place among the operators, and its limits.

use tinderbox_frost::OperatorIndex;

use crate::SignerError;

/// Settings of a [`Local`](crate::Local) signer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalConfig {
    /// Which of the operators this is.
    pub operator: OperatorIndex,
    /// How many operators there are.
    pub operators: u16,
    /// How many of them sign.
    pub threshold: u16,
    /// Threads for curve work; the default is one per core.
    pub threads: usize,
    /// A new epoch begins when the current one is this old, in seconds. Default 600.
    pub epoch_seconds: u64,
    /// The key of an epoch that ended less than this many seconds ago is never retired: a tweak
    /// that was staged under it may still be on its way to the database. Default 600.
    pub epoch_grace_seconds: u64,
    /// DKG runs in memory at one time. Default 8.
    pub dkg_runs: usize,
    /// Keys per DKG run. Default 1000.
    pub dkg_keys: u32,
    /// A DKG run that is older than this many seconds is forgotten. Default 300.
    pub dkg_seconds: u64,
}

impl LocalConfig {
    /// Defaults for operator `operator` of `operators`.
    #[must_use]
    pub fn new(operator: OperatorIndex, operators: u16, threshold: u16) -> Self {
        Self {
            operator,
            operators,
            threshold,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            epoch_seconds: 600,
            epoch_grace_seconds: 600,
            dkg_runs: 8,
            dkg_keys: 1000,
            dkg_seconds: 300,
        }
    }

    pub(super) fn check(&self) -> Result<(), SignerError> {
        if self.threshold < 2 || self.threshold > self.operators {
            return Err(SignerError::vault(format!(
                "it cannot be opened with threshold {} of {} operators: the threshold is at least 2 and at most their number",
                self.threshold, self.operators
            )));
        }
        if self.operator.0 >= self.operators {
            return Err(SignerError::vault(format!(
                "it cannot be opened for {} of {}: they are counted from 0",
                self.operator, self.operators
            )));
        }
        Ok(())
    }
}
