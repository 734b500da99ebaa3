//! The event stream of one operator.

use std::time::Duration;

use tinderbox_rpc::proto::spark::SubscribeToEventsRequest;
use tinderbox_rpc::proto::spark::subscribe_to_events_response::Event as Wire;
use tonic::{Request, Streaming};

use super::connection::{Operator, authorize};
use crate::error::{Error, Result};
use crate::leaf::Node;
use crate::transfer::Transfer;
use crate::wire;

/// Without any event for this long, heartbeats included, a stream is taken for dead.
const SILENCE: Duration = Duration::from_secs(15);

/// Something that an operator tells a wallet.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// The stream stands; events from now on are not missed. True: nor are those since the last
    /// stream.
    Connected(bool),
    /// Nothing happened.
    Heartbeat,
    /// Money for this wallet waits to be claimed.
    Received(Box<Transfer>),
    /// A payment of this wallet changed.
    Sent(Box<Transfer>),
    /// A deposit is confirmed.
    Deposit(Box<Node>),
    /// Something that this wallet has no use for, or does not understand.
    Other,
}

/// A stream of events.
pub(crate) struct Events {
    stream: Streaming<tinderbox_rpc::proto::spark::SubscribeToEventsResponse>,
    cursor: Vec<u8>,
}

impl Events {
    /// Opens the stream at one operator, if possible behind `cursor`, where an earlier one ended.
    pub(crate) async fn open(
        operator: &Operator,
        identity: Vec<u8>,
        cursor: Vec<u8>,
    ) -> Result<Self> {
        let mut renewed = false;
        loop {
            let session = operator.session().await?;
            // No time limit: it is open for as long as it holds.
            let mut request = Request::new(SubscribeToEventsRequest {
                identity_public_key: identity.clone(),
                resume_after: cursor.clone(),
                every_change: true,
            });
            authorize(&mut request, &session);
            match operator.client().await?.subscribe_to_events(request).await {
                Ok(reply) => {
                    return Ok(Self {
                        stream: reply.into_inner(),
                        cursor,
                    });
                }
                Err(status) if status.message().contains("token has expired") && !renewed => {
                    renewed = true;
                    operator.drop_session(&session).await;
                }
                Err(status) => return Err(operator.refused("subscribe_to_events", &status)),
            }
        }
    }

    /// Where the stream is: all before it was handed out. For the next stream of this operator;
    /// empty if the operator says nothing of it.
    pub(crate) fn cursor(&self) -> &[u8] {
        &self.cursor
    }

    /// The next event; `None` when the stream is over, whatever ended it.
    pub(crate) async fn next(&mut self, operator: &Operator) -> Result<Option<Event>> {
        match tokio::time::timeout(SILENCE, self.stream.message()).await {
            Ok(Ok(Some(message))) => {
                self.cursor = message.cursor;
                Ok(Some(read(message.event, message.resumed)))
            }
            Ok(Ok(None)) => Ok(None),
            Ok(Err(status)) => Err(operator.refused("subscribe_to_events", &status)),
            Err(_) => Err(Error::Unreachable {
                operator: operator.index(),
                url: String::from("its event stream"),
                reason: format!("no sign of life for {} s", SILENCE.as_secs()),
            }),
        }
    }
}

fn read(event: Option<Wire>, resumed: bool) -> Event {
    let transfer = |event: tinderbox_rpc::proto::spark::TransferEvent| {
        event
            .transfer
            .as_ref()
            .and_then(|t| wire::transfer(t).ok())
            .map(Box::new)
    };
    match event {
        Some(Wire::Connected(_)) => Event::Connected(resumed),
        Some(Wire::Heartbeat(_)) => Event::Heartbeat,
        Some(Wire::ReceiverTransfer(event)) => {
            transfer(event).map_or(Event::Other, Event::Received)
        }
        Some(Wire::SenderTransfer(event)) => transfer(event).map_or(Event::Other, Event::Sent),
        Some(Wire::Deposit(event)) => {
            let node = event
                .deposit
                .as_ref()
                .and_then(|node| wire::node(node).ok());
            node.map_or(Event::Other, |node| Event::Deposit(Box::new(node)))
        }
        Some(Wire::TokenTransaction(_)) | None => Event::Other,
    }
}
