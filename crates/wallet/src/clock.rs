//! What time it is here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Since 1970, by this machine's clock.
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// The same in milliseconds.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX)
}
