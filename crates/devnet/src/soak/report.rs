//! What a long run did, and what was wrong afterwards.

use std::collections::BTreeMap;

use serde::Serialize;

/// What wallets did.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Deeds {
    /// Deposits, each of several leaves.
    pub deposits: u64,
    /// Payments to one wallet.
    pub payments: u64,
    /// Payments to several wallets at once.
    pub shared_payments: u64,
    /// Payments of invoices.
    pub invoices: u64,
    /// Transfers that were claimed.
    pub claims: u64,
    /// Sats that were deposited.
    pub deposited: u64,
}

/// What was done to the network.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// Operators killed.
    pub kills: u64,
    /// Times that all were down at once.
    pub blackouts: u64,
    /// Restarts of a database.
    pub database_restarts: u64,
    /// Reorganisations.
    pub reorganisations: u64,
    /// The deepest of them.
    pub deepest: u32,
}

/// A long run.
#[derive(Clone, Debug, Serialize)]
pub struct Soaked {
    /// `sqlite` or `postgres`.
    pub database: String,
    /// What chose.
    pub seed: u64,
    /// How long it took, with all of its beginning and end.
    pub seconds: u64,
    /// What wallets did.
    pub deeds: Deeds,
    /// What was done to the network.
    pub weather: Counts,
    /// Errors that wallets met and got over, by kind.
    pub met: BTreeMap<String, u64>,
    /// The largest resident memory of each operator, in MiB.
    pub rss_mib: Vec<u64>,
    /// What was wrong afterwards: nothing, one hopes.
    pub wrong: Vec<String>,
}

impl Soaked {
    /// True if nothing was wrong.
    #[must_use]
    pub const fn is_good(&self) -> bool {
        self.wrong.is_empty()
    }
}

impl std::fmt::Display for Soaked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (deeds, weather) = (&self.deeds, &self.weather);
        writeln!(
            f,
            "result: {} s on {}: {} deposits ({} sat), {} payments, {} to several at once, {} of invoices, {} claims; {} kills, {} blackouts, {} database restarts, {} reorganisations of up to {} blocks; memory up to {:?} MiB; {}",
            self.seconds,
            self.database,
            deeds.deposits,
            deeds.deposited,
            deeds.payments,
            deeds.shared_payments,
            deeds.invoices,
            deeds.claims,
            weather.kills,
            weather.blackouts,
            weather.database_restarts,
            weather.reorganisations,
            weather.deepest,
            self.rss_mib,
            if self.is_good() {
                "every sat is there and nothing is stuck"
            } else {
                "SOMETHING IS WRONG"
            }
        )?;
        for (what, times) in &self.met {
            writeln!(f, "  met {times} × {what}")?;
        }
        for what in &self.wrong {
            writeln!(f, "  WRONG: {what}")?;
        }
        write!(f, "  seed {}", self.seed)
    }
}
