//! Limits on what one caller may ask: token buckets by identity and by address, and a bound on
//! requests in flight.

mod bucket;
mod in_flight;
mod layer;

pub use bucket::{Rate, RateLimiter};
pub use in_flight::{InFlight, InFlightLayer};
pub use layer::{AddressKey, RateLimitLayer, RateLimitService, RateLimits};
