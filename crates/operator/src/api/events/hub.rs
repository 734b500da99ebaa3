//! From the log to events, once for all streams of this process.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::flow::Touch;
use tinderbox_flows::refusal::Refusal;
use tinderbox_flows::rows::Subject;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::render::{Wanted, render};
use crate::api::Api;
use crate::convert::spark::subscribe_to_events_response::Event;
use crate::events::{Cursor, Entry, Log};

/// Events that one stream may fall behind before it is ended.
const BACKLOG: usize = 256;
/// How often the log is looked at although this process wrote nothing: other processes of the same
/// operator may have.
const LOOK: Duration = Duration::from_millis(150);
/// Pause after a failure.
const PAUSE: Duration = Duration::from_millis(500);
/// Failures in a row after which what cannot be read is left out.
const MOST_FAILURES: u32 = 20;
/// Shortest time between two looks.
const GATHER: Duration = Duration::from_millis(15);
/// Notices read in one go.
const CHUNK: usize = 512;

/// An event with its place in the log.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The place.
    pub place: u64,
    /// The event; none if only the place is news.
    pub event: Option<Event>,
}

struct Stream {
    out: mpsc::Sender<Placed>,
    /// Who listens; none without a session.
    reader: Option<PublicKey>,
    /// Every change, not only what the contract has events for.
    all: bool,
}

#[derive(Default)]
struct State {
    /// How far the streams have been fed; none before the log was read.
    at: Option<Cursor>,
    streams: HashMap<PublicKey, Vec<Stream>>,
}

/// The streams of this process, by the wallet that they are about.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<State>>);

/// What a new stream listens to.
pub struct Listening {
    /// The place after which events come.
    pub since: Cursor,
    /// Events. The channel closes if its reader is too slow.
    pub events: mpsc::Receiver<Placed>,
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events about `identity` from now on; none while the log has not been read.
    #[must_use]
    pub fn listen(
        &self,
        identity: PublicKey,
        reader: Option<PublicKey>,
        all: bool,
    ) -> Option<Listening> {
        let (out, events) = mpsc::channel(BACKLOG);
        let mut state = self.state();
        let since = state.at?;
        state
            .streams
            .entry(identity)
            .or_default()
            .push(Stream { out, reader, all });
        Some(Listening { since, events })
    }

    /// How far the streams have been fed.
    #[must_use]
    pub fn at(&self) -> Option<Cursor> {
        self.state().at
    }

    /// Forgets streams that ended.
    pub fn sweep(&self) {
        self.state().streams.retain(|_, streams| {
            streams.retain(|stream| !stream.out.is_closed());
            !streams.is_empty()
        });
    }

    /// Ends every stream.
    pub fn close(&self) {
        self.state().streams.clear();
    }

