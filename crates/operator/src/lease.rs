//! Who of an operator's processes does what one is enough for: following the chain, the
//! watchtower, key generation, clean-up.
//!
//! The lease is a row with a holder and an end. Nothing depends on it but economy: whatever the
//! holder writes is conditional on what it read, so two that both believe to hold it, because
//! clocks differ or one was asleep, do no harm. A holder that dies is replaced when its time is
//! over.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tinderbox_flows::record::{Key, Row, Table};
use tinderbox_flows::rows::Millis;
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_store::Store;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Clock;
use crate::tables::{TableError, Tables};

/// How long a lease lasts, in milliseconds.
const LASTS_MS: u64 = 3_000;
/// How often it is renewed, or looked at.
const LOOK: Duration = Duration::from_millis(750);

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRow {
    /// What for.
    pub name: String,
    /// The process: random bytes that it chose at its start.
    pub holder: [u8; 16],
    /// Until when, by the holder's clock.
    pub until: Millis,
}

impl LeaseRow {
    fn id_of(name: &str) -> Vec<u8> {
        format!("lease/{name}").into_bytes()
    }
}

impl Row for LeaseRow {
    const TABLE: Table = Table::Ephemeral;

    fn id(&self) -> Vec<u8> {
        Self::id_of(&self.name)
    }
}

/// A lease, as one process sees it.
#[derive(Clone)]
pub struct Lease {
    held: Arc<watch::Sender<bool>>,
    shared: Option<Arc<Shared>>,
}

struct Shared {
    name: String,
    me: [u8; 16],
    tables: Tables,
    clock: Arc<dyn Clock>,
}

impl Lease {
    /// For a process that is the only one.
    #[must_use]
    pub fn alone() -> Self {
        Self {
            held: Arc::new(watch::Sender::new(true)),
            shared: None,
        }
    }

    /// A lease among the processes that share `store`; held by none as yet.
    #[must_use]
    pub fn shared(name: &str, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        let mut me = [0; 16];
        clock.random(&mut me);
        Self {
            held: Arc::new(watch::Sender::new(false)),
            shared: Some(Arc::new(Shared {
                name: name.to_owned(),
                me,
                tables: Tables::new(store),
                clock,
            })),
        }
    }

    /// True while this process holds it.
    #[must_use]
    pub fn held(&self) -> watch::Receiver<bool> {
        self.held.subscribe()
    }

    /// Takes it if it is free, keeps it while it can, gives it back at `stop`.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Some(shared) = self.shared.clone() else {
            stop.await;
            return;
        };
        tokio::pin!(stop);
        let mut good_until = Millis(0);
        loop {
            let now = shared.clock.now();
            let held = match shared.take(now).await {
                Ok(held) => {
                    good_until = now.plus(if held { LASTS_MS } else { 0 });
                    held
                }
                // Another process was faster.
                Err(TableError::Conflict) => false,
                Err(error) => {
                    tracing::warn!(%error, "the lease could not be renewed; trying again");
                    shared.clock.now() < good_until
                }
            };
            self.note(held);
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        if self.held.send_replace(false)
            && let Err(error) = shared.give_back().await
        {
            tracing::debug!(%error, "the lease ends by itself");
        }
    }

    fn note(&self, held: bool) {
        metrics::gauge!("tinderbox_lease_held").set(f64::from(u8::from(held)));
        if self.held.send_replace(held) != held {
            tracing::info!(held, "the lease for what one process is enough for");
        }
    }

    /// Runs what `make` gives whenever this process holds the lease, until `stop`. When the lease is
    /// lost, the token is cancelled and the task must end.
    pub async fn while_held<F>(
        self,
        stop: CancellationToken,
        mut make: impl FnMut(CancellationToken) -> F,
    ) where
        F: Future<Output = ()>,
    {
        let mut held = self.held();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                got = becomes(&mut held, true) => if !got { return },
            }
            let token = stop.child_token();
            let task = make(token.clone());
            tokio::pin!(task);
            tokio::select! {
                () = &mut task => {
                    // It ended by itself: so it should when it is not wanted any more.
                    if stop.is_cancelled() {
                        return;
                    }
                    tokio::time::sleep(LOOK).await;
                }
                _ = becomes(&mut held, false) => {
                    token.cancel();
                    task.await;
                }
            }
        }
    }
}

