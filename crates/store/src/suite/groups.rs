//! Claims about batches that arrive at the same time.

use std::sync::Arc;

use futures::future::join_all;
use tinderbox_flows::record::Key;

use super::Place;
use super::make::{batch, get, guarded, node, pass, put, stored};
use crate::Store;

/// Compare-and-set: of those who read the same version, one writes.
pub async fn exactly_one_of_many_writers_of_a_row_wins(place: &dyn Place) {
    let store = place.open().await;
    let key = node("leaf");
    pass(&*store, batch([put(&key, 0, "")])).await;
    for round in 1..=10 {
        one_wins(&store, &key, round).await;
    }
}

/// The same for a row that is not there yet.
pub async fn exactly_one_of_many_makers_of_a_row_wins(place: &dyn Place) {
    let store = place.open().await;
    for round in 0..10_u8 {
        one_wins(&store, &node([round]), 0).await;
    }
}

async fn one_wins(store: &Arc<dyn Store>, key: &Key, version: u64) {
    let attempts = (0..32_u8).map(|number| {
        let (store, write) = (Arc::clone(store), put(key, version, [number]));
        tokio::spawn(async move { store.apply(batch([write])).await })
    });
    let mut winners = Vec::new();
    for (number, outcome) in (0..32_u8).zip(join_all(attempts).await) {
        match outcome.expect("the task ends") {
            Ok(()) => winners.push(number),
            Err(error) => assert!(error.is_conflict(), "{error}"),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?} all won");
    assert_eq!(get(&**store, key).await, stored(version + 1, [winners[0]]));
}

/// Group commit.
pub async fn independent_batches_all_pass_and_share_transactions(place: &dyn Place) {
    const BATCHES: u64 = 200;
    let store = place.open().await;
    let before = store.counters();
    let all = (0..BATCHES).map(|number| {
        let name = number.to_be_bytes();
        let writes = [b"a", b"b", b"c"].map(|part| put(&node([&name[..], part].concat()), 0, name));
        store.apply(batch(writes))
    });
    for outcome in join_all(all).await {
        outcome.expect("nothing is in its way");
    }
    for number in 0..BATCHES {
        let name = number.to_be_bytes();
        for part in [b"a", b"b", b"c"] {
            let key = node([&name[..], part].concat());
            assert_eq!(get(&*store, &key).await, stored(1, name));
        }
    }
    let after = store.counters();
    assert_eq!(after.batches - before.batches, BATCHES);
    let commits = after.commits - before.commits;
    if place.groups() {
        assert!(
            commits <= BATCHES / 4,
            "{commits} transactions for {BATCHES} batches"
        );
    } else {
        assert_eq!(commits, BATCHES);
    }
}

fn amount(row: &tinderbox_flows::record::Stored) -> u64 {
    u64::from_be_bytes(row.body.as_slice().try_into().expect("eight bytes"))
}

/// Read, decide, compare and set, again after a conflict: no money appears or goes.
pub async fn transfers_conserve_the_sum(place: &dyn Place) {
    const ACCOUNTS: u64 = 6;
    const EACH: u64 = 1_000;
    const PAYERS: u64 = 40;
    let store = place.open().await;
    let account = |number: u64| node((number % ACCOUNTS).to_be_bytes());
    let open = (0..ACCOUNTS).map(|number| put(&account(number), 0, EACH.to_be_bytes()));
    pass(&*store, batch(open)).await;
    let payers = (0..PAYERS).map(|payer| {
        let (store, from, to) = (
            Arc::clone(&store),
            account(payer),
            account(payer + 1 + payer % (ACCOUNTS - 1)),
        );
        tokio::spawn(async move {
            loop {
                let rows = store.get(&[from.clone(), to.clone()]).await?;
                let (Some(rich), Some(poor)) = (&rows[0], &rows[1]) else {
                    panic!("an account is gone")
                };
                let pay = batch([
                    put(&from, rich.version, (amount(rich) - 1).to_be_bytes()),
                    put(&to, poor.version, (amount(poor) + 1).to_be_bytes()),
                ]);
                match store.apply(pay).await {
                    Err(error) if error.is_conflict() => {}
                    other => return other,
                }
            }
        })
    });
    for outcome in join_all(payers).await {
        outcome.expect("the task ends").expect("the payment passes");
    }
    let accounts: Vec<Key> = (0..ACCOUNTS).map(account).collect();
    let rows = store.get(&accounts).await.unwrap();
    let sum: u64 = rows.iter().flatten().map(amount).sum();
    assert_eq!(sum, ACCOUNTS * EACH);
    let writes: u64 = rows.iter().flatten().map(|row| row.version - 1).sum();
    assert_eq!(writes, 2 * PAYERS);
}

/// Two decisions, each on the absence of the other's row.
pub async fn batches_that_guard_against_each_other_never_both_pass(place: &dyn Place) {
    let store = place.open().await;
    for round in 0..30_u8 {
        let (a, b) = (node([round, 0]), node([round, 1]));
        let one = guarded([(a.clone(), 0)], [put(&b, 0, "b")]);
        let other = guarded([(b.clone(), 0)], [put(&a, 0, "a")]);
        let spawn = |batch| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.apply(batch).await })
        };
        let outcomes = [spawn(one), spawn(other)];
        let mut passed = 0;
        for outcome in join_all(outcomes).await {
            match outcome.expect("the task ends") {
                Ok(()) => passed += 1,
                Err(error) => assert!(error.is_conflict(), "{error}"),
            }
        }
        assert_eq!(passed, 1, "round {round}");
        let rows = store.get(&[a, b]).await.unwrap();
        assert_eq!(rows.iter().flatten().count(), 1);
    }
}

