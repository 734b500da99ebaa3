//! The threads that read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tinderbox_flows::record::{Key, Stored};
use tokio::sync::oneshot;

use super::{connect, statement};
use crate::counters::Tally;
use crate::{Found, Scan, StoreError};

/// How many requests are answered by one statement at most.
const MERGE: usize = 64;

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// A request for rows.
pub(super) struct Get {
    pub(super) keys: Vec<Key>,
    pub(super) answer: Answer<Vec<Option<Stored>>>,
}

/// What can be asked.
pub(super) enum Read {
    Get(Get),
    Other(Other),
}

/// What is answered one at a time.
pub(super) enum Other {
    Scan(Scan, Answer<Vec<Found>>),
    Check(Answer<()>),
    Copy(PathBuf, Answer<()>),
}

pub(super) struct Reader {
    connection: Connection,
    path: PathBuf,
    tally: Arc<Tally>,
}

impl Reader {
    pub(super) fn new(connection: Connection, path: PathBuf, tally: Arc<Tally>) -> Self {
        Self {
            connection,
            path,
            tally,
        }
    }

    /// Reads until nobody can ask any more.
    pub(super) fn run(&mut self, incoming: &Mutex<Receiver<Read>>) {
        while let Some((gets, other)) = take(incoming) {
            self.get(gets);
            match other {
                None => {}
                Some(Other::Scan(scan, answer)) => {
                    self.tally.statements(1);
                    reply(
                        answer,
                        self.explained(statement::scan(&self.connection, &scan)),
                    );
                }
                Some(Other::Check(answer)) => reply(answer, self.check()),
                Some(Other::Copy(target, answer)) => reply(answer, self.copy(&target)),
            }
        }
    }

    /// Answers several requests for rows with one statement.
    fn get(&mut self, requests: Vec<Get>) {
        if requests.is_empty() {
            return;
        }
        let keys: BTreeSet<&Key> = requests.iter().flat_map(|get| &get.keys).collect();
        let keys: Vec<&Key> = keys.into_iter().collect();
        let mut found = BTreeMap::new();
        let outcome = self.snapshot(&keys, &mut found);
        let outcome = self.explained(outcome);
        for Get { keys, answer } in requests {
            let rows = keys.iter().map(|key| found.get(key).cloned()).collect();
            reply(answer, outcome.clone().map(|()| rows));
        }
    }

    /// All of `keys` as of one moment, in however many statements.
    fn snapshot(
        &mut self,
        keys: &[&Key],
        found: &mut BTreeMap<Key, Stored>,
    ) -> rusqlite::Result<()> {
        let mut each = |key, stored| {
            found.insert(key, stored);
        };
        if keys.len() <= statement::CHUNK {
            let statements = statement::rows(&self.connection, keys, each)?;
            self.tally.statements(statements);
            return Ok(());
        }
        let transaction = self.connection.transaction()?;
        let statements = statement::rows(&transaction, keys, &mut each)?;
        self.tally.statements(statements + 2);
        transaction.finish()
    }

    fn check(&self) -> Result<(), StoreError> {
        self.tally.statements(1);
        let verdict: String = self.explained(self.connection.query_row(
            "PRAGMA integrity_check(1)",
            [],
            |row| row.get(0),
        ))?;
        if verdict == "ok" {
            Ok(())
        } else {
            Err(StoreError::Damaged {
                path: self.path.clone(),
                detail: verdict,
            })
        }
    }

    fn copy(&self, target: &std::path::Path) -> Result<(), StoreError> {
        self.tally.statements(1);
        let failed = |error: &dyn std::fmt::Display| {
            StoreError::Database(format!(
                "no copy could be written to {} ({error}): give a path in an existing folder, at \
                 which there is no file yet, on a disk with enough room",
                target.display()
            ))
        };
        let file = connect::private(OpenOptions::new().write(true).create_new(true))
            .open(target)
            .map_err(|error| failed(&error))?;
        let name = target
            .to_str()
            .ok_or_else(|| failed(&"the path is not text"))?;
        self.connection
            .execute("VACUUM INTO ?1", [name])
            .map_err(|error| failed(&error))?;
        file.sync_all().map_err(|error| failed(&error))
    }

    fn explained<T>(&self, outcome: rusqlite::Result<T>) -> Result<T, StoreError> {
        outcome.map_err(|error| connect::explain(&self.path, &error))
    }
}

fn reply<T>(answer: Answer<T>, outcome: Result<T, StoreError>) {
    // Whoever has gone does not need it.
    let _gone = answer.send(outcome);
}

/// Waits for a request, and takes along the requests for rows that wait behind it, up to the first
/// of another kind. `None` when nobody can ask any more.
fn take(incoming: &Mutex<Receiver<Read>>) -> Option<(Vec<Get>, Option<Other>)> {
    let incoming = incoming.lock().unwrap_or_else(PoisonError::into_inner);
    let mut next = incoming.recv().ok()?;
    let mut gets = Vec::new();
    loop {
        match next {
            Read::Get(get) => gets.push(get),
            Read::Other(other) => return Some((gets, Some(other))),
        }
        if gets.len() >= MERGE {
            return Some((gets, None));
        }
        match incoming.try_recv() {
            Ok(read) => next = read,
            Err(_) => return Some((gets, None)),
        }
    }
}
