//! The thread that writes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use rusqlite::{Connection, ErrorCode};
use tinderbox_flows::record::{Batch, Key};
use tokio::sync::oneshot;

use super::{connect, statement};
use crate::StoreError;
use crate::counters::Tally;
use crate::group::{self, Plan, Put};

/// A batch, and who waits for it.
pub(super) struct Work {
    pub(super) batch: Batch,
    pub(super) answer: oneshot::Sender<Result<(), StoreError>>,
}

pub(super) struct Writer {
    connection: Connection,
    path: PathBuf,
    tally: Arc<Tally>,
    /// Why nothing is written any more.
    broken: Option<StoreError>,
}

impl Writer {
    pub(super) fn new(connection: Connection, path: PathBuf, tally: Arc<Tally>) -> Self {
        Self {
            connection,
            path,
            tally,
            broken: None,
        }
    }

    /// Writes until nobody can hand in batches any more.
    pub(super) fn run(mut self, incoming: &Receiver<Work>) {
        while let Ok(first) = incoming.recv() {
            let mut bytes = group::size(&first.batch);
            let mut batches = vec![first.batch];
            let mut answers = vec![first.answer];
            while batches.len() < group::MAX_BATCHES && bytes < group::MAX_BYTES {
                let Ok(next) = incoming.try_recv() else { break };
                bytes += group::size(&next.batch);
                batches.push(next.batch);
                answers.push(next.answer);
            }
            let outcomes = self.group(&batches);
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // Whoever has gone does not need it.
                let _gone = answer.send(outcome);
            }
        }
    }

    fn group(&mut self, batches: &[Batch]) -> Vec<Result<(), StoreError>> {
        if let Some(broken) = &self.broken {
            return vec![Err(broken.clone()); batches.len()];
        }
        match self.transaction(batches) {
            Ok(plan) => {
                let (passed, conflicts) = plan.tally();
                self.tally.answered(passed, conflicts);
                plan.outcomes
            }
            Err(error) => {
                if !self.connection.is_autocommit() {
                    self.tally.statements(1);
                    if let Err(error) = self.connection.execute_batch("ROLLBACK") {
                        tracing::error!(path = %self.path.display(), %error, "rollback failed");
                    }
                }
                let explained = connect::explain(&self.path, &error);
                tracing::error!(path = %self.path.display(), %error, batches = batches.len(), "write failed");
                if error.sqlite_error_code() == Some(ErrorCode::SystemIoFailure) {
                    // After a failed write to disk nobody can tell what is on it: what the system
                    // still shows may be gone after the next loss of power.
                    self.broken = Some(StoreError::Database(format!(
                        "writing to {} failed ({error}), so nothing more is written: check the disk, \
                         then restart the operator",
                        self.path.display()
                    )));
                }
                vec![Err(explained); batches.len()]
            }
        }
    }

    fn transaction<'a>(&self, batches: &'a [Batch]) -> rusqlite::Result<Plan<'a>> {
        let began = Instant::now();
        let run = |sql| self.connection.prepare_cached(sql)?.execute([]);
        self.tally.statements(2);
        run("BEGIN IMMEDIATE")?;
        let keys: Vec<&Key> = group::touched(batches).into_iter().collect();
        let mut found = BTreeMap::new();
        let statements = statement::versions(&self.connection, &keys, |key, version| {
            found.insert(key, version);
        })?;
        self.tally.statements(statements);
        let plan = group::decide(&found, batches);
        if plan.is_empty() {
            run("ROLLBACK")?;
            return Ok(plan);
        }
        let puts: Vec<&Put<'_>> = plan.inserts.iter().chain(&plan.updates).collect();
        let statements = statement::put(&self.connection, &puts)?
            + statement::delete(&self.connection, &plan.deletes)?
            + statement::unlist(&self.connection, &plan.unlist)?
            + statement::list(&self.connection, &plan.list)?;
        self.tally.statements(statements);
        run("COMMIT")?;
        self.tally.commit(plan.tally().0, began.elapsed());
        Ok(plan)
    }
}
