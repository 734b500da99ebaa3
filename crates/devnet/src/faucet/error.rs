use std::net::SocketAddr;

use bitcoin::Amount;

/// What can go wrong with the faucet and its front.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node refused or did not answer.
    #[error(transparent)]
    Chain(#[from] tinderbox_chain::Error),

    /// Not enough coins.
    #[error(
        "the faucet has {have} to spend, but {needed} are needed. Mine blocks, or start a fresh chain"
    )]
    Insufficient {
        /// What is asked for, fee included.
        needed: Amount,
        /// What can be spent now.
        have: Amount,
    },

    /// The chain is so long that blocks hardly pay any more.
    #[error(
        "the chain is at height {height}, where a block pays too little to fill the faucet (the reward halves \
         every 150 blocks). Start a fresh chain"
    )]
    ChainTooOld {
        /// Its height.
        height: u32,
    },

    /// A request that cannot be understood.
    #[error("{0}")]
    Request(String),

    /// An address that is none, or not one of regtest.
    #[error("Invalid address: {0}. A regtest address starts with bcrt1, m, n or 2")]
    Address(String),

    /// An amount that is none.
    #[error("Invalid amount: {0}. Give bitcoins as a number with at most 8 decimals, above 0")]
    Amount(String),

    /// The port of the front is taken.
    #[error(
        "cannot listen on {address}: {reason}. Stop what listens there, or choose another port"
    )]
    Listen {
        /// Where it should listen.
        address: SocketAddr,
        /// Why it cannot.
        reason: String,
    },

    /// Building or signing failed: a fault of ours.
    #[error(
        "the faucet could not make the payment: {0}. This is a fault of the program; please report it"
    )]
    Internal(String),
}

impl Error {
    /// The error code that Bitcoin Core would give (`rpc/protocol.h`).
    pub(super) fn code(&self) -> i64 {
        match self {
            Self::Chain(error) => error.code().unwrap_or(match error {
                tinderbox_chain::Error::Rejected { .. } => -26,
                tinderbox_chain::Error::WarmingUp { .. } => -28,
                _ => -1,
            }),
            Self::Insufficient { .. } | Self::ChainTooOld { .. } => -6,
            Self::Request(_) => -8,
            Self::Address(_) => -5,
            Self::Amount(_) => -3,
            Self::Listen { .. } | Self::Internal(_) => -4,
        }
    }
}
