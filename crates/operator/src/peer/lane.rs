//! A queue of messages for one operator.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tinderbox_rpc::proto::peer::Envelope;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::trace;

use super::batch::{Answer, FULL, Item, MAX_MESSAGES, open, seal};

/// Envelopes under way at a time.
const IN_FLIGHT: usize = 16;
/// Messages that may wait.
const QUEUE: usize = 65_536;
/// The first pause after a failure; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
/// The longest pause.
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// How an operator has been answering. Shared by its lanes.
#[derive(Debug, Default)]
pub(super) struct Health {
    up: AtomicBool,
    failures: AtomicU32,
    until: Mutex<Option<Instant>>,
}

impl Health {
    fn good(&self) {
        self.up.store(true, Ordering::Relaxed);
        if self.failures.swap(0, Ordering::Relaxed) > 0 {
            *self.until.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    fn bad(&self) {
        self.up.store(false, Ordering::Relaxed);
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).min(10);
        let pause = (FIRST_PAUSE * 2u32.pow(failures)).min(LAST_PAUSE);
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + pause);
    }

    /// True if the last exchange succeeded.
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    async fn pause(&self) {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
        }
    }
}

struct Ask {
    trace: Option<String>,
    body: Vec<u8>,
    answer: oneshot::Sender<Result<Vec<u8>, String>>,
}

/// A queue of messages for one operator, with its worker.
#[derive(Clone)]
pub(super) struct Lane {
    queue: mpsc::Sender<Ask>,
    limit: Duration,
}

impl Lane {
    /// A lane whose envelopes go through `send`. Every message has its answer within `limit`, or
    /// none.
    pub(super) fn start<S, F>(send: S, health: Arc<Health>, limit: Duration) -> Self
    where
        S: Fn(Envelope) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Envelope, tonic::Status>> + Send + 'static,
    {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(work(waiting, send, health, limit));
        Self { queue, limit }
    }

    /// Sends a message and waits for its answer.
    pub(super) async fn ask(&self, body: Vec<u8>) -> Result<Vec<u8>, String> {
        let (answer, wait) = oneshot::channel();
        self.queue
            .try_send(Ask {
                trace: trace::current().map(|trace| trace.to_string()),
                body,
                answer,
            })
            .map_err(|_| "too many messages wait for it".to_owned())?;
        match tokio::time::timeout(self.limit, wait).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("this process is stopping".into()),
            Err(_) => Err(format!("no answer within {} s", self.limit.as_secs())),
        }
    }
}

async fn work<S, F>(mut waiting: mpsc::Receiver<Ask>, send: S, health: Arc<Health>, limit: Duration)
where
    S: Fn(Envelope) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Envelope, tonic::Status>> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    while let Some(first) = waiting.recv().await {
        health.pause().await;
        // While the room is full, more messages gather.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let mut size = first.body.len();
        let mut batch = vec![first];
        while batch.len() < MAX_MESSAGES && size < FULL {
            let Ok(next) = waiting.try_recv() else { break };
            size += next.body.len();
            batch.push(next);
        }
        // Nobody waits for these any more.
        batch.retain(|ask| !ask.answer.is_closed());
        if batch.is_empty() {
            continue;
        }
        metrics::histogram!("tinderbox_peer_batch_messages")
            .record(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
        let (send, health) = (send.clone(), Arc::clone(&health));
        tokio::spawn(async move {
            exchange(batch, send, &health, limit).await;
            drop(permit);
        });
    }
}

async fn exchange<S, F>(batch: Vec<Ask>, send: S, health: &Health, limit: Duration)
where
    S: Fn(Envelope) -> F,
    F: Future<Output = Result<Envelope, tonic::Status>>,
{
    let (items, mut waiting): (Vec<Item>, Vec<_>) = (0u32..)
        .zip(batch)
        .map(|(number, ask)| {
            let item = Item {
                number,
                trace: ask.trace,
                body: ask.body,
            };
            (item, Some(ask.answer))
        })
        .unzip();
    let sent = async {
        let envelope = seal(&items).map_err(|error| error.to_string())?;
        let answered = tokio::time::timeout(limit, send(envelope)).await;
        match answered {
            Ok(Ok(envelope)) => {
                health.good();
                open::<Answer>(&envelope).map_err(|error| error.to_string())
            }
            Ok(Err(status)) => {
                health.bad();
                Err(format!("{:?}: {}", status.code(), status.message()))
            }
            Err(_) => {
                health.bad();
                Err(format!("no answer within {} s", limit.as_secs()))
            }
        }
    };
    match sent.await {
        Ok(answers) => {
            for answer in answers {
                let slot = usize::try_from(answer.number)
                    .ok()
                    .and_then(|number| waiting.get_mut(number))
                    .and_then(Option::take);
                if let Some(slot) = slot {
                    let _ = slot.send(answer.body);
                }
            }
            for slot in waiting.into_iter().flatten() {
                let _ = slot.send(Err("it left the message out of its answer".into()));
            }
        }
        Err(why) => {
            metrics::counter!("tinderbox_peer_failures_total").increment(1);
            for slot in waiting.into_iter().flatten() {
                let _ = slot.send(Err(why.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// Answers each message with itself, backwards.
    fn echo(envelope: &Envelope) -> Envelope {
        let answers: Vec<Answer> = open::<Item>(envelope)
            .unwrap()
            .into_iter()
            .rev()
            .map(|item| Answer {
                number: item.number,
                body: Ok(item.body),
            })
            .collect();
        seal(&answers).unwrap()
    }

    #[tokio::test]
    async fn everyone_gets_its_own_answer_and_waiting_messages_share_envelopes() {
        let envelopes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&envelopes);
        let lane = Lane::start(
            move |envelope| {
                counted.fetch_add(1, Ordering::Relaxed);
                async move {
                    tokio::task::yield_now().await;
                    Ok(echo(&envelope))
                }
            },
            Arc::default(),
            Duration::from_secs(5),
        );
        let asks = (0u16..1000).map(|number| {
            let lane = lane.clone();
            async move { lane.ask(number.to_be_bytes().to_vec()).await }
        });
        let answers = futures::future::join_all(asks).await;
        for (number, answer) in (0u16..).zip(answers) {
            assert_eq!(answer.unwrap(), number.to_be_bytes());
        }
        assert!(
            envelopes.load(Ordering::Relaxed) < 100,
            "messages were not batched"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn failure_reaches_every_asker_and_the_lane_recovers() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let health = Arc::new(Health::default());
        let lane = Lane::start(
            move |envelope| {
                let call = counted.fetch_add(1, Ordering::Relaxed);
                async move {
                    if call == 0 {
                        Err(tonic::Status::unavailable("down"))
                    } else {
                        Ok(echo(&envelope))
                    }
                }
            },
            Arc::clone(&health),
            Duration::from_secs(5),
        );
        assert!(lane.ask(vec![1]).await.unwrap_err().contains("down"));
        assert!(!health.is_up());
        assert_eq!(lane.ask(vec![2]).await.unwrap(), [2]);
        assert!(health.is_up());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_after_the_limit() {
        let lane = Lane::start(
            |_| std::future::pending::<Result<Envelope, tonic::Status>>(),
            Arc::default(),
            Duration::from_secs(3),
        );
        assert!(lane.ask(vec![1]).await.unwrap_err().contains("3 s"));
    }
}
