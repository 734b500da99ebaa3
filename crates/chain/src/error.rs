//! One error type for everything that concerns the chain.

use std::path::PathBuf;

use bitcoin::{BlockHash, Txid};
use tinderbox_protocol::BlockHeight;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between us and Bitcoin Core.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke. Worth a retry.
    #[error(
        "Bitcoin Core at {url} did not answer {method}: {reason}. Check that it runs and that the address is right"
    )]
    Unreachable {
        /// Where the call went, without credentials.
        url: String,
        /// The method that was called.
        method: String,
        /// What the connection said.
        reason: String,
    },

    /// Wrong user, password or cookie.
    #[error(
        "Bitcoin Core at {url} refused the credentials. Check the user and password, or the cookie file"
    )]
    Unauthorized {
        /// Where the call went.
        url: String,
    },

    /// The cookie file cannot be read.
    #[error(
        "cannot read the cookie file {path}: {reason}. Bitcoin Core writes it at its start; check the path"
    )]
    Cookie {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        reason: String,
    },

    /// The node is starting (RPC code −28). Worth a retry.
    #[error("Bitcoin Core is still starting: {message}. Try again in a moment")]
    WarmingUp {
        /// Core's own words.
        message: String,
    },

    /// The node's work queue is full (HTTP 503). Worth a retry.
    #[error(
        "Bitcoin Core is busy (its work queue is full). Try again, or raise its rpcworkqueue setting"
    )]
    Busy,

    /// Core answered with an error.
    #[error("Bitcoin Core refused {method}: {message} (code {code})")]
    Rpc {
        /// The method that was called.
        method: String,
        /// Core's error code.
        code: i64,
        /// Core's own words.
        message: String,
    },

    /// The answer is not what the method promises.
    #[error(
        "Bitcoin Core's answer to {method} was not understood: {reason}. Is it really Bitcoin Core?"
    )]
    Answer {
        /// The method that was called.
        method: String,
        /// What did not fit.
        reason: String,
    },

    /// The node is too old for ephemeral anchors and package submission.
    #[error(
        "Bitcoin Core version {found} is too old: {needed} (29.0) or newer is needed. Upgrade the node"
    )]
    TooOld {
        /// What `getnetworkinfo` says.
        found: u64,
        /// The oldest version that works.
        needed: u64,
    },

    /// The node follows another network.
    #[error(
        "Bitcoin Core follows the chain \"{found}\", but \"{expected}\" is configured. Correct one of them"
    )]
    WrongNetwork {
        /// Core's name of its chain.
        found: String,
        /// Core's name of the chain that we want.
        expected: String,
    },

    /// The transaction was not accepted.
    #[error("transaction {txid} was not accepted: {rejection} (Bitcoin Core says: {reason})")]
    Rejected {
        /// The transaction.
        txid: Txid,
        /// What it means.
        rejection: Rejection,
        /// Core's own words.
        reason: String,
    },

    /// The chain that we know shares no block with the node's within the window that is kept.
    #[error(
        "the node's chain does not contain any of the {known} blocks remembered up to height {}: \
         either a reorganisation deeper than that, or another chain than the one this data belongs to. \
         Check that the node is the right one; for a local network start anew",
        .tip.0
    )]
    ReorgTooDeep {
        /// Height of the last block applied.
        tip: BlockHeight,
        /// How many blocks are remembered.
        known: usize,
    },

    /// A block that the node gave does not hash to the name it was asked by.
    #[error(
        "the node gave a wrong block for {expected}: its hash is {found}. Its data may be damaged"
    )]
    WrongBlock {
        /// The hash that was asked for.
        expected: BlockHash,
        /// The hash of what came.
        found: BlockHash,
    },

    /// What we follow the chain for failed to take an event in.
    #[error("applying a chain event failed: {0}")]
    Apply(#[source] Box<dyn std::error::Error + Send + Sync>),

    /// There is no `bitcoind`, or none that can be used.
    #[error("{0}")]
    NoBitcoind(String),

    /// The private node did not start or stopped early.
    #[error("the private bitcoind in {datadir} {what}")]
    Node {
        /// Its data folder.
        datadir: PathBuf,
        /// What happened, and what to do.
        what: String,
    },
}

