//! The operator's configuration: one TOML file.
//!
//! [`ConfigFile`] is the file as written: unknown keys are an error. [`ConfigFile::check`] turns it
//! into a [`Config`], or names **every** bad value with what to do about it. Neither is printed
//! with passwords in it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::{BlockHeight, Network};
use tinderbox_store::Database;

use crate::limits::Limits;

/// Identity keys that everybody knows the secrets of: the local network of the official SDK.
const PUBLISHED_KEYS: [&str; 5] = [
    "0322ca18fc489ae25418a0e768273c2c61cabb823edfb14feb891e9bec62016510",
    "0341727a6c41b168f07eb50865ab8c397a53c7eef628ac1020956b705e43b6cb27",
    "0305ab8d485cc752394de4981f8a5ae004f2becfea6f432c9a59d5022d8764f0a6",
    "0352aef4d49439dedd798ac4aef1e7ebef95f569545b647a25338398c1247ffdea",
    "02c05c88cc8fc181b1ba30006df6a4b0597de6490e24514fbdd0266d2b9cd3d0ba",
];

/// Most operators that a network can have.
const MAX_OPERATORS: usize = 256;

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
    /// Serve the test-only mock service. Local networks only.
    #[serde(default)]
    pub mock: bool,
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
    /// Serve the mock service.
    pub mock: bool,
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

    /// Checks everything.
    ///
    /// # Errors
    /// [`ConfigError::Bad`] with all that is wrong.
    pub fn check(&self) -> Result<Config, ConfigError> {
        let mut bad = Vec::new();
        let network = self.check_network(&mut bad);
        let operators = self.check_operators(network, &mut bad);
        let public = address("listen.public", &self.listen.public, &mut bad);
        let peer = address("listen.peer", &self.listen.peer, &mut bad);
        let metrics = self
            .listen
            .metrics
            .as_deref()
            .and_then(|text| address("listen.metrics", text, &mut bad));
        if self.deposit_confirmations == 0 {
            bad.push("deposit_confirmations is 0: an unconfirmed deposit can be taken back, use 1 or more".into());
        }
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            bad.push("tls: give both certificate and key, or neither".into());
        }
        if self.pool.nonce_lifetime < 3600 {
            bad.push(format!(
                "pool.nonce_lifetime is {} s: wallets may need nonces for longer, use 3600 or more",
                self.pool.nonce_lifetime
            ));
        }
        self.limits.check(&mut bad);
        let database = self.database.check(&mut bad);
        let signer = self.signer.check(&mut bad);
        let bitcoin = self.bitcoin.check(&mut bad);
        match (network, public, peer, database, signer, bitcoin) {
            (
                Some(network),
                Some(public),
                Some(peer),
                Some(database),
                Some(signer),
                Some(bitcoin),
            ) if bad.is_empty() => Ok(Config {
                network,
                me: OperatorIndex(self.index),
                threshold: self.threshold,
                deposit_confirmations: self.deposit_confirmations,
                mock: self.mock,
                public,
                peer,
                metrics,
                tls: self.tls.clone(),
                database,
                signer,
                bitcoin,
                pool: self.pool.clone(),
                limits: self.limits.clone(),
                operators,
            }),
            _ => Err(ConfigError::Bad(bad)),
        }
    }

    fn check_network(&self, bad: &mut Vec<String>) -> Option<Network> {
        let network = match self.network.as_str() {
            "mainnet" => Network::Mainnet,
            "testnet" => Network::Testnet,
            "signet" => Network::Signet,
            "regtest" => Network::Regtest,
            "local" => Network::Local,
            other => {
                bad.push(format!(
                    "network is \"{other}\": use mainnet, testnet, signet, regtest or local"
                ));
                return None;
            }
        };
        if self.mock && !matches!(network, Network::Regtest | Network::Local) {
            bad.push(format!(
                "mock is true on {}: the mock service is for local networks only, remove it",
                self.network
            ));
        }
        Some(network)
    }

    fn check_operators(
        &self,
        network: Option<Network>,
        bad: &mut Vec<String>,
    ) -> Vec<OperatorInfo> {
        let count = self.operators.len();
        if !(2..=MAX_OPERATORS).contains(&count) {
            bad.push(format!(
                "operators has {count} entries: list all operators, 2 to {MAX_OPERATORS}, this one too"
            ));
        }
        if usize::from(self.index) >= count {
            bad.push(format!(
                "index is {} but there are {count} operators: indexes start at 0",
                self.index
            ));
        }
        // More than half: two disjoint signing sets must not exist.
        if usize::from(self.threshold) * 2 <= count || usize::from(self.threshold) > count {
            bad.push(format!(
                "threshold is {} of {count} operators: use more than half, at most all",
                self.threshold
            ));
        }
        let mut seen = BTreeSet::new();
        let mut infos = Vec::new();
        for (index, section) in self.operators.iter().enumerate() {
            let name = format!("operators[{index}]");
            let Ok(identity) = PublicKey::from_str(&section.identity) else {
                bad.push(format!(
                    "{name}.identity is not a compressed public key: use 66 hex digits"
                ));
                continue;
            };
            if !seen.insert(identity.serialize()) {
                bad.push(format!(
                    "{name}.identity appears twice: every operator has a key of its own"
                ));
            }
            let local = matches!(network, Some(Network::Regtest | Network::Local) | None);
            if !local && PUBLISHED_KEYS.contains(&identity.to_string().as_str()) {
                bad.push(format!(
                    "{name}.identity is a published test key, anybody can sign with it: make a key of your own"
                ));
            }
            if !section.address.starts_with("https://") {
                bad.push(format!(
                    "{name}.address is \"{}\": use https://host:port",
                    section.address
                ));
            }
            let port = section.peer.rsplit_once(':').map(|(_, port)| port);
            if port.is_none_or(|port| port.parse::<u16>().is_err()) {
                bad.push(format!(
                    "{name}.peer is \"{}\": use host:port of its operator listener",
                    section.peer
                ));
            }
            infos.push(OperatorInfo {
                identity,
                address: section.address.clone(),
                peer: section.peer.clone(),
            });
        }
        infos
    }
}

