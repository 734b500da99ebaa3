//! What a group of batches does to the tables, decided in memory.
//!
//! A backend reads the versions of all rows that a group touches, asks [`decide`], and writes the
//! plan: per row and per index entry only the last state, however many batches changed it. Batches
//! see what earlier ones of the same group wrote.

use std::collections::{BTreeMap, BTreeSet};

use tinderbox_flows::record::{Batch, IndexKey, Key};

use crate::StoreError;

/// How many batches one transaction holds at most.
pub(crate) const MAX_BATCHES: usize = 512;

/// How many bytes of rows one transaction holds, after which no further batch is taken in.
pub(crate) const MAX_BYTES: usize = 8 << 20;

/// Longest id of a row, and longest sort key, in bytes (the database's index has limits as well).
const MAX_ID: usize = 255;
const MAX_SORT: usize = 1024;

/// Largest body, in bytes; far above any row, far below what a database takes.
const MAX_BODY: usize = 64 << 20;

/// A row as it is to be written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Put<'a> {
    pub(crate) key: &'a Key,
    pub(crate) version: u64,
    pub(crate) body: &'a [u8],
}

/// An index entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) index: u8,
    pub(crate) sort: &'a [u8],
    pub(crate) key: &'a Key,
}

/// What to write, and what to answer to each batch once it is written.
#[derive(Debug, Default)]
pub(crate) struct Plan<'a> {
    /// Rows that were absent.
    pub(crate) inserts: Vec<Put<'a>>,
    /// Rows that were there.
    pub(crate) updates: Vec<Put<'a>>,
    pub(crate) deletes: Vec<&'a Key>,
    pub(crate) unlist: Vec<Entry<'a>>,
    pub(crate) list: Vec<Entry<'a>>,
    /// One per batch, in order.
    pub(crate) outcomes: Vec<Result<(), StoreError>>,
}

impl Plan<'_> {
    /// True if there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.inserts.is_empty()
            && self.updates.is_empty()
            && self.deletes.is_empty()
            && self.unlist.is_empty()
            && self.list.is_empty()
    }

    /// How many batches pass, and how many are refused.
    pub(crate) fn tally(&self) -> (u64, u64) {
        let conflicts = self.outcomes.iter().filter(|one| one.is_err()).count();
        let passed = self.outcomes.len() - conflicts;
        (passed as u64, conflicts as u64)
    }
}

/// Refuses a batch that contradicts itself.
///
/// # Errors
/// [`StoreError::Invalid`].
pub(crate) fn check(batch: &Batch) -> Result<(), StoreError> {
    let invalid = |text: String| Err(StoreError::Invalid(text));
    let mut written = BTreeSet::new();
    for write in &batch.writes {
        let name = || {
            format!(
                "row {} of {:?}",
                hex::encode(&write.key.id),
                write.key.table
            )
        };
        if !written.insert(&write.key) {
            return invalid(format!("{} is written twice", name()));
        }
        if write.body.is_none() && !write.list.is_empty() {
            return invalid(format!("{} is deleted and listed", name()));
        }
        let length = write.body.as_ref().map_or(0, Vec::len);
        if length > MAX_BODY {
            return invalid(format!(
                "{} has {length} bytes, at most {MAX_BODY} are allowed",
                name()
            ));
        }
        if let Some(entry) = write.list.iter().find(|entry| entry.key.len() > MAX_SORT) {
            return invalid(format!(
                "{} is listed under a key of {} bytes, at most {MAX_SORT} are allowed",
                name(),
                entry.key.len()
            ));
        }
    }
    for key in written
        .into_iter()
        .chain(batch.guards.iter().map(|(key, _)| key))
    {
        if key.id.len() > MAX_ID {
            return invalid(format!(
                "an id of {:?} has {} bytes, at most {MAX_ID} are allowed",
                key.table,
                key.id.len()
            ));
        }
    }
    Ok(())
}

/// Bytes of rows that a batch brings.
pub(crate) fn size(batch: &Batch) -> usize {
    batch
        .writes
        .iter()
        .map(|write| write.body.as_ref().map_or(0, Vec::len))
        .sum()
}

/// Every row that a version is expected of, in order.
pub(crate) fn touched(batches: &[Batch]) -> BTreeSet<&Key> {
    expected(batches).map(|(key, _)| key).collect()
}

