//! The rows that a decision was based on, and the rows that it changes.
//!
//! A flow asks a [`Snapshot`] for rows. What has not been read yet is a [`Miss`]: whoever runs the
//! flow reads it and runs the flow again. In the end the snapshot knows every row that the decision
//! was based on, and [`Changes`] makes all of them conditions of the write. Two flows that touch
//! the same row therefore exclude each other, without a lock held while curves are computed.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::record::{Batch, IndexKey, Key, Row, Stored, Unreadable, Write};

/// Rows that a flow asked for and that have not been read yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Miss(pub BTreeSet<Key>);

/// Why a row could not be handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// It has to be read first.
    Miss(Miss),
    /// It is there but cannot be decoded.
    Unreadable(Unreadable),
}

/// Rows as they were read, with their versions.
#[derive(Debug, Default)]
pub struct Snapshot {
    rows: BTreeMap<Key, Option<Stored>>,
    /// Rows that were handed out, decoded; `None` for a row that is not there. Decoding is worth
    /// keeping: every public key in a row costs a square root.
    used: Mutex<BTreeMap<Key, Decoded>>,
}

type Decoded = Option<Arc<dyn Any + Send + Sync>>;

impl Snapshot {
    /// An empty one: everything is a miss.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds what was read; `None` means that there is no such row.
    pub fn insert(&mut self, key: Key, stored: Option<Stored>) {
        self.used().remove(&key);
        self.rows.insert(key, stored);
    }

    /// True if it was read whether there is such a row.
    #[must_use]
    pub fn knows(&self, key: &Key) -> bool {
        self.rows.contains_key(key)
    }

    /// Forgets everything, for another attempt after a conflict.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.used().clear();
    }

    /// Makes sure that all `keys` are there, so that a flow misses once and not row by row.
    ///
    /// # Errors
    /// [`ReadError::Miss`] with every key that has not been read.
    pub fn require(&self, keys: impl IntoIterator<Item = Key>) -> Result<(), ReadError> {
        let missing: BTreeSet<Key> = keys
            .into_iter()
            .filter(|key| !self.rows.contains_key(key))
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(ReadError::Miss(Miss(missing)))
        }
    }

    /// Row `id`, or `None` if there is no such row.
    ///
    /// # Errors
    /// [`ReadError::Miss`] if it has not been read, [`ReadError::Unreadable`] if it is damaged.
    pub fn get<R: Row>(&self, id: impl Into<Vec<u8>>) -> Result<Option<R>, ReadError> {
        let key = Key::new(R::TABLE, id);
        let Some(stored) = self.rows.get(&key) else {
            return Err(ReadError::Miss(Miss([key].into())));
        };
        // Different row types may share a table; then the id tells them apart, not the cache.
        if let Some(decoded) = self.used().get(&key) {
            match decoded {
                None => return Ok(None),
                Some(row) => {
                    if let Some(row) = row.downcast_ref::<R>() {
                        return Ok(Some(row.clone()));
                    }
                }
            }
        }
        let row = match stored {
            None => None,
            Some(stored) => Some(R::decode(&key.id, &stored.body).map_err(ReadError::Unreadable)?),
        };
        let decoded: Decoded = match &row {
            None => None,
            Some(row) => Some(Arc::new(row.clone())),
        };
        self.used().insert(key, decoded);
        Ok(row)
    }

    fn used(&self) -> MutexGuard<'_, BTreeMap<Key, Decoded>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn version(&self, key: &Key) -> u64 {
        self.rows
            .get(key)
            .and_then(Option::as_ref)
            .map_or(0, |stored| stored.version)
    }
}

/// Rows to write, collected by a flow.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    rows: BTreeMap<Key, Change>,
}

#[derive(Clone, Debug)]
struct Change {
    body: Option<Vec<u8>>,
    listed: Vec<IndexKey>,
    unlisted: Vec<IndexKey>,
}

impl Changes {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes `row`, whatever it was before.
    ///
    /// # Errors
    /// As [`Snapshot::get`]; a row must have been read before it is written.
    pub fn put<R: Row>(&mut self, snapshot: &Snapshot, row: &R) -> Result<(), ReadError> {
        let before = snapshot.get::<R>(row.id())?;
        let body = row.encode().map_err(ReadError::Unreadable)?;
        let (listed, unlisted) = difference(before.as_ref(), Some(row));
        self.rows.insert(
            row.key(),
            Change {
                body: Some(body),
                listed,
                unlisted,
            },
        );
        Ok(())
    }

    /// Writes a row whose id is so new that there can be none: nothing is read for it.
    ///
    /// # Errors
    /// If it cannot be encoded.
    pub fn put_new<R: Row>(&mut self, row: &R) -> Result<(), Unreadable> {
        let (listed, unlisted) = difference(None, Some(row));
        self.rows.insert(
            row.key(),
            Change {
                body: Some(row.encode()?),
                listed,
                unlisted,
            },
        );
        Ok(())
    }

    /// Row `id` as it will be after these changes.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn after<R: Row>(
        &self,
        snapshot: &Snapshot,
        id: impl Into<Vec<u8>>,
    ) -> Result<Option<R>, ReadError> {
        let key = Key::new(R::TABLE, id);
        match self.rows.get(&key) {
            Some(change) => change
                .body
                .as_deref()
                .map(|body| R::decode(&key.id, body).map_err(ReadError::Unreadable))
                .transpose(),
            None => snapshot.get(key.id),
        }
    }

    /// Deletes row `id`; nothing happens if there is none.
    ///
    /// # Errors
    /// As [`Snapshot::get`].
    pub fn delete<R: Row>(
        &mut self,
        snapshot: &Snapshot,
        id: impl Into<Vec<u8>>,
    ) -> Result<(), ReadError> {
        let id = id.into();
        if let Some(before) = snapshot.get::<R>(id.clone())? {
            let (listed, unlisted) = difference(Some(&before), None);
            self.rows.insert(
                Key::new(R::TABLE, id),
                Change {
                    body: None,
                    listed,
                    unlisted,
                },
            );
        }
        Ok(())
    }

    /// Takes over another flow's changes, which are of other rows.
    pub fn extend(&mut self, other: Self) {
        self.rows.extend(other.rows);
    }

    /// The conditional write: every row that the snapshot handed out must still have its version.
    #[must_use]
    pub fn into_batch(self, snapshot: &Snapshot) -> Batch {
        let guards = snapshot
            .used()
            .keys()
            .filter(|key| !self.rows.contains_key(key))
            .map(|key| (key.clone(), snapshot.version(key)))
            .collect();
        let writes = self
            .rows
            .into_iter()
            .map(|(key, change)| Write {
                expected: snapshot.version(&key),
                key,
                body: change.body,
                unlist: change.unlisted,
                list: change.listed,
            })
            .collect();
        Batch { guards, writes }
    }
}

/// Index entries to add and to take away when `before` becomes `after`.
fn difference<R: Row>(before: Option<&R>, after: Option<&R>) -> (Vec<IndexKey>, Vec<IndexKey>) {
    let entries = |row: Option<&R>| -> BTreeSet<IndexKey> {
        row.map(|row| row.listed().into_iter().collect())
            .unwrap_or_default()
    };
    let (old, new) = (entries(before), entries(after));
    (
        new.difference(&old).cloned().collect(),
        old.difference(&new).cloned().collect(),
    )
}
