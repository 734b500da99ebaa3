//! Opening the file: lock, identity, schema, settings.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::StoreError;

mod embedded {
    #![allow(missing_docs, unreachable_pub)]
    refinery::embed_migrations!("migrations/sqlite");
}

/// Stands in the file's header, so that other tools and we know whose it is ("Tndr").
const APPLICATION_ID: i32 = 0x546e_6472;

/// How long to wait for an outside tool (a backup, a shell) that holds SQLite's own lock.
const BUSY: Duration = Duration::from_secs(5);

/// Prepared statements kept per connection: every shape of every statement fits.
const STATEMENTS: usize = 96;

/// Keeps other processes out, until the file that is handed back is closed.
pub(super) fn take_lock(path: &Path) -> Result<File, StoreError> {
    let cannot = |what: &Path, error: std::io::Error| {
        StoreError::Database(format!(
            "{} cannot be opened ({error}): check the path and its permissions",
            what.display()
        ))
    };
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        std::fs::create_dir_all(folder).map_err(|error| cannot(folder, error))?;
    }
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = private(OpenOptions::new().create(true).write(true).truncate(false))
        .open(&name)
        .map_err(|error| cannot(&name, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: path.into() }),
        Err(TryLockError::Error(error)) => return Err(cannot(&name, error)),
    }
    // Made here and not by SQLite, which would let everybody read it.
    private(OpenOptions::new().create(true).append(true))
        .open(path)
        .map_err(|error| cannot(path, error))?;
    Ok(file)
}

/// Nobody but the owner reads or writes the file.
pub(super) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// The connection that writes; the file is ours and has the schema of this release afterwards.
pub(super) fn writer(path: &Path) -> Result<Connection, StoreError> {
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let failed = |error| explain(path, &error);
    claim(path, &connection)?;
    for (name, value) in [
        ("journal_mode", "WAL"),
        ("synchronous", "FULL"),
        ("secure_delete", "ON"),
        // Pages of 4 KiB: a checkpoint each 16 MiB, and no more than 64 MiB of log left lying.
        ("wal_autocheckpoint", "4000"),
        ("journal_size_limit", "67108864"),
        ("cache_size", "-65536"),
    ] {
        connection
            .pragma_update_and_check(None, name, value, |_| Ok(()))
            .or_else(|error| match error {
                rusqlite::Error::QueryReturnedNoRows => Ok(()),
                other => Err(other),
            })
            .map_err(failed)?;
    }
    let mode: String = pragma(&connection, "journal_mode").map_err(failed)?;
    if mode != "wal" {
        return Err(StoreError::Database(format!(
            "{} cannot be put into write-ahead mode (it is '{mode}'): put it on a local disk",
            path.display()
        )));
    }
    embedded::migrations::runner()
        .run(&mut connection)
        .map_err(|error| {
            StoreError::Database(format!(
                "{} could not be brought to the schema of this release ({error}): restore the \
                 backup that was made before the upgrade, or run the release that wrote it",
                path.display()
            ))
        })?;
    connection
        .pragma_update(None, "user_version", known())
        .map_err(failed)?;
    Ok(connection)
}

/// A connection that reads.
pub(super) fn reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection
        .pragma_update(None, "cache_size", "-16384")
        .map_err(|error| explain(path, &error))?;
    Ok(connection)
}

/// The latest schema version that this release knows.
fn known() -> u32 {
    let runner = embedded::migrations::runner();
    let versions = runner.get_migrations().iter().map(|one| one.version());
    versions.max().unwrap_or(0)
}

fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let open = || {
        let connection =
            Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "trusted_schema", "OFF")?;
        connection.pragma_update(None, "cell_size_check", "ON")?;
        Ok(connection)
    };
    open().map_err(|error| explain(path, &error))
}

/// Makes sure that the file is an operator's database, or empty and ours from now on.
fn claim(path: &Path, connection: &Connection) -> Result<(), StoreError> {
    let failed = |error| explain(path, &error);
    let owner: i32 = pragma(connection, "application_id").map_err(failed)?;
    let found: u32 = pragma(connection, "user_version").map_err(failed)?;
    if owner == APPLICATION_ID {
        let known = known();
        return if found > known {
            Err(StoreError::Newer { found, known })
        } else {
            Ok(())
        };
    }
    let tables: u32 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(failed)?;
    if owner != 0 || found != 0 || tables != 0 {
        return Err(StoreError::Foreign {
            path: path.into(),
            detail: format!("application id {owner:#x}, {tables} tables"),
        });
    }
    connection
        .pragma_update(None, "application_id", APPLICATION_ID)
        .map_err(failed)
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

/// What SQLite said, with what to do about it.
pub(super) fn explain(path: &Path, error: &rusqlite::Error) -> StoreError {
    let place = path.display();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged {
            path: path.into(),
            detail: error.to_string(),
        },
        Some(ErrorCode::DiskFull) => StoreError::Database(format!(
            "the disk of {place} is full ({error}): make room, then try again"
        )),
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            StoreError::Database(format!(
                "{place} cannot be opened for writing ({error}): check the path and its permissions"
            ))
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Database(format!(
            "{place} is locked by another program ({error}): close it, then try again"
        )),
        _ => StoreError::Database(format!("{place}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::backend::SqlitePlace;

    #[test]
    fn writer_forces_every_commit_to_disk_and_overwrites_what_is_deleted() {
        let place = SqlitePlace::new();
        let _lock = take_lock(&place.path()).unwrap();
        let connection = writer(&place.path()).unwrap();
        let number = |name| pragma::<i64>(&connection, name).unwrap();
        assert_eq!(number("synchronous"), 2);
        assert_eq!(number("secure_delete"), 1);
        assert_eq!(number("application_id"), i64::from(APPLICATION_ID));
        assert_eq!(number("user_version"), i64::from(known()));
        assert_eq!(number("wal_autocheckpoint"), 4000);
        let mode: String = pragma(&connection, "journal_mode").unwrap();
        assert_eq!(mode, "wal");
    }

    #[test]
    fn reader_cannot_write() {
        let place = SqlitePlace::new();
        let _lock = take_lock(&place.path()).unwrap();
        let _writer = writer(&place.path()).unwrap();
        let reader = reader(&place.path()).unwrap();
        let refused = reader.execute("DELETE FROM record", []).unwrap_err();
        assert_eq!(refused.sqlite_error_code(), Some(ErrorCode::ReadOnly));
    }
}
