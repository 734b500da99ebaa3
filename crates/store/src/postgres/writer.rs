//! The task that writes.

use std::sync::Arc;
use std::time::Instant;

use deadpool_postgres::{ClientWrapper, Object};
use tinderbox_flows::record::Batch;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_postgres::types::ToSql;

use super::failure::{Attempts, Failure};
use super::{Shared, WRITERS, locks, statement};
use crate::StoreError;
use crate::group::{self, Plan};

/// How many rows may be expected to be absent in one transaction, after which no further batch is
/// taken in: each costs the server one lock out of a limited number.
const MAX_ABSENT: usize = 1024;

/// A batch, and who waits for it.
pub(super) struct Work {
    pub(super) batch: Batch,
    pub(super) answer: oneshot::Sender<Result<(), StoreError>>,
}

/// Writes until nobody can hand in batches any more.
pub(super) async fn run(shared: Arc<Shared>, mut incoming: mpsc::UnboundedReceiver<Work>) {
    let writing = Arc::new(Semaphore::new(WRITERS));
    // First the permit, then the batches: while all transactions are busy, batches gather.
    while let Ok(permit) = Arc::clone(&writing).acquire_owned().await {
        let Some(first) = incoming.recv().await else {
            break;
        };
        let weigh = |batch: &Batch| {
            let absent = group::expected_absent(std::slice::from_ref(batch)).len();
            (group::size(batch), absent)
        };
        let (mut bytes, mut absent) = weigh(&first.batch);
        let mut batches = vec![first.batch];
        let mut answers = vec![first.answer];
        while batches.len() < group::MAX_BATCHES && bytes < group::MAX_BYTES && absent < MAX_ABSENT
        {
            let Ok(next) = incoming.try_recv() else { break };
            let (more, more_absent) = weigh(&next.batch);
            bytes += more;
            absent += more_absent;
            batches.push(next.batch);
            answers.push(next.answer);
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let outcomes = write(&shared, &batches).await;
            drop(permit);
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                // Whoever has gone does not need it.
                let _gone = answer.send(outcome);
            }
        });
    }
}

/// Writes a group, with further attempts as long as it is certain that nothing was written.
async fn write(shared: &Shared, batches: &[Batch]) -> Vec<Result<(), StoreError>> {
    let mut attempts = Attempts::new();
    loop {
        let failure = match attempt_once(shared, batches).await {
            Ok(outcomes) => return outcomes,
            Err(failure) => failure,
        };
        if let Err(error) = attempts.next(failure).await {
            tracing::error!(schema = shared.sql.schema, %error, batches = batches.len(), "write failed");
            return vec![Err(error); batches.len()];
        }
    }
}

async fn attempt_once(
    shared: &Shared,
    batches: &[Batch],
) -> Result<Vec<Result<(), StoreError>>, Failure> {
    let client = shared
        .pool
        .get()
        .await
        .map_err(|error| Failure::of_pool(&error))?;
    let outcome = transaction(shared, &client, batches).await;
    if outcome.is_err() {
        shared.tally.statements(1);
        if client.batch_execute("ROLLBACK").await.is_err() {
            // Not to be handed out again: the pool opens another one.
            drop(Object::take(client));
        }
    }
    let plan = outcome?;
    let (passed, conflicts) = plan.tally();
    shared.tally.answered(passed, conflicts);
    Ok(plan.outcomes)
}

async fn transaction<'a>(
    shared: &Shared,
    client: &ClientWrapper,
    batches: &'a [Batch],
) -> Result<Plan<'a>, Failure> {
    let failed = |error: tokio_postgres::Error| Failure::of_statement(&error);
    let sql = &shared.sql;
    let began = Instant::now();
    let locks = locks::absent(group::expected_absent(batches));
    let keys = statement::keys(group::touched(batches));
    let lock = client.prepare_cached(&sql.lock).await.map_err(failed)?;
    let versions = client.prepare_cached(&sql.versions).await.map_err(failed)?;
    // Sent in one go; the server does them in order. The rows are read in a statement of their
    // own after the locks are taken, so that it sees what the former holder of a lock committed.
    let locking = async {
        if locks.is_empty() {
            return Ok(());
        }
        let parameters: [&(dyn ToSql + Sync); 1] = [&locks];
        client.execute(&lock, &parameters).await.map(|_| ())
    };
    let parameters: [&(dyn ToSql + Sync); 2] = [&keys.tables, &keys.ids];
    let (begun, locked, rows) = futures::join!(
        client.batch_execute("BEGIN"),
        locking,
        client.query(&versions, &parameters)
    );
    shared
        .tally
        .statements(if locks.is_empty() { 2 } else { 3 });
    begun.map_err(failed)?;
    locked.map_err(failed)?;
    let rows = rows.map_err(failed)?;
    let found = statement::versions(&rows).map_err(Failure::Final)?;
    let plan = group::decide(&found, batches);
    if plan.is_empty() {
        shared.tally.statements(1);
        client.batch_execute("COMMIT").await.map_err(failed)?;
        return Ok(plan);
    }
    shared.tally.statements(2);
    statement::execute(client, sql, &plan).await?;
    client
        .batch_execute("COMMIT")
        .await
        .map_err(|error| Failure::of_commit(&error))?;
    shared.tally.commit(plan.tally().0, began.elapsed());
    Ok(plan)
}
