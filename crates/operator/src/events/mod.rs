//! What happened: the log that event streams are fed from, and the call that wakes its readers.
//!
//! Every write that concerns a wallet carries its notices in the same batch; [`Log`] gives them
//! their places. [`Events`] only says that there is something new: whoever misses it, because the
//! process died or because another process wrote, finds the notices in the database.

mod log;

use tinderbox_flows::flow::Touch;
use tinderbox_flows::rows::Millis;
use tokio::sync::broadcast;

use crate::clock::{Clock as _, SystemClock};

pub use log::{Cursor, Entry, Log, run_purge};

/// Calls that a slow listener may fall behind; it looks at the database anyway.
const BACKLOG: usize = 256;

/// Tells every listener of this process that something changed, after it is durable.
#[derive(Clone, Debug)]
pub struct Events(broadcast::Sender<Touch>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }
}

impl Events {
    /// Tells everybody who listens.
    pub fn tell(&self, touches: impl IntoIterator<Item = Touch>) {
        for touch in touches {
            // Nobody listening is fine.
            let _ = self.0.send(touch);
        }
    }

    /// From now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Touch> {
        self.0.subscribe()
    }

    /// A new id and a time for the notices of a write that is no flow's.
    #[must_use]
    pub fn stamp(&self) -> ([u8; 16], Millis) {
        let mut id = [0; 16];
        SystemClock.random(&mut id);
        (id, SystemClock.now())
    }
}

#[cfg(test)]
mod tests;
