//! `subscribe_to_events`.
//!
//! The [`Hub`] reads the log of notices, each changed row once, and hands finished events to the
//! streams of those whom they concern. A stream that comes back with a cursor is told what it
//! missed.

mod hub;
mod render;
mod stream;

pub use hub::{Hub, Listening, Placed};
pub use stream::{EventStream, subscribe_to_events};
