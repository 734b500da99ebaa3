//! Between the wire contract and our own types.
//!
//! Rows become messages that wallets read; messages become requests that flows decide on. A field
//! that cannot be read is a refusal that names it. Nothing in here asks the database.

pub mod address;
pub mod field;
pub mod htlc;
pub mod node;
pub mod package;
pub mod renew;
pub mod status;
pub mod transfer;
pub mod utxo;

pub(crate) use tinderbox_rpc::proto::{common, spark};
