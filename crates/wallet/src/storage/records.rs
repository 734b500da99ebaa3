use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Change, Kind, Storage};
use crate::error::{Error, Result};

/// Typed records, as JSON, over a [`Storage`].
#[derive(Clone)]
pub struct Records {
    storage: Arc<dyn Storage>,
}

impl Records {
    /// Over this storage.
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage }
    }

    /// One record, or `None`.
    ///
    /// # Errors
    /// [`Error::DamagedRecord`] if its content is not what the kind holds; else as the storage.
    pub fn get<T: DeserializeOwned>(&self, kind: Kind, key: &str) -> Result<Option<T>> {
        self.storage
            .get(kind, key)?
            .map(|bytes| decode(kind, key, &bytes))
            .transpose()
    }

    /// All records of a kind.
    ///
    /// # Errors
    /// As [`get`](Records::get).
    pub fn list<T: DeserializeOwned>(&self, kind: Kind) -> Result<Vec<(String, T)>> {
        self.storage
            .list(kind)?
            .into_iter()
            .map(|(key, bytes)| decode(kind, &key, &bytes).map(|value| (key, value)))
            .collect()
    }

    /// Writes one record.
    ///
    /// # Errors
    /// As the storage.
    pub fn put<T: Serialize>(&self, kind: Kind, key: &str, value: &T) -> Result<()> {
        self.storage.apply(&[change(kind, key, value)?])
    }

    /// Removes one record.
    ///
    /// # Errors
    /// As the storage.
    pub fn delete(&self, kind: Kind, key: &str) -> Result<()> {
        self.storage.apply(&[Change::Delete {
            kind,
            key: key.to_owned(),
        }])
    }

    /// Applies a batch made with [`change`](Records::change).
    ///
    /// # Errors
    /// As the storage.
    pub fn apply(&self, changes: &[Change]) -> Result<()> {
        self.storage.apply(changes)
    }

    /// A change that writes a record.
    ///
    /// # Errors
    /// [`Error::DamagedRecord`] if the value has no JSON form.
    pub fn change<T: Serialize>(kind: Kind, key: &str, value: &T) -> Result<Change> {
        change(kind, key, value)
    }
}

fn change<T: Serialize>(kind: Kind, key: &str, value: &T) -> Result<Change> {
    let value = serde_json::to_vec(value).map_err(|e| damaged(kind, key, e))?;
    Ok(Change::Put {
        kind,
        key: key.to_owned(),
        value,
    })
}

fn decode<T: DeserializeOwned>(kind: Kind, key: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| damaged(kind, key, e))
}

fn damaged(kind: Kind, key: &str, error: serde_json::Error) -> Error {
    Error::DamagedRecord {
        kind: kind.name(),
        key: key.to_owned(),
        reason: error.to_string(),
    }
}