/// Every row that some batch expects to be absent, in order.
pub(crate) fn expected_absent(batches: &[Batch]) -> BTreeSet<&Key> {
    expected(batches)
        .filter(|(_, version)| *version == 0)
        .map(|(key, _)| key)
        .collect()
}

fn expected(batches: &[Batch]) -> impl Iterator<Item = (&Key, u64)> {
    batches.iter().flat_map(conditions)
}

fn conditions(batch: &Batch) -> impl Iterator<Item = (&Key, u64)> {
    let guards = batch.guards.iter().map(|(key, version)| (key, *version));
    guards.chain(
        batch
            .writes
            .iter()
            .map(|write| (&write.key, write.expected)),
    )
}

/// The state of a row that the group has written.
struct Overlay<'a> {
    before: u64,
    version: u64,
    body: Option<&'a [u8]>,
}

/// Decides batch by batch, in order. `found` has the version of every touched row that exists.
pub(crate) fn decide<'a>(found: &BTreeMap<Key, u64>, batches: &'a [Batch]) -> Plan<'a> {
    let mut rows: BTreeMap<&'a Key, Overlay<'a>> = BTreeMap::new();
    let mut entries: BTreeMap<(u8, &'a [u8], &'a Key), bool> = BTreeMap::new();
    let mut plan = Plan::default();
    for batch in batches {
        let conflict = conditions(batch).find_map(|(key, expected)| {
            let found = match rows.get(key) {
                Some(row) => row.version,
                None => found.get(key).copied().unwrap_or(0),
            };
            (found != expected).then(|| StoreError::Conflict {
                key: key.clone(),
                expected,
                found,
            })
        });
        if let Some(conflict) = conflict {
            plan.outcomes.push(Err(conflict));
            continue;
        }
        for write in &batch.writes {
            let row = rows.entry(&write.key).or_insert_with(|| Overlay {
                before: write.expected,
                version: write.expected,
                body: None,
            });
            row.body = write.body.as_deref();
            row.version = match row.body {
                Some(_) => write.expected + 1,
                None => 0,
            };
            let mut note = |entry: &'a IndexKey, there| {
                entries.insert((entry.index.number(), &entry.key, &write.key), there);
            };
            write.unlist.iter().for_each(|entry| note(entry, false));
            write.list.iter().for_each(|entry| note(entry, true));
        }
        plan.outcomes.push(Ok(()));
    }
    for (key, row) in rows {
        match (row.body, row.before) {
            (Some(body), before) => {
                let version = row.version;
                let put = Put { key, version, body };
                if before == 0 {
                    plan.inserts.push(put);
                } else {
                    plan.updates.push(put);
                }
            }
            (None, 0) => {}
            (None, _) => plan.deletes.push(key),
        }
    }
    for ((index, sort, key), there) in entries {
        let entry = Entry { index, sort, key };
        if there {
            plan.list.push(entry);
        } else {
            plan.unlist.push(entry);
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use tinderbox_flows::record::{Index, Table, Write};

    use super::*;

    fn key(id: u8) -> Key {
        Key::new(Table::Node, [id])
    }

    fn write(id: u8, expected: u64, body: Option<&[u8]>) -> Write {
        Write {
            key: key(id),
            expected,
            body: body.map(<[u8]>::to_vec),
            unlist: vec![],
            list: vec![],
        }
    }

    fn batch(writes: Vec<Write>) -> Batch {
        Batch {
            guards: vec![],
            writes,
        }
    }

    #[test]
    fn later_batch_of_a_group_sees_the_earlier_one() {
        let batches = [
            batch(vec![write(1, 0, Some(b"a"))]),
            batch(vec![write(1, 0, Some(b"b"))]),
            batch(vec![write(1, 1, Some(b"c"))]),
        ];
        let plan = decide(&BTreeMap::new(), &batches);
        assert!(plan.outcomes[0].is_ok() && plan.outcomes[2].is_ok());
        assert_eq!(
            plan.outcomes[1],
            Err(StoreError::Conflict {
                key: key(1),
                expected: 0,
                found: 1
            })
        );
        assert_eq!(
            plan.inserts,
            [Put {
                key: &key(1),
                version: 2,
                body: b"c"
            }]
        );
        assert_eq!(plan.tally(), (2, 1));
    }

    #[test]
    fn row_made_and_deleted_within_a_group_is_never_written() {
        let batches = [
            batch(vec![write(1, 0, Some(b"a"))]),
            batch(vec![write(1, 1, None)]),
        ];
        let plan = decide(&BTreeMap::new(), &batches);
        assert!(plan.outcomes.iter().all(Result::is_ok));
        assert!(plan.is_empty());
    }

    #[test]
    fn refused_batch_leaves_no_trace_in_the_plan() {
        let mut bad = batch(vec![write(1, 0, Some(b"a")), write(2, 7, Some(b"b"))]);
        bad.writes[0].list = vec![IndexKey::new(Index::NodeByOwner, &[b"x"])];
        let batches = [bad];
        let plan = decide(&BTreeMap::from([(key(2), 6)]), &batches);
        assert!(plan.outcomes[0].is_err());
        assert!(plan.is_empty());
    }

    #[test]
    fn batch_that_contradicts_itself_is_refused() {
        let twice = batch(vec![write(1, 0, None), write(1, 0, Some(b""))]);
        assert!(matches!(check(&twice), Err(StoreError::Invalid(_))));
        let mut ghost = batch(vec![write(1, 1, None)]);
        ghost.writes[0].list = vec![IndexKey::new(Index::NodeByOwner, &[b"x"])];
        assert!(matches!(check(&ghost), Err(StoreError::Invalid(_))));
        let huge = batch(vec![write(1, 0, Some(&vec![0; MAX_BODY + 1]))]);
        assert!(matches!(check(&huge), Err(StoreError::Invalid(_))));
        let long = Batch {
            guards: vec![(Key::new(Table::Node, vec![0; 256]), 0)],
            writes: vec![],
        };
        assert!(matches!(check(&long), Err(StoreError::Invalid(_))));
    }

    /// Applies what a plan says to rows and entries, with nothing else in mind.
    fn execute(
        rows: &mut BTreeMap<Key, (u64, Vec<u8>)>,
        entries: &mut BTreeSet<(u8, Vec<u8>, Key)>,
        plan: &Plan<'_>,
    ) {
        for put in &plan.inserts {
            let before = rows.insert(put.key.clone(), (put.version, put.body.to_vec()));
            assert!(before.is_none(), "inserted what is there");
        }
        for put in &plan.updates {
            let before = rows.insert(put.key.clone(), (put.version, put.body.to_vec()));
            assert!(before.is_some(), "updated what is not there");
        }
        for key in &plan.deletes {
            assert!(rows.remove(*key).is_some(), "deleted what is not there");
        }
        let entry = |entry: &Entry<'_>| (entry.index, entry.sort.to_vec(), entry.key.clone());
        for off in &plan.unlist {
            entries.remove(&entry(off));
        }
        for on in &plan.list {
            entries.insert(entry(on));
        }
    }

    proptest::proptest! {
        #[test]
        fn group_does_what_its_batches_do_one_by_one(
            groups in proptest::collection::vec(crate::suite::model::plans(10), 1..6)
        ) {
            use crate::{Memory, Scan, Store};
            use futures::executor::block_on;

            let model = Memory::new();
            let (mut rows, mut entries) = (BTreeMap::new(), BTreeSet::new());
            for group in &groups {
                let mut batches = Vec::new();
                let mut expected = Vec::new();
                for plan in group {
                    let batch = plan.batch(&model, b"");
                    expected.push(block_on(model.apply(batch.clone())));
                    batches.push(batch);
                }
                let found: BTreeMap<Key, u64> = touched(&batches)
                    .into_iter()
                    .filter_map(|key| Some((key.clone(), rows.get(key).map(|(version, _)| *version)?)))
                    .collect();
                let plan = decide(&found, &batches);
                proptest::prop_assert_eq!(&plan.outcomes, &expected);
                execute(&mut rows, &mut entries, &plan);
            }
            let contents: BTreeMap<Key, (u64, Vec<u8>)> = model
                .contents()
                .into_iter()
                .map(|(key, stored)| (key, (stored.version, stored.body)))
                .collect();
            proptest::prop_assert_eq!(&rows, &contents);
            for index in [Index::NodeByOwner, Index::TransferByParty] {
                let found = block_on(model.scan(Scan::all(index))).unwrap();
                let found: Vec<_> = found.into_iter().map(|found| (index.number(), found.listed, found.key)).collect();
                let mine: Vec<_> = entries
                    .iter()
                    .filter(|(number, _, key)| *number == index.number() && rows.contains_key(key))
                    .cloned()
                    .collect();
                proptest::prop_assert_eq!(found, mine);
            }
        }
    }
}
