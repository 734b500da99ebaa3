//! From changed rows to events, once for all streams.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::flow::Touch;
use tinderbox_flows::refusal::Refusal;
use tinderbox_flows::rows::{ClaimPhase, NodeStatus, TransferRow, TransferStatus};
use tinderbox_protocol::{LeafId, TransferId};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;

use crate::api::Api;
use crate::convert::spark::subscribe_to_events_response::Event;
use crate::convert::spark::{DepositEvent, TransferEvent};
use crate::convert::transfer::View;

/// Events that one stream may fall behind before it is ended.
const BACKLOG: usize = 256;

type Listeners = HashMap<PublicKey, Vec<mpsc::Sender<Event>>>;

/// The streams of this process, by the wallet that they are about.
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<Listeners>>);

impl Hub {
    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events about `identity` from now on. The channel closes if its reader is too slow.
    #[must_use]
    pub fn listen(&self, identity: PublicKey) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(BACKLOG);
        self.listeners().entry(identity).or_default().push(sender);
        receiver
    }

    /// Forgets streams that ended.
    pub fn sweep(&self) {
        self.listeners().retain(|_, streams| {
            streams.retain(|stream| !stream.is_closed());
            !streams.is_empty()
        });
    }

    /// Ends every stream.
    pub fn close(&self) {
        self.listeners().clear();
    }

    fn has(&self, identity: &PublicKey) -> bool {
        self.listeners().contains_key(identity)
    }

    fn send(&self, identity: &PublicKey, event: &Event) {
        let mut listeners = self.listeners();
        if let Some(streams) = listeners.get_mut(identity) {
            // A reader that is too slow is let go: it comes back and asks for what it missed.
            streams.retain(|stream| stream.try_send(event.clone()).is_ok());
            if streams.is_empty() {
                listeners.remove(identity);
            }
        }
    }

    /// Turns changes into events until `stop`. `changes` must have been listening before the
    /// first stream began.
    pub async fn run(
        self,
        api: Api,
        mut changes: broadcast::Receiver<Touch>,
        stop: impl Future<Output = ()>,
    ) {
        tokio::pin!(stop);
        loop {
            let change = tokio::select! {
                () = &mut stop => break,
                change = changes.recv() => change,
            };
            let told = match change {
                Ok(Touch::Transfer(id)) => self.transfer(&api, id).await,
                Ok(Touch::Deposit(leaf)) => self.deposit(&api, leaf).await,
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(
                        missed,
                        "events came faster than they could be read; streams begin anew"
                    );
                    // Everybody comes back and asks.
                    self.close();
                    Ok(())
                }
                Err(RecvError::Closed) => break,
            };
            if let Err(error) = told {
                tracing::warn!(%error, "an event could not be read; streams begin anew");
                self.close();
            }
        }
        self.close();
    }

    async fn transfer(&self, api: &Api, id: TransferId) -> Result<(), Refusal> {
        let Some(row) = api
            .tables
            .get::<TransferRow>(TransferRow::id_of(&id))
            .await?
        else {
            return Ok(());
        };
        let (to_sender, to_receivers) = concerned(&row);
        let mut told: Vec<(PublicKey, View, bool)> = Vec::new();
        if to_sender && self.has(&row.sender) {
            told.push((row.sender, View::of(&row, &row.sender), true));
        }
        if to_receivers {
            let receivers = row.receivers.iter().enumerate();
            told.extend(
                receivers
                    .filter(|(_, receiver)| self.has(&receiver.identity))
                    .map(|(place, receiver)| (receiver.identity, View::Receiver(place), false)),
            );
        }
        let views: Vec<(TransferRow, View)> = told
            .iter()
            .map(|(_, view, _)| (row.clone(), *view))
            .collect();
        for ((identity, _, as_sender), transfer) in told.iter().zip(api.show(&views).await?) {
            let event = TransferEvent {
                transfer: Some(transfer),
                trace_id: String::new(),
            };
            let event = if *as_sender {
                Event::SenderTransfer(event)
            } else {
                Event::ReceiverTransfer(event)
            };
            self.send(identity, &event);
        }
        Ok(())
    }

    async fn deposit(&self, api: &Api, leaf: LeafId) -> Result<(), Refusal> {
        let node = api.nodes([leaf]).await?.into_iter().next();
        // Wallets believe that a leaf of this event can be spent.
        let Some(node) = node.filter(|node| node.status == NodeStatus::Available) else {
            return Ok(());
        };
        let owner = node.owner;
        if !self.has(&owner) {
            return Ok(());
        }
        for node in api.tree_nodes(vec![node]).await?.into_values() {
            let event = Event::Deposit(DepositEvent {
                deposit: Some(node),
                trace_id: String::new(),
            });
            self.send(&owner, &event);
        }
        Ok(())
    }
}

/// Whether the sender and the receivers are told of a transfer in this state. Claims are no news
/// to anybody but the claimer, who made them.
fn concerned(row: &TransferRow) -> (bool, bool) {
    match row.status {
        TransferStatus::SenderInitiated
        | TransferStatus::SenderKeyTweakPending
        | TransferStatus::Returned => (true, false),
        TransferStatus::SenderKeyTweaked => {
            let fresh = row
                .receivers
                .iter()
                .all(|receiver| receiver.phase == ClaimPhase::Pending);
            (fresh, fresh)
        }
        // Over in a moment, with an event of its own.
        TransferStatus::ApplyingSenderKeyTweak | TransferStatus::Completed => (false, false),
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::secp256k1::{SECP256K1, SecretKey};

    use super::*;

    /// What a stream holds back is bounded, and a slow one costs nobody else anything.
    #[test]
    fn case_66_reader_that_does_not_read_is_let_go() {
        let hub = Hub::default();
        let identity = SecretKey::from_slice(&[7; 32])
            .unwrap()
            .public_key(SECP256K1);
        let mut slow = hub.listen(identity);
        let mut quick = hub.listen(identity);
        let event = Event::ReceiverTransfer(TransferEvent::default());
        for _ in 0..=BACKLOG {
            hub.send(&identity, &event);
            assert!(quick.try_recv().is_ok(), "who reads is told");
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
        hub.send(&identity, &event);
        assert!(quick.try_recv().is_ok());
        drop(quick);
        hub.sweep();
        assert!(!hub.has(&identity));
    }
}
