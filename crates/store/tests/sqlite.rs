//! The SQLite backend: the common claims, and what is said of files.

use std::fs;
use std::path::Path;

use tinderbox_flows::record::Index;
use tinderbox_store::suite::backend::{OnSqlite, SqlitePlace};
use tinderbox_store::suite::make::{batch, delete, get, listed, node, pass, put, stored};
use tinderbox_store::{Scan, Sqlite, Store, StoreError};

mod conformance {
    use super::OnSqlite;

    tinderbox_store::conformance!(Some(OnSqlite));
}

async fn refusal(path: &Path) -> StoreError {
    match Sqlite::open(path).await {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

#[tokio::test]
async fn second_operator_on_the_same_file_is_refused_until_the_first_is_gone() {
    let place = SqlitePlace::new();
    let first = Sqlite::open(place.path()).await.unwrap();
    let clone = first.clone();
    let error = refusal(&place.path()).await;
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("stop that one first"));
    drop(first);
    assert!(matches!(
        refusal(&place.path()).await,
        StoreError::InUse { .. }
    ));
    drop(clone);
    Sqlite::open(place.path()).await.unwrap();
}

#[tokio::test]
async fn file_of_a_newer_release_is_refused_and_left_alone() {
    let place = SqlitePlace::new();
    let store = Sqlite::open(place.path()).await.unwrap();
    pass(&store, batch([put(&node("leaf"), 0, "a")])).await;
    drop(store);
    let outside = rusqlite::Connection::open(place.path()).unwrap();
    let known: u32 = outside
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    outside.pragma_update(None, "user_version", 99).unwrap();
    drop(outside);
    let before = fs::read(place.path()).unwrap();
    assert_eq!(
        refusal(&place.path()).await,
        StoreError::Newer { found: 99, known }
    );
    assert_eq!(fs::read(place.path()).unwrap(), before);
}

#[tokio::test]
async fn database_of_another_program_is_refused_and_left_alone() {
    let place = SqlitePlace::new();
    let outside = rusqlite::Connection::open(place.path()).unwrap();
    outside.execute_batch("CREATE TABLE songs (name)").unwrap();
    drop(outside);
    let before = fs::read(place.path()).unwrap();
    let error = refusal(&place.path()).await;
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    assert_eq!(fs::read(place.path()).unwrap(), before);
}

#[tokio::test]
async fn file_that_is_no_database_is_refused_with_advice() {
    let place = SqlitePlace::new();
    fs::write(
        place.path(),
        "a text file, and not a short one ".repeat(200),
    )
    .unwrap();
    let error = refusal(&place.path()).await;
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("restore the latest backup"));
}

#[tokio::test]
async fn damage_is_noticed_by_a_check_and_never_read_as_rows() {
    let place = SqlitePlace::new();
    let store = Sqlite::open(place.path()).await.unwrap();
    store.check().await.unwrap();
    for number in 0..400_u32 {
        let key = node(number.to_be_bytes());
        let write = listed(put(&key, 0, [7; 400]), number.to_be_bytes());
        pass(&store, batch([write])).await;
    }
    drop(store);
    // All pages but the first: the header and the schema stay.
    let mut bytes = fs::read(place.path()).unwrap();
    assert!(bytes.len() > 20 * 4096);
    for byte in bytes.iter_mut().skip(4 * 4096) {
        *byte ^= 0x5a;
    }
    fs::write(place.path(), bytes).unwrap();
    let store = Sqlite::open(place.path()).await.unwrap();
    assert!(matches!(
        store.check().await,
        Err(StoreError::Damaged { .. })
    ));
    let read = store.scan(Scan::all(Index::NodeByOwner)).await;
    assert!(matches!(read, Err(StoreError::Damaged { .. })), "{read:?}");
    // The readers live on.
    assert!(store.scan(Scan::all(Index::NodeByOwner)).await.is_err());
}

#[tokio::test]
async fn path_that_cannot_be_a_file_is_explained() {
    let place = SqlitePlace::new();
    let folder = place.path();
    fs::create_dir(&folder).unwrap();
    let error = refusal(&folder).await.to_string();
    assert!(error.contains("check the path"), "{error}");
    let nested = place
        .path()
        .with_file_name("new")
        .join("folder")
        .join("x.db");
    Sqlite::open(&nested).await.unwrap();
    assert!(nested.is_file());
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;

    let place = SqlitePlace::new();
    let store = Sqlite::open(place.path()).await.unwrap();
    pass(&store, batch([put(&node("leaf"), 0, "a")])).await;
    store
        .copy_to(place.path().with_extension("copy"))
        .await
        .unwrap();
    let mut files = 0;
    for entry in fs::read_dir(place.path().parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} has mode {mode:o}", entry.path());
        files += 1;
    }
    assert!(files >= 4, "database, log, lock and copy");
}

