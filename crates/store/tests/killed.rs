//! A process that is killed with SIGKILL while it writes.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tinderbox_flows::record::Key;
use tinderbox_store::suite::backend::SqlitePlace;
use tinderbox_store::suite::make::{batch, node, pass, put, stored};
use tinderbox_store::{Sqlite, Store};

const PATH: &str = "TINDERBOX_TEST_CHILD_PATH";
const ROUND: &str = "TINDERBOX_TEST_CHILD_ROUND";

fn parts(round: u32, number: u32) -> Vec<Key> {
    let id = |part: u8| [&round.to_be_bytes()[..], &number.to_be_bytes(), &[part]].concat();
    (0..4).map(|part| node(id(part))).collect()
}

#[test]
#[ignore = "runs for ever: started and killed by killed_writer_loses_nothing_that_it_acknowledged"]
fn child_that_writes_for_ever() {
    let path = PathBuf::from(std::env::var_os(PATH).expect("the parent names a file"));
    let round: u32 = std::env::var(ROUND).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Arc::new(Sqlite::open(path).await.unwrap());
        let next = Arc::new(AtomicU32::new(0));
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let (store, next) = (Arc::clone(&store), Arc::clone(&next));
            writers.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let writes = parts(round, number).into_iter();
                    let writes = writes.map(|key| put(&key, 0, number.to_be_bytes()));
                    pass(&*store, batch(writes)).await;
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "acknowledged {number}").unwrap();
                    out.flush().unwrap();
                }
            });
        }
        writers.join_next().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_writer_loses_nothing_that_it_acknowledged() {
    let place = SqlitePlace::new();
    for round in 0..4_u32 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_that_writes_for_ever",
                "--ignored",
                "--nocapture",
            ])
            .env(PATH, place.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let enough = 100 + 150 * round as usize;
        let mut acknowledged = BTreeSet::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut note = |line: std::io::Result<String>| {
            // The harness may write on the same line before the first one.
            if let Some((_, number)) = line.unwrap().rsplit_once("acknowledged ") {
                acknowledged.insert(number.parse::<u32>().unwrap());
            }
            acknowledged.len()
        };
        while note(lines.next().expect("the child writes")) < enough {}
        child.kill().unwrap();
        child.wait().unwrap();
        // What it still said before it died counts as well; a last half line does not.
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        for line in rest.iter().take(rest.len().saturating_sub(1)) {
            note(Ok(line.clone()));
        }
        let store = Sqlite::open(place.path()).await.unwrap();
        store.check().await.unwrap();
        let last = *acknowledged.last().unwrap();
        for number in 0..last + 64 {
            let rows = store.get(&parts(round, number)).await.unwrap();
            let there = rows.iter().flatten().count();
            assert!(there == 0 || there == 4, "half of batch {number} is there");
            if acknowledged.contains(&number) {
                let expected = stored(1, number.to_be_bytes());
                assert!(
                    rows.iter().all(|row| *row == expected),
                    "batch {number} is lost"
                );
            }
        }
    }
}
