//! What a wallet must be told.

use std::path::PathBuf;
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_chain::RpcConfig;
use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::Network;

use crate::error::{Error, Result};

/// Identity keys of the operators of a local network: fixtures that every local set-up uses, whose
/// secrets are public. For networks on one machine only.
const LOCAL_IDENTITIES: [&str; 5] = [
    "0322ca18fc489ae25418a0e768273c2c61cabb823edfb14feb891e9bec62016510",
    "0341727a6c41b168f07eb50865ab8c397a53c7eef628ac1020956b705e43b6cb27",
    "0305ab8d485cc752394de4981f8a5ae004f2becfea6f432c9a59d5022d8764f0a6",
    "0352aef4d49439dedd798ac4aef1e7ebef95f569545b647a25338398c1247ffdea",
    "02c05c88cc8fc181b1ba30006df6a4b0597de6490e24514fbdd0266d2b9cd3d0ba",
];

/// Port of a local network's first operator; the others follow.
const LOCAL_PORT: u16 = 8535;

/// One operator of the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorConfig {
    /// From 0; its share of every key is the one at `index + 1`.
    pub index: u16,
    /// Its identity key: what it signs addresses with, and what packages are encrypted to.
    pub identity: PublicKey,
    /// `https://host:port`.
    pub url: String,
}

/// Which certificates operators may show.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TlsTrust {
    /// Any certificate, but only of this machine: refused for every host but localhost.
    #[default]
    Localhost,
    /// Certificates that lead to one in this PEM file.
    Ca(PathBuf),
    /// Certificates that the public certificate authorities vouch for.
    Public,
}

impl TlsTrust {
    /// As connections take it.
    pub(crate) fn for_connections(&self) -> Result<tinderbox_rpc::client::TlsTrust> {
        use tinderbox_rpc::client::TlsTrust as Connections;
        Ok(match self {
            Self::Localhost => Connections::LocalInsecure,
            Self::Public => Connections::Roots,
            Self::Ca(path) => {
                Connections::Pem(std::fs::read_to_string(path).map_err(|e| Error::Config {
                    what: format!("the CA file {} cannot be read: {e}", path.display()),
                })?)
            }
        })
    }
}

/// Hosts that are this machine.
fn is_local(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "::1" | "[::1]")
}

/// Where Bitcoin Core is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BitcoindConfig {
    /// For example `http://127.0.0.1:8332`.
    pub url: String,
    /// RPC user.
    #[serde(default)]
    pub user: Option<String>,
    /// RPC password.
    #[serde(default)]
    pub password: Option<String>,
    /// Cookie file, instead of user and password.
    #[serde(default)]
    pub cookie: Option<PathBuf>,
}

impl std::fmt::Debug for BitcoindConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BitcoindConfig")
            .field("url", &self.url)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl BitcoindConfig {
    /// For the RPC client.
    ///
    /// # Errors
    /// [`Error::Config`] unless there is either a cookie file or both user and password.
    pub fn rpc(&self) -> Result<RpcConfig> {
        match (&self.user, &self.password, &self.cookie) {
            (Some(user), Some(password), None) => {
                Ok(RpcConfig::with_password(&self.url, user, password))
            }
            (None, None, Some(cookie)) => Ok(RpcConfig::with_cookie(&self.url, cookie)),
            _ => Err(Error::Config {
                what: "bitcoind needs either user and password, or the path of a cookie file"
                    .into(),
            }),
        }
    }
}

/// Everything a wallet is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The network.
    pub network: Network,
    /// Account of the key derivation; each network has a usual one.
    #[serde(default)]
    pub account: Option<u32>,
    /// The operators, by index without gaps.
    pub operators: Vec<OperatorConfig>,
    /// How many of them sign.
    pub threshold: u16,
    /// The one that this wallet sends its requests to.
    #[serde(default)]
    pub coordinator: u16,
    /// Which certificates are good.
    #[serde(default)]
    pub tls: TlsTrust,
    /// The chain source.
    pub bitcoind: BitcoindConfig,
    /// Confirmations that the deposit under a received leaf must have.
    #[serde(default = "default_confirmations")]
    pub confirmations: u32,
    /// Limit of one call to an operator, in seconds.
    #[serde(default = "default_call_seconds")]
    pub call_seconds: u64,
}

const fn default_confirmations() -> u32 {
    3
}

const fn default_call_seconds() -> u64 {
    60
}

