//! Claims about versions, guards and batches.

use tinderbox_flows::record::{Key, Table};

use super::Place;
use super::make::{batch, conflict, delete, get, guarded, listed, node, pass, put, stored};
use crate::{Scan, StoreError};

/// Versions count the writes of a row.
pub async fn first_write_is_version_one_and_each_later_one_counts_up(place: &dyn Place) {
    let store = place.open().await;
    let key = node("leaf");
    assert_eq!(get(&*store, &key).await, None);
    for (before, body) in [(0, "a"), (1, "b"), (2, "b"), (3, "")] {
        pass(&*store, batch([put(&key, before, body)])).await;
        assert_eq!(get(&*store, &key).await, stored(before + 1, body));
    }
}

/// A batch that was decided on an old version does not pass, and the answer says why.
pub async fn stale_version_is_refused_and_named(place: &dyn Place) {
    let store = place.open().await;
    let key = node("leaf");
    pass(&*store, batch([put(&key, 0, "a")])).await;
    pass(&*store, batch([put(&key, 1, "b")])).await;
    for wrong in [1, 3, u64::MAX] {
        let refused = store.apply(batch([put(&key, wrong, "c")])).await;
        assert_eq!(refused, Err(conflict(&key, wrong, 2)));
    }
    assert_eq!(get(&*store, &key).await, stored(2, "b"));
}

/// Version 0 means that there must be no such row.
pub async fn row_that_exists_cannot_be_made_again(place: &dyn Place) {
    let store = place.open().await;
    let key = node("leaf");
    pass(&*store, batch([put(&key, 0, "a")])).await;
    let refused = store.apply(batch([put(&key, 0, "b")])).await;
    assert_eq!(refused, Err(conflict(&key, 0, 1)));
    assert_eq!(get(&*store, &key).await, stored(1, "a"));
}

/// A version other than 0 means that there must be one.
pub async fn row_that_is_absent_cannot_be_updated(place: &dyn Place) {
    let store = place.open().await;
    let key = node("leaf");
    let refused = store.apply(batch([put(&key, 3, "a")])).await;
    assert_eq!(refused, Err(conflict(&key, 3, 0)));
    assert_eq!(get(&*store, &key).await, None);
}

/// Guards are only compared.
pub async fn guard_that_holds_leaves_its_row_alone(place: &dyn Place) {
    let store = place.open().await;
    let (tip, leaf) = (Key::new(Table::Chain, *b"tip"), node("leaf"));
    pass(&*store, batch([put(&tip, 0, "100")])).await;
    let decided = guarded([(tip.clone(), 1)], [put(&leaf, 0, "a")]);
    pass(&*store, decided).await;
    assert_eq!(get(&*store, &tip).await, stored(1, "100"));
    assert_eq!(get(&*store, &leaf).await, stored(1, "a"));
}

/// A row that was only read and has changed stops the batch.
pub async fn guard_that_fails_stops_the_whole_batch(place: &dyn Place) {
    let store = place.open().await;
    let (tip, leaf) = (Key::new(Table::Chain, *b"tip"), node("leaf"));
    pass(&*store, batch([put(&tip, 0, "100")])).await;
    pass(&*store, batch([put(&tip, 1, "101")])).await;
    let decided = guarded([(tip.clone(), 1)], [put(&leaf, 0, "a")]);
    assert_eq!(store.apply(decided).await, Err(conflict(&tip, 1, 2)));
    assert_eq!(get(&*store, &leaf).await, None);
}

/// "There is no such row" is a fact that a batch can be based on.
pub async fn guard_on_an_absent_row_holds_until_it_is_written(place: &dyn Place) {
    let store = place.open().await;
    let (spent, leaf) = (node("spent"), node("leaf"));
    let decided = |expected| guarded([(spent.clone(), 0)], [put(&leaf, expected, "a")]);
    pass(&*store, decided(0)).await;
    pass(&*store, batch([put(&spent, 0, "x")])).await;
    assert_eq!(store.apply(decided(1)).await, Err(conflict(&spent, 0, 1)));
    pass(&*store, batch([delete(&spent, 1)])).await;
    pass(&*store, decided(1)).await;
    assert_eq!(get(&*store, &leaf).await, stored(2, "a"));
}