fn address(name: &str, text: &str, bad: &mut Vec<String>) -> Option<SocketAddr> {
    match text.parse() {
        Ok(address) => Some(address),
        Err(_) => {
            bad.push(format!(
                "{name} is \"{text}\": use an IP address and a port, such as 127.0.0.1:8535"
            ));
            None
        }
    }
}

impl DatabaseSection {
    fn check(&self, bad: &mut Vec<String>) -> Option<Database> {
        match (&self.sqlite, &self.postgres) {
            (Some(path), None) => {
                if self.schema.is_some() {
                    bad.push("database.schema is for postgres only: remove it".into());
                }
                Some(Database::Sqlite { path: path.clone() })
            }
            (None, Some(url)) => {
                if !url.0.starts_with("postgres://") && !url.0.starts_with("postgresql://") {
                    bad.push("database.postgres is not a URL: use postgres://user:password@host/database".into());
                }
                let schema = self.schema.clone().unwrap_or_default();
                let valid = schema.starts_with(|first: char| first.is_ascii_lowercase())
                    && schema.len() <= 63
                    && schema
                        .chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
                if !valid {
                    bad.push(format!(
                        "database.schema is \"{schema}\": name a schema of this operator alone, lower-case letters, digits and _"
                    ));
                }
                Some(Database::Postgres {
                    url: url.0.clone(),
                    schema,
                })
            }
            (None, None) => {
                bad.push(
                    "database: give sqlite = \"file\" or postgres = \"url\" with schema".into(),
                );
                None
            }
            (Some(_), Some(_)) => {
                bad.push("database: give sqlite or postgres, not both".into());
                None
            }
        }
    }
}

impl SignerSection {
    fn check(&self, bad: &mut Vec<String>) -> Option<SignerConfig> {
        match (&self.identity_key, &self.vault, &self.socket) {
            (Some(identity_key), Some(vault), None) => Some(SignerConfig::Embedded {
                identity_key: identity_key.clone(),
                vault: vault.clone(),
            }),
            (None, None, Some(socket)) => Some(SignerConfig::Socket(socket.clone())),
            _ => {
                bad.push(
                    "signer: give identity_key and vault for a signer in this process, or socket for one of its own"
                        .into(),
                );
                None
            }
        }
    }
}