    /// Feeds the streams from the log until `stop`. `calls` only say when to look.
    pub async fn run(
        self,
        api: Api,
        log: Log,
        mut calls: broadcast::Receiver<Touch>,
        stop: impl Future<Output = ()>,
    ) {
        tokio::pin!(stop);
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let pause = match self.feed(&api, &log).await {
                Ok(()) => {
                    failures = 0;
                    LOOK
                }
                Err(why) => {
                    tracing::warn!(why, "events could not be read; trying again");
                    failures += 1;
                    if failures % MOST_FAILURES == 0 {
                        self.skip(&log).await;
                    }
                    PAUSE
                }
            };
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(pause) => {}
                called = calls.recv() => {
                    if matches!(called, Err(RecvError::Closed)) {
                        break;
                    }
                    // One look serves many calls: each costs a write.
                    tokio::time::sleep_until(begun + GATHER).await;
                    calls = calls.resubscribe();
                }
            }
        }
        self.close();
    }

    /// Leaves out what cannot be read, so that everybody else hears what comes after it. All
    /// streams begin anew.
    async fn skip(&self, log: &Log) {
        if let Ok(head) = log.head().await {
            tracing::error!("notices were left out; streams begin anew");
            let mut state = self.state();
            state.at = Some(head);
            state.streams.clear();
        }
    }

    async fn feed(&self, api: &Api, log: &Log) -> Result<(), String> {
        let head = log.advance().await.map_err(|error| error.to_string())?;
        let mut at = match self.at() {
            Some(at) if at.log == head.log => at,
            _ => {
                self.state().at = Some(head);
                return Ok(());
            }
        };
        while at.place < head.place {
            let entries = log
                .after(at.place, CHUNK)
                .await
                .map_err(|error| error.to_string())?;
            let Some(last) = entries.last().map(|entry| entry.place) else {
                break;
            };
            let events = self
                .events(api, &entries)
                .await
                .map_err(|refusal| refusal.to_string())?;
            at.place = last;
            self.send(at, &entries, events);
        }
        Ok(())
    }

    /// The events of those whom anybody listens for.
    async fn events(
        &self,
        api: &Api,
        entries: &[Entry],
    ) -> Result<Vec<(Wanted, Option<Event>)>, Refusal> {
        let wanted: Vec<Wanted> = {
            let state = self.state();
            entries
                .iter()
                .flat_map(Wanted::of)
                .filter(|wanted| state.streams.contains_key(&wanted.told.identity))
                .collect()
        };
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let events = render(api, &wanted).await?;
        Ok(wanted.into_iter().zip(events).collect())
    }

    fn send(&self, at: Cursor, entries: &[Entry], events: Vec<(Wanted, Option<Event>)>) {
        let mut state = self.state();
        state.at = Some(at);
        for (wanted, event) in events {
            let Some(event) = event else { continue };
            let Some(streams) = state.streams.get_mut(&wanted.told.identity) else {
                continue;
            };
            // A reader that is too slow is let go: it comes back and asks for what it missed.
            streams.retain(|stream| {
                let concerns = stream.all || wanted.told.contract;
                !concerns
                    || stream
                        .out
                        .try_send(Placed {
                            place: wanted.place,
                            event: Some(event.clone()),
                        })
                        .is_ok()
            });
        }
        for entry in entries {
            if entry.notice.subject == Subject::Setting {
                // Who may listen may have changed: all but the wallet itself come back and are
                // asked again.
                for told in &entry.notice.told {
                    if let Some(streams) = state.streams.get_mut(&told.identity) {
                        streams.retain(|stream| stream.reader == Some(told.identity));
                    }
                }
            }
        }
        state.streams.retain(|_, streams| !streams.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::secp256k1::{SECP256K1, SecretKey};
    use tinderbox_flows::rows::{Role, Told};
    use tinderbox_protocol::LeafId;

    use super::*;
    use crate::convert::spark::TransferEvent;

    fn key(byte: u8) -> PublicKey {
        SecretKey::from_slice(&[byte; 32])
            .unwrap()
            .public_key(SECP256K1)
    }

    const fn at(place: u64) -> Cursor {
        Cursor { log: [1; 8], place }
    }

    fn hub() -> Hub {
        let hub = Hub::default();
        hub.state().at = Some(at(0));
        hub
    }

    /// Feeds one event about `identity`.
    fn tell(hub: &Hub, place: u64, identity: PublicKey, contract: bool) {
        let wanted = Wanted {
            place,
            subject: Subject::Leaf(LeafId::from_bytes16([1; 16])),
            told: Told {
                identity,
                role: Role::Receiver,
                contract,
            },
        };
        let event = Event::ReceiverTransfer(TransferEvent::default());
        hub.send(at(place), &[], vec![(wanted, Some(event))]);
    }

    /// What a stream holds back is bounded, and a slow one costs nobody else anything.
    #[test]
    fn case_66_reader_that_does_not_read_is_let_go() {
        let hub = hub();
        let identity = key(7);
        let mut slow = hub.listen(identity, None, false).unwrap().events;
        let mut quick = hub.listen(identity, None, false).unwrap().events;
        let mut place = 0;
        for _ in 0..=BACKLOG {
            place += 1;
            tell(&hub, place, identity, true);
            assert_eq!(quick.try_recv().unwrap().place, place, "who reads is told");
        }
        let mut held = 0;
        while slow.try_recv().is_ok() {
            held += 1;
        }
        assert_eq!(held, BACKLOG);
        assert!(
            matches!(
                slow.try_recv(),
                Err(mpsc::error::TryRecvError::Disconnected)
            ),
            "it is told to come back"
        );
        tell(&hub, place + 1, identity, true);
        assert!(quick.try_recv().is_ok());
        drop(quick);
        hub.sweep();
        assert!(hub.state().streams.is_empty());
    }

    #[test]
    fn stream_hears_what_it_asked_for_from_where_it_began() {
        let hub = Hub::default();
        assert!(
            hub.listen(key(7), None, false).is_none(),
            "the log was not read"
        );
        hub.state().at = Some(at(4));
        let mut plain = hub.listen(key(7), None, false).unwrap();
        let mut all = hub.listen(key(7), None, true).unwrap();
        assert_eq!(plain.since, at(4));
        tell(&hub, 5, key(7), false);
        tell(&hub, 6, key(8), true);
        tell(&hub, 7, key(7), true);
        assert_eq!(plain.events.try_recv().unwrap().place, 7);
        assert!(plain.events.try_recv().is_err());
        assert_eq!(all.events.try_recv().unwrap().place, 5);
        assert_eq!(all.events.try_recv().unwrap().place, 7);
        assert_eq!(hub.at(), Some(at(7)));
    }

    #[test]
    fn change_of_settings_ends_streams_of_all_but_the_wallet_itself() {
        let hub = hub();
        let mut own = hub.listen(key(7), Some(key(7)), false).unwrap().events;
        let mut master = hub.listen(key(7), Some(key(9)), false).unwrap().events;
        let mut stranger = hub.listen(key(7), None, false).unwrap().events;
        let entry = Entry {
            place: 1,
            notice: tinderbox_flows::rows::Notice {
                subject: Subject::Setting,
                told: vec![Told {
                    identity: key(7),
                    role: Role::Owner,
                    contract: false,
                }],
            },
        };
        hub.send(at(1), &[entry], Vec::new());
        let ended = mpsc::error::TryRecvError::Disconnected;
        assert_eq!(master.try_recv().unwrap_err(), ended);
        assert_eq!(stranger.try_recv().unwrap_err(), ended);
        assert_eq!(
            own.try_recv().unwrap_err(),
            mpsc::error::TryRecvError::Empty
        );
    }
}
