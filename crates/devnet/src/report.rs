//! What runs where, for people and for scripts.

use serde::Serialize;

/// Status of a local network.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Folder of everything.
    pub folder: String,
    /// `sqlite` or `postgres`.
    pub database: String,
    /// Operators that must sign.
    pub threshold: u16,
    /// Node and faucet: URL, user, password.
    pub bitcoin: [String; 3],
    /// Operators.
    pub operators: Vec<OperatorStatus>,
}

/// Status of one operator.
#[derive(Clone, Debug, Serialize)]
pub struct OperatorStatus {
    /// Its place.
    pub index: u16,
    /// Where wallets find it.
    pub address: String,
    /// Its identity public key.
    pub identity: String,
    /// Metrics, health and readiness.
    pub metrics: String,
    /// Process id; of the first, if there are several.
    pub pid: Option<u32>,
    /// Ids of all its serving processes.
    pub pids: Vec<u32>,
    /// True if the process runs.
    pub running: bool,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [url, user, password] = &self.bitcoin;
        writeln!(
            f,
            "  {:<12} {:<28} {:<9} details",
            "what", "address", "state"
        )?;
        writeln!(
            f,
            "  {:<12} {url:<28} {:<9} Bitcoin Core (regtest) and faucet, {user}:{password}",
            "bitcoin", "running"
        )?;
        for operator in &self.operators {
            writeln!(
                f,
                "  {:<12} {:<28} {:<9} {}…, metrics {}",
                format!("operator {}", operator.index),
                operator.address,
                if operator.running { "running" } else { "down" },
                operator.identity.get(..16).unwrap_or_default(),
                match operator.pids.len() {
                    0 | 1 => operator.metrics.clone(),
                    many => format!("{}, {many} processes", operator.metrics),
                },
            )?;
        }
        write!(
            f,
            "  {} of {} operators sign; rows in {}; everything in {}",
            self.threshold,
            self.operators.len(),
            self.database,
            self.folder
        )
    }
}
