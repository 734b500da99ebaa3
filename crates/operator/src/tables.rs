//! Reading typed rows, and writing them on condition that nobody else did.
//!
//! Money only moves through flows. What is written here are facts that each operator notes for
//! itself: the chain, sessions, the first step of the three-step claim.

use std::sync::Arc;

use tinderbox_flows::record::{Key, Row, Unreadable};
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::snapshot::{Changes, ReadError, Snapshot};
use tinderbox_store::{Scan, Store, StoreError};

/// Rows asked for in one question at most.
const CHUNK: usize = 1000;

/// Why rows could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TableError {
    /// Rows changed between reading and writing: begin again.
    #[error("rows changed meanwhile")]
    Conflict,
    /// The database does not answer.
    #[error("{0}")]
    Store(StoreError),
    /// A row cannot be decoded.
    #[error("{0}")]
    Unreadable(Unreadable),
    /// A row was written that was not read first.
    #[error("a row was written without having been read")]
    NotRead,
}

impl From<StoreError> for TableError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { .. } => Self::Conflict,
            other => Self::Store(other),
        }
    }
}

impl From<Unreadable> for TableError {
    fn from(error: Unreadable) -> Self {
        Self::Unreadable(error)
    }
}

impl From<ReadError> for TableError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Miss(_) => Self::NotRead,
            ReadError::Unreadable(unreadable) => Self::Unreadable(unreadable),
        }
    }
}

impl From<TableError> for Refusal {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Conflict => Self::new(
                Reason::LockConflict,
                "another request changes the same rows: try again",
            ),
            other => {
                tracing::error!(error = %other, "database");
                Self::new(
                    Reason::Internal,
                    "the operator's database does not answer: try again",
                )
            }
        }
    }
}

/// Typed access to an operator's tables.
#[derive(Clone)]
pub struct Tables(Arc<dyn Store>);

/// A row found through an index.
#[derive(Clone, Debug)]
pub struct Listed<R> {
    /// The sort key under which it is listed.
    pub listed: Vec<u8>,
    /// The row.
    pub row: R,
}

impl Tables {
    /// The tables in `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// Row `id`.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn get<R: Row>(&self, id: impl Into<Vec<u8>>) -> Result<Option<R>, TableError> {
        Ok(self.get_many([id.into()]).await?.pop().flatten())
    }

    /// The rows with these ids, in the same order.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn get_many<R: Row>(
        &self,
        ids: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<Vec<Option<R>>, TableError> {
        let keys: Vec<Key> = ids.into_iter().map(|id| Key::new(R::TABLE, id)).collect();
        let mut rows = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(CHUNK) {
            for (key, stored) in chunk.iter().zip(self.0.get(chunk).await?) {
                rows.push(match stored {
                    Some(stored) => Some(R::decode(&key.id, &stored.body)?),
                    None => None,
                });
            }
        }
        Ok(rows)
    }

    /// The rows in a range of an index.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn scan<R: Row>(&self, scan: Scan) -> Result<Vec<Listed<R>>, TableError> {
        self.0
            .scan(scan)
            .await?
            .into_iter()
            .map(|found| {
                Ok(Listed {
                    row: R::decode(&found.key.id, &found.stored.body)?,
                    listed: found.listed,
                })
            })
            .collect()
    }

    /// Reads rows into `snapshot`, so that they can be changed.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn load(
        &self,
        snapshot: &mut Snapshot,
        keys: impl IntoIterator<Item = Key>,
    ) -> Result<(), TableError> {
        let keys: Vec<Key> = keys.into_iter().collect();
        for chunk in keys.chunks(CHUNK) {
            for (key, stored) in chunk.iter().zip(self.0.get(chunk).await?) {
                snapshot.insert(key.clone(), stored);
            }
        }
        Ok(())
    }

    /// Writes, if nothing that was read has changed.
    ///
    /// # Errors
    /// [`TableError::Conflict`] if something has.
    pub async fn write(&self, snapshot: &Snapshot, changes: Changes) -> Result<(), TableError> {
        let batch = changes.into_batch(snapshot);
        if batch.is_empty() {
            return Ok(());
        }
        Ok(self.0.apply(batch).await?)
    }
}
