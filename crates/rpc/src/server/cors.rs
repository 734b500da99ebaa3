//! Cross-origin rules: wallets run in browsers, on pages of any origin.

use std::time::Duration;

use http::{HeaderName, Method};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

/// Headers that a page may read from an answer.
const EXPOSED: [&str; 6] = [
    "grpc-status",
    "grpc-message",
    "grpc-status-details-bin",
    "date",
    "x-processing-time-ms",
    "x-trace-id",
];

/// Any origin may call, with any header. The headers asked for are repeated rather than answered
/// by `*`, because browsers do not take `*` to include `authorization`.
pub fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(AllowOrigin::any())
        .allow_methods([Method::POST, Method::OPTIONS])
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED.map(HeaderName::from_static))
        .max_age(Duration::from_secs(24 * 60 * 60))
}
