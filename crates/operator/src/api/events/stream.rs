//! One stream: connected, then what it missed, then events, with a heartbeat in between.

use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use futures::Stream;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::Status;

use super::hub::Placed;
use super::render::{Wanted, render};
use crate::api::{Api, ApiError};
use crate::convert::field::public_key;
use crate::convert::spark::subscribe_to_events_response::Event;
use crate::convert::spark::{
    ConnectedEvent, HeartbeatEvent, SubscribeToEventsRequest, SubscribeToEventsResponse,
};
use crate::events::{Cursor, Log};
use crate::limits::StreamPermit;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_rpc::{Caller, ServiceError};

/// Wallets give up a stream that is silent for 15 seconds.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Notices that a stream which comes back is told at most; who was away for longer looks at
/// everything anew.
const MOST_MISSED: u64 = 20_000;
/// Notices read in one go while a stream catches up.
const CHUNK: usize = 512;
/// How long a stream waits for the log at start.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

/// What the contract calls a stream of events.
pub type EventStream =
    Pin<Box<dyn Stream<Item = Result<SubscribeToEventsResponse, Status>> + Send>>;

struct State {
    api: Api,
    identity: PublicKey,
    first: bool,
    resumed: bool,
    /// Every change, not only what the contract has events for.
    all: bool,
    /// Where the stream is in the log.
    at: Cursor,
    /// Up to here it catches up from the log; then it takes what the hub hears.
    live_from: u64,
    missed: VecDeque<Placed>,
    events: mpsc::Receiver<Placed>,
    heartbeat: Interval,
    _permit: StreamPermit,
}

/// Events about a wallet, until the wallet hangs up or is too slow: from now on, or after the
/// cursor that the wallet names if the log still reaches back to it.
pub async fn subscribe_to_events(
    api: Api,
    caller: Caller,
    request: SubscribeToEventsRequest,
) -> Result<EventStream, ApiError> {
    let identity = public_key("identity_public_key", &request.identity_public_key)?;
    if !api.may_read(&caller, &identity).await? {
        return Err(ApiError::private());
    }
    let permit = api
        .streams
        .admit(identity)
        .ok_or_else(|| ServiceError::rate_limited(HEARTBEAT))?;
    let reader = caller.identity().copied();
    // Listening begins before the wallet is told that it does: nothing falls in between.
    let listening = tokio::time::timeout(LOG_PATIENCE, async {
        loop {
            if let Some(listening) = api.hub.listen(identity, reader, request.every_change) {
                return listening;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .map_err(|_| {
        Refusal::new(
            Reason::OperatorUnavailable,
            "the operator cannot read its log of events: try again",
        )
    })?;
    // Settings may have changed between the look and the listening.
    if !api.may_read(&caller, &identity).await? {
        return Err(ApiError::private());
    }
    let since = listening.since;
    let resumed = match Cursor::from_bytes(&request.resume_after) {
        Some(cursor) if since.place.saturating_sub(cursor.place) <= MOST_MISSED => {
            let log = Log::new(&api.core);
            log.reaches(cursor).await?.then_some(cursor)
        }
        _ => None,
    };
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    let state = State {
        api,
        identity,
        first: true,
        resumed: resumed.is_some(),
        all: request.every_change,
        at: resumed.unwrap_or(since),
        live_from: since.place,
        missed: VecDeque::new(),
        events: listening.events,
        heartbeat,
        _permit: permit,
    };
    Ok(Box::pin(futures::stream::unfold(state, next)))
}

impl State {
    fn say(&self, event: Event) -> Result<SubscribeToEventsResponse, Status> {
        Ok(SubscribeToEventsResponse {
            event: Some(event),
            cursor: self.at.to_bytes(),
            resumed: self.first && self.resumed,
        })
    }

    /// The next event that the wallet missed, if it has not caught up.
    async fn catch_up(&mut self) -> Result<Option<Placed>, ApiError> {
        loop {
            if let Some(missed) = self.missed.pop_front() {
                return Ok(Some(missed));
            }
            if self.at.place >= self.live_from {
                return Ok(None);
            }
            let log = Log::new(&self.api.core);
            let entries = log.after(self.at.place, CHUNK).await?;
            let Some(last) = entries.last().map(|entry| entry.place) else {
                self.at.place = self.live_from;
                return Ok(None);
            };
            let wanted: Vec<Wanted> = entries
                .iter()
                .filter(|entry| entry.place <= self.live_from)
                .flat_map(Wanted::of)
                .filter(|wanted| wanted.told.identity == self.identity)
                .filter(|wanted| self.all || wanted.told.contract)
                .collect();
            let events = render(&self.api, &wanted).await?;
            for (wanted, event) in wanted.into_iter().zip(events) {
                if event.is_some() {
                    self.missed.push_back(Placed {
                        place: wanted.place,
                        event,
                    });
                }
            }
            // The end of what was read is news as well, if nothing in it was.
            self.missed.push_back(Placed {
                place: last.min(self.live_from),
                event: None,
            });
        }
    }
}

async fn next(mut state: State) -> Option<(Result<SubscribeToEventsResponse, Status>, State)> {
    if state.first {
        let said = state.say(Event::Connected(ConnectedEvent {}));
        state.first = false;
        return Some((said, state));
    }
    loop {
        match state.catch_up().await {
            Ok(Some(Placed { place, event })) => {
                state.at.place = place;
                if let Some(event) = event {
                    let said = state.say(event);
                    return Some((said, state));
                }
                continue;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "a stream could not catch up; its wallet comes back");
                return None;
            }
        }
        let event = tokio::select! {
            biased;
            placed = state.events.recv() => {
                state.heartbeat.reset();
                let Placed { place, event } = placed?;
                state.at.place = state.at.place.max(place);
                let Some(event) = event else { continue };
                event
            }
            _ = state.heartbeat.tick() => {
                // Nothing waits in the channel: all that the hub has read is behind this stream.
                if let Some(at) = state.api.hub.at()
                    && at.log == state.at.log
                    && state.events.is_empty()
                {
                    state.at.place = state.at.place.max(at.place);
                }
                Event::Heartbeat(HeartbeatEvent {})
            }
        };
        let said = state.say(event);
        return Some((said, state));
    }
}
