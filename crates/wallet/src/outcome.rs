//! Finding out what became of a payment whose request was sent.
//!
//! A request may be decided although its answer was lost, even while a later copy of it is being
//! refused. So only the first copy's refusal is believed at once. After one whose fate is unknown a
//! refusal counts if it says more than "try again", and comes so late that nothing that was under
//! way before can still be decided.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prost::Message;
use tinderbox_protocol::TransferId;
use tinderbox_rpc::proto::spark;
use tonic::Code;

use crate::clock::now_ms;
use crate::error::{Error, Result};
use crate::operators::Client;
use crate::send::PendingSend;
use crate::storage::{Change, Kind};
use crate::transfer::{Transfer, TransferStatus};
use crate::wallet::{Inner, Wallet};
use crate::wire;

/// After so long nothing is decided any more that was under way: several times what operators wait
/// for each other.
const DOUBT: Duration = Duration::from_secs(60);

/// What became of a payment, as far as this wallet can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PaymentState {
    /// The receivers have it, or may claim it. Nothing can take it back.
    Paid,
    /// Not known yet: paying again could pay twice.
    Open,
    /// The operators gave the leaves back. Nothing was paid.
    Returned,
    /// Never made, and never will be. Nothing was paid.
    NotMade,
}

/// What an answer of the operators means for a payment.
pub(crate) enum Outcome {
    Done,
    Failed(Error),
    Unknown(String),
}

impl Outcome {
    const fn state(&self) -> PaymentState {
        match self {
            Self::Done => PaymentState::Paid,
            Self::Failed(Error::PaymentReturned { .. }) => PaymentState::Returned,
            Self::Failed(_) => PaymentState::NotMade,
            Self::Unknown(_) => PaymentState::Open,
        }
    }
}

/// Payments that this process is sending: whoever else finds them on disk leaves them alone.
#[derive(Debug, Default)]
pub(crate) struct Sending(Mutex<BTreeSet<TransferId>>);

/// Holds a payment in [`Sending`] until it is dropped.
pub(crate) struct Held<'a>(&'a Sending, TransferId);

impl Sending {
    fn set(&self) -> std::sync::MutexGuard<'_, BTreeSet<TransferId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, id: TransferId) -> Option<Held<'_>> {
        let first = self.set().insert(id);
        first.then(|| Held(self, id))
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.set().remove(&self.1);
    }
}

impl Inner {
    /// Marks a payment as being sent; nothing if it is already.
    pub(crate) fn sending(&self, id: TransferId) -> Option<Held<'_>> {
        self.sending.hold(id)
    }
}

impl Wallet {
    /// What became of a payment. One that hangs is sent again first: operators answer a request that
    /// they have decided with what was decided.
    ///
    /// # Errors
    /// If the operators cannot be asked, or the storage fails.
    pub async fn payment_state(&self, id: TransferId) -> Result<PaymentState> {
        if let Some(pending) = self.pending_send(id)? {
            return Ok(self.resolve(id, pending).await?.state());
        }
        Ok(match self.find_transfer(id).await? {
            Some(transfer) => judge(id, transfer).state(),
            None => PaymentState::NotMade,
        })
    }

    fn pending_send(&self, id: TransferId) -> Result<Option<PendingSend>> {
        let records = &self.inner().records;
        records.get::<PendingSend>(Kind::PendingSend, &id.to_string())
    }

    /// Brings payments to an end whose outcome was not known.
    pub(crate) async fn resolve_pending_sends(&self) -> Result<()> {
        let records = &self.inner().records;
        for (key, pending) in records.list::<PendingSend>(Kind::PendingSend)? {
            self.resolve(key.parse()?, pending).await?;
        }
        Ok(())
    }

    async fn resolve(&self, id: TransferId, pending: PendingSend) -> Result<Outcome> {
        let Some(_sending) = self.inner().sending(id) else {
            return Ok(Outcome::Unknown("it is being sent".into()));
        };
        match self.find_transfer(id).await {
            Ok(Some(transfer)) => {
                let outcome = judge(id, transfer);
                self.settle(id, &pending, &outcome)?;
                Ok(outcome)
            }
            Ok(None) => self.submit_again(id, pending).await,
            Err(error) => {
                tracing::warn!(%error, %id, "the outcome of a payment is still unknown");
                Ok(Outcome::Unknown(error.to_string()))
            }
        }
    }

    /// Sends a request that was never sent before, and takes its outcome in.
    pub(crate) async fn submit_first(
        &self,
        id: TransferId,
        pending: &PendingSend,
    ) -> Result<Outcome> {
        let mut repeated = false;
        let outcome = match self.start(pending, &mut repeated).await {
            Ok(Some(transfer)) => judge(id, transfer),
            Ok(None) => self.look_up(id, None).await,
            Err(error) if is_refusal(&error) && !repeated => Outcome::Failed(error),
            Err(error) => self.look_up(id, Some(error)).await,
        };
        self.settle(id, pending, &outcome)?;
        Ok(outcome)
    }

