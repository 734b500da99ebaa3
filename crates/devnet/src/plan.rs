//! What network is wanted.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_chain::regtest::free_port;

use crate::keys::{self, MOST};
use crate::{Error, Result};

/// Where operators keep their rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseChoice {
    /// A file each.
    Sqlite,
    /// One PostgreSQL database, a schema each.
    Postgres(String),
}

impl DatabaseChoice {
    /// From a command line: `sqlite` or a PostgreSQL URL.
    ///
    /// # Errors
    /// [`Error::Database`].
    pub fn parse(text: &str) -> Result<Self> {
        if text == "sqlite" {
            Ok(Self::Sqlite)
        } else if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            Ok(Self::Postgres(text.to_owned()))
        } else {
            // There may be a password in it.
            let scheme = text.split_once("://").map_or(text, |(scheme, _)| scheme);
            Err(Error::Database(scheme.to_owned()))
        }
    }

    /// Its name, without passwords.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }
}

/// Ports on the loopback address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Wallets' side of each operator.
    pub public: Vec<u16>,
    /// Operators' side of each operator.
    pub peer: Vec<u16>,
    /// Metrics, health and readiness of each operator.
    pub metrics: Vec<u16>,
    /// The front of the node and faucet.
    pub front: u16,
}

/// First port of the operators in the official SDK's defaults.
pub const SDK_BASE: u16 = 8535;
/// The node's port there.
pub const SDK_FRONT: u16 = 8332;

impl Ports {
    /// What the official SDK's local defaults expect, or the same further up: operators from
    /// `base`, their internal listeners 100 above, metrics 200 above.
    #[must_use]
    pub fn fixed(base: u16, front: u16, operators: u16) -> Self {
        let range = |offset: u16| {
            (0..operators)
                .map(|index| base.saturating_add(offset).saturating_add(index))
                .collect()
        };
        Self {
            public: range(0),
            peer: range(100),
            metrics: range(200),
            front,
        }
    }

    /// Free ones.
    ///
    /// # Errors
    /// If the machine has none left.
    pub fn free(operators: u16) -> Result<Self> {
        let count = usize::from(operators);
        let mut ports = Vec::new();
        for _ in 0..=count * 3 {
            ports.push(free_port().map_err(|why| Error::File {
                path: "127.0.0.1".into(),
                why,
            })?);
        }
        let front = ports.pop().unwrap_or(SDK_FRONT);
        let metrics = ports.split_off(count * 2);
        let peer = ports.split_off(count);
        Ok(Self {
            public: ports,
            peer,
            metrics,
            front,
        })
    }

    /// Refuses ports that something else uses.
    ///
    /// # Errors
    /// [`Error::Busy`] names the first.
    pub fn check(&self) -> Result<()> {
        let named = |what: &'static str, ports: &[u16]| {
            ports
                .iter()
                .map(move |port| (what, *port))
                .collect::<Vec<_>>()
        };
        let all = [
            named("an operator, for wallets", &self.public),
            named("an operator, for operators", &self.peer),
            named("an operator's metrics", &self.metrics),
            named("the node and faucet", &[self.front]),
        ];
        for (what, port) in all.into_iter().flatten() {
            if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err() {
                return Err(Error::Busy { port, what });
            }
        }
        Ok(())
    }
}

/// A network to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many operators.
    pub operators: u16,
    /// How many sign.
    pub threshold: u16,
    /// Processes of each operator, on one database and behind one port; 1 unless it is PostgreSQL.
    pub replicas: u16,
    /// Where rows are kept.
    pub database: DatabaseChoice,
    /// One operator that keeps its rows elsewhere.
    pub apart: Option<(u16, DatabaseChoice)>,
    /// Folder of everything.
    pub folder: PathBuf,
    /// Start anew.
    pub fresh: bool,
    /// Where to listen.
    pub ports: Ports,
    /// Unused key shares that each operator wants to have.
    pub keyshares: u32,
    /// Mine a block every so often.
    pub mine_every: Option<Duration>,
    /// Serve the test-only service that official tests call.
    pub mock: bool,
    /// Identity keys of the service providers that operators serve.
    pub ssps: Vec<PublicKey>,
}

/// The shape of a network, kept in its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shape {
    pub(crate) format: u32,
    pub(crate) operators: u16,
    pub(crate) threshold: u16,
    pub(crate) database: String,
    /// Distinguishes the schemas of this network from those of others in the same database.
    pub(crate) tag: String,
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} operators, threshold {}, {}",
            self.operators, self.threshold, self.database
        )
    }
}

impl Plan {
    /// Refuses several processes of an operator where they could not share a database.
    ///
    /// # Errors
    /// [`Error::Replicas`].
    pub fn check_replicas(&self) -> Result<()> {
        match (self.replicas, &self.database) {
            (0 | 1, _) | (_, DatabaseChoice::Postgres(_)) => Ok(()),
            (replicas, DatabaseChoice::Sqlite) => Err(Error::Replicas(replicas)),
        }
    }

    /// `operators` of which `threshold` sign (0: the SDK's rule), on SQLite, in `folder`.
    ///
    /// # Errors
    /// [`Error::Shape`].
    pub fn new(operators: u16, threshold: u16, folder: PathBuf, ports: Ports) -> Result<Self> {
        let threshold = if threshold == 0 {
            operators.saturating_add(2) / 2
        } else {
            threshold
        };
        if !(2..=MOST).contains(&operators) || threshold < 2 || threshold > operators {
            return Err(Error::Shape {
                operators,
                threshold,
                most: MOST,
            });
        }
        Ok(Self {
            operators,
            threshold,
            replicas: 1,
            database: DatabaseChoice::Sqlite,
            apart: None,
            folder,
            fresh: false,
            ports,
            keyshares: 300,
            mine_every: None,
            mock: true,
            ssps: vec![keys::sdk_ssp()],
        })
    }

    /// Where an operator keeps its rows.
    #[must_use]
    pub fn database_of(&self, index: u16) -> &DatabaseChoice {
        match &self.apart {
            Some((apart, database)) if *apart == index => database,
            _ => &self.database,
        }
    }
}
