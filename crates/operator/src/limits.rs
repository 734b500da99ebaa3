//! What one caller may ask for.
//!
//! Requests are counted by the listener, before a handler runs; event streams, which stay, are
//! counted here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_rpc::limit::Rate;
use tinderbox_rpc::server::Settings;

/// Limits per caller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests per second of one identity, in the long run.
    pub identity_per_second: f64,
    /// Requests of one identity at once, after a pause.
    pub identity_burst: u32,
    /// Requests per second of one address without a session, in the long run.
    pub address_per_second: f64,
    /// Requests of one address without a session at once, after a pause.
    pub address_burst: u32,
    /// Requests that are handled at the same time.
    pub in_flight: usize,
    /// Connections at the same time.
    pub connections: usize,
    /// Event streams of one identity at the same time.
    pub streams: u32,
    /// Event streams of all identities at the same time.
    pub all_streams: u32,
    /// Unused single-use deposit addresses of one identity.
    pub unused_addresses: u32,
    /// Static deposit addresses of one identity, replaced ones included: all are watched for ever.
    pub static_addresses: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            identity_per_second: 100.0,
            identity_burst: 400,
            address_per_second: 200.0,
            address_burst: 800,
            in_flight: 512,
            connections: 8192,
            streams: 64,
            all_streams: 20_000,
            unused_addresses: 64,
            static_addresses: 1000,
        }
    }
}

impl Limits {
    /// Names what is not usable.
    pub(crate) fn check(&self, bad: &mut Vec<String>) {
        for (name, value) in [
            ("identity_burst", u64::from(self.identity_burst)),
            ("address_burst", u64::from(self.address_burst)),
            ("streams", u64::from(self.streams)),
            ("all_streams", u64::from(self.all_streams)),
            ("unused_addresses", u64::from(self.unused_addresses)),
            ("static_addresses", u64::from(self.static_addresses)),
            (
                "in_flight",
                u64::try_from(self.in_flight).unwrap_or(u64::MAX),
            ),
            (
                "connections",
                u64::try_from(self.connections).unwrap_or(u64::MAX),
            ),
        ] {
            if value == 0 {
                bad.push(format!(
                    "limits.{name} is 0: nobody could call, use 1 or more"
                ));
            }
        }
        for (name, value) in [
            ("identity_per_second", self.identity_per_second),
            ("address_per_second", self.address_per_second),
        ] {
            if !value.is_finite() || value <= 0.0 {
                bad.push(format!("limits.{name} is {value}: use a number above 0"));
            }
        }
    }

    /// The limits of the listener that wallets connect to.
    #[must_use]
    pub fn settings(&self) -> Settings {
        Settings {
            identity_rate: Rate {
                burst: self.identity_burst,
                per_second: self.identity_per_second,
            },
            address_rate: Rate {
                burst: self.address_burst,
                per_second: self.address_per_second,
            },
            in_flight: self.in_flight,
            connections: self.connections,
            ..Settings::default()
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    by_identity: HashMap<PublicKey, u32>,
    all: u32,
}

/// Counts event streams.
#[derive(Clone, Debug)]
pub struct StreamLimit {
    each: u32,
    all: u32,
    counts: Arc<Mutex<Counts>>,
}

impl StreamLimit {
    /// No streams yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            each: limits.streams,
            all: limits.all_streams,
            counts: Arc::default(),
        }
    }

    /// Counts a stream about `identity` until the permit is dropped; none if there are too many.
    #[must_use]
    pub fn admit(&self, identity: PublicKey) -> Option<StreamPermit> {
        let mut counts = self.counts();
        if counts.all >= self.all {
            return None;
        }
        let own = counts.by_identity.entry(identity).or_default();
        if *own >= self.each {
            return None;
        }
        *own += 1;
        counts.all += 1;
        metrics::gauge!("tinderbox_event_streams").set(f64::from(counts.all));
        Some(StreamPermit {
            limit: self.clone(),
            identity,
        })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Counters stay usable whatever happened to a thread that held them.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held by an event stream while it lives.
#[derive(Debug)]
pub struct StreamPermit {
    limit: StreamLimit,
    identity: PublicKey,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut counts = self.limit.counts();
        counts.all = counts.all.saturating_sub(1);
        metrics::gauge!("tinderbox_event_streams").set(f64::from(counts.all));
        if let Some(own) = counts.by_identity.get_mut(&self.identity) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                counts.by_identity.remove(&self.identity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::secp256k1::{SECP256K1, SecretKey};

    fn identity(byte: u8) -> PublicKey {
        SecretKey::from_slice(&[byte; 32])
            .unwrap()
            .public_key(SECP256K1)
    }

    #[test]
    fn streams_are_counted_until_they_end() {
        let limit = StreamLimit::new(&Limits {
            streams: 2,
            all_streams: 3,
            ..Limits::default()
        });
        let first = limit.admit(identity(1));
        let second = limit.admit(identity(1));
        assert!(first.is_some() && second.is_some());
        assert!(limit.admit(identity(1)).is_none(), "third of one identity");
        let other = limit.admit(identity(2));
        assert!(other.is_some());
        assert!(limit.admit(identity(3)).is_none(), "fourth of all");
        drop(first);
        assert!(limit.admit(identity(1)).is_some());
    }

    #[test]
    fn identities_without_streams_are_forgotten() {
        let limit = StreamLimit::new(&Limits::default());
        for byte in 1..50 {
            drop(limit.admit(identity(byte)));
        }
        assert!(limit.counts().by_identity.is_empty());
    }

    #[test]
    fn useless_limits_are_named() {
        let mut bad = Vec::new();
        Limits {
            streams: 0,
            address_per_second: -1.0,
            ..Limits::default()
        }
        .check(&mut bad);
        assert_eq!(bad.len(), 2);
        assert!(bad[0].contains("limits.streams") && bad[1].contains("address_per_second"));
    }
}
