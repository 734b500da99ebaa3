//! Claims about what is there after a restart.

use std::future::Future;
use std::task::{Context, Poll, Waker};

use tinderbox_flows::record::{Index, Key};

use super::Place;
use super::make::{batch, conflict, delete, get, listed, node, pass, put, stored};
use crate::Scan;

/// Opening makes the tables and nothing else.
pub async fn new_place_is_empty(place: &dyn Place) {
    for _ in 0..2 {
        let store = place.open().await;
        assert_eq!(get(&*store, &node("leaf")).await, None);
        let found = store.scan(Scan::all(Index::NodeByOwner)).await.unwrap();
        assert_eq!(found, []);
        let counters = store.counters();
        assert_eq!((counters.batches, counters.commits), (0, 0));
    }
}

/// Rows and entries, however often the process is restarted.
pub async fn acknowledged_batches_survive_a_restart(place: &dyn Place) {
    let mut expected = Vec::new();
    for round in 0..3_u8 {
        let store = place.open().await;
        for number in 0..20_u8 {
            let key = node([round, number]);
            pass(&*store, batch([listed(put(&key, 0, [number]), &key.id)])).await;
            expected.push(key.id);
        }
        drop(store);
        let store = place.open().await;
        let found = store.scan(Scan::all(Index::NodeByOwner)).await.unwrap();
        let ids: Vec<Vec<u8>> = found.iter().map(|found| found.key.id.clone()).collect();
        assert_eq!(ids, expected);
        assert!(
            found
                .iter()
                .all(|found| found.stored.body == [found.key.id[1]])
        );
    }
}

/// A restart is no way around a comparison.
pub async fn versions_go_on_after_a_restart(place: &dyn Place) {
    let (leaf, gone) = (node("leaf"), node("gone"));
    let store = place.open().await;
    pass(&*store, batch([put(&leaf, 0, "a"), put(&gone, 0, "a")])).await;
    pass(&*store, batch([put(&leaf, 1, "b"), delete(&gone, 1)])).await;
    drop(store);
    let store = place.open().await;
    assert_eq!(get(&*store, &leaf).await, stored(2, "b"));
    assert_eq!(get(&*store, &gone).await, None);
    let stale = store.apply(batch([put(&leaf, 1, "c")])).await;
    assert_eq!(stale, Err(conflict(&leaf, 1, 2)));
    pass(&*store, batch([put(&leaf, 2, "c")])).await;
}

/// Whoever hands in a batch may be gone before the answer.
pub async fn abandoned_batch_is_whole_or_absent(place: &dyn Place) {
    let parts = |round: u8| -> Vec<Key> { (0..9).map(|part| node([round, part])).collect() };
    let store = place.open().await;
    for round in 0..20 {
        let writes = parts(round).into_iter().map(|key| put(&key, 0, "x"));
        let mut applying = Box::pin(store.apply(batch(writes)));
        // Handed in, and given up at once.
        let _: Poll<_> = applying
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()));
    }
    drop(store);
    let store = place.open().await;
    for round in 0..20 {
        let rows = store.get(&parts(round)).await.unwrap();
        let there = rows.iter().flatten().count();
        assert!(there == 0 || there == rows.len(), "{there} rows of a batch");
    }
}
