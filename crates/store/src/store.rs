//! The trait that every backend implements.

use async_trait::async_trait;
use tinderbox_flows::record::{Batch, Key, Stored};

use crate::{Counters, Found, Scan, StoreError};

/// An operator's tables.
///
/// # Rules
///
/// - **Versions.** The first write of a row gives it version 1, each later one the next number. A
///   row that was deleted is absent (version 0); when it is written again it begins at 1. So a
///   version names one content only as long as the row is not deleted: what must never be mistaken
///   for an earlier row of the same id is kept as a row with an end state, and not deleted.
/// - **Batches.** All guards and expected versions are compared with the rows as they are before
///   the batch; then every write happens, or none. Of batches that touch the same row, each sees
///   the whole of every earlier one or nothing of it.
/// - **Index entries** are separate facts, `(index, sort key, row)`, which a write adds
///   (`list`) or takes away (`unlist`, done first). Adding one that is there and taking away one
///   that is not do nothing. A scan leaves out entries whose row is absent.
/// - **Durability.** When [`Store::apply`] has returned `Ok`, the batch survives a loss of power.
///   Reads that begin afterwards see it.
/// - **Cancelling.** Whoever drops the future of [`Store::apply`] does not stop the batch: its
///   outcome is unknown, as with [`StoreError::Database`].
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The rows under `keys`, in the same order; `None` where there is none. All of them are read
    /// at one moment.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>, StoreError>;

    /// The rows listed in a range of an index, in its order (ties in order of table and row id; a
    /// descending scan is exactly the reverse of the ascending one).
    ///
    /// # Errors
    /// [`StoreError::Database`].
    async fn scan(&self, scan: Scan) -> Result<Vec<Found>, StoreError>;

    /// Applies a batch durably, or refuses it whole. Returns when it is on disk. A batch without
    /// writes only checks its guards.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if a guard or an expected version does not hold (nothing was
    /// written), [`StoreError::Invalid`] if the batch breaks the rules above (nothing was written),
    /// [`StoreError::Database`] if the outcome is unknown.
    async fn apply(&self, batch: Batch) -> Result<(), StoreError>;

    /// What was done so far through this handle and its clones.
    fn counters(&self) -> Counters;
}
