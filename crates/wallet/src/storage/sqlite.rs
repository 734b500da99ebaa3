use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Change, Kind, Storage};
use crate::error::{Error, Result};

/// Each entry brings the file one version further. Entries are never changed once published.
const MIGRATIONS: &[&str] = &["CREATE TABLE records (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        value BLOB NOT NULL,
        PRIMARY KEY (kind, key)
    ) WITHOUT ROWID"];

/// Marks the file as ours ("tbwa"), so that another program's database is not taken for a wallet.
const APPLICATION_ID: i32 = 0x7462_7761;

/// Records in one SQLite file.
#[derive(Debug)]
pub struct SqliteStorage {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl SqliteStorage {
    /// Opens a wallet file, making it if it is not there, and brings an older one up to date.
    ///
    /// # Errors
    /// [`Error::StorageTooNew`] for a file that a newer program wrote, [`Error::ForeignFile`] for a
    /// database of something else, [`Error::Storage`] if the file cannot be used.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let mut connection = Connection::open(&path).map_err(|e| Error::storage(&path, e))?;
        prepare(&mut connection, &path)?;
        Ok(Self {
            path,
            connection: Mutex::new(connection),
        })
    }

    fn failed(&self, error: rusqlite::Error) -> Error {
        Error::storage(&self.path, error)
    }
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<()> {
    let failed = |e| Error::storage(path, e);
    connection
        .busy_timeout(Duration::from_secs(5))
        .map_err(failed)?;
    // Exit paths are worth money: a batch is on disk before its call returns.
    connection
        .pragma_update(None, "synchronous", "FULL")
        .map_err(failed)?;
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .map_err(failed)?;
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .map_err(failed)?;
    let integer = |name: &str| {
        transaction
            .pragma_query_value(None, name, |row| row.get::<_, i32>(0))
            .map_err(failed)
    };
    let found = usize::try_from(integer("user_version")?).unwrap_or(usize::MAX);
    let owner = integer("application_id")?;
    let tables: i64 = transaction
        .query_row(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table'",
            [],
            |row| row.get(0),
        )
        .map_err(failed)?;
    if owner != APPLICATION_ID && (owner != 0 || found != 0 || tables != 0) {
        return Err(Error::ForeignFile {
            path: path.to_owned(),
        });
    }
    let supported = MIGRATIONS.len();
    if found > supported {
        return Err(Error::StorageTooNew {
            path: path.to_owned(),
            found,
            supported,
        });
    }
    for migration in MIGRATIONS.iter().skip(found) {
        transaction.execute_batch(migration).map_err(failed)?;
    }
    transaction
        .pragma_update(None, "user_version", supported as i32)
        .map_err(failed)?;
    transaction
        .pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(failed)?;
    transaction.commit().map_err(failed)
}

impl Storage for SqliteStorage {
    fn get(&self, kind: Kind, key: &str) -> Result<Option<Vec<u8>>> {
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connection
            .prepare_cached("SELECT value FROM records WHERE kind = ?1 AND key = ?2")
            .and_then(|mut s| {
                s.query_row(params![kind.name(), key], |row| row.get(0))
                    .optional()
            })
            .map_err(|e| self.failed(e))
    }

    fn list(&self, kind: Kind) -> Result<Vec<(String, Vec<u8>)>> {
        let connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        connection
            .prepare_cached("SELECT key, value FROM records WHERE kind = ?1 ORDER BY key")
            .and_then(|mut s| {
                s.query_map([kind.name()], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .map_err(|e| self.failed(e))
    }

    fn apply(&self, changes: &[Change]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let run = |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            for change in changes {
                match change {
                    Change::Put { kind, key, value } => transaction
                        .prepare_cached(
                            "INSERT OR REPLACE INTO records (kind, key, value) VALUES (?1, ?2, ?3)",
                        )?
                        .execute(params![kind.name(), key, value])?,
                    Change::Delete { kind, key } => transaction
                        .prepare_cached("DELETE FROM records WHERE kind = ?1 AND key = ?2")?
                        .execute(params![kind.name(), key])?,
                };
            }
            transaction.commit()
        };
        run(&mut connection).map_err(|e| self.failed(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::suite;

    fn open(dir: &tempfile::TempDir) -> Result<SqliteStorage> {
        SqliteStorage::open(dir.path().join("wallet.db"))
    }

    #[test]
    fn kinds_do_not_mix() {
        let dir = tempfile::tempdir().unwrap();
        suite::kinds_do_not_mix(&open(&dir).unwrap());
    }

    #[test]
    fn later_changes_of_a_batch_win() {
        let dir = tempfile::tempdir().unwrap();
        suite::later_changes_of_a_batch_win(&open(&dir).unwrap());
    }

    #[test]
    fn lists_are_sorted_by_key() {
        let dir = tempfile::tempdir().unwrap();
        suite::lists_are_sorted_by_key(&open(&dir).unwrap());
    }

    #[test]
    fn records_outlive_the_process() {
        let dir = tempfile::tempdir().unwrap();
        let change = Change::Put {
            kind: Kind::Exit,
            key: "current".into(),
            value: b"state".to_vec(),
        };
        open(&dir).unwrap().apply(&[change]).unwrap();
        assert_eq!(
            open(&dir)
                .unwrap()
                .get(Kind::Exit, "current")
                .unwrap()
                .unwrap(),
            b"state"
        );
    }

    #[test]
    fn a_file_of_a_newer_version_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(&dir).unwrap());
        let path = dir.path().join("wallet.db");
        Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        let error = open(&dir).unwrap_err();
        assert!(
            matches!(error, Error::StorageTooNew { found: 99, .. }),
            "{error}"
        );
        let version: i32 = Connection::open(&path)
            .unwrap()
            .pragma_query_value(None, "user_version", |r| r.get(0))
            .unwrap();
        assert_eq!(version, 99);
    }

    #[test]
    fn a_database_of_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        Connection::open(dir.path().join("wallet.db"))
            .unwrap()
            .execute_batch("CREATE TABLE foreign_thing (x)")
            .unwrap();
        assert!(matches!(open(&dir).unwrap_err(), Error::ForeignFile { .. }));
    }

    #[test]
    fn a_file_that_is_no_database_is_a_clear_error() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("wallet.db"),
            b"this is a letter to a friend, not a database at all",
        )
        .unwrap();
        let error = open(&dir).unwrap_err();
        assert!(matches!(error, Error::Storage { .. }), "{error}");
    }
}
