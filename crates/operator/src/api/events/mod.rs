//! `subscribe_to_events`.
//!
//! The [`Hub`] hears what changed, reads each changed row once, and hands finished events to the
//! streams of those whom they concern.

mod hub;
mod stream;

pub use hub::Hub;
pub use stream::{EventStream, subscribe_to_events};