    /// Sends a request again whose fate is unknown, and takes its outcome in.
    async fn submit_again(&self, id: TransferId, pending: PendingSend) -> Result<Outcome> {
        let earlier = Duration::from_millis(now_ms().saturating_sub(pending.sent));
        let (key, records) = (id.to_string(), &self.inner().records);
        // Should this process end before the answer, this copy is the last of unknown fate.
        let sent = PendingSend {
            sent: now_ms(),
            ..pending.clone()
        };
        records.put(Kind::PendingSend, &key, &sent)?;
        let mut repeated = false;
        let outcome = match self.start(&sent, &mut repeated).await {
            Ok(Some(transfer)) => judge(id, transfer),
            Ok(None) => self.look_up(id, None).await,
            Err(error) if is_refusal(&error) && !repeated => {
                match self.look_up(id, None).await {
                    Outcome::Unknown(_) if is_final(&error) && earlier >= DOUBT => {
                        Outcome::Failed(error)
                    }
                    Outcome::Unknown(_) => {
                        // This copy is known to be refused; in doubt is what was sent before.
                        records.put(Kind::PendingSend, &key, &pending)?;
                        Outcome::Unknown(error.to_string())
                    }
                    known => known,
                }
            }
            Err(error) => self.look_up(id, Some(error)).await,
        };
        self.settle(id, &pending, &outcome)?;
        Ok(outcome)
    }

    async fn start(&self, pending: &PendingSend, repeated: &mut bool) -> Result<Option<Transfer>> {
        let coordinator = self.inner().operators.coordinator();
        let damaged = |e: prost::DecodeError| Error::DamagedRecord {
            kind: Kind::PendingSend.name(),
            key: "request".into(),
            reason: e.to_string(),
        };
        let (call, reply) = if pending.receivers == 1 {
            let request =
                spark::StartTransferRequest::decode(&*pending.request).map_err(damaged)?;
            let call = "start_transfer_v2";
            let method = |mut c: Client, r| async move { c.start_transfer_v2(r).await };
            let reply = coordinator.call_telling(call, request, method, repeated);
            (call, reply.await?)
        } else {
            let request =
                spark::StartTransferV3Request::decode(&*pending.request).map_err(damaged)?;
            let call = "start_transfer_v3";
            let method = |mut c: Client, r| async move { c.start_transfer_v3(r).await };
            let reply = coordinator.call_telling(call, request, method, repeated);
            (call, reply.await?)
        };
        let transfer = reply.transfer.as_ref().map(wire::transfer).transpose();
        transfer.map_err(|what| coordinator.nonsense(call, what))
    }

    /// What the operators say about a payment whose answer was lost, or of no use.
    async fn look_up(&self, id: TransferId, error: Option<Error>) -> Outcome {
        let why = |error: Error| error.to_string();
        match self.find_transfer(id).await {
            Ok(Some(transfer)) => judge(id, transfer),
            Ok(None) => Outcome::Unknown(
                error.map_or_else(|| "the operators do not know it yet".into(), why),
            ),
            Err(second) => Outcome::Unknown(why(error.unwrap_or(second))),
        }
    }

    /// Writes an outcome down and sets the leaves free or lets them go.
    fn settle(&self, id: TransferId, pending: &PendingSend, outcome: &Outcome) -> Result<()> {
        let done = Change::Delete {
            kind: Kind::PendingSend,
            key: id.to_string(),
        };
        match outcome {
            Outcome::Done => self.let_go(&pending.leaves, vec![done]),
            Outcome::Failed(_) => {
                self.inner().records.apply(&[done])?;
                self.inner().pool().release(id);
                Ok(())
            }
            Outcome::Unknown(_) => Ok(()),
        }
    }
}

fn judge(id: TransferId, transfer: Transfer) -> Outcome {
    if transfer.id != id {
        return Outcome::Unknown("the operators answered about another transfer".into());
    }
    match transfer.status {
        TransferStatus::Claimable | TransferStatus::Claiming | TransferStatus::Completed => {
            Outcome::Done
        }
        TransferStatus::Expired | TransferStatus::Returned => {
            Outcome::Failed(Error::PaymentReturned {
                id,
                status: transfer.status.to_string(),
            })
        }
        status => Outcome::Unknown(format!("it is {status}")),
    }
}

/// An answer that says for certain that this copy of the request did nothing.
fn is_refusal(error: &Error) -> bool {
    match error {
        Error::Refused { code, .. } => !matches!(
            code,
            Code::Unavailable
                | Code::Cancelled
                | Code::DeadlineExceeded
                | Code::Internal
                | Code::Unknown
                | Code::AlreadyExists
        ),
        _ => false,
    }
}

/// A refusal that every later copy would meet too.
fn is_final(error: &Error) -> bool {
    match error {
        Error::Refused { code, .. } => !matches!(
            code,
            Code::Aborted | Code::ResourceExhausted | Code::Unauthenticated
        ),
        _ => false,
    }
}
