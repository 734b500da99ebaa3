//! What a store counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts what a store did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// SQL statements, `BEGIN` and `COMMIT` among them.
    pub statements: u64,
    /// Database transactions that wrote; each is forced to disk once.
    pub commits: u64,
    /// Batches applied.
    pub batches: u64,
    /// Batches refused because of a conflict.
    pub conflicts: u64,
}

/// Counts for one backend, and reports to whatever metrics recorder is installed.
#[derive(Debug)]
pub(crate) struct Tally {
    backend: &'static str,
    statements: AtomicU64,
    commits: AtomicU64,
    batches: AtomicU64,
    conflicts: AtomicU64,
}

impl Tally {
    pub(crate) fn new(backend: &'static str) -> Self {
        Self {
            backend,
            statements: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            conflicts: AtomicU64::new(0),
        }
    }

    pub(crate) fn statements(&self, count: u64) {
        self.statements.fetch_add(count, Ordering::Relaxed);
        metrics::counter!("tinderbox_store_statements_total", "backend" => self.backend)
            .increment(count);
    }

    /// A transaction that wrote `batches` batches is on disk, `took` after it began.
    pub(crate) fn commit(&self, batches: u64, took: Duration) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("tinderbox_store_commits_total", "backend" => self.backend).increment(1);
        metrics::histogram!("tinderbox_store_commit_seconds", "backend" => self.backend)
            .record(took.as_secs_f64());
        metrics::histogram!("tinderbox_store_group_batches", "backend" => self.backend)
            .record(u32::try_from(batches).unwrap_or(u32::MAX));
    }

    pub(crate) fn answered(&self, batches: u64, conflicts: u64) {
        self.batches.fetch_add(batches, Ordering::Relaxed);
        self.conflicts.fetch_add(conflicts, Ordering::Relaxed);
        metrics::counter!("tinderbox_store_batches_total", "backend" => self.backend)
            .increment(batches);
        metrics::counter!("tinderbox_store_conflicts_total", "backend" => self.backend)
            .increment(conflicts);
    }

    pub(crate) fn read(&self) -> Counters {
        Counters {
            statements: self.statements.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            batches: self.batches.load(Ordering::Relaxed),
            conflicts: self.conflicts.load(Ordering::Relaxed),
        }
    }
}
