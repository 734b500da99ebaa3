//! Places for the three backends.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tempfile::TempDir;

use super::{Backend, Place};
use crate::{Memory, Postgres, Sqlite, Store};

/// Tests [`Memory`].
#[derive(Clone, Copy, Debug, Default)]
pub struct InMemory;

struct MemoryPlace(Mutex<Memory>);

#[async_trait]
impl Backend for InMemory {
    async fn fresh(&self) -> Box<dyn Place> {
        Box::new(MemoryPlace(Mutex::new(Memory::new())))
    }
}

#[async_trait]
impl Place for MemoryPlace {
    async fn open(&self) -> Arc<dyn Store> {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *latest = latest.reopen();
        Arc::new(latest.clone())
    }

    fn groups(&self) -> bool {
        false
    }
}

/// Tests [`Sqlite`], each time in a temporary folder.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnSqlite;

/// A temporary folder with a database file.
#[derive(Debug)]
pub struct SqlitePlace(TempDir);

impl SqlitePlace {
    /// An empty folder.
    #[must_use]
    pub fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder can be made"))
    }

    /// The database file, there or not.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.0.path().join("operator.db")
    }
}

impl Default for SqlitePlace {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Backend for OnSqlite {
    async fn fresh(&self) -> Box<dyn Place> {
        Box::new(SqlitePlace::new())
    }
}

#[async_trait]
impl Place for SqlitePlace {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(Sqlite::open(self.path()).await.expect("the file opens"))
    }
}

/// Tests [`Postgres`], each time in a schema of its own.
#[derive(Clone, Debug)]
pub struct OnPostgres {
    url: String,
}

/// A schema that no other test uses.
#[derive(Debug)]
pub struct PostgresPlace {
    /// The server.
    pub url: String,
    /// The schema, there or not.
    pub schema: String,
}

impl OnPostgres {
    /// The server that `TINDERBOX_TEST_POSTGRES` names. `None` if `TINDERBOX_SKIP_POSTGRES` is 1.
    ///
    /// # Panics
    /// If neither is set: tests that nobody ran must not look as if they had passed.
    #[must_use]
    pub fn from_environment() -> Option<Self> {
        if std::env::var("TINDERBOX_SKIP_POSTGRES").is_ok_and(|value| value == "1") {
            return None;
        }
        match std::env::var("TINDERBOX_TEST_POSTGRES") {
            Ok(url) if !url.is_empty() => Some(Self { url }),
            _ => panic!(
                "TINDERBOX_TEST_POSTGRES is not set: run `make test`, which starts a private \
                 PostgreSQL server; or name a server in it; or set TINDERBOX_SKIP_POSTGRES=1 to \
                 leave the tests on PostgreSQL out"
            ),
        }
    }

    /// A schema name that is not in use.
    #[must_use]
    pub fn place(&self) -> PostgresPlace {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let since = std::time::UNIX_EPOCH
            .elapsed()
            .map_or(0, |age| age.as_nanos());
        PostgresPlace {
            url: self.url.clone(),
            schema: format!(
                "test_{}_{}_{since}",
                std::process::id(),
                NUMBER.fetch_add(1, Ordering::Relaxed),
            ),
        }
    }
}

impl PostgresPlace {
    /// A plain connection, for tests that look behind the store.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn connect(&self) -> tokio_postgres::Client {
        let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls)
            .await
            .expect("the test server answers");
        tokio::spawn(connection);
        client
    }

    /// Opens the tables once more, as another process would.
    ///
    /// # Panics
    /// If that fails.
    pub async fn another(&self) -> Postgres {
        Postgres::open(&self.url, &self.schema)
            .await
            .expect("the schema opens")
    }
}

#[async_trait]
impl Backend for OnPostgres {
    async fn fresh(&self) -> Box<dyn Place> {
        Box::new(self.place())
    }
}

#[async_trait]
impl Place for PostgresPlace {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.another().await)
    }

    async fn remove(self: Box<Self>) {
        let drop = format!("DROP SCHEMA IF EXISTS \"{}\" CASCADE", self.schema);
        let client = self.connect().await;
        client
            .batch_execute(&drop)
            .await
            .expect("the test's schema can be dropped");
    }
}
