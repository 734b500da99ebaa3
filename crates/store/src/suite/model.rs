//! The claim that a backend does what the in-memory one does.

use std::cell::Cell;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRng, TestRunner};
use tinderbox_flows::record::{Batch, Index, IndexKey, Key, Table, Write};
use tokio::runtime::Handle;

use super::Place;
use super::make::node;
use crate::{Memory, Scan, Store};

const INDEXES: [Index; 2] = [Index::NodeByOwner, Index::TransferByParty];
const SORTS: [&[u8]; 7] = [b"", b"\0", b"\0\0", b"a", b"a\xff", b"\xff", b"\xff\xff"];
const ROWS: usize = 8;

/// The version that a random batch expects of a row.
#[derive(Clone, Copy, Debug)]
pub enum Expect {
    /// The one that is there.
    Right,
    /// Another one.
    Off(u64),
}

/// A random write, in numbers that are made into rows and entries.
#[derive(Clone, Debug)]
pub struct Change {
    row: usize,
    expect: Expect,
    body: Option<Vec<u8>>,
    unlist: Vec<(usize, usize)>,
    list: Vec<(usize, usize)>,
}

/// A random batch.
#[derive(Clone, Debug)]
pub struct Plan {
    guards: Vec<(usize, Expect)>,
    changes: Vec<Change>,
}

/// A random range: index, bounds, direction, limit.
type Range = (usize, usize, usize, bool, usize);

fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![
        8 => Just(Expect::Right),
        1 => (1..4_u64).prop_map(Expect::Off),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let entries = || vec((0..INDEXES.len(), 0..SORTS.len()), 0..3);
    let body = prop_oneof![
        4 => vec(any::<u8>(), 0..40).prop_map(Some),
        1 => Just(None),
    ];
    (0..ROWS, expect(), body, entries(), entries()).prop_map(|(row, expect, body, unlist, list)| {
        Change {
            row,
            expect,
            list: if body.is_some() { list } else { Vec::new() },
            body,
            unlist,
        }
    })
}

/// Random batches over a handful of rows, so that they meet.
pub fn plans(count: usize) -> impl Strategy<Value = Vec<Plan>> {
    let plan = (vec((0..ROWS, expect()), 0..3), vec(change(), 0..4));
    vec(
        plan.prop_map(|(guards, changes)| Plan { guards, changes }),
        1..count,
    )
}

impl Plan {
    /// The batch, based on what `model` has now. Ids and sort keys begin with `case`.
    #[must_use]
    pub fn batch(&self, model: &Memory, case: &[u8]) -> Batch {
        let rows = model.contents();
        let expected = |key: &Key, expect: Expect| {
            let version = rows.get(key).map_or(0, |stored| stored.version);
            match expect {
                Expect::Right => version,
                Expect::Off(by) => version + by,
            }
        };
        let mut batch = Batch::default();
        for (row, expect) in &self.guards {
            let key = key(case, *row);
            let version = expected(&key, *expect);
            batch.guards.push((key, version));
        }
        for change in &self.changes {
            let key = key(case, change.row);
            if batch.writes.iter().any(|write| write.key == key) {
                continue;
            }
            let entries = |list: &[(usize, usize)]| {
                list.iter()
                    .map(|(index, sort)| IndexKey::new(INDEXES[*index], &[case, SORTS[*sort]]))
                    .collect()
            };
            batch.writes.push(Write {
                expected: expected(&key, change.expect),
                body: change.body.clone(),
                unlist: entries(&change.unlist),
                list: entries(&change.list),
                key,
            });
        }
        batch
    }
}

fn key(case: &[u8], row: usize) -> Key {
    let id = [case, &[row as u8]].concat();
    if row.is_multiple_of(2) {
        node(id)
    } else {
        Key::new(Table::Transfer, id)
    }
}

/// Every batch has the same outcome, and every read the same answer, as in [`Memory`].
pub async fn random_batches_do_what_they_do_in_memory(place: &dyn Place) {
    let store = place.open().await;
    let config = Config {
        cases: 48,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let range = (
        0..INDEXES.len(),
        0..SORTS.len(),
        0..SORTS.len(),
        any::<bool>(),
        0..12_usize,
    );
    let cases = (plans(24), vec(range, 6));
    let number = Cell::new(0_u32);
    let outcome = tokio::task::block_in_place(|| {
        runner.run(&cases, |(plans, ranges)| {
            // Each case, and each attempt to make a failing one smaller, has rows of its own.
            number.set(number.get() + 1);
            let case = number.get().to_be_bytes();
            Handle::current().block_on(compare(&*store, &case, &plans, &ranges))
        })
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

async fn compare(
    store: &dyn Store,
    case: &[u8],
    plans: &[Plan],
    ranges: &[Range],
) -> Result<(), TestCaseError> {
    let model = Memory::new();
    for plan in plans {
        let batch = plan.batch(&model, case);
        let expected = model.apply(batch.clone()).await;
        prop_assert_eq!(store.apply(batch).await, expected);
    }
    let keys: Vec<Key> = (0..ROWS).map(|row| key(case, row)).collect();
    prop_assert_eq!(store.get(&keys).await, model.get(&keys).await);
    for index in INDEXES {
        let all = Scan::prefix(index, case);
        prop_assert_eq!(store.scan(all.clone()).await, model.scan(all).await);
    }
    for (index, from, to, descending, limit) in ranges {
        let bound = |sort: &usize| [case, SORTS[*sort]].concat();
        let scan = Scan {
            index: INDEXES[*index],
            from: bound(from),
            to: bound(to),
            descending: *descending,
            limit: *limit,
        };
        prop_assert_eq!(store.scan(scan.clone()).await, model.scan(scan).await);
    }
    Ok(())
}
