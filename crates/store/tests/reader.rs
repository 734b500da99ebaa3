//! Typed reading, behind a store that was opened from a configuration string.

use serde::{Deserialize, Serialize};
use tinderbox_flows::record::{Index, IndexKey, Row, Table};
use tinderbox_flows::snapshot::{Changes, ReadError, Snapshot};
use tinderbox_store::suite::make::{batch, pass, put};
use tinderbox_store::{Database, Reader, Scan, Store, StoreError, open};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    id: Vec<u8>,
    owner: Vec<u8>,
    text: String,
}

impl Row for Note {
    const TABLE: Table = Table::Setting;

    fn id(&self) -> Vec<u8> {
        self.id.clone()
    }

    fn listed(&self) -> Vec<IndexKey> {
        vec![IndexKey::new(Index::NodeByOwner, &[&self.owner, &self.id])]
    }
}

fn note(id: &str, owner: &str) -> Note {
    Note {
        id: id.into(),
        owner: owner.into(),
        text: format!("{id} of {owner}"),
    }
}

/// Writes notes as a flow does: read, decide, compare and set.
async fn write(store: &dyn Store, notes: &[Note]) {
    let mut snapshot = Snapshot::new();
    let changes = loop {
        let mut changes = Changes::new();
        let missed = notes
            .iter()
            .find_map(|note| match changes.put(&snapshot, note) {
                Err(ReadError::Miss(miss)) => Some(miss),
                Err(ReadError::Unreadable(error)) => panic!("{error}"),
                Ok(()) => None,
            });
        match missed {
            Some(miss) => store.fill(&mut snapshot, &miss).await.unwrap(),
            None => break changes,
        }
    };
    pass(store, changes.into_batch(&snapshot)).await;
}

#[tokio::test]
async fn rows_are_read_as_they_were_written_and_follow_their_owner() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("sqlite:{}", folder.path().join("notes.db").display());
    let database: Database = text.parse().unwrap();
    let store = open(&database).await.unwrap();
    let (a, b, c) = (note("a", "alice"), note("b", "alice"), note("c", "bob"));
    write(&*store, &[a.clone(), b.clone(), c.clone()]).await;

    assert_eq!(store.row::<Note>("a").await.unwrap(), Some(a.clone()));
    assert_eq!(store.row::<Note>("z").await.unwrap(), None);
    let loaded = store.load::<Note>(&["c", "z", "a"]).await.unwrap();
    assert_eq!(loaded, [Some(c.clone()), None, Some(a.clone())]);
    let of = |owner: &str| Scan::prefix(Index::NodeByOwner, owner.as_bytes());
    assert_eq!(store.rows::<Note>(of("alice")).await.unwrap(), [a, b]);

    let sold = note("a", "bob");
    write(&*store, std::slice::from_ref(&sold)).await;
    assert_eq!(store.rows::<Note>(of("alice")).await.unwrap().len(), 1);
    assert_eq!(store.rows::<Note>(of("bob")).await.unwrap(), [sold, c]);
}

#[tokio::test]
async fn row_in_an_unknown_format_is_an_error_and_not_absent() {
    let store = tinderbox_store::Memory::new();
    let mut write = put(&note("a", "alice").key(), 0, [250, 1, 2]);
    write.list = note("a", "alice").listed();
    pass(&store, batch([write])).await;
    let unreadable = |error| matches!(error, StoreError::Unreadable(one) if one.format == 250);
    assert!(unreadable(store.row::<Note>("a").await.unwrap_err()));
    assert!(unreadable(store.load::<Note>(&["a"]).await.unwrap_err()));
    let all = Scan::all(Index::NodeByOwner);
    assert!(unreadable(store.rows::<Note>(all).await.unwrap_err()));
}
