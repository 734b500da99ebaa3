//! Claims about index entries and scans.

use tinderbox_flows::record::{Index, Key, Table};

use super::Place;
use super::make::{batch, delete, listed, listed_in, node, pass, put, stored, unlisted};
use crate::{Found, Scan, Store};

const OWNERS: Index = Index::NodeByOwner;

async fn find(store: &dyn Store, scan: Scan) -> Vec<Found> {
    store.scan(scan).await.expect("a scan works")
}

/// Sort keys that a scan finds.
async fn sorts(store: &dyn Store, scan: Scan) -> Vec<Vec<u8>> {
    let found = find(store, scan).await;
    found.into_iter().map(|found| found.listed).collect()
}

/// One row under each of these sort keys; the row's id is the sort key.
async fn fill(store: &dyn Store, sorts: &[&[u8]]) {
    let writes = sorts
        .iter()
        .map(|sort| listed(put(&node(sort), 0, "x"), sort));
    pass(store, batch(writes)).await;
}

/// Entries come with rows and go on demand.
pub async fn listed_row_is_found_until_it_is_unlisted(place: &dyn Place) {
    let store = place.open().await;
    let key = node("leaf");
    pass(&*store, batch([listed(put(&key, 0, "a"), "alice")])).await;
    let expected = Found {
        listed: b"alice".to_vec(),
        key: key.clone(),
        stored: stored(1, "a").unwrap(),
    };
    assert_eq!(find(&*store, Scan::all(OWNERS)).await, [expected]);
    pass(&*store, batch([unlisted(put(&key, 1, "b"), "alice")])).await;
    assert_eq!(find(&*store, Scan::all(OWNERS)).await, []);
}

/// A leaf changes hands.
pub async fn entry_moves_in_one_write(place: &dyn Place) {
    let store = place.open().await;
    let key = node("leaf");
    pass(&*store, batch([listed(put(&key, 0, "a"), "alice")])).await;
    let moved = listed(unlisted(put(&key, 1, "b"), "alice"), "bob");
    pass(&*store, batch([moved])).await;
    assert_eq!(sorts(&*store, Scan::all(OWNERS)).await, [b"bob"]);
}

/// `unlist` is done before `list`.
pub async fn entry_taken_away_and_added_in_one_write_stays(place: &dyn Place) {
    let store = place.open().await;
    let key = node("leaf");
    pass(&*store, batch([listed(put(&key, 0, "a"), "alice")])).await;
    let same = unlisted(listed(put(&key, 1, "b"), "alice"), "alice");
    pass(&*store, batch([same])).await;
    assert_eq!(sorts(&*store, Scan::all(OWNERS)).await, [b"alice"]);
}

/// Entries are facts: a second time changes nothing.
pub async fn adding_and_taking_away_twice_does_nothing(place: &dyn Place) {
    let store = place.open().await;
    let key = node("leaf");
    pass(&*store, batch([listed(put(&key, 0, "a"), "alice")])).await;
    let again = listed(listed(put(&key, 1, "b"), "alice"), "alice");
    pass(&*store, batch([unlisted(again, "nobody")])).await;
    assert_eq!(sorts(&*store, Scan::all(OWNERS)).await, [b"alice"]);
    pass(&*store, batch([unlisted(put(&key, 2, "c"), "alice")])).await;
    pass(&*store, batch([unlisted(put(&key, 3, "d"), "alice")])).await;
    assert_eq!(find(&*store, Scan::all(OWNERS)).await, []);
}

/// Entries lead to rows, they do not hold copies.
pub async fn scan_finds_the_latest_body(place: &dyn Place) {
    let store = place.open().await;
    let key = node("leaf");
    pass(&*store, batch([listed(put(&key, 0, "a"), "alice")])).await;
    pass(&*store, batch([put(&key, 1, "b")])).await;
    let found = find(&*store, Scan::all(OWNERS)).await;
    assert_eq!(Some(found[0].stored.clone()), stored(2, "b"));
}

/// Also where a prefix ends in the highest byte, and where it is empty.
pub async fn prefix_finds_exactly_its_entries(place: &dyn Place) {
    let store = place.open().await;
    let all: [&[u8]; 8] = [
        b"",
        b"a",
        b"a\0",
        b"ab",
        b"b",
        b"\xff",
        b"\xff\xff",
        b"\xff\xff\x01",
    ];
    fill(&*store, &all).await;
    let cases: [(&[u8], &[&[u8]]); 6] = [
        (b"", &all),
        (b"a", &all[1..4]),
        (b"ab", &all[3..4]),
        (b"c", &[]),
        (b"\xff", &all[5..]),
        (b"\xff\xff", &all[6..]),
    ];
    for (prefix, expected) in cases {
        let found = sorts(&*store, Scan::prefix(OWNERS, prefix)).await;
        assert_eq!(found, expected, "prefix {prefix:?}");
    }
}

/// Half-open ranges, the upside-down one too.
pub async fn range_begins_inclusive_and_ends_exclusive(place: &dyn Place) {
    let store = place.open().await;
    fill(&*store, &[b"a", b"b", b"c", b"d"]).await;
    let cases: [(&str, &str, &[&[u8]]); 6] = [
        ("b", "d", &[b"b", b"c"]),
        ("bb", "dd", &[b"c", b"d"]),
        ("c", "", &[b"c", b"d"]),
        ("", "b", &[b"a"]),
        ("b", "b", &[]),
        ("d", "a", &[]),
    ];
    for (from, to, expected) in cases {
        let found = sorts(&*store, Scan::range(OWNERS, from, to)).await;
        assert_eq!(found, expected, "{from} to {to}");
    }
}

