//! Operators recognise each other.
//!
//! TLS knows no certificates over the curve of operators' identity keys. So each process makes a
//! TLS key of its own, and its certificate carries the operator's identity key and that key's
//! signature over the TLS key. Both ends accept only certificates that a listed identity vouches
//! for; names, validity times and certificate authorities play no part.
//!
//! The identity key stays where it lives: [`UncertifiedKey::digest`] is what has to be signed.

mod certificate;
mod directory;
mod link;
mod listener;
mod verify;

pub use certificate::{PeerCertificate, UncertifiedKey};
pub use directory::Directory;
pub use link::peer_client;
pub use tinderbox_frost::OperatorIndex;

pub use listener::{Peer, PeerServer, peer_settings};