impl Config {
    /// A local network with this many operators (at most 5) on its usual ports, with the usual
    /// Bitcoin Core: `https://localhost:8535` and up, `http://127.0.0.1:8332`.
    ///
    /// # Errors
    /// [`Error::Config`] for another number of operators than 2 to 5.
    pub fn local(operators: u16) -> Result<Self> {
        if !(2..=5).contains(&operators) {
            return Err(Error::Config {
                what: format!("a local network has 2 to 5 operators, not {operators}"),
            });
        }
        let operators = (0u16..operators)
            .zip(LOCAL_IDENTITIES)
            .map(|(index, key)| {
                let identity = key.parse().map_err(|e| Error::Config {
                    what: format!("built-in key {key}: {e}"),
                })?;
                Ok(OperatorConfig {
                    index,
                    identity,
                    url: format!("https://localhost:{}", LOCAL_PORT + index),
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let count = u16::try_from(operators.len()).unwrap_or(u16::MAX);
        Ok(Self {
            network: Network::Local,
            account: None,
            operators,
            threshold: (count + 2) / 2,
            coordinator: 0,
            tls: TlsTrust::Localhost,
            bitcoind: BitcoindConfig {
                url: "http://127.0.0.1:8332".into(),
                user: Some("testutil".into()),
                password: Some("testutilpassword".into()),
                cookie: None,
            },
            confirmations: 1,
            call_seconds: default_call_seconds(),
        })
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`Error::Config`] with what is wrong.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Config { what });
        for (expected, operator) in (0u16..).zip(&self.operators) {
            if operator.index != expected {
                return wrong(format!(
                    "operators must be listed by index without gaps: found {} where {expected} should be",
                    operator.index
                ));
            }
            let uri = operator.url.parse::<http::Uri>().ok();
            if uri.as_ref().and_then(http::Uri::scheme_str) != Some("https") {
                return wrong(format!(
                    "operator {expected}: {} is not an https address",
                    operator.url
                ));
            }
            let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
            if self.tls == TlsTrust::Localhost && !is_local(host) {
                return wrong(format!(
                    "the certificate of {host} would not be verified, which is allowed for localhost only: set tls to \"public\" or to a CA file"
                ));
            }
        }
        let count = self.count();
        if self.threshold < 2 || self.threshold > count {
            return wrong(format!(
                "the threshold is {}, but with {count} operators it must be between 2 and {count}",
                self.threshold
            ));
        }
        if self.coordinator >= count {
            return wrong(format!(
                "the coordinator is operator {}, but there are only {count}",
                self.coordinator
            ));
        }
        let mut keys = self
            .operators
            .iter()
            .map(|o| o.identity)
            .collect::<Vec<_>>();
        keys.sort_unstable();
        keys.dedup();
        if keys.len() != self.operators.len() {
            return wrong("two operators have the same identity key; each needs its own".into());
        }
        if self.network == Network::Mainnet && self.tls == TlsTrust::Localhost {
            return wrong(
                "on mainnet certificates must be verified: set tls to \"public\" or to a CA file"
                    .into(),
            );
        }
        self.bitcoind.rpc().map(|_| ())
    }

    /// How many operators there are.
    pub fn count(&self) -> u16 {
        u16::try_from(self.operators.len()).unwrap_or(u16::MAX)
    }

    /// All operators' indices.
    pub fn indices(&self) -> impl Iterator<Item = OperatorIndex> + '_ {
        self.operators
            .iter()
            .map(|operator| OperatorIndex(operator.index))
    }

    /// The limit of one call.
    pub fn call_limit(&self) -> Duration {
        Duration::from_secs(self.call_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::local(3).unwrap();
        change(&mut config);
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn local_defaults_are_those_of_the_official_wallets() {
        for (count, threshold) in [(2, 2), (3, 2), (4, 3), (5, 3)] {
            let config = Config::local(count).unwrap();
            config.check().unwrap();
            assert_eq!(config.threshold, threshold);
            assert_eq!(config.operators[1].url, "https://localhost:8536");
        }
        assert!(Config::local(6).is_err());
        assert!(Config::local(1).is_err());
    }

    #[test]
    fn a_wrong_threshold_is_refused() {
        assert!(refused(|c| c.threshold = 1).contains("between 2 and 3"));
        assert!(refused(|c| c.threshold = 4).contains("between 2 and 3"));
    }

    #[test]
    fn a_coordinator_that_does_not_exist_is_refused() {
        assert!(refused(|c| c.coordinator = 3).contains("only 3"));
    }

    #[test]
    fn operators_out_of_order_are_refused() {
        assert!(refused(|c| c.operators.swap(0, 1)).contains("without gaps"));
    }

    #[test]
    fn one_key_for_two_operators_is_refused() {
        assert!(
            refused(|c| c.operators[1].identity = c.operators[0].identity)
                .contains("same identity key")
        );
    }

    #[test]
    fn plain_http_is_refused() {
        assert!(refused(|c| c.operators[0].url = "http://localhost:8535".into()).contains("https"));
    }

    #[test]
    fn unverified_certificates_are_refused_on_mainnet() {
        assert!(refused(|c| c.network = Network::Mainnet).contains("certificates"));
    }

    #[test]
    fn unverified_certificates_are_for_this_machine_only() {
        assert!(
            refused(|c| c.operators[2].url = "https://example.com".into())
                .contains("localhost only")
        );
    }

    #[test]
    fn a_missing_ca_file_is_a_clear_error() {
        let error = TlsTrust::Ca("no/such/ca.pem".into())
            .for_connections()
            .unwrap_err();
        assert!(error.to_string().contains("ca.pem"), "{error}");
    }

    #[test]
    fn half_a_password_is_refused() {
        assert!(refused(|c| c.bitcoind.password = None).contains("user and password"));
    }

    #[test]
    fn the_printed_form_shows_no_password() {
        assert!(!format!("{:?}", Config::local(3).unwrap()).contains("testutilpassword"));
    }
}