impl BitcoinSection {
    fn check(&self, bad: &mut Vec<String>) -> Option<BitcoinConfig> {
        if !self.url.starts_with("http://") && !self.url.starts_with("https://") {
            bad.push(format!(
                "bitcoin.url is \"{}\": use http://host:port of Bitcoin Core's RPC",
                self.url
            ));
        }
        let auth = match (&self.user, &self.password, &self.cookie) {
            (Some(user), Some(password), None) => {
                BitcoinAuth::Password(user.clone(), password.clone())
            }
            (None, None, Some(cookie)) => BitcoinAuth::Cookie(cookie.clone()),
            _ => {
                bad.push("bitcoin: give user and password, or cookie".into());
                return None;
            }
        };
        Some(BitcoinConfig {
            url: self.url.clone(),
            auth,
            start_height: self.start_height.map(BlockHeight),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> String {
        let operators: String = PUBLISHED_KEYS[..3]
            .iter()
            .enumerate()
            .map(|(index, key)| {
                format!(
                    "[[operators]]\nidentity = \"{key}\"\naddress = \"https://localhost:{}\"\npeer = \"127.0.0.1:{}\"\n",
                    8535 + index,
                    9535 + index
                )
            })
            .collect();
        format!(
            "network = \"regtest\"\nindex = 0\nthreshold = 2\n\
             [listen]\npublic = \"127.0.0.1:8535\"\npeer = \"127.0.0.1:9535\"\n\
             [database]\nsqlite = \"operator.db\"\n\
             [signer]\nidentity_key = \"identity\"\nvault = \"vault\"\n\
             [bitcoin]\nurl = \"http://127.0.0.1:8332\"\nuser = \"u\"\npassword = \"secret-word\"\n{operators}"
        )
    }

    fn problems(text: &str) -> Vec<String> {
        match ConfigFile::parse(text).unwrap().check() {
            Err(ConfigError::Bad(bad)) => bad,
            other => panic!("accepted: {other:?}"),
        }
    }

    #[test]
    fn good_file_is_accepted_and_survives_being_written_again() {
        let file = ConfigFile::parse(&good()).unwrap();
        let config = file.check().unwrap();
        assert_eq!(config.operators.len(), 3);
        assert_eq!(config.deposit_confirmations, 3);
        let again = ConfigFile::parse(&file.to_toml().unwrap()).unwrap();
        assert_eq!(again.check().unwrap().public, config.public);
    }

    #[test]
    fn unknown_key_is_an_error_that_names_it() {
        let error = ConfigFile::parse(&format!("colour = 3\n{}", good())).unwrap_err();
        assert!(error.to_string().contains("colour"), "{error}");
        let error =
            ConfigFile::parse(&good().replace("[listen]", "[listen]\nlisten = 1")).unwrap_err();
        assert!(error.to_string().contains("listen"), "{error}");
    }

    #[test]
    fn all_bad_values_are_named_at_once() {
        let text = good()
            .replace("threshold = 2", "threshold = 4")
            .replace("index = 0", "index = 7")
            .replace("http://127.0.0.1:8332", "8332")
            .replace("\"127.0.0.1:8535\"", "\"somewhere\"");
        let bad = problems(&text);
        for name in ["threshold", "index", "bitcoin.url", "listen.public"] {
            assert!(
                bad.iter().any(|line| line.starts_with(name)),
                "{name}: {bad:?}"
            );
        }
        assert_eq!(bad.len(), 4);
    }

    #[test]
    fn minority_threshold_is_refused() {
        assert!(
            problems(&good().replace("threshold = 2", "threshold = 1"))[0]
                .contains("more than half")
        );
    }

    #[test]
    fn published_keys_are_refused_on_every_real_network() {
        for network in ["mainnet", "testnet", "signet"] {
            let bad = problems(&good().replace("regtest", network));
            assert_eq!(
                bad.iter().filter(|line| line.contains("published")).count(),
                3
            );
        }
        assert!(
            ConfigFile::parse(&good().replace("regtest", "local"))
                .unwrap()
                .check()
                .is_ok()
        );
    }

    #[test]
    fn mock_service_is_refused_outside_local_networks() {
        let text = good().replace("index = 0", "index = 0\nmock = true");
        assert!(ConfigFile::parse(&text).unwrap().check().unwrap().mock);
        assert!(
            problems(&text.replace("regtest", "signet"))
                .iter()
                .any(|line| line.starts_with("mock"))
        );
    }

    #[test]
    fn doubled_identity_is_refused() {
        let text = good().replace(PUBLISHED_KEYS[1], PUBLISHED_KEYS[0]);
        assert!(problems(&text)[0].contains("twice"));
    }

    #[test]
    fn passwords_are_not_printed() {
        let config = ConfigFile::parse(&good()).unwrap();
        assert!(!format!("{config:?}").contains("secret-word"));
        assert!(!format!("{:?}", config.check().unwrap()).contains("secret-word"));
    }

    #[test]
    fn two_databases_or_none_are_refused() {
        let text = good().replace("sqlite = \"operator.db\"", "");
        assert!(problems(&text)[0].contains("database"));
        let text = good().replace(
            "sqlite = \"operator.db\"",
            "sqlite = \"a\"\npostgres = \"postgres://localhost/x\"",
        );
        assert!(problems(&text)[0].contains("not both"));
    }
}
