//! What just happened, for the event streams of this process.

use tinderbox_flows::flow::Touch;
use tokio::sync::broadcast;

/// Events that a slow stream may fall behind before it is ended.
const BACKLOG: usize = 4096;

/// Tells every listener what changed, after it is durable.
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
}
