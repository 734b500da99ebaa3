//! Tables in memory, for the simulator and tests.
//!
//! Deterministic: everything happens within the call. Crashes can be played: [`Memory::on_apply`]
//! lets a test lose a batch or its acknowledgement, and [`Memory::reopen`] is a restart: a new
//! handle on the same data, with every earlier handle cut off from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tinderbox_flows::record::{Batch, Key, Stored, Table};

use crate::{Counters, Found, Scan, Store, StoreError, group};

/// What is to go wrong with a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// It is not applied, and the caller is told that the outcome is unknown.
    FailBefore,
    /// It is applied, and the caller is told that the outcome is unknown.
    LoseAcknowledgement,
}

type Hook = Box<dyn FnMut(&Batch) -> Fault + Send>;

#[derive(Default)]
struct Data {
    rows: BTreeMap<Key, Stored>,
    listing: BTreeSet<(u8, Vec<u8>, Key)>,
    session: u64,
    counters: Counters,
}

#[derive(Default)]
struct Shared {
    data: Mutex<Data>,
    hook: Mutex<Option<(u64, Hook)>>,
}

/// Tables in memory. Clones are the same handle.
#[derive(Clone, Default)]
pub struct Memory {
    shared: Arc<Shared>,
    session: u64,
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let data = self.data();
        f.debug_struct("Memory")
            .field("rows", &data.rows.len())
            .field("entries", &data.listing.len())
            .field("session", &self.session)
            .finish()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// Empty tables.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks `hook` about every batch that is applied through this handle or its clones, instead of
    /// whatever was asked before. The hook must not apply batches itself; it may call
    /// [`Memory::reopen`].
    pub fn on_apply(&self, hook: impl FnMut(&Batch) -> Fault + Send + 'static) {
        *lock(&self.shared.hook) = Some((self.session, Box::new(hook)));
    }

    /// A restart: a new handle on the same data, without a hook. Earlier handles get
    /// [`StoreError::Database`] from now on, so that what was left running before the restart
    /// cannot write after it.
    #[must_use]
    pub fn reopen(&self) -> Self {
        let mut data = self.data();
        data.session += 1;
        data.counters = Counters::default();
        Self {
            shared: Arc::clone(&self.shared),
            session: data.session,
        }
    }

    /// A copy of the data that lives on its own, such as a backup.
    #[must_use]
    pub fn fork(&self) -> Self {
        let data = self.data();
        let copy = Data {
            rows: data.rows.clone(),
            listing: data.listing.clone(),
            ..Data::default()
        };
        Self {
            shared: Arc::new(Shared {
                data: Mutex::new(copy),
                hook: Mutex::default(),
            }),
            session: 0,
        }
    }

    /// Every row, in order.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<Key, Stored> {
        self.data().rows.clone()
    }

    /// The rows of one table, in order.
    #[must_use]
    pub fn table(&self, table: Table) -> Vec<(Key, Stored)> {
        let data = self.data();
        let from = Key::new(table, []);
        data.rows
            .range(from..)
            .take_while(|(key, _)| key.table == table)
            .map(|(key, stored)| (key.clone(), stored.clone()))
            .collect()
    }

    /// One row.
    #[must_use]
    pub fn stored(&self, key: &Key) -> Option<Stored> {
        self.data().rows.get(key).cloned()
    }

    /// SHA-256 over everything that is stored: rows with their versions, and index entries. Equal
    /// if and only if the content is equal.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let data = self.data();
        let mut hash = Sha256::new();
        let mut add = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_be_bytes());
            hash.update(bytes);
        };
        add(&(data.rows.len() as u64).to_be_bytes());
        for (key, stored) in &data.rows {
            add(&[key.table.number()]);
            add(&key.id);
            add(&stored.version.to_be_bytes());
            add(&stored.body);
        }
        for (index, sort, key) in &data.listing {
            add(&[*index]);
            add(sort);
            add(&[key.table.number()]);
            add(&key.id);
        }
        hash.finalize().into()
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        lock(&self.shared.data)
    }

    /// The data, if nobody has reopened it since.
    fn live(&self) -> Result<MutexGuard<'_, Data>, StoreError> {
        let data = self.data();
        if data.session == self.session {
            Ok(data)
        } else {
            Err(StoreError::Database(
                "this handle was closed by a restart: use the one that reopened the data".into(),
            ))
        }
    }

    fn fault(&self, batch: &Batch) -> Fault {
        match lock(&self.shared.hook).as_mut() {
            Some((session, hook)) if *session == self.session => hook(batch),
            _ => Fault::None,
        }
    }
}

impl Data {
    fn version(&self, key: &Key) -> u64 {
        self.rows.get(key).map_or(0, |stored| stored.version)
    }

    fn apply(&mut self, batch: Batch) -> Result<(), StoreError> {
        let guards = batch.guards.iter().map(|(key, version)| (key, *version));
        let writes = batch
            .writes
            .iter()
            .map(|write| (&write.key, write.expected));
        for (key, expected) in guards.chain(writes) {
            let found = self.version(key);
            if found != expected {
                self.counters.conflicts += 1;
                return Err(StoreError::Conflict {
                    key: key.clone(),
                    expected,
                    found,
                });
            }
        }
        if !batch.is_empty() {
            self.counters.commits += 1;
        }
        for write in batch.writes {
            let key = write.key;
            for entry in write.unlist {
                let entry = (entry.index.number(), entry.key, key.clone());
                self.listing.remove(&entry);
            }
            for entry in write.list {
                self.listing
                    .insert((entry.index.number(), entry.key, key.clone()));
            }
            match write.body {
                Some(body) => {
                    let version = write.expected + 1;
                    self.rows.insert(key, Stored { version, body });
                }
                None => {
                    self.rows.remove(&key);
                }
            }
        }
        self.counters.batches += 1;
        Ok(())
    }

    fn scan(&self, scan: &Scan) -> Vec<Found> {
        if scan.is_empty() {
            return Vec::new();
        }
        let index = scan.index.number();
        let low = Key::new(tinderbox_flows::record::Table::Flow, []);
        let from = (index, scan.from.clone(), low.clone());
        let to = if scan.to.is_empty() {
            (index.saturating_add(1), Vec::new(), low)
        } else {
            (index, scan.to.clone(), low)
        };
        let range = self
            .listing
            .range((Bound::Included(from), Bound::Excluded(to)));
        let found = |(_, sort, key): &(u8, Vec<u8>, Key)| {
            self.rows.get(key).map(|stored| Found {
                listed: sort.clone(),
                key: key.clone(),
                stored: stored.clone(),
            })
        };
        if scan.descending {
            range.rev().filter_map(found).take(scan.limit).collect()
        } else {
            range.filter_map(found).take(scan.limit).collect()
        }
    }
}

#[async_trait]
impl Store for Memory {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>, StoreError> {
        let data = self.live()?;
        Ok(keys.iter().map(|key| data.rows.get(key).cloned()).collect())
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Found>, StoreError> {
        Ok(self.live()?.scan(&scan))
    }

    async fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        group::check(&batch)?;
        let fault = self.fault(&batch);
        if fault == Fault::FailBefore {
            return Err(StoreError::Database(
                "injected: failed before it was applied".into(),
            ));
        }
        self.live()?.apply(batch)?;
        if fault == Fault::LoseAcknowledgement {
            return Err(StoreError::Database(
                "injected: the acknowledgement was lost".into(),
            ));
        }
        Ok(())
    }

    fn counters(&self) -> Counters {
        self.data().counters
    }
}
