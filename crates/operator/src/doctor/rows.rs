//! The database, and what is in the pool of key shares.

use tinderbox_flows::record::Index;
use tinderbox_store::{Database, Scan, StoreError, successor};

use super::Report;
use crate::config::Config;

/// Key shares below which new addresses may have to wait.
const FEW: usize = 20;

pub(super) async fn examine(config: &Config, running: bool, report: &mut Report) {
    let name = config.database.to_string();
    if let Database::Sqlite { path } = &config.database {
        if running {
            report.good("database", format!("{name}: in use by the operator"));
            return;
        }
        if !path.exists() {
            report.warning(
                "database",
                format!("{name} does not exist"),
                "right before the first start, which makes it",
            );
            return;
        }
    }
    let store = match tinderbox_store::open(&config.database).await {
        Ok(store) => store,
        Err(StoreError::InUse { .. }) => {
            report.good("database", format!("{name}: in use by another process"));
            return;
        }
        Err(error) => {
            report.bad(
                "database",
                format!("{name}: {error}"),
                "check that it runs, the address, and the rights of the user",
            );
            return;
        }
    };
    report.good("database", format!("{name}: reachable, schema up to date"));
    let prefix = config.me.0.to_be_bytes();
    let scan = Scan::range(Index::KeyshareAvailable, prefix, successor(&prefix))
        .limit(usize::try_from(config.pool.keyshares).unwrap_or(usize::MAX));
    match store.scan(scan).await {
        Ok(found) if found.len() < FEW => report.warning(
            "key shares",
            format!("{} are left in the pool", found.len()),
            "they are made when all operators are up: look at the other operators",
        ),
        Ok(found) => report.good("key shares", format!("{} in the pool", found.len())),
        Err(error) => report.bad("database", error.to_string(), "look at the database's log"),
    }
}
