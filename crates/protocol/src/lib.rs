//! What Spark is: ids, amounts, networks, keys, addresses, invoices, transactions, timelocks and
//! every hash that anybody signs. No clock, no socket, no storage: randomness comes in as an
//! argument.
//!
//! ```text
//!  ids amounts networks            ids, amount, network
//!  keys and secrets                keys, ecies, signature
//!  what is signed                  hash, authn, deposit, package
//!  names for people                address, invoice, bolt11
//!  transactions                    timelock, tx, refunds, renewal, branch
//! ```
//!
//! Transactions are never picked apart to see whether they look right. The builders of [`tx`],
//! [`refunds`] and [`renewal`] make the transaction that must have been sent, and
//! [`tx::compare`] says in which field a suspect one differs.
//!
//! ```
//! use tinderbox_protocol::{LeafSequence, Network};
//!
//! // A fresh leaf can be sent 19 times before it needs renewal.
//! let fresh = LeafSequence::INITIAL;
//! assert_eq!(fresh.hops_left(), 19);
//! assert_eq!(fresh.send()?.cpfp.timelock().0, 1900);
//! assert_eq!(Network::Local.name(), "regtest");
//! # Ok::<(), tinderbox_protocol::Error>(())
//! ```

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod address;
mod amount;
pub mod authn;
pub mod bolt11;
pub mod branch;
mod curve;
pub mod deposit;
pub mod ecies;
mod error;
pub mod hash;
mod ids;
pub mod invoice;
pub mod keys;
mod mac;
mod network;
pub mod package;
pub mod refunds;
pub mod renewal;
pub mod signature;
pub mod timelock;
pub mod tx;

pub use address::SparkAddress;
pub use amount::{BlockHeight, Sats};
pub use error::{Error, Result};
pub use ids::{LeafId, TransferId, TreeId};
pub use invoice::SparkInvoice;
pub use keys::WalletKeys;
pub use network::Network;
pub use timelock::{LeafSequence, Timelock};