impl Error {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::WarmingUp { .. } | Self::Busy
        )
    }

    /// Core's error code, if Core answered with one.
    pub fn code(&self) -> Option<i64> {
        match self {
            Self::Rpc { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// Why a transaction was not accepted, as far as the caller's next step depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// An input does not exist or is spent by a confirmed transaction.
    #[error("an input is missing or already spent; look for what spent it")]
    MissingInputs,
    /// Another transaction in the mempool spends an input, and this one does not pay enough to replace it.
    #[error(
        "another unconfirmed transaction spends the same coin; wait for it, or pay a higher fee to replace it"
    )]
    Conflict,
    /// It pays less than the node relays.
    #[error("the fee is too low; add a child that pays more and submit both as one package")]
    FeeTooLow,
    /// A relative or absolute timelock has not passed.
    #[error("its timelock has not passed yet; wait for more blocks")]
    TimelockNotReached,
    /// Version-3 (TRUC) limits: one unconfirmed parent, one child, child at most 1,000 vbytes (10,000 otherwise).
    #[error(
        "it breaks the limits of version-3 transactions (one unconfirmed parent with one child, the child at most \
         1000 vbytes, all of them version 3); wait until the relatives are confirmed, or replace the child"
    )]
    TrucLimit,
    /// A zero-fee transaction with an anchor came without the child that spends the anchor.
    #[error("its anchor output must be spent by a child in the same package; submit both together")]
    AnchorUnspent,
    /// An output is smaller than the dust limit.
    #[error("an output is below the dust limit; send a larger amount")]
    Dust,
    /// A signature or script is wrong.
    #[error("a signature or script is not valid; it was built or signed wrongly")]
    BadScript,
    /// The fee is above the safety cap.
    #[error("the fee rate is above the safety cap; lower the fee")]
    FeeTooHigh,
    /// It was not looked at, since another transaction of its package failed.
    #[error("it was not looked at, because another transaction of the package failed")]
    NotValidated,
    /// Anything else.
    #[error("the node's rules forbid it; its own words say why")]
    Other,
}

impl Rejection {
    /// Reads Core's reject reason. Sources: `validation.cpp`, `truc_policy.cpp` and
    /// `ephemeral_policy.cpp` of Bitcoin Core 29 to 31.
    pub fn from_reason(reason: &str) -> Self {
        let has = |s: &str| reason.contains(s);
        // Order matters: a TRUC violation's text may also mention fees.
        if has("TRUC-violation") || has("TRUC") {
            Self::TrucLimit
        } else if has("missingorspent") || has("Missing inputs") || has("missing-inputs") {
            Self::MissingInputs
        } else if has("non-BIP68-final") || has("non-final") {
            Self::TimelockNotReached
        } else if has("insufficient fee")
            || has("txn-mempool-conflict")
            || has("replacement")
            || has("bad-txns-spends-conflicting-tx")
        {
            Self::Conflict
        } else if has("missing-ephemeral-spends") {
            Self::AnchorUnspent
        } else if has("fee not met") || has("mempool full") {
            Self::FeeTooLow
        } else if has("max feerate exceeded")
            || has("max-fee-exceeded")
            || has("Fee exceeds maximum")
        {
            Self::FeeTooHigh
        } else if has("script-verify-flag") || has("bad-witness") {
            Self::BadScript
        } else if has("dust") {
            Self::Dust
        } else if has("package-not-validated") {
            Self::NotValidated
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rejection;

    #[test]
    fn core_reject_reasons_are_understood() {
        for (reason, expected) in [
            ("bad-txns-inputs-missingorspent", Rejection::MissingInputs),
            ("non-BIP68-final", Rejection::TimelockNotReached),
            (
                "TRUC-violation, tx 00 (wtxid=00) would exceed descendant count limit",
                Rejection::TrucLimit,
            ),
            (
                "insufficient fee, rejecting replacement 00",
                Rejection::Conflict,
            ),
            ("min relay fee not met, 0 < 111", Rejection::FeeTooLow),
            (
                "missing-ephemeral-spends, tx 00 did not spend parent's ephemeral dust",
                Rejection::AnchorUnspent,
            ),
            ("dust", Rejection::Dust),
            (
                "mempool-script-verify-flag-failed (Invalid Schnorr signature)",
                Rejection::BadScript,
            ),
            ("package-not-validated", Rejection::NotValidated),
            ("max feerate exceeded", Rejection::FeeTooHigh),
            ("tx-size", Rejection::Other),
        ] {
            assert_eq!(Rejection::from_reason(reason), expected, "{reason}");
        }
    }
}
