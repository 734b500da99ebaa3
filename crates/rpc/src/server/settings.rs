//! Limits of a listener.

use std::time::Duration;

use crate::limit::Rate;

/// Limits of a listener. The defaults serve wallets of the public.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Largest request message, in bytes.
    pub request_bytes: usize,
    /// Connections at once.
    pub connections: usize,
    /// Streams at once on one HTTP/2 connection.
    pub streams_per_connection: u32,
    /// Requests in handlers at once, over all connections.
    pub in_flight: usize,
    /// How long a request waits for a place among those in flight.
    pub queue: Duration,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long a handler may take until its answer starts.
    pub handler: Duration,
    /// How often a silent HTTP/2 connection is asked whether it lives.
    pub keep_alive: Duration,
    /// How long requests may go on after a shutdown was asked for.
    pub grace: Duration,
    /// Rate of one identity with a session.
    pub identity_rate: Rate,
    /// Rate of one address without a session.
    pub address_rate: Rate,
    /// Identities and addresses that rates are remembered for.
    pub remembered: usize,
    /// Whether rates are limited at all.
    pub limit_rates: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            request_bytes: 10 * 1024 * 1024,
            connections: 8192,
            streams_per_connection: 256,
            in_flight: 512,
            queue: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            handler: Duration::from_secs(120),
            keep_alive: Duration::from_secs(30),
            grace: Duration::from_secs(10),
            identity_rate: Rate {
                burst: 400,
                per_second: 100.0,
            },
            address_rate: Rate {
                burst: 800,
                per_second: 200.0,
            },
            remembered: 100_000,
            limit_rates: true,
        }
    }
}