#[tokio::test]
async fn deleted_content_is_gone_from_the_disk() {
    let place = SqlitePlace::new();
    let store = Sqlite::open(place.path()).await.unwrap();
    let (small, large) = (node("small"), node("large"));
    let secret = b"do not find me on any page of this disk".to_vec();
    let long = secret.repeat(500);
    pass(
        &store,
        batch([put(&small, 0, &secret), put(&large, 0, &long)]),
    )
    .await;
    let on_disk = || {
        let folder = fs::read_dir(place.path().parent().unwrap()).unwrap();
        folder.into_iter().any(|entry| {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            bytes.windows(secret.len()).any(|window| window == secret)
        })
    };
    assert!(on_disk(), "the test looks in the right place");
    pass(&store, batch([put(&small, 1, "x"), delete(&large, 1)])).await;
    drop(store);
    assert!(!on_disk());
}

#[tokio::test]
async fn copy_is_a_database_of_its_own() {
    let place = SqlitePlace::new();
    let copy = place.path().with_extension("copy");
    let store = Sqlite::open(place.path()).await.unwrap();
    pass(&store, batch([listed(put(&node("leaf"), 0, "a"), "x")])).await;
    store.copy_to(&copy).await.unwrap();
    pass(&store, batch([put(&node("leaf"), 1, "b")])).await;
    let again = store.copy_to(&copy).await;
    assert!(matches!(again, Err(StoreError::Database(_))), "{again:?}");
    let restored = Sqlite::open(&copy).await.unwrap();
    assert_eq!(get(&restored, &node("leaf")).await, stored(1, "a"));
    let found = restored.scan(Scan::all(Index::NodeByOwner)).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(get(&store, &node("leaf")).await, stored(2, "b"));
}

/// The file and its log as a loss of power leaves them, with the log cut off after `length` bytes.
fn crash(place: &SqlitePlace, length: Option<u64>) -> SqlitePlace {
    let crashed = SqlitePlace::new();
    let log = |path: &Path| path.with_extension("db-wal");
    fs::copy(place.path(), crashed.path()).unwrap();
    fs::copy(log(&place.path()), log(&crashed.path())).unwrap();
    if let Some(length) = length {
        let file = fs::OpenOptions::new()
            .write(true)
            .open(log(&crashed.path()));
        file.unwrap().set_len(length).unwrap();
    }
    crashed
}

#[tokio::test]
async fn acknowledged_batches_survive_a_loss_of_power() {
    let place = SqlitePlace::new();
    let store = Sqlite::open(place.path()).await.unwrap();
    for number in 0..50_u8 {
        let key = node([number]);
        pass(&store, batch([listed(put(&key, 0, [number]), [number])])).await;
        let crashed = Sqlite::open(crash(&place, None).path()).await.unwrap();
        assert_eq!(get(&crashed, &key).await, stored(1, [number]));
    }
}

#[tokio::test]
async fn torn_log_leaves_the_earlier_batches_whole_and_the_later_ones_out() {
    const BATCHES: u8 = 40;
    let place = SqlitePlace::new();
    let store = Sqlite::open(place.path()).await.unwrap();
    let parts = |number: u8| [node([number, 0]), node([number, 1]), node([number, 2])];
    for number in 0..BATCHES {
        let writes = parts(number).map(|key| listed(put(&key, 0, [number; 900]), [number]));
        pass(&store, batch(writes)).await;
    }
    let length = fs::metadata(place.path().with_extension("db-wal"))
        .unwrap()
        .len();
    let mut before = 0;
    for step in 0..=16 {
        let crashed = crash(&place, Some(length * step / 16));
        let store = Sqlite::open(crashed.path()).await.unwrap();
        store.check().await.unwrap();
        let mut whole = 0;
        for number in 0..BATCHES {
            let rows = store.get(&parts(number)).await.unwrap();
            let there = rows.iter().flatten().count();
            assert!(
                there == 0 || (there == 3 && whole == number),
                "batch {number}"
            );
            whole += u8::from(there == 3);
        }
        let entries = store.scan(Scan::all(Index::NodeByOwner)).await.unwrap();
        assert_eq!(entries.len(), usize::from(whole) * 3);
        assert!(whole >= before, "a longer log holds at least as much");
        before = whole;
    }
    assert_eq!(before, BATCHES);
}
