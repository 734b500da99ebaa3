//! One schema of a PostgreSQL database, shared by any number of processes.
//!
//! A task takes all batches that wait and writes them in one transaction; two such transactions
//! may be under way, so that one is decided while another is forced to disk. Rows are locked in
//! order before they are compared, and rows that are expected to be absent by an advisory lock on
//! their key, so that processes exclude each other and never wait in a circle. Requests for rows
//! that arrive together are answered by one statement as well.
//!
//! Connections come from a pool and are replaced when the server has been away. What is known not
//! to have been written is tried again for a moment; what may have been is
//! [`StoreError::Database`].

mod connect;
mod failure;
mod locks;
mod reads;
mod statement;
mod writer;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use deadpool_postgres::Pool;
use tinderbox_flows::record::{Batch, Key, Stored};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::counters::Tally;
use crate::{Counters, Found, Scan, Store, StoreError, group};
use statement::Sql;

/// Transactions that write, and statements that read, under way at once per handle.
const WRITERS: usize = 2;
const READERS: usize = 4;

/// What all tasks of a handle share.
struct Shared {
    pool: Pool,
    sql: Sql,
    tally: Tally,
    reading: Arc<Semaphore>,
}

/// Tables in a PostgreSQL schema. Clones are the same handle; when the last one is dropped, what
/// was handed in is still written, and the connections are closed.
#[derive(Clone)]
pub struct Postgres {
    shared: Arc<Shared>,
    work: mpsc::UnboundedSender<writer::Work>,
    gets: mpsc::UnboundedSender<reads::Get>,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("schema", &self.shared.sql.schema)
            .field("pool", &self.shared.pool.status())
            .finish()
    }
}

impl Postgres {
    /// Connects to the server at `url`; makes the schema if there is none; brings it to what this
    /// release needs. Several processes may do so at once.
    ///
    /// # Errors
    /// [`StoreError::Config`], [`StoreError::Newer`], [`StoreError::Database`].
    pub async fn open(url: &str, schema: &str) -> Result<Self, StoreError> {
        let config = connect::config(url, schema)?;
        connect::migrate(&config, schema).await?;
        let shared = Arc::new(Shared {
            pool: connect::pool(config)?,
            sql: Sql::new(schema),
            tally: Tally::new("postgres"),
            reading: Arc::new(Semaphore::new(READERS)),
        });
        let (work, incoming) = mpsc::unbounded_channel();
        tokio::spawn(writer::run(Arc::clone(&shared), incoming));
        let (gets, incoming) = mpsc::unbounded_channel();
        tokio::spawn(reads::run(Arc::clone(&shared), incoming));
        Ok(Self { shared, work, gets })
    }

    /// Asks the server for a sign of life.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn check(&self) -> Result<(), StoreError> {
        reads::check(&self.shared).await
    }
}

#[async_trait]
impl Store for Postgres {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, answered) = oneshot::channel();
        let keys = keys.to_vec();
        self.gets
            .send(reads::Get { keys, answer })
            .map_err(|_| task_ended())?;
        answered.await.map_err(|_| task_ended())?
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Found>, StoreError> {
        if scan.is_empty() {
            return Ok(Vec::new());
        }
        reads::scan(&self.shared, &scan).await
    }

    async fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        group::check(&batch)?;
        let (answer, answered) = oneshot::channel();
        self.work
            .send(writer::Work { batch, answer })
            .map_err(|_| task_ended())?;
        answered.await.map_err(|_| task_ended())?
    }

    fn counters(&self) -> Counters {
        self.shared.tally.read()
    }
}

fn task_ended() -> StoreError {
    StoreError::Database("its task has ended, because the process shuts down".into())
}