/// False if nobody can change it any more.
async fn becomes(held: &mut watch::Receiver<bool>, wanted: bool) -> bool {
    held.wait_for(|held| *held == wanted).await.is_ok()
}

impl Shared {
    /// True if this process holds the lease now.
    async fn take(&self, now: Millis) -> Result<bool, TableError> {
        let mut rows = Snapshot::new();
        let id = LeaseRow::id_of(&self.name);
        self.tables
            .load(&mut rows, [Key::new(LeaseRow::TABLE, id.clone())])
            .await?;
        let free = match rows.get::<LeaseRow>(id)? {
            None => true,
            // A holder whose clock is far ahead must not keep it for ever.
            Some(row) => {
                row.holder == self.me || row.until < now || row.until > now.plus(20 * LASTS_MS)
            }
        };
        if !free {
            return Ok(false);
        }
        self.put(&rows, now.plus(LASTS_MS)).await?;
        Ok(true)
    }

    async fn give_back(&self) -> Result<(), TableError> {
        let mut rows = Snapshot::new();
        let id = LeaseRow::id_of(&self.name);
        self.tables
            .load(&mut rows, [Key::new(LeaseRow::TABLE, id.clone())])
            .await?;
        match rows.get::<LeaseRow>(id)? {
            Some(row) if row.holder == self.me => self.put(&rows, Millis(0)).await,
            _ => Ok(()),
        }
    }

    async fn put(&self, rows: &Snapshot, until: Millis) -> Result<(), TableError> {
        let row = LeaseRow {
            name: self.name.clone(),
            holder: self.me,
            until,
        };
        let mut changes = Changes::new();
        changes.put(rows, &row)?;
        self.tables.write(rows, changes).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tinderbox_store::Memory;

    use super::*;
    use crate::clock::SystemClock;

    fn lease(store: &Arc<dyn Store>) -> Lease {
        Lease::shared("test", store.clone(), Arc::new(SystemClock))
    }

    fn memory() -> Arc<dyn Store> {
        Arc::new(Memory::new())
    }

    #[tokio::test]
    async fn one_process_holds_the_lease_and_the_other_takes_over_when_it_is_given_back() {
        let store = memory();
        let (first, second) = (lease(&store), lease(&store));
        let stop = CancellationToken::new();
        let running = tokio::spawn(first.clone().run(stop.clone().cancelled_owned()));
        assert!(first.held().wait_for(|held| *held).await.is_ok());
        let other = CancellationToken::new();
        let waiting = tokio::spawn(second.clone().run(other.clone().cancelled_owned()));
        assert!(!*second.held().borrow());
        stop.cancel();
        running.await.unwrap();
        assert!(second.held().wait_for(|held| *held).await.is_ok());
        assert!(!*first.held().borrow());
        other.cancel();
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn holder_that_died_is_replaced_when_its_time_is_over() {
        let store = memory();
        let (dead, next) = (lease(&store), lease(&store));
        let now = SystemClock.now();
        let of = |lease: &Lease| lease.shared.clone().unwrap();
        assert!(of(&dead).take(now).await.unwrap());
        assert!(!of(&next).take(now.plus(LASTS_MS - 1)).await.unwrap());
        assert!(of(&next).take(now.plus(LASTS_MS + 1)).await.unwrap());
        assert!(
            !of(&dead).take(now.plus(LASTS_MS + 2)).await.unwrap(),
            "it is another's now"
        );
    }

    #[tokio::test]
    async fn task_runs_only_while_the_lease_is_held() {
        let lease = Lease::alone();
        let running = Arc::new(AtomicUsize::new(0));
        let stop = CancellationToken::new();
        let counted = Arc::clone(&running);
        let duty = tokio::spawn(lease.clone().while_held(stop.clone(), move |token| {
            let counted = Arc::clone(&counted);
            async move {
                counted.fetch_add(1, Ordering::SeqCst);
                token.cancelled().await;
                counted.fetch_sub(1, Ordering::SeqCst);
            }
        }));
        let becomes = |wanted| {
            let running = Arc::clone(&running);
            async move {
                while running.load(Ordering::SeqCst) != wanted {
                    tokio::task::yield_now().await;
                }
            }
        };
        becomes(1).await;
        lease.held.send_replace(false);
        becomes(0).await;
        lease.held.send_replace(true);
        becomes(1).await;
        stop.cancel();
        duty.await.unwrap();
        assert_eq!(running.load(Ordering::SeqCst), 0);
    }
}
