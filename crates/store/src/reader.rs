//! Typed reading on top of [`Store`].

use std::future::Future;

use tinderbox_flows::record::{Key, Row, Stored};
use tinderbox_flows::snapshot::{Miss, Snapshot};

use crate::{Scan, Store, StoreError};

/// Reads rows as the types that they hold. Every [`Store`] has it, also behind `dyn`.
pub trait Reader: Store {
    /// Row `id`, or `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Unreadable`].
    fn row<R: Row + Send>(
        &self,
        id: impl Into<Vec<u8>> + Send,
    ) -> impl Future<Output = Result<Option<R>, StoreError>> + Send {
        let key = Key::new(R::TABLE, id);
        async move {
            let found = self.get(std::slice::from_ref(&key)).await?;
            match found.into_iter().next().flatten() {
                Some(stored) => Ok(Some(R::decode(&key.id, &stored.body)?)),
                None => Ok(None),
            }
        }
    }

    /// The rows with these ids, in the same order, read at one moment.
    ///
    /// # Errors
    /// As [`Reader::row`].
    fn load<R: Row + Send>(
        &self,
        ids: &[impl AsRef<[u8]> + Sync],
    ) -> impl Future<Output = Result<Vec<Option<R>>, StoreError>> + Send {
        let keys: Vec<Key> = ids
            .iter()
            .map(|id| Key::new(R::TABLE, id.as_ref()))
            .collect();
        async move {
            let found = self.get(&keys).await?;
            keys.iter()
                .zip(found)
                .map(|(key, stored)| {
                    stored
                        .map(|stored| R::decode(&key.id, &stored.body).map_err(StoreError::from))
                        .transpose()
                })
                .collect()
        }
    }

    /// The rows of type `R` in a range of an index, in its order. Rows of other tables that are
    /// listed there too are left out.
    ///
    /// # Errors
    /// As [`Reader::row`].
    fn rows<R: Row + Send>(
        &self,
        scan: Scan,
    ) -> impl Future<Output = Result<Vec<R>, StoreError>> + Send {
        async move {
            self.scan(scan)
                .await?
                .into_iter()
                .filter(|found| found.key.table == R::TABLE)
                .map(|found| R::decode(&found.key.id, &found.stored.body).map_err(StoreError::from))
                .collect()
        }
    }

    /// Reads what a flow missed into its snapshot.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    fn fill(
        &self,
        snapshot: &mut Snapshot,
        miss: &Miss,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        let keys: Vec<Key> = miss.0.iter().cloned().collect();
        async move {
            let found: Vec<Option<Stored>> = self.get(&keys).await?;
            for (key, stored) in keys.into_iter().zip(found) {
                snapshot.insert(key, stored);
            }
            Ok(())
        }
    }
}

impl<S: Store + ?Sized> Reader for S {}
