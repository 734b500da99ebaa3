use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bitcoin::secp256k1::{PublicKey, SECP256K1, SecretKey};
use tinderbox_flows::flow::Touch;
use tinderbox_flows::notice::note;
use tinderbox_flows::rows::{Millis, Subject};
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_store::{Memory, Store};

use super::{Cursor, Log};
use crate::Clock;
use crate::tables::Tables;

struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> Millis {
        Millis(self.0.load(Ordering::Relaxed))
    }

    fn random(&self, bytes: &mut [u8]) {
        rand::RngCore::fill_bytes(&mut rand::rngs::OsRng, bytes);
    }
}

fn wallet(number: u64) -> PublicKey {
    let mut bytes = [1; 32];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    SecretKey::from_slice(&bytes).unwrap().public_key(SECP256K1)
}

struct Bench {
    store: Arc<dyn Store>,
    clock: Arc<TestClock>,
}

impl Bench {
    fn new() -> Self {
        Self {
            store: Arc::new(Memory::new()),
            clock: Arc::new(TestClock(AtomicU64::new(1_000))),
        }
    }

    fn log(&self) -> Log {
        Log::on(self.store.clone(), self.clock.clone())
    }

    /// A write that has something to tell to wallet `number`.
    async fn write(&self, number: u64) {
        let mut id = [0; 16];
        self.clock.random(&mut id);
        let made = Millis(self.clock.0.fetch_add(1, Ordering::Relaxed));
        let rows = Snapshot::new();
        let mut changes = Changes::new();
        note(
            &mut changes,
            &rows,
            id,
            made,
            &[Touch::Setting(wallet(number))],
        )
        .unwrap();
        Tables::new(self.store.clone())
            .write(&rows, changes)
            .await
            .unwrap();
    }

    async fn told(&self, after: u64) -> Vec<(u64, PublicKey)> {
        let mut told = Vec::new();
        let mut at = after;
        loop {
            let entries = self.log().after(at, 10).await.unwrap();
            let Some(last) = entries.last() else {
                return told;
            };
            at = last.place;
            for entry in entries {
                assert_eq!(entry.notice.subject, Subject::Setting);
                told.push((entry.place, entry.notice.told[0].identity));
            }
        }
    }
}

#[tokio::test]
async fn notices_have_places_in_the_order_of_their_writes_without_gaps() {
    let bench = Bench::new();
    for number in 0..700 {
        bench.write(number).await;
    }
    let head = bench.log().advance().await.unwrap();
    assert_eq!(head.place, 700);
    let expected: Vec<_> = (0..700)
        .map(|number| (number + 1, wallet(number)))
        .collect();
    assert_eq!(bench.told(0).await, expected);
    assert_eq!(bench.told(650).await, expected[650..]);
    assert!(bench.told(700).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_order_the_log_together_lose_and_double_nothing() {
    let bench = Arc::new(Bench::new());
    let tasks = (0..4u64).map(|process| {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move {
            for number in 0..60 {
                bench.write(process * 1_000 + number).await;
                if number % 5 == 0 {
                    // Too many at once give up, and the next call goes on.
                    let _ = bench.log().advance().await;
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let head = bench.log().advance().await.unwrap();
    assert_eq!(head.place, 240);
    let told = bench.told(0).await;
    assert!(told.iter().map(|(place, _)| *place).eq(1..=240));
    let wallets: BTreeSet<_> = told.iter().map(|(_, wallet)| *wallet).collect();
    assert_eq!(wallets.len(), 240);
}

#[tokio::test]
async fn cursor_serves_while_the_log_reaches_back_to_it() {
    let bench = Bench::new();
    let log = bench.log();
    let start = log.head().await.unwrap();
    assert!(log.reaches(start).await.unwrap());
    for number in 0..3 {
        bench.write(number).await;
    }
    let early = log.advance().await.unwrap();
    assert!(log.reaches(start).await.unwrap());
    let other = Cursor {
        log: [9; 8],
        ..early
    };
    assert!(!log.reaches(other).await.unwrap(), "of another database");
    let ahead = Cursor {
        place: early.place + 1,
        ..early
    };
    assert!(
        !log.reaches(ahead).await.unwrap(),
        "of a database that is newer"
    );

    bench
        .clock
        .0
        .fetch_add(super::log::KEPT_MS, Ordering::Relaxed);
    bench.write(7).await;
    let late = log.advance().await.unwrap();
    let purged = log.purge(bench.clock.now()).await.unwrap();
    assert_eq!(purged, 1, "the page of the first three");
    assert!(!log.reaches(start).await.unwrap());
    assert!(log.reaches(early).await.unwrap());
    assert!(log.reaches(late).await.unwrap());
    assert_eq!(bench.told(early.place).await, [(4, wallet(7))]);
}

#[test]
fn cursor_travels_as_bytes() {
    let cursor = Cursor {
        log: [3; 8],
        place: 77,
    };
    assert_eq!(Cursor::from_bytes(&cursor.to_bytes()), Some(cursor));
    assert_eq!(Cursor::from_bytes(&[]), None);
    assert_eq!(Cursor::from_bytes(&[0; 15]), None);
    assert_eq!(Cursor::from_bytes(&[0; 17]), None);
}
