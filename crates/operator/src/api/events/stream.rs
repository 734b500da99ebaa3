//! One stream: connected, then events, with a heartbeat in between.

use std::pin::Pin;
use std::time::Duration;

use futures::Stream;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::Status;

use crate::api::{Api, ApiError};
use crate::convert::field::public_key;
use crate::convert::spark::subscribe_to_events_response::Event;
use crate::convert::spark::{
    ConnectedEvent, HeartbeatEvent, SubscribeToEventsRequest, SubscribeToEventsResponse,
};
use crate::limits::StreamPermit;
use tinderbox_rpc::{Caller, ServiceError};

/// Wallets give up a stream that is silent for 15 seconds.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What the contract calls a stream of events.
pub type EventStream =
    Pin<Box<dyn Stream<Item = Result<SubscribeToEventsResponse, Status>> + Send>>;

struct State {
    first: bool,
    events: mpsc::Receiver<Event>,
    heartbeat: Interval,
    _permit: StreamPermit,
}

/// Events about a wallet, from now on, until the wallet hangs up or is too slow.
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
    // Listening begins before the wallet is told that it does: nothing falls in between.
    let events = api.hub.listen(identity);
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat.reset();
    let state = State {
        first: true,
        events,
        heartbeat,
        _permit: permit,
    };
    Ok(Box::pin(futures::stream::unfold(state, next)))
}

async fn next(mut state: State) -> Option<(Result<SubscribeToEventsResponse, Status>, State)> {
    let event = if state.first {
        state.first = false;
        Event::Connected(ConnectedEvent {})
    } else {
        tokio::select! {
            biased;
            event = state.events.recv() => {
                state.heartbeat.reset();
                event?
            }
            _ = state.heartbeat.tick() => Event::Heartbeat(HeartbeatEvent {}),
        }
    };
    Some((Ok(SubscribeToEventsResponse { event: Some(event) }), state))
}
