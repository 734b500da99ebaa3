//! The file as written.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ConfigError;
use crate::limits::Limits;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// The file, as written.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// `mainnet`, `testnet`, `signet`, `regtest` or `local`.
    pub network: String,
    /// This operator's place in [`ConfigFile::operators`], from 0.
    pub index: u16,
    /// How many operators sign.
    pub threshold: u16,
    /// Confirmations that make a deposit spendable, its own block counted as one.
    #[serde(default = "deposit_confirmations")]
    pub deposit_confirmations: u32,
    /// Confirmations of an exit transaction after which its provider gets the leaves. Absent: 6,
    /// and 1 on regtest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_confirmations: Option<u32>,
    /// Serve the test-only mock service. Local networks only.
    #[serde(default)]
    pub mock: bool,
    /// Hide leaves and balances of private wallets as well, not only transfers and addresses. The
    /// official wallet's read-only client expects to see them.
    #[serde(default)]
    pub hide_balances: bool,
    /// Identity public keys (66 hex digits) of the service providers that may call the service that
    /// is for them only.
    #[serde(default)]
    pub ssps: Vec<String>,
    /// Where to listen.
    pub listen: ListenSection,
    /// Certificate of the public side.
    #[serde(default)]
    pub tls: TlsSection,
    /// Where rows are kept.
    pub database: DatabaseSection,
    /// Who keeps the keys.
    pub signer: SignerSection,
    /// The Bitcoin Core node.
    pub bitcoin: BitcoinSection,
    /// The pool of key shares and nonces.
    #[serde(default)]
    pub pool: PoolSection,
    /// What one wallet may ask for.
    #[serde(default)]
    pub limits: Limits,
    /// All operators, this one too, in order of index.
    pub operators: Vec<OperatorSection>,
}

const fn deposit_confirmations() -> u32 {
    3
}

/// Where to listen.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenSection {
    /// For wallets: gRPC and gRPC-web over TLS.
    pub public: String,
    /// For the other operators.
    pub peer: String,
    /// For metrics, health and readiness: plain HTTP. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
}

/// Certificate of the public side. Empty: a self-signed one is made at each start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    /// PEM file with the certificate chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file with its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Names for the self-signed one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

/// Where rows are kept: give one of the two.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSection {
    /// A file of an embedded database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlite: Option<PathBuf>,
    /// A PostgreSQL connection URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<Hidden>,
    /// The schema in it that belongs to this operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
}

/// Who keeps the keys: a signer in this process (both files), or one of its own (socket).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignerSection {
    /// File with the secret identity key, 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_key: Option<PathBuf>,
    /// The vault: where sealing keys and nonces live. Never back it up together with the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<PathBuf>,
    /// Unix socket of a signer process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
}

/// The Bitcoin Core node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BitcoinSection {
    /// `http://host:port`.
    pub url: String,
    /// User, with a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Hidden>,
    /// Cookie file, instead of user and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<PathBuf>,
    /// First block to look at when the database is empty. Absent: 0 on local networks, else 18
    /// blocks below the tip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_height: Option<u32>,
}

/// The pool of key shares, and of nonces handed out to wallets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolSection {
    /// Unused key shares that this operator wants to have.
    pub keyshares: u32,
    /// Age in seconds at which nonces that nobody used are destroyed.
    pub nonce_lifetime: u64,
}

impl Default for PoolSection {
    fn default() -> Self {
        Self {
            keyshares: 500,
            nonce_lifetime: 2 * 24 * 3600,
        }
    }
}

/// One operator.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorSection {
    /// Its identity public key, 66 hex digits.
    pub identity: String,
    /// Where wallets find it: `https://host:port`.
    pub address: String,
    /// Where operators find it: `host:port`.
    pub peer: String,
}

impl ConfigFile {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`], which names the line.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))
    }

    /// The text of a file.
    ///
    /// # Errors
    /// [`ConfigError::Syntax`] if it cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|error| ConfigError::Syntax(error.to_string()))
    }
}
