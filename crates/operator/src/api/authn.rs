//! Sessions: their keys come from the signer, answered challenges are remembered in the database,
//! so that all processes of an operator act as one.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tinderbox_flows::record::{Index, IndexKey, Key, Row, Table};
use tinderbox_flows::rows::Millis;
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_rpc::session::{Lifetimes, NonceMemory, NonceMemoryError, SessionKeys, Sessions};
use tinderbox_signer::{Signer, SignerError};
use tinderbox_store::Scan;

use crate::Core;
use crate::tables::{TableError, Tables};

/// What the session keys are derived under.
const CHALLENGE_LABEL: &str = "AUTH_CHALLENGE_SECRET_v1";
const TOKEN_LABEL: &str = "AUTH_SESSION_SECRET_v1";

/// Rows purged in one write.
const PURGE: usize = 500;

/// A fact with a lifetime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EphemeralRow {
    /// What it is about; the first bytes say what kind of fact it is.
    pub name: Vec<u8>,
    /// When it may be forgotten.
    pub expires: Millis,
}

impl EphemeralRow {
    fn challenge(nonce: &[u8; 32], expires: u64) -> Self {
        Self {
            name: [b"challenge/".as_slice(), nonce].concat(),
            expires: Millis(expires.saturating_mul(1000)),
        }
    }
}

impl Row for EphemeralRow {
    const TABLE: Table = Table::Ephemeral;

    fn id(&self) -> Vec<u8> {
        self.name.clone()
    }

    fn listed(&self) -> Vec<IndexKey> {
        vec![IndexKey::new(
            Index::EphemeralByExpiry,
            &[&self.expires.sort(), &self.name],
        )]
    }
}

/// Answered challenges, in the database.
pub struct StoredNonces(Tables);

#[async_trait]
impl NonceMemory for StoredNonces {
    async fn spend(
        &self,
        nonce: [u8; 32],
        expires: u64,
        _now: u64,
    ) -> Result<bool, NonceMemoryError> {
        let row = EphemeralRow::challenge(&nonce, expires);
        let noted = async {
            let mut rows = Snapshot::new();
            self.0.load(&mut rows, [row.key()]).await?;
            if rows.get::<EphemeralRow>(row.id())?.is_some() {
                return Ok(false);
            }
            let mut changes = Changes::new();
            changes.put(&rows, &row)?;
            self.0.write(&rows, changes).await?;
            Ok(true)
        };
        match noted.await {
            Ok(fresh) => Ok(fresh),
            // Somebody else noted it in the same moment.
            Err(TableError::Conflict) => Ok(false),
            Err(error) => Err(NonceMemoryError::Store(error.to_string())),
        }
    }
}

/// The sessions of an operator.
///
/// # Errors
/// [`SignerError`] if the signer does not answer.
pub async fn sessions(core: &Core) -> Result<Arc<Sessions>, SignerError> {
    let signer: &dyn Signer = &*core.signer;
    let keys = SessionKeys::new(
        signer.derive(CHALLENGE_LABEL).await?,
        signer.derive(TOKEN_LABEL).await?,
    );
    let memory = Arc::new(StoredNonces(Tables::new(core.store.clone())));
    Ok(Arc::new(Sessions::new(keys, memory, Lifetimes::default())))
}

/// Deletes facts whose lifetime is over. Returns how many.
///
/// # Errors
/// [`TableError`].
pub async fn purge(tables: &Tables, now: Millis) -> Result<usize, TableError> {
    let mut purged = 0;
    loop {
        let found = tables
            .scan::<EphemeralRow>(Scan {
                index: Index::EphemeralByExpiry,
                from: Vec::new(),
                to: now.sort().to_vec(),
                descending: false,
                limit: PURGE,
            })
            .await?;
        if found.is_empty() {
            return Ok(purged);
        }
        let mut rows = Snapshot::new();
        let keys: Vec<Key> = found.iter().map(|found| found.row.key()).collect();
        tables.load(&mut rows, keys).await?;
        let mut changes = Changes::new();
        for found in &found {
            changes.delete::<EphemeralRow>(&rows, found.row.id())?;
        }
        tables.write(&rows, changes).await?;
        purged += found.len();
    }
}

/// Purges every minute, until `stop`.
pub async fn run_purge(core: Core, nonce_lifetime: u64, stop: impl Future<Output = ()>) {
    let tables = Tables::new(core.store.clone());
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(Duration::from_secs(60)) => {}
        }
        match purge(&tables, core.clock.now()).await {
            // Another process purges at the same time.
            Ok(_) | Err(TableError::Conflict) => {}
            Err(error) => tracing::warn!(%error, "purging failed; trying again in a minute"),
        }
        if let Err(error) = core.signer.purge_nonces(nonce_lifetime).await {
            tracing::warn!(%error, "purging nonces failed; trying again in a minute");
        }
    }
}
