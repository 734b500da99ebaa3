//! The operator's configuration: one TOML file.
//!
//! [`ConfigFile`] is the file as written: unknown keys are an error. [`ConfigFile::check`] turns it
//! into a [`Config`], or names **every** bad value with what to do about it. Neither is printed
//! with passwords in it.

mod check;
mod file;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bitcoin::secp256k1::PublicKey;
use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::{BlockHeight, Network};
use tinderbox_store::Database;

use crate::limits::Limits;

pub use file::{
    BitcoinSection, ConfigFile, DatabaseSection, Hidden, ListenSection, OperatorSection,
    PoolSection, SignerSection, TlsSection,
};

/// A configuration that makes sense.
#[derive(Clone, Debug)]
pub struct Config {
    /// The network.
    pub network: Network,
    /// This operator.
    pub me: OperatorIndex,
    /// How many operators sign.
    pub threshold: u16,
    /// Confirmations that make a deposit spendable.
    pub deposit_confirmations: u32,
    /// Confirmations of an exit transaction after which its provider gets the leaves.
    pub exit_confirmations: u32,
    /// Serve the mock service.
    pub mock: bool,
    /// Leaves and balances of private wallets are hidden as well.
    pub hide_balances: bool,
    /// Identity keys of service providers.
    pub ssps: Vec<PublicKey>,
    /// For wallets.
    pub public: SocketAddr,
    /// For operators.
    pub peer: SocketAddr,
    /// For metrics, health and readiness.
    pub metrics: Option<SocketAddr>,
    /// Certificate of the public side.
    pub tls: TlsSection,
    /// Where rows are kept.
    pub database: Database,
    /// Who keeps the keys.
    pub signer: SignerConfig,
    /// The node.
    pub bitcoin: BitcoinConfig,
    /// Pools.
    pub pool: PoolSection,
    /// Limits.
    pub limits: Limits,
    /// All operators, in order of index.
    pub operators: Vec<OperatorInfo>,
}

/// Who keeps the keys.
#[derive(Clone, Debug)]
pub enum SignerConfig {
    /// This process.
    Embedded {
        /// File with the secret identity key.
        identity_key: PathBuf,
        /// The vault's file.
        vault: PathBuf,
    },
    /// A process of its own.
    Socket(PathBuf),
}

/// The node.
#[derive(Clone, Debug)]
pub struct BitcoinConfig {
    /// Where.
    pub url: String,
    /// As whom.
    pub auth: BitcoinAuth,
    /// First block to look at when the database is empty.
    pub start_height: Option<BlockHeight>,
}

/// How to be let in by the node.
#[derive(Clone, Debug)]
pub enum BitcoinAuth {
    /// User and password.
    Password(String, Hidden),
    /// Cookie file.
    Cookie(PathBuf),
}

/// One operator.
#[derive(Clone, Debug)]
pub struct OperatorInfo {
    /// Its identity key.
    pub identity: PublicKey,
    /// Where wallets find it.
    pub address: String,
    /// Where operators find it.
    pub peer: String,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {why}. Check the path and its permissions")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// It is not what the format says.
    #[error("the configuration is not understood: {0}\nCorrect or remove the named key")]
    Syntax(String),
    /// Values do not make sense; every one is named.
    #[error("the configuration has {} bad value(s):\n  - {}", .0.len(), .0.join("\n  - "))]
    Bad(Vec<String>),
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`], with every bad value at once.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|why| ConfigError::Unreadable {
            path: path.to_owned(),
            why,
        })?;
        ConfigFile::parse(&text)?.check()
    }

    /// The entry of this operator.
    #[must_use]
    pub fn own(&self) -> Option<&OperatorInfo> {
        self.operators.get(usize::from(self.me.0))
    }

    /// True where test-only behaviour is allowed.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        matches!(self.network, Network::Regtest | Network::Local)
    }
}
