//! The way to the other operators and from them: batches of messages over mutually authenticated
//! connections.
//!
//! Each message is encoded by itself. Everything that waits for one operator goes into one
//! envelope, and several envelopes are under way at a time: under load a round costs one message
//! however many flows take part in it.

mod batch;
mod client;
mod hello;
mod lane;
mod server;

pub use batch::BatchError;
pub use client::{PeerClient, PeerTarget};
pub use hello::Hello;
pub use server::PeerServer;
