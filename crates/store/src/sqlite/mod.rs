//! One SQLite file for one process.
//!
//! One thread writes: it takes all batches that wait, applies them in one transaction and answers
//! each (group commit). A few threads read. The file is in write-ahead mode with full
//! synchronisation, so an acknowledged batch survives a loss of power, and deleted content is
//! overwritten. A lock file beside it (`PATH.lock`) keeps a second process out.

mod connect;
mod readers;
mod statement;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use async_trait::async_trait;
use tinderbox_flows::record::{Batch, Key, Stored};
use tokio::sync::oneshot;

use crate::counters::Tally;
use crate::{Counters, Found, Scan, Store, StoreError, group};
use readers::{Get, Other, Read};
use writer::Work;

/// How many threads read.
const READERS: usize = 3;

/// Tables in a SQLite file. Clones are the same handle; when the last one is dropped, what was
/// handed in is still written, and the file is closed.
#[derive(Clone, Debug)]
pub struct Sqlite {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    tally: Arc<Tally>,
    work: Option<Sender<Work>>,
    reads: Option<Sender<Read>>,
    writer: Option<JoinHandle<()>>,
    readers: Vec<JoinHandle<()>>,
    /// Held until all connections are closed.
    _lock: File,
}

impl Sqlite {
    /// Opens the file at `path`; makes it, with its folder, if there is none; brings it to the
    /// schema of this release.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Newer`], [`StoreError::Foreign`],
    /// [`StoreError::Damaged`], [`StoreError::Database`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_path_buf();
        tokio::task::spawn_blocking(move || Self::open_blocking(path))
            .await
            .map_err(|error| StoreError::Database(error.to_string()))?
    }

    fn open_blocking(path: PathBuf) -> Result<Self, StoreError> {
        let lock = connect::take_lock(&path)?;
        let tally = Arc::new(Tally::new("sqlite"));
        let connection = connect::writer(&path)?;
        let (work, incoming) = channel();
        let writer = writer::Writer::new(connection, path.clone(), Arc::clone(&tally));
        let writer = spawn("store-write", move || writer.run(&incoming))?;
        let mut readers = Vec::new();
        let (reads, incoming) = channel();
        let incoming = Arc::new(Mutex::new(incoming));
        for _ in 0..READERS {
            let connection = connect::reader(&path)?;
            let mut reader = readers::Reader::new(connection, path.clone(), Arc::clone(&tally));
            let incoming = Arc::clone(&incoming);
            readers.push(spawn("store-read", move || reader.run(&incoming))?);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                path,
                tally,
                work: Some(work),
                reads: Some(reads),
                writer: Some(writer),
                readers,
                _lock: lock,
            }),
        })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Reads the whole file and checks that it is sound. Takes a while when it is large; writes go
    /// on meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], [`StoreError::Database`].
    pub async fn check(&self) -> Result<(), StoreError> {
        self.read(|answer| Read::Other(Other::Check(answer))).await
    }

    /// Writes a copy of the whole content, as of one moment, to a file that does not exist yet.
    /// Writes go on meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Database`] if the file is there already or cannot be written.
    pub async fn copy_to(&self, target: impl Into<PathBuf>) -> Result<(), StoreError> {
        let target = target.into();
        self.read(|answer| Read::Other(Other::Copy(target, answer)))
            .await
    }

    async fn read<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Read,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        send(self.inner.reads.as_ref(), make(answer))?;
        answered.await.map_err(|_| thread_ended())?
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let keys = keys.to_vec();
        self.read(|answer| Read::Get(Get { keys, answer })).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Found>, StoreError> {
        if scan.is_empty() {
            return Ok(Vec::new());
        }
        self.read(|answer| Read::Other(Other::Scan(scan, answer)))
            .await
    }

    async fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        group::check(&batch)?;
        let (answer, answered) = oneshot::channel();
        send(self.inner.work.as_ref(), Work { batch, answer })?;
        answered.await.map_err(|_| thread_ended())?
    }

    fn counters(&self) -> Counters {
        self.inner.tally.read()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Without senders the threads finish what they have and end. The writer last: its
        // connection, when it is the only one left, empties the log into the file. The lock
        // outlives them all, so that whoever opens the file next finds it closed.
        self.reads = None;
        let readers = self.readers.drain(..).map(JoinHandle::join);
        let mut ended: Vec<_> = readers.collect();
        self.work = None;
        ended.extend(self.writer.take().map(JoinHandle::join));
        if ended.iter().any(Result::is_err) {
            tracing::error!(path = %self.path.display(), "a thread of the database panicked");
        }
    }
}

fn send<T>(sender: Option<&Sender<T>>, message: T) -> Result<(), StoreError> {
    match sender.map(|sender| sender.send(message)) {
        Some(Ok(())) => Ok(()),
        _ => Err(thread_ended()),
    }
}

fn thread_ended() -> StoreError {
    StoreError::Database("its thread has ended: restart the operator".into())
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(|error| StoreError::Database(format!("no thread could be started: {error}")))
}
