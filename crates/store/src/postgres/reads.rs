//! Reading, with requests that wait together answered together.

use std::collections::BTreeSet;
use std::sync::Arc;

use deadpool_postgres::Object;
use tinderbox_flows::record::{Key, Stored};
use tokio::sync::{mpsc, oneshot};

use super::failure::{Attempts, Failure};
use super::{Shared, statement, task_ended};
use crate::{Found, Scan, StoreError};

/// How many requests are answered by one statement at most.
const MERGE: usize = 128;

/// A request for rows.
pub(super) struct Get {
    pub(super) keys: Vec<Key>,
    pub(super) answer: oneshot::Sender<Result<Vec<Option<Stored>>, StoreError>>,
}

/// Reads until nobody can ask any more.
pub(super) async fn run(shared: Arc<Shared>, mut incoming: mpsc::UnboundedReceiver<Get>) {
    // First the permit, then the requests: while all connections are busy, requests gather.
    while let Ok(permit) = Arc::clone(&shared.reading).acquire_owned().await {
        let Some(first) = incoming.recv().await else {
            break;
        };
        let mut requests = vec![first];
        while requests.len() < MERGE {
            let Ok(next) = incoming.try_recv() else { break };
            requests.push(next);
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            get(&shared, requests).await;
            drop(permit);
        });
    }
}

async fn get(shared: &Shared, requests: Vec<Get>) {
    let keys: BTreeSet<&Key> = requests.iter().flat_map(|get| &get.keys).collect();
    let keys = &statement::keys(keys);
    let outcome = retried(shared, |client| async move {
        let found = statement::rows(&client, &shared.sql, keys).await;
        (client, found)
    })
    .await;
    for Get { keys, answer } in requests {
        let reply = match &outcome {
            Ok(found) => Ok(keys.iter().map(|key| found.get(key).cloned()).collect()),
            Err(error) => Err(error.clone()),
        };
        // Whoever has gone does not need it.
        let _gone = answer.send(reply);
    }
}

/// A range of an index.
pub(super) async fn scan(shared: &Shared, scan: &Scan) -> Result<Vec<Found>, StoreError> {
    let _permit = shared.reading.acquire().await.map_err(|_| task_ended())?;
    retried(shared, |client| async move {
        let found = statement::scan(&client, &shared.sql, scan).await;
        (client, found)
    })
    .await
}

/// Asks the server for a sign of life.
pub(super) async fn check(shared: &Shared) -> Result<(), StoreError> {
    retried(shared, |client| async move {
        let answer = client.batch_execute("SELECT 1").await;
        let answer = answer.map_err(|error| Failure::of_statement(&error));
        (client, answer)
    })
    .await
}

/// Runs one statement that reads, with further attempts if the connection was lost. `run` hands
/// the connection back.
async fn retried<T, F>(shared: &Shared, run: impl Fn(Object) -> F) -> Result<T, StoreError>
where
    F: Future<Output = (Object, Result<T, Failure>)>,
{
    let mut attempts = Attempts::new();
    loop {
        let outcome = match shared.pool.get().await {
            Ok(client) => {
                shared.tally.statements(1);
                let (client, outcome) = run(client).await;
                if outcome.is_err() {
                    // The error may have left it in any state: the pool opens another one.
                    drop(Object::take(client));
                }
                outcome
            }
            Err(error) => Err(Failure::of_pool(&error)),
        };
        match outcome {
            Ok(found) => return Ok(found),
            Err(failure) => attempts.next(failure).await?,
        }
    }
}
