//! What an error of the server means for what was being done.

use std::error::Error as _;
use std::time::{Duration, Instant};

use deadpool_postgres::PoolError;
use tokio_postgres::Error;
use tokio_postgres::error::{Severity, SqlState};

use crate::StoreError;

/// For how long something that certainly did not happen is tried: a restart of the server fits in.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why an attempt did not succeed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing happened, and another attempt may succeed: two transactions were in each other's
    /// way, or the connection was lost before anything was committed.
    Passing(StoreError),
    /// Another attempt would fail alike, or the outcome is unknown.
    Final(StoreError),
}

impl Failure {
    /// The failure of a statement before the end of its transaction.
    pub(super) fn of_statement(error: &Error) -> Self {
        let explained = StoreError::Database(describe(error));
        if lost(error) || error.code().is_some_and(passing) {
            Self::Passing(explained)
        } else {
            Self::Final(explained)
        }
    }

    /// The failure of a `COMMIT`: only if the server itself refused it, it did not happen.
    pub(super) fn of_commit(error: &Error) -> Self {
        let refused = error
            .as_db_error()
            .is_some_and(|said| said.parsed_severity() == Some(Severity::Error));
        if refused {
            Self::of_statement(error)
        } else {
            Self::Final(StoreError::Database(format!(
                "the connection was lost during a commit, so its outcome is unknown: {}",
                describe(error)
            )))
        }
    }

    /// No connection could be had.
    pub(super) fn of_pool(error: &PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::of_statement(error),
            PoolError::PostCreateHook(_) | PoolError::Timeout(_) => {
                Self::Passing(StoreError::Database(format!(
                    "no connection to PostgreSQL could be had ({error}): check that it runs"
                )))
            }
            PoolError::Closed | PoolError::NoRuntimeSpecified => {
                Self::Final(StoreError::Database(error.to_string()))
            }
        }
    }
}

/// Further attempts at something that did not happen.
pub(super) struct Attempts {
    made: u32,
    began: Instant,
}

impl Attempts {
    pub(super) fn new() -> Self {
        Self {
            made: 0,
            began: Instant::now(),
        }
    }

    /// After a failed attempt: waits before the next one, or hands the error back if there is to
    /// be none.
    pub(super) async fn next(&mut self, failure: Failure) -> Result<(), StoreError> {
        self.made += 1;
        match failure {
            Failure::Passing(error) if self.began.elapsed() < PATIENCE => {
                tracing::debug!(%error, attempt = self.made, "tried again");
                // At once, then after 40, 80 … 640 ms.
                if self.made > 1 {
                    tokio::time::sleep(Duration::from_millis(10 << self.made.min(6))).await;
                }
                Ok(())
            }
            Failure::Passing(error) | Failure::Final(error) => Err(error),
        }
    }
}

/// True if the connection is gone or the server is going or coming.
fn lost(error: &Error) -> bool {
    let io = error
        .source()
        .is_some_and(|source| source.is::<std::io::Error>());
    io || error.is_closed()
        || error.as_db_error().is_some_and(|said| {
            matches!(
                said.parsed_severity(),
                Some(Severity::Fatal | Severity::Panic)
            ) && (said.code().code().starts_with("57P") || said.code().code().starts_with("08"))
        })
}

/// True for refusals that come from what others did at the same moment.
fn passing(code: &SqlState) -> bool {
    [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::UNIQUE_VIOLATION,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::TOO_MANY_CONNECTIONS,
        SqlState::CANNOT_CONNECT_NOW,
    ]
    .contains(code)
}

/// What the server said, in one line.
pub(super) fn describe(error: &Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{} ({})", said.message(), said.code().code()),
        None => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}
