//! Short ways to say batches.

use tinderbox_flows::record::{Batch, Index, IndexKey, Key, Stored, Table, Write};

use crate::{Store, StoreError};

/// The key of a node row.
#[must_use]
pub fn node(id: impl AsRef<[u8]>) -> Key {
    Key::new(Table::Node, id.as_ref())
}

/// A write of `body` over version `expected`.
#[must_use]
pub fn put(key: &Key, expected: u64, body: impl AsRef<[u8]>) -> Write {
    Write {
        key: key.clone(),
        expected,
        body: Some(body.as_ref().to_vec()),
        unlist: Vec::new(),
        list: Vec::new(),
    }
}

/// A deletion of version `expected`.
#[must_use]
pub fn delete(key: &Key, expected: u64) -> Write {
    Write {
        body: None,
        ..put(key, expected, [])
    }
}

/// The same write, with an entry of the index of owners added.
#[must_use]
pub fn listed(write: Write, sort: impl AsRef<[u8]>) -> Write {
    listed_in(write, Index::NodeByOwner, sort)
}

/// The same write, with an entry of `index` added.
#[must_use]
pub fn listed_in(mut write: Write, index: Index, sort: impl AsRef<[u8]>) -> Write {
    write.list.push(IndexKey::new(index, &[sort.as_ref()]));
    write
}

/// The same write, with an entry of the index of owners taken away.
#[must_use]
pub fn unlisted(mut write: Write, sort: impl AsRef<[u8]>) -> Write {
    let entry = IndexKey::new(Index::NodeByOwner, &[sort.as_ref()]);
    write.unlist.push(entry);
    write
}

/// A batch without guards.
#[must_use]
pub fn batch(writes: impl IntoIterator<Item = Write>) -> Batch {
    guarded([], writes)
}

/// A batch with guards.
#[must_use]
pub fn guarded(
    guards: impl IntoIterator<Item = (Key, u64)>,
    writes: impl IntoIterator<Item = Write>,
) -> Batch {
    Batch {
        guards: guards.into_iter().collect(),
        writes: writes.into_iter().collect(),
    }
}

/// What a read of a row is expected to give.
#[must_use]
#[allow(clippy::unnecessary_wraps)]
pub fn stored(version: u64, body: impl AsRef<[u8]>) -> Option<Stored> {
    let body = body.as_ref().to_vec();
    Some(Stored { version, body })
}

/// The refusal of a batch.
#[must_use]
pub fn conflict(key: &Key, expected: u64, found: u64) -> StoreError {
    StoreError::Conflict {
        key: key.clone(),
        expected,
        found,
    }
}

/// One row.
pub async fn get(store: &dyn Store, key: &Key) -> Option<Stored> {
    let mut rows = store
        .get(std::slice::from_ref(key))
        .await
        .expect("a read works");
    assert_eq!(rows.len(), 1, "one answer per key");
    rows.remove(0)
}

/// Applies a batch that must pass.
pub async fn pass(store: &dyn Store, batch: Batch) {
    store.apply(batch).await.expect("the batch passes");
}