/// All or nothing, index entries too.
pub async fn conflict_in_one_write_undoes_all_others(place: &dyn Place) {
    let store = place.open().await;
    let keys: Vec<Key> = (0..10_u8).map(|id| node([id])).collect();
    pass(
        &*store,
        batch(keys.iter().map(|key| listed(put(key, 0, "a"), "old"))),
    )
    .await;
    for stale in 0..keys.len() {
        let writes = keys.iter().enumerate().map(|(at, key)| {
            let expected = if at == stale { 7 } else { 1 };
            match at % 3 {
                0 => delete(key, expected),
                _ => listed(put(key, expected, "b"), "new"),
            }
        });
        let refused = store.apply(batch(writes)).await;
        assert_eq!(refused, Err(conflict(&keys[stale], 7, 1)));
    }
    for row in store.get(&keys).await.unwrap() {
        assert_eq!(row, stored(1, "a"));
    }
    let found = store.scan(Scan::all(tinderbox_flows::record::Index::NodeByOwner));
    let found = found.await.unwrap();
    assert_eq!(found.len(), keys.len());
    assert!(found.iter().all(|found| found.listed == b"old"));
}

/// After a deletion the versions of an id begin anew.
pub async fn deleted_row_is_absent_and_begins_again_at_one(place: &dyn Place) {
    let store = place.open().await;
    let key = node("leaf");
    pass(&*store, batch([put(&key, 0, "a")])).await;
    pass(&*store, batch([put(&key, 1, "b")])).await;
    pass(&*store, batch([delete(&key, 2)])).await;
    assert_eq!(get(&*store, &key).await, None);
    pass(&*store, batch([put(&key, 0, "c")])).await;
    assert_eq!(get(&*store, &key).await, stored(1, "c"));
}

/// Whoever read a row before it was deleted cannot bring it back or delete it again.
pub async fn stale_writer_of_a_deleted_row_is_refused(place: &dyn Place) {
    let store = place.open().await;
    let key = node("leaf");
    pass(&*store, batch([put(&key, 0, "a")])).await;
    assert_eq!(
        store.apply(batch([delete(&key, 2)])).await,
        Err(conflict(&key, 2, 1))
    );
    pass(&*store, batch([delete(&key, 1)])).await;
    for write in [put(&key, 1, "b"), delete(&key, 1)] {
        assert_eq!(store.apply(batch([write])).await, Err(conflict(&key, 1, 0)));
    }
    assert_eq!(get(&*store, &key).await, None);
}

/// Deleting what was seen to be absent passes.
pub async fn deleting_an_absent_row_does_nothing(place: &dyn Place) {
    let store = place.open().await;
    let (ghost, leaf) = (node("ghost"), node("leaf"));
    pass(&*store, batch([delete(&ghost, 0), put(&leaf, 0, "a")])).await;
    assert_eq!(get(&*store, &ghost).await, None);
    assert_eq!(get(&*store, &leaf).await, stored(1, "a"));
}

/// Guards hold or not, also if there is nothing to write.
pub async fn batch_without_writes_checks_its_guards(place: &dyn Place) {
    let store = place.open().await;
    let key = node("leaf");
    pass(&*store, batch([])).await;
    pass(&*store, guarded([(key.clone(), 0)], [])).await;
    pass(&*store, batch([put(&key, 0, "a")])).await;
    pass(&*store, guarded([(key.clone(), 1)], [])).await;
    let refused = store.apply(guarded([(key.clone(), 0)], [])).await;
    assert_eq!(refused, Err(conflict(&key, 0, 1)));
}

