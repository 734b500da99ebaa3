//! What the end-to-end tests share: a network of real processes on a real Bitcoin Core, wallets
//! with coins, raw calls to operators, and waiting with a bound.
#![allow(dead_code, reason = "each test file uses its own part")]

pub(crate) mod cli;
pub(crate) mod database;
pub(crate) mod draft;
pub(crate) mod network;
pub(crate) mod party;
pub(crate) mod raw;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How often something is asked that tells nobody when it changes.
const ASK: Duration = Duration::from_millis(100);

/// The program under test.
pub(crate) fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_tinderbox"))
}

/// Asks until `probe` succeeds.
///
/// # Panics
/// After `bound`, with the last reason.
pub(crate) async fn eventually<T, F>(what: &str, bound: Duration, mut probe: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let begun = Instant::now();
    loop {
        match probe().await {
            Ok(found) => return found,
            Err(reason) if begun.elapsed() > bound => {
                panic!("{what}: not after {} s: {reason}", bound.as_secs())
            }
            Err(_) => tokio::time::sleep(ASK).await,
        }
    }
}
