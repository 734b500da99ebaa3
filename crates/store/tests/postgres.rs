//! The PostgreSQL backend: the common claims, and what is said of several processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tinderbox_flows::record::{Index, Key};
use tinderbox_store::suite::Place;
use tinderbox_store::suite::backend::{OnPostgres, PostgresPlace};
use tinderbox_store::suite::make::{batch, get, guarded, listed, node, pass, put, stored};
use tinderbox_store::{Postgres, Scan, Store, StoreError};

mod conformance {
    use super::OnPostgres;

    tinderbox_store::conformance!(OnPostgres::from_environment());
}

/// A schema of its own, or the end of the test if PostgreSQL is left out.
macro_rules! place {
    () => {
        match OnPostgres::from_environment() {
            Some(backend) => Box::new(backend.place()),
            None => return println!("left out"),
        }
    };
}

fn number(row: &tinderbox_flows::record::Stored) -> u64 {
    u64::from_be_bytes(row.body.as_slice().try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_lose_no_update() {
    let place = place!();
    let processes = [
        Arc::new(place.another().await),
        Arc::new(place.another().await),
    ];
    let keys = [node("a"), node("b")];
    pass(
        &*processes[0],
        batch(keys.clone().map(|key| put(&key, 0, [0; 8]))),
    )
    .await;
    let tasks = (0..16_usize).map(|task| {
        let (store, mut keys) = (Arc::clone(&processes[task % 2]), keys.clone());
        if task % 4 < 2 {
            // In the other order, too: nobody waits for ever.
            keys.reverse();
        }
        tokio::spawn(async move {
            let mut done = 0;
            while done < 10 {
                let rows = store.get(&keys).await.unwrap();
                let writes = keys.iter().zip(rows.iter().flatten());
                let writes =
                    writes.map(|(key, row)| put(key, row.version, (number(row) + 1).to_be_bytes()));
                match store.apply(batch(writes)).await {
                    Ok(()) => done += 1,
                    Err(error) => assert!(error.is_conflict(), "{error}"),
                }
            }
        })
    });
    for task in join_all(tasks).await {
        task.unwrap();
    }
    for key in &keys {
        assert_eq!(
            get(&*processes[0], key).await,
            stored(161, 160_u64.to_be_bytes())
        );
    }
    drop(processes);
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_never_both_make_a_row() {
    let place = place!();
    let processes = [place.another().await, place.another().await];
    for round in 0..40_u8 {
        let key = node([round]);
        let make = |process: usize| {
            let store = processes[process].clone();
            let write = listed(put(&key, 0, [process as u8]), [process as u8]);
            tokio::spawn(async move { store.apply(batch([write])).await })
        };
        let outcomes = join_all([make(0), make(1)]).await;
        let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
        let winner = outcomes
            .iter()
            .position(Result::is_ok)
            .expect("one makes it");
        let loser = outcomes[1 - winner]
            .as_ref()
            .expect_err("the other one does not");
        assert!(loser.is_conflict(), "{loser}");
        let entries = Scan::range(Index::NodeByOwner, [], []);
        let mine = processes[0].scan(entries).await.unwrap();
        let mine: Vec<_> = mine.iter().filter(|found| found.key == key).collect();
        assert_eq!(mine.len(), 1, "the loser's entry is not there");
        assert_eq!(mine[0].listed, [winner as u8]);
    }
    drop(processes);
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_on_absent_rows_hold_across_processes() {
    let place = place!();
    let processes = [place.another().await, place.another().await];
    for round in 0..40_u8 {
        let keys = [node([round, 0]), node([round, 1])];
        let attempt = |process: usize| {
            let store = processes[process].clone();
            let absent = (keys[process].clone(), 0);
            let decided = guarded([absent], [put(&keys[1 - process], 0, "x")]);
            tokio::spawn(async move { store.apply(decided).await })
        };
        let outcomes = join_all([attempt(0), attempt(1)]).await;
        let passed = outcomes.iter().filter(|one| one.as_ref().unwrap().is_ok());
        assert_eq!(passed.count(), 1, "round {round}");
        for outcome in outcomes.into_iter().map(Result::unwrap) {
            assert!(outcome.is_ok() || outcome.unwrap_err().is_conflict());
        }
    }
    drop(processes);
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_start_at_once_share_one_schema() {
    let place = place!();
    let processes = join_all((0..8).map(|_| place.another())).await;
    for (at, process) in processes.iter().enumerate() {
        pass(process, batch([put(&node([at as u8]), 0, "x")])).await;
    }
    let keys: Vec<Key> = (0..8_u8).map(|at| node([at])).collect();
    for process in &processes {
        let rows = process.get(&keys).await.unwrap();
        assert!(rows.iter().all(Option::is_some));
    }
    drop(processes);
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_do_not_mix() {
    let (one, other): (Box<PostgresPlace>, Box<PostgresPlace>) = (place!(), place!());
    let stores = [one.another().await, other.another().await];
    pass(&stores[0], batch([listed(put(&node("leaf"), 0, "a"), "x")])).await;
    assert_eq!(get(&stores[1], &node("leaf")).await, None);
    let found = stores[1].scan(Scan::all(Index::NodeByOwner)).await.unwrap();
    assert_eq!(found, []);
    drop(stores);
    one.remove().await;
    other.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schema_of_a_newer_release_is_refused() {
    let place = place!();
    drop(place.another().await);
    let client = place.connect().await;
    let history = format!("\"{}\".refinery_schema_history", place.schema);
    let row = client
        .query_one(&format!("SELECT max(version)::bigint FROM {history}"), &[])
        .await
        .unwrap();
    let known = u32::try_from(row.get::<_, i64>(0)).unwrap();
    client
        .execute(
            &format!("INSERT INTO {history} SELECT 99, 'later', applied_on, '1' FROM {history}"),
            &[],
        )
        .await
        .unwrap();
    let refused = Postgres::open(&place.url, &place.schema).await;
    assert_eq!(
        refused.expect_err("it is newer"),
        StoreError::Newer { found: 99, known }
    );
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_configuration_is_explained_without_the_password() {
    let place = place!();
    for schema in [
        "",
        "Upper",
        "a-b",
        "1st",
        "pg_own",
        "a\"; DROP TABLE x",
        &"a".repeat(64),
    ] {
        let refused = Postgres::open(&place.url, schema).await;
        assert!(matches!(refused, Err(StoreError::Config(_))), "{schema}");
    }
    for url in [
        "postgres://bob:hunter2@127.0.0.1:1/none",
        "postgres://bob:hunter2@127.0.0.1:99999/none",
        "postgres://bob:hunter2@127.0.0.1/none?sslmode=require",
    ] {
        let error = Postgres::open(url, "x").await.expect_err("it is wrong");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
    let error = Postgres::open("postgres://bob@127.0.0.1:1/none", "x").await;
    let error = error.expect_err("nobody listens").to_string();
    assert!(error.contains("check that it runs"), "{error}");
}

/// Ends all connections of the stores on a schema, as a restart of the server does. Hands back how
/// many there were.
async fn cut(place: &PostgresPlace, client: &tokio_postgres::Client) -> i64 {
    let application = format!("tinderbox {}", place.schema);
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE application_name = left($1, 63)";
    client.query_one(cut, &[&application]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_are_replaced_without_anybody_noticing() {
    let place = place!();
    let store = place.another().await;
    let client = place.connect().await;
    let key = node("leaf");
    for version in 0..5 {
        pass(&store, batch([put(&key, version, "x")])).await;
        store.check().await.unwrap();
        assert!(
            cut(&place, &client).await > 0,
            "there were connections to cut"
        );
        if version % 2 == 0 {
            assert_eq!(get(&store, &key).await, stored(version + 1, "x"));
        }
    }
    drop(store);
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_batches_survive_connections_cut_under_load() {
    let place = place!();
    let store = Arc::new(place.another().await);
    let client = place.connect().await;
    let stop = Arc::new(AtomicBool::new(false));
    let parts = |task: u8, round: u32| {
        [0_u8, 1, 2].map(|part| node([&[task][..], &round.to_be_bytes(), &[part]].concat()))
    };
    let writers: Vec<_> = (0..8_u8)
        .map(|task| {
            let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut outcomes = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let round = u32::try_from(outcomes.len()).unwrap();
                    let writes = parts(task, round).map(|key| put(&key, 0, [task]));
                    outcomes.push(store.apply(batch(writes)).await);
                }
                outcomes
            })
        })
        .collect();
    let mut cuts = 0;
    while cuts < 20 {
        // As soon as something was written again, the next cut.
        let before = store.counters().commits;
        cuts += cut(&place, &client).await.min(1);
        let written = async {
            while store.counters().commits < before + 3 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), written)
            .await
            .expect("the store recovers");
    }
    stop.store(true, Ordering::Relaxed);
    let (mut passed, mut unknown) = (0, 0);
    for (task, outcomes) in (0..8_u8).zip(join_all(writers).await) {
        for (round, outcome) in (0_u32..).zip(outcomes.unwrap()) {
            let rows = store.get(&parts(task, round)).await.unwrap();
            let there = rows.iter().flatten().count();
            match outcome {
                Ok(()) => {
                    passed += 1;
                    assert_eq!(there, 3, "an acknowledged batch is lost");
                }
                Err(StoreError::Database(_)) => {
                    unknown += 1;
                    assert!(there == 0 || there == 3, "half a batch is there");
                }
                Err(error) => panic!("{error}: nobody else writes these rows"),
            }
            assert!(rows.iter().flatten().all(|row| row.version == 1));
        }
    }
    println!("{passed} batches passed, {unknown} with unknown outcome");
    assert!(passed > 0);
    drop(store);
    place.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_reads_a_whole_table() {
    let place = place!();
    let store = place.another().await;
    let keys: Vec<Key> = (0..2_000_u32).map(|id| node(id.to_be_bytes())).collect();
    pass(
        &store,
        batch(
            keys.iter()
                .map(|key| listed(put(key, 0, [7; 200]), &key.id)),
        ),
    )
    .await;
    for chunk in keys.chunks(250) {
        pass(&store, batch(chunk.iter().map(|key| put(key, 1, [8; 200])))).await;
        store.get(chunk).await.unwrap();
        let scan = Scan::prefix(Index::NodeByOwner, &chunk[0].id);
        assert_eq!(store.scan(scan.clone()).await.unwrap().len(), 1);
        store.scan(scan.descending().limit(1)).await.unwrap();
    }
    drop(store);
    // The server counts when a connection ends.
    let client = place.connect().await;
    let counts = "SELECT coalesce(sum(seq_scan), 0)::bigint, coalesce(sum(idx_scan), 0)::bigint \
                  FROM pg_stat_user_tables \
                  WHERE schemaname = $1 AND relname IN ('record', 'listing')";
    let counted = async {
        loop {
            let row = client.query_one(counts, &[&place.schema]).await.unwrap();
            let (whole, indexed): (i64, i64) = (row.get(0), row.get(1));
            if indexed > 4_000 {
                return whole;
            }
            tokio::task::yield_now().await;
        }
    };
    let whole = tokio::time::timeout(Duration::from_secs(30), counted).await;
    // Both tables were read once when they were made, to fill their empty primary keys.
    assert_eq!(whole.expect("the server counts"), 2);
    place.remove().await;
}
