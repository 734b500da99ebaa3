use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::{Change, Kind, Storage};
use crate::error::Result;

/// Records in memory: gone with the process.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    records: Mutex<BTreeMap<(Kind, String), Vec<u8>>>,
}

impl MemoryStorage {
    /// An empty storage.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Storage for MemoryStorage {
    fn get(&self, kind: Kind, key: &str) -> Result<Option<Vec<u8>>> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(records.get(&(kind, key.to_owned())).cloned())
    }

    fn list(&self, kind: Kind) -> Result<Vec<(String, Vec<u8>)>> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(records
            .iter()
            .filter(|((k, _), _)| *k == kind)
            .map(|((_, key), v)| (key.clone(), v.clone()))
            .collect())
    }

    fn apply(&self, changes: &[Change]) -> Result<()> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                Change::Put { kind, key, value } => {
                    records.insert((*kind, key.clone()), value.clone());
                }
                Change::Delete { kind, key } => {
                    records.remove(&(*kind, key.clone()));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::suite;

    #[test]
    fn kinds_do_not_mix() {
        suite::kinds_do_not_mix(&MemoryStorage::new());
    }

    #[test]
    fn later_changes_of_a_batch_win() {
        suite::later_changes_of_a_batch_win(&MemoryStorage::new());
    }

    #[test]
    fn lists_are_sorted_by_key() {
        suite::lists_are_sorted_by_key(&MemoryStorage::new());
    }
}
