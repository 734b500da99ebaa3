//! Group commit: one `fdatasync` makes everybody's writes durable who waits for it.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use crate::SignerError;

/// Writes that nobody waits for are made durable within this time.
const LAZY: Duration = Duration::from_secs(1);

/// A moment in the vault's history of writes, to wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

#[derive(Default)]
struct Demand {
    /// Number of the last write.
    written: u64,
    /// Somebody waits for this write.
    wanted: u64,
    stop: bool,
}

#[derive(Clone, Default)]
struct Progress {
    durable: u64,
    failed: Option<String>,
}

struct Shared {
    demand: Mutex<Demand>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
    syncs: AtomicU64,
}

impl Shared {
    fn demand(&self) -> MutexGuard<'_, Demand> {
        // Three numbers, changed one at a time: never half changed.
        self.demand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that syncs a file, and the way to ask it.
pub(crate) struct Flusher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Flusher {
    /// Starts the thread for `file`.
    pub(super) fn start(file: File) -> Result<Self, SignerError> {
        let shared = Arc::new(Shared {
            demand: Mutex::default(),
            wake: Condvar::new(),
            progress: watch::Sender::new(Progress::default()),
            syncs: AtomicU64::new(0),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("signer-vault".into())
            .spawn(move || run(&own, &file))
            .map_err(|error| SignerError::vault(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Notes that something was written. It becomes durable soon, also if nobody waits.
    pub(super) fn wrote(&self) {
        let mut demand = self.shared.demand();
        if demand.written == self.shared.progress.borrow().durable {
            self.shared.wake.notify_one();
        }
        demand.written += 1;
    }

    /// Stands for everything that has been written so far.
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(self.shared.demand().written)
    }

    /// Asks for a sync of everything up to `ticket`, without waiting.
    pub(crate) fn start_sync(&self, ticket: Ticket) {
        let mut demand = self.shared.demand();
        if demand.wanted < ticket.0 {
            demand.wanted = ticket.0;
            self.shared.wake.notify_one();
        }
    }

    /// Waits until everything up to `ticket` is on disk.
    ///
    /// # Errors
    /// If the disk failed, for ever: after a failed sync nobody knows what is on disk.
    pub(crate) async fn durable(&self, ticket: Ticket) -> Result<(), SignerError> {
        let mut progress = self.shared.progress.subscribe();
        if progress.borrow().durable < ticket.0 {
            self.start_sync(ticket);
        }
        let seen = progress
            .wait_for(|now| now.failed.is_some() || now.durable >= ticket.0)
            .await
            .map_err(|_| SignerError::poisoned())?;
        match &seen.failed {
            Some(text) => Err(SignerError::vault(text.clone())),
            None => Ok(()),
        }
    }

    /// How many times the file was synced.
    pub(crate) fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.shared.demand().stop = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, file: &File) {
    let mut durable = 0;
    loop {
        let mut demand = shared.demand();
        let mut lapsed = false;
        while !demand.stop && demand.wanted <= durable && !(lapsed && demand.written > durable) {
            if demand.written > durable {
                let (next, timeout) = shared
                    .wake
                    .wait_timeout(demand, LAZY)
                    .unwrap_or_else(PoisonError::into_inner);
                demand = next;
                lapsed = timeout.timed_out();
            } else {
                demand = shared
                    .wake
                    .wait(demand)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
        let (target, stop) = (demand.written, demand.stop);
        drop(demand);
        if target > durable {
            if let Err(error) = file.sync_data() {
                tracing::error!(%error, "the vault cannot be written to disk");
                shared.progress.send_modify(|progress| {
                    progress.failed = Some(format!(
                        "cannot write it to disk ({error}): check the disk and restart the signer"
                    ));
                });
                return;
            }
            shared.syncs.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("tinderbox_vault_syncs_total").increment(1);
            durable = target;
            shared
                .progress
                .send_modify(|progress| progress.durable = durable);
        }
        if stop {
            return;
        }
    }
}
