//! The operator's tables, behind one trait.
//!
//! A [`Store`] keeps versioned rows under keys, lists them under sorted index keys, and applies
//! conditional batches: all of a batch or nothing of it. Batches that arrive together share one
//! database transaction (group commit), with a handful of statements however many they are.

use async_trait::async_trait;
use tinderbox_flows::record::{Batch, Index, Key, Stored};

/// A range of an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Which index.
    pub index: Index,
    /// First sort key, inclusive.
    pub from: Vec<u8>,
    /// Last sort key, exclusive; empty: to the end of the index.
    pub to: Vec<u8>,
    /// True: from the highest sort key down.
    pub descending: bool,
    /// How many entries at most.
    pub limit: usize,
}

impl Scan {
    /// All entries whose sort key begins with `prefix`, ascending.
    #[must_use]
    pub fn prefix(index: Index, prefix: &[u8]) -> Self {
        Self {
            index,
            from: prefix.to_vec(),
            to: successor(prefix),
            descending: false,
            limit: usize::MAX,
        }
    }
}

/// The lowest byte string that is greater than everything that begins with `prefix`; empty if
/// there is none.
#[must_use]
pub fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut next = prefix.to_vec();
    while let Some(last) = next.pop() {
        if let Some(more) = last.checked_add(1) {
            next.push(more);
            break;
        }
    }
    next
}

/// A row found through an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The sort key under which it is listed.
    pub listed: Vec<u8>,
    /// The row's key.
    pub key: Key,
    /// The row.
    pub stored: Stored,
}

/// Why a store did not do as asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another batch changed a row that this one was based on; read again and decide again.
    #[error("row {key:?} changed meanwhile (expected version {expected}, found {found})")]
    Conflict {
        /// The row.
        key: Key,
        /// The version that the batch was based on.
        expected: u64,
        /// The version that is there.
        found: u64,
    },
    /// The database does not answer, or refused. Nothing is known about the batch's outcome.
    #[error("the database failed: {0}")]
    Database(String),
    /// The database was written by a newer release.
    #[error("the database has schema {found}, this release knows {known}: run the newer release")]
    Newer {
        /// Schema version in the database.
        found: u32,
        /// Latest schema version known here.
        known: u32,
    },
}

/// Counts what a store did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// SQL statements.
    pub statements: u64,
    /// Database transactions that wrote.
    pub commits: u64,
    /// Batches applied.
    pub batches: u64,
    /// Batches refused because of a conflict.
    pub conflicts: u64,
}

/// An operator's tables.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The rows under `keys`, in the same order; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>, StoreError>;

    /// The rows listed in a range of an index, in its order (ties in order of row id).
    ///
    /// # Errors
    /// [`StoreError::Database`].
    async fn scan(&self, scan: Scan) -> Result<Vec<Found>, StoreError>;

    /// Applies a batch durably, or refuses it whole. Returns when it is on disk.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a guard or an expected version does not hold (nothing was
    /// written), [`StoreError::Database`] if the outcome is unknown.
    async fn apply(&self, batch: Batch) -> Result<(), StoreError>;

    /// What was done so far.
    fn counters(&self) -> Counters;
}