/// Ties too.
pub async fn descending_is_the_reverse_of_ascending(place: &dyn Place) {
    let store = place.open().await;
    let writes = (0..40_u8).map(|id| listed(put(&node([id]), 0, [id]), [id / 4]));
    pass(&*store, batch(writes)).await;
    for scan in [
        Scan::all(OWNERS),
        Scan::range(OWNERS, [2], [7]),
        Scan::range(OWNERS, [3], []),
    ] {
        let mut up = find(&*store, scan.clone()).await;
        assert!(!up.is_empty());
        up.reverse();
        assert_eq!(find(&*store, scan.descending()).await, up);
    }
}

/// The first ones in the direction of the scan.
pub async fn limit_is_kept(place: &dyn Place) {
    let store = place.open().await;
    fill(&*store, &[b"a", b"b", b"c", b"d"]).await;
    let scan = Scan::range(OWNERS, "a", "d");
    assert_eq!(find(&*store, scan.clone().limit(0)).await, []);
    assert_eq!(sorts(&*store, scan.clone().limit(2)).await, [b"a", b"b"]);
    assert_eq!(sorts(&*store, scan.clone().limit(9)).await.len(), 3);
    let last = scan.descending().limit(1);
    assert_eq!(sorts(&*store, last).await, [b"c"]);
}

/// Several rows under one sort key.
pub async fn ties_come_in_order_of_table_and_id(place: &dyn Place) {
    let store = place.open().await;
    let keys = [
        Key::new(Table::Tree, *b"z"),
        Key::new(Table::Node, *b""),
        Key::new(Table::Node, *b"\0"),
        Key::new(Table::Node, *b"a"),
        Key::new(Table::Node, *b"ab"),
        Key::new(Table::Node, *b"b"),
        Key::new(Table::Transfer, *b"a"),
    ];
    let writes = keys
        .iter()
        .rev()
        .map(|key| listed(put(key, 0, "x"), "same"));
    pass(&*store, batch(writes)).await;
    let found = find(&*store, Scan::prefix(OWNERS, b"same")).await;
    let found: Vec<Key> = found.into_iter().map(|found| found.key).collect();
    assert_eq!(found, keys);
}

/// A row may be listed under any number of keys of one index.
pub async fn row_listed_twice_is_found_twice(place: &dyn Place) {
    let store = place.open().await;
    let key = node("leaf");
    let both = listed(listed(put(&key, 0, "a"), "sender"), "receiver");
    pass(&*store, batch([both])).await;
    let found = find(&*store, Scan::all(OWNERS)).await;
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|found| found.key == key));
    pass(&*store, batch([unlisted(put(&key, 1, "b"), "sender")])).await;
    assert_eq!(sorts(&*store, Scan::all(OWNERS)).await, [b"receiver"]);
}

/// Each index has entries of its own.
pub async fn indexes_do_not_mix(place: &dyn Place) {
    let store = place.open().await;
    let (a, b) = (node("a"), node("b"));
    pass(
        &*store,
        batch([
            listed_in(put(&a, 0, "a"), Index::NodeByTxid, "k"),
            listed_in(put(&b, 0, "b"), Index::NodeByParent, "k"),
        ]),
    )
    .await;
    for (index, key) in [(Index::NodeByTxid, &a), (Index::NodeByParent, &b)] {
        for scan in [Scan::all(index), Scan::prefix(index, b"k")] {
            let found = find(&*store, scan).await;
            assert_eq!(found.len(), 1, "{index:?}");
            assert_eq!(&found[0].key, key);
        }
    }
    assert_eq!(find(&*store, Scan::all(OWNERS)).await, []);
}

/// A deletion that forgets its entries leaves them; they count again when the row is back.
pub async fn entries_of_an_absent_row_are_left_out(place: &dyn Place) {
    let store = place.open().await;
    let (gone, stays) = (node("gone"), node("stays"));
    let listed = |key| listed(put(key, 0, "a"), "alice");
    pass(&*store, batch([listed(&gone), listed(&stays)])).await;
    pass(&*store, batch([delete(&gone, 1)])).await;
    let found = find(&*store, Scan::all(OWNERS).limit(1)).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].key, stays);
    pass(&*store, batch([put(&gone, 0, "b")])).await;
    assert_eq!(find(&*store, Scan::all(OWNERS)).await.len(), 2);
    pass(&*store, batch([unlisted(delete(&gone, 1), "alice")])).await;
    pass(&*store, batch([put(&gone, 0, "c")])).await;
    assert_eq!(find(&*store, Scan::all(OWNERS)).await.len(), 1);
}

/// More entries than any statement or buffer has rows.
pub async fn long_scan_is_complete_and_in_order(place: &dyn Place) {
    let store = place.open().await;
    let numbers: Vec<u32> = (0..1_500).collect();
    let sort = |number: u32| (number % 300).to_be_bytes();
    for chunk in numbers.chunks(500) {
        let writes = chunk.iter().rev().map(|number| {
            let key = node(number.to_be_bytes());
            listed(put(&key, 0, number.to_be_bytes()), sort(*number))
        });
        pass(&*store, batch(writes)).await;
    }
    let found = find(&*store, Scan::all(OWNERS)).await;
    let mut expected: Vec<(Vec<u8>, Vec<u8>)> = numbers
        .iter()
        .map(|number| (sort(*number).to_vec(), number.to_be_bytes().to_vec()))
        .collect();
    expected.sort();
    let found: Vec<(Vec<u8>, Vec<u8>)> = found
        .into_iter()
        .map(|found| (found.listed, found.stored.body))
        .collect();
    assert_eq!(found, expected);
}
