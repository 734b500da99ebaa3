//! Key custody: the only place where key shares, nonces and the identity key are in the clear.
//!
//! The rest of an operator hands in sealed shares and gets back sealed shares, signature shares
//! and public points. The same trait is served in the operator's process and over a Unix socket.
//!
//! | type | is |
//! |---|---|
//! | [`Signer`] | the trait: what an operator may ask |
//! | [`Local`] | the signer in this process, with its vault |
//! | [`serve`], [`SocketSigner`] | a signer shared by several processes |
//! | [`Identity`] | the operator's identity key and the files it comes from |
//!
//! The life of a key share: [`Signer::dkg_finish`] makes it; each tweak that
//! [`Signer::execute`] applies seals the new share under a new key while the old one still opens;
//! [`Signer::settle`] destroys the old key once the database has the new share. What a crash
//! leaves in between is named by [`Signer::unsettled`] and removed by [`Signer::collect`].
//!
//! The life of nonces: [`Signer::nonces`] makes them; [`Signer::reserve`] or
//! [`Signer::execute`] binds them to one package and one share for ever;
//! [`Signer::settle`] destroys used ones, [`Signer::purge_nonces`] those that were never used.
//!
//! The life of a staged tweak: [`Signer::open`] or [`Signer::stage`] seals it under the
//! key of the current epoch; [`Signer::retire`] destroys that key when nothing needs it.

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
pub use signer::{NewKeyshare, PackageKind, PlainTweak, PreimagePart, Signer};
pub use socket::{SocketOptions, SocketServer, SocketSigner, serve};
pub use vault::VaultCounts;
