//! What can go wrong.

use std::path::PathBuf;

use tinderbox_flows::record::{Key, Unreadable};

/// Why a store did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another batch changed a row that this one was based on; read again and decide again.
    #[error(
        "row {} of table {:?} changed meanwhile (expected version {expected}, found {found}): read it again",
        hex::encode(&.key.id),
        .key.table
    )]
    Conflict {
        /// The row.
        key: Key,
        /// The version that the batch was based on.
        expected: u64,
        /// The version that is there.
        found: u64,
    },
    /// The database does not answer, or refused. Nothing is known about the batch's outcome.
    #[error("the database failed: {0}")]
    Database(String),
    /// The database was written by a newer release.
    #[error("the database has schema {found}, this release knows {known}: run the newer release")]
    Newer {
        /// Schema version in the database.
        found: u32,
        /// Latest schema version known here.
        known: u32,
    },
    /// The batch contradicts itself; a mistake of the program that made it. Nothing was written.
    #[error("the batch is malformed and was not applied: {0}")]
    Invalid(String),
    /// A row is there, and cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The file is damaged.
    #[error(
        "the database {} is damaged ({detail}): stop the operator, keep a copy of the file with \
         its -wal file, and restore the latest backup",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        detail: String,
    },
    /// The file belongs to another program.
    #[error(
        "{} is not an operator's database ({detail}): give the path of one, or of a file that does not exist yet",
        path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How it was noticed.
        detail: String,
    },
    /// Another process has the file open.
    #[error(
        "the database {} is in use by another process: stop that one first, or use PostgreSQL, \
         which several processes may share",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The configuration string is wrong.
    #[error(
        "{0}; a database is given as sqlite:PATH or postgres://USER:PASSWORD@HOST:PORT/NAME?schema=SCHEMA"
    )]
    Config(String),
}

impl StoreError {
    /// True if the same request, decided again from what is stored now, may succeed.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }
}
