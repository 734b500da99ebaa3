//! Receiving without being asked: the event stream, and a look around now and then.

use std::time::Duration;

use rand::Rng;
use tinderbox_protocol::Sats;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::error::Result;
use crate::events::WalletEvent;
use crate::leaf::{LeafStatus, Node};
use crate::operators::{Event, Events};
use crate::transfer::{Transfer, TransferStatus};
use crate::wallet::Wallet;

/// How often to look for what an event did not tell.
const LOOK_AROUND: Duration = Duration::from_secs(60);

/// How many payments are claimed at the same time.
const AT_ONCE: usize = 8;

/// Longest pause between two attempts to connect.
const MAX_PAUSE: Duration = Duration::from_secs(15);

/// A running task that claims whatever arrives. Ends when it is dropped.
#[derive(Debug)]
pub struct AutoClaim {
    task: JoinHandle<()>,
}

impl AutoClaim {
    /// Ends the task. A claim that is under way may still be finished by the operators; it is found at the next
    /// start.
    pub fn stop(self) {
        drop(self);
    }

    /// False once the task is gone.
    pub fn is_running(&self) -> bool {
        !self.task.is_finished()
    }
}

impl Drop for AutoClaim {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wallet {
    /// Claims payments to this wallet as they arrive, until the handle is dropped: from the coordinator's event
    /// stream, connecting again when it breaks (after 1, 2, 4 … 15 seconds), and with a look around every
    /// minute. What happens is told to [`events`](Wallet::events). Must be called within a Tokio runtime.
    pub fn run_auto_claim(&self) -> AutoClaim {
        let wallet = self.clone();
        AutoClaim {
            task: tokio::spawn(async move { wallet.claim_for_ever().await }),
        }
    }

    async fn claim_for_ever(&self) {
        let mut pause = Duration::from_secs(1);
        let mut claims = JoinSet::new();
        let mut cursor = Vec::new();
        loop {
            let started = Instant::now();
            let reason = match self.listen(&mut claims, &mut cursor).await {
                Ok(()) => "the operator ended the stream".to_owned(),
                Err(error) => error.to_string(),
            };
            // A stream that held for a while was a good one.
            if started.elapsed() > MAX_PAUSE {
                pause = Duration::from_secs(1);
            }
            self.inner().tell(WalletEvent::Disconnected {
                reason,
                retry_in: pause.as_secs(),
            });
            // Many wallets of one operator should not come back in the same instant.
            let jitter = Duration::from_millis(rand::thread_rng().gen_range(0..500));
            tokio::time::sleep(pause + jitter).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// One stream, from its beginning to its end. `cursor` is where the last one ended, and then
    /// where this one did.
    async fn listen(&self, claims: &mut JoinSet<()>, cursor: &mut Vec<u8>) -> Result<()> {
        let operator = self.inner().operators.coordinator().clone();
        let identity = self.inner().identity_bytes();
        let mut events = Events::open(&operator, identity, cursor.clone()).await?;
        let mut look_around = interval_at(Instant::now() + LOOK_AROUND, LOOK_AROUND);
        look_around.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = events.next(&operator) => match event? {
                    None => return Ok(()),
                    Some(event) => {
                        self.react(event, claims).await;
                        // Only now: an event whose handling is cut off comes again.
                        *cursor = events.cursor().to_vec();
                    }
                },
                Some(_) = claims.join_next() => {}
                _ = look_around.tick() => self.look_around().await,
            }
        }
    }

    async fn react(&self, event: Event, claims: &mut JoinSet<()>) {
        match event {
            Event::Connected(resumed) => {
                self.inner().tell(WalletEvent::Connected);
                // What happened before the stream stood is not on it, unless it goes on where the
                // last one ended.
                if !resumed {
                    self.look_around().await;
                }
            }
            Event::Received(transfer) => {
                let identity = self.inner().signer.identity();
                // A self-transfer is claimed by whoever made it.
                if transfer.sender == identity {
                    return;
                }
                if !transfer.status.is_receiver_pending() {
                    self.claimed_elsewhere(&transfer).await;
                    return;
                }
                while claims.len() >= AT_ONCE {
                    claims.join_next().await;
                }
                let wallet = self.clone();
                claims.spawn(async move {
                    // A failure is told inside; the next look around tries again.
                    let _ = wallet.claim_and_tell(&transfer).await;
                });
            }
            Event::Sent(transfer) => {
                let status = transfer.status.to_string();
                self.inner().tell(WalletEvent::SentChanged {
                    id: transfer.id,
                    status,
                });
            }
            Event::Deposit(node) => self.deposit_confirmed(&node).await,
            Event::Heartbeat | Event::Other => {}
        }
    }

    /// Another device of this wallet has claimed a payment: its leaves are ours now.
    async fn claimed_elsewhere(&self, transfer: &Transfer) {
        let known = {
            let pool = self.inner().pool();
            transfer
                .leaves
                .iter()
                .all(|leaf| pool.get(&leaf.node.id).is_some())
        };
        if transfer.status != TransferStatus::Completed || known {
            return;
        }
        if let Err(error) = self.sync().await {
            tracing::warn!(%error, "synchronising after a payment failed");
        }
    }

    async fn deposit_confirmed(&self, node: &Node) {
        let waits = |leaf: &Node| leaf.status == LeafStatus::Creating;
        let known = self.inner().pool().get(&node.id).cloned();
        if known
            .as_ref()
            .is_some_and(|leaf| leaf.status == node.status)
        {
            return;
        }
        let known = known.filter(waits);
        // The event is one operator's word; the leaf counts when all say so.
        if let Err(error) = self.sync().await {
            tracing::warn!(%error, "synchronising after a deposit failed");
            return;
        }
        let now = self.inner().pool().get(&node.id).cloned();
        if let (Some(_), Some(leaf)) = (
            known,
            now.filter(|leaf| leaf.status == LeafStatus::Available),
        ) {
            self.inner().tell(WalletEvent::DepositConfirmed {
                leaf: leaf.id,
                amount: Sats(leaf.value.0),
            });
        }
    }

    async fn look_around(&self) {
        if let Err(error) = self.sync().await {
            tracing::warn!(%error, "synchronising failed");
        }
        if let Err(error) = self.claim_pending().await {
            tracing::warn!(%error, "looking for payments failed");
        }
    }
}

#[cfg(test)]
mod tests;