/// Mistakes of the program are told apart from conflicts, and write nothing.
pub async fn batch_that_contradicts_itself_is_refused(place: &dyn Place) {
    let store = place.open().await;
    let (key, other) = (node("leaf"), node("other"));
    let long = node([7; 256]);
    for writes in [
        vec![put(&key, 0, "a"), put(&other, 0, "b"), put(&key, 1, "c")],
        vec![put(&other, 0, "b"), listed(delete(&key, 0), "x")],
        vec![put(&other, 0, "b"), put(&long, 0, "a")],
        vec![put(&other, 0, "b"), listed(put(&key, 0, "a"), [7; 2000])],
    ] {
        let refused = store.apply(batch(writes)).await;
        assert!(
            matches!(refused, Err(StoreError::Invalid(_))),
            "{refused:?}"
        );
    }
    assert_eq!(store.get(&[key, other]).await.unwrap(), [None, None]);
}

/// Bodies are bytes of any number and value.
pub async fn large_and_empty_bodies_come_back_whole(place: &dyn Place) {
    let store = place.open().await;
    for (id, length) in [0_usize, 1, 4_095, 4_096, 65_537, 1 << 20, 5 << 20]
        .into_iter()
        .enumerate()
    {
        let key = node([u8::try_from(id).unwrap()]);
        let body: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        pass(&*store, batch([put(&key, 0, &body)])).await;
        assert!(
            get(&*store, &key).await == stored(1, &body),
            "{length} bytes"
        );
        pass(&*store, batch([put(&key, 1, [0xff])])).await;
        assert_eq!(get(&*store, &key).await, stored(2, [0xff]));
    }
}

/// Ids are compared whole, byte for byte.
pub async fn ids_of_any_bytes_are_kept_apart(place: &dyn Place) {
    let store = place.open().await;
    let ids: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0, 0],
        vec![b'a'],
        vec![b'A'],
        vec![b'a', 0],
        vec![0xff],
        vec![0xc3, 0x28],
        vec![0xff; 255],
    ];
    let keys: Vec<Key> = ids.iter().map(node).collect();
    for key in &keys {
        pass(&*store, batch([put(key, 0, &key.id)])).await;
    }
    for (key, row) in keys.iter().zip(store.get(&keys).await.unwrap()) {
        assert_eq!(row, stored(1, &key.id));
    }
}

/// Tables do not share ids.
pub async fn same_id_in_two_tables_is_two_rows(place: &dyn Place) {
    let store = place.open().await;
    let (a, b) = (
        Key::new(Table::Node, *b"x"),
        Key::new(Table::Transfer, *b"x"),
    );
    pass(&*store, batch([put(&a, 0, "node")])).await;
    assert_eq!(get(&*store, &b).await, None);
    pass(&*store, batch([put(&b, 0, "transfer")])).await;
    pass(&*store, batch([delete(&a, 1)])).await;
    assert_eq!(get(&*store, &b).await, stored(1, "transfer"));
}

/// One answer per key asked, absent and repeated ones too.
pub async fn rows_come_back_in_the_order_asked(place: &dyn Place) {
    let store = place.open().await;
    let (a, b, ghost) = (node("a"), node("b"), node("ghost"));
    pass(&*store, batch([put(&a, 0, "A"), put(&b, 0, "B")])).await;
    let asked = [b.clone(), ghost.clone(), a.clone(), b.clone(), ghost];
    let rows = store.get(&asked).await.unwrap();
    let (a, b) = (stored(1, "A"), stored(1, "B"));
    assert_eq!(rows, [b.clone(), None, a, b, None]);
    assert_eq!(store.get(&[]).await.unwrap(), []);
}

/// Size alone is no reason to fail or to fall apart.
pub async fn thousand_rows_go_in_and_out_in_one_batch(place: &dyn Place) {
    let store = place.open().await;
    let keys: Vec<Key> = (0..1_000_u32).map(|id| node(id.to_be_bytes())).collect();
    let all = |expected, body: &'static str| batch(keys.iter().map(|key| put(key, expected, body)));
    pass(&*store, all(0, "a")).await;
    pass(&*store, all(1, "b")).await;
    let rows = store.get(&keys).await.unwrap();
    assert_eq!(rows.len(), keys.len());
    assert!(rows.iter().all(|row| *row == stored(2, "b")));
    pass(&*store, batch(keys.iter().map(|key| delete(key, 2)))).await;
    let rows = store.get(&keys).await.unwrap();
    assert!(rows.iter().all(Option::is_none));
}