/// Whichever connection the read takes.
pub async fn acknowledged_write_is_seen_by_the_next_read(place: &dyn Place) {
    let store = place.open().await;
    let tasks = (0..24_u8).map(|task| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let key = node([task]);
            for version in 0..8 {
                pass(&*store, batch([put(&key, version, [task])])).await;
                assert_eq!(get(&*store, &key).await, stored(version + 1, [task]));
            }
        })
    });
    for task in join_all(tasks).await {
        task.expect("every read sees the write before it");
    }
}

/// One `get` shows all of a batch's rows before it or all of them after it.
pub async fn reads_see_whole_batches_only(place: &dyn Place) {
    const VERSIONS: u64 = 60;
    let store = place.open().await;
    // More rows than one statement takes with any backend.
    let keys: Vec<Key> = (0..600_u32).map(|id| node(id.to_be_bytes())).collect();
    let all = |expected: u64| batch(keys.iter().map(|key| put(key, expected, "x")));
    pass(&*store, all(0)).await;
    let writer = {
        let (store, batches) = (
            Arc::clone(&store),
            (1..VERSIONS).map(all).collect::<Vec<_>>(),
        );
        tokio::spawn(async move {
            for batch in batches {
                pass(&*store, batch).await;
            }
        })
    };
    let mut last = 0;
    while last < VERSIONS {
        let finished = writer.is_finished();
        let rows = store.get(&keys).await.unwrap();
        let versions: Vec<u64> = rows.iter().flatten().map(|row| row.version).collect();
        assert_eq!(versions.len(), keys.len());
        assert!(versions.iter().all(|version| *version == versions[0]));
        assert!(versions[0] >= last, "time went backwards");
        last = versions[0];
        assert!(
            !finished || last == VERSIONS,
            "an acknowledged batch is not seen"
        );
    }
    writer.await.expect("the writer ends");
}

/// What the bench and the metrics show.
pub async fn counters_count_batches_and_conflicts(place: &dyn Place) {
    let store = place.open().await;
    let key = node("leaf");
    let before = store.counters();
    pass(&*store, batch([put(&key, 0, "a")])).await;
    for _ in 0..3 {
        assert!(store.apply(batch([put(&key, 0, "b")])).await.is_err());
    }
    get(&*store, &key).await;
    let after = store.counters();
    assert_eq!(after.batches - before.batches, 1);
    assert_eq!(after.commits - before.commits, 1);
    assert_eq!(after.conflicts - before.conflicts, 3);
    if place.groups() {
        let statements = after.statements - before.statements;
        assert!((5..40).contains(&statements), "{statements} statements");
    }
}
