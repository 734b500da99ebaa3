//! The signer over a Unix socket, so that several processes of one operator share one.
//!
//! ```text
//!  client                                       server
//!  "TINDERSG" version (4)            ─────►
//!                                    ◄─────     "TINDERSG" version (4) identity key (33)
//!  length (4) request id, call       ─────►
//!                                    ◄─────     length (4) request id, answer or error
//! ```
//!
//! Numbers are little-endian, bodies are postcard. Many requests may be on their way at once;
//! answers come in any order. Only processes of the server's own user (and root) get in: the
//! socket's rights say so, and the server asks the system who is at the other end.

mod call;
mod client;
mod frame;
mod server;

pub use client::{SocketOptions, SocketSigner};
pub use server::{SocketServer, serve};

/// First thing that both sides send.
const MAGIC: &[u8; 8] = b"TINDERSG";

/// Version of everything after the greeting.
const VERSION: u32 = 2;
