//! Why a local network does not run.

use std::path::PathBuf;

/// What went wrong, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A number of operators or a threshold that makes no network.
    #[error(
        "{operators} operators with threshold {threshold}: the threshold must be at least 2 and at most the number of operators, and there can be 2 to {most} operators"
    )]
    Shape {
        /// Operators asked for.
        operators: u16,
        /// Threshold asked for.
        threshold: u16,
        /// Most operators that a local network can have.
        most: u16,
    },
    /// Several processes of an operator without a database that they could share.
    #[error(
        "{0} processes of each operator need a database that several processes can use: add --database postgres://user@host:port/database"
    )]
    Replicas(u16),
    /// A port that something else uses.
    #[error(
        "port {port} ({what}) is in use: stop what listens there, or choose other ports with --port-base"
    )]
    Busy {
        /// The port.
        port: u16,
        /// What should listen there.
        what: &'static str,
    },
    /// A database that is neither kind.
    #[error(
        "--database {0:?} is not understood: use sqlite, or postgres://user@host:port/database"
    )]
    Database(String),
    /// PostgreSQL does not do as asked.
    #[error("PostgreSQL: {0}. Check the URL and that the server runs")]
    Postgres(String),
    /// A data folder of a network of another shape.
    #[error(
        "{folder} holds a network of {found}, not of {wanted}: give the same options, another --data-dir, or --fresh to start anew"
    )]
    OtherNetwork {
        /// The folder.
        folder: PathBuf,
        /// What it was made for.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// A data folder that another network uses.
    #[error("{0} is used by another tinderbox: stop that one, or choose another --data-dir")]
    Locked(PathBuf),
    /// A file or folder.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// An operator that does not come up.
    #[error("operator {index} did not start: {why}\nIts log is {log}")]
    Operator {
        /// Which.
        index: u16,
        /// What it said last, or what is missing.
        why: String,
        /// Its log.
        log: PathBuf,
    },
    /// The node, or what it was asked.
    #[error(transparent)]
    Chain(#[from] tinderbox_chain::Error),
    /// The faucet.
    #[error(transparent)]
    Faucet(#[from] crate::faucet::Error),
    /// A wallet.
    #[error(transparent)]
    Wallet(#[from] tinderbox_wallet::Error),
    /// An operator's configuration.
    #[error(transparent)]
    Config(#[from] tinderbox_operator::config::ConfigError),
    /// What a demo or a bench found.
    #[error("{0}")]
    Found(String),
}
