//! Key custody: the only place where key shares, nonces and the identity key are in the clear.
//!
//! The rest of an operator hands in sealed shares and gets back sealed shares, signature shares
//! and public points. The same trait is served in the operator's process and over a Unix socket.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

mod clock;
mod error;
mod identity;
mod local;
mod seal;
mod signer;
mod socket;
mod vault;
mod work;

pub use clock::{Clock, SystemClock};
pub use error::SignerError;
pub use identity::Identity;
pub use local::{Local, LocalConfig};
pub use signer::{NewKeyshare, PackageKind, PlainTweak, Signer};
pub use socket::{SocketOptions, SocketServer, SocketSigner, serve};
pub use vault::VaultCounts;
