//! What a file must say to make sense. Nothing stops at the first mistake.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::str::FromStr;

use bitcoin::secp256k1::PublicKey;
use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::{BlockHeight, Network};
use tinderbox_store::Database;

use super::file::{BitcoinSection, ConfigFile, DatabaseSection, SignerSection};
use super::{BitcoinAuth, BitcoinConfig, Config, ConfigError, OperatorInfo, SignerConfig};

/// Identity keys that everybody knows the secrets of: the local network of the official SDK.
pub(super) const PUBLISHED_KEYS: [&str; 5] = [
    "0322ca18fc489ae25418a0e768273c2c61cabb823edfb14feb891e9bec62016510",
    "0341727a6c41b168f07eb50865ab8c397a53c7eef628ac1020956b705e43b6cb27",
    "0305ab8d485cc752394de4981f8a5ae004f2becfea6f432c9a59d5022d8764f0a6",
    "0352aef4d49439dedd798ac4aef1e7ebef95f569545b647a25338398c1247ffdea",
    "02c05c88cc8fc181b1ba30006df6a4b0597de6490e24514fbdd0266d2b9cd3d0ba",
];

/// Most operators that a network can have.
const MAX_OPERATORS: usize = 256;

impl ConfigFile {
    /// Checks everything.
    ///
    /// # Errors
    /// [`ConfigError::Bad`] with all that is wrong.
    pub fn check(&self) -> Result<Config, ConfigError> {
        let mut bad = Vec::new();
        let network = self.check_network(&mut bad);
        let operators = self.check_operators(network, &mut bad);
        let ssps = self.check_ssps(&mut bad);
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
        if self.exit_confirmations == Some(0) {
            bad.push(
                "exit_confirmations is 0: an unconfirmed payout can be taken back, use 1 or more"
                    .into(),
            );
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
                exit_confirmations: self.exit_confirmations.unwrap_or(match network {
                    Network::Regtest | Network::Local => 1,
                    _ => 6,
                }),
                mock: self.mock,
                hide_balances: self.hide_balances,
                ssps,
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

    fn check_ssps(&self, bad: &mut Vec<String>) -> Vec<PublicKey> {
        let mut ssps = Vec::new();
        for (index, text) in self.ssps.iter().enumerate() {
            match PublicKey::from_str(text) {
                Ok(key) if ssps.contains(&key) => {
                    bad.push(format!("ssps[{index}] is listed twice: remove one"));
                }
                Ok(key) => ssps.push(key),
                Err(error) => bad.push(format!(
                    "ssps[{index}] is not a public key ({error}): give the service provider's identity key, 66 hex digits"
                )),
            }
        }
        ssps
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
