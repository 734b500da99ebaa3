//! Why an operator did not start.

use std::net::SocketAddr;

use bitcoin::secp256k1::PublicKey;
use tinderbox_signer::SignerError;
use tinderbox_store::StoreError;

use crate::config::ConfigError;
use crate::tables::TableError;

/// Why an operator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node.
    #[error(transparent)]
    Chain(#[from] tinderbox_chain::Error),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row of it.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The signer.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// A listener or certificate.
    #[error(transparent)]
    Rpc(#[from] tinderbox_rpc::Error),
    /// The metrics listener.
    #[error("cannot listen on {address} for metrics: {why}. Is another process using this port?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        why: std::io::Error,
    },
    /// The key file is another operator's.
    #[error(
        "the signer's identity key is {found}, but operators[{index}].identity is {expected}: correct index, the list, or the key file"
    )]
    WrongIdentity {
        /// The place in the configuration.
        index: u16,
        /// The key there.
        expected: Box<PublicKey>,
        /// The signer's key.
        found: Box<PublicKey>,
    },
}
