//! Paying.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use prost::Message;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::{LeafId, Sats, SparkAddress, TransferId};
use tinderbox_rpc::proto::spark;

use crate::error::{Error, Result};
use crate::package::{Outgoing, transfer_package};
use crate::storage::{Change, Kind};
use crate::transfer::{Transfer, TransferStatus};
use crate::wallet::Wallet;
use crate::wire;

/// A payment that the operators have committed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Payment {
    /// Its id.
    pub id: TransferId,
    /// Sum of what the receivers get.
    pub amount: Sats,
    /// The leaves that moved.
    pub leaves: Vec<LeafId>,
}

/// A payment whose outcome is not known yet: enough to send the same request again.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PendingSend {
    pub(crate) leaves: Vec<LeafId>,
    amount: Sats,
    receivers: usize,
    /// The encoded request. It holds nothing secret that is not encrypted.
    #[serde(with = "hex::serde")]
    request: Vec<u8>,
}

/// What became of a payment.
enum Outcome {
    Done,
    Failed(Error),
    Unknown(String),
}

impl Wallet {
    /// Pays exactly `amount` to one address, with whole leaves. Done when the operators have committed: the
    /// receiver can claim, nothing can take it back.
    ///
    /// # Errors
    /// [`Error::NoExactAmount`] naming possible amounts, [`Error::Insufficient`], [`Error::WrongNetwork`],
    /// refusals; [`Error::OutcomeUnknown`] if the operators stopped answering in the middle: then do not pay
    /// again, the wallet finds out by itself.
    pub async fn send(&self, to: &SparkAddress, amount: Sats) -> Result<Payment> {
        self.pay_many(&[(*to, amount)]).await
    }

    /// Pays several receivers at once: all or none.
    ///
    /// # Errors
    /// As [`send`](Wallet::send).
    pub async fn pay_many(&self, payments: &[(SparkAddress, Sats)]) -> Result<Payment> {
        let expected = self.inner().config.network;
        if let Some((other, _)) = payments
            .iter()
            .find(|(address, _)| address.network != expected)
        {
            return Err(Error::WrongNetwork {
                found: other.network,
                expected,
            });
        }
        self.ensure_synced().await?;
        self.renew_leaves().await;
        match self.try_pay(payments).await {
            // What we know about our leaves is out of date, for example because another device paid.
            Err(error) if is_stale(&error) => {
                self.sync().await?;
                self.try_pay(payments).await
            }
            other => other,
        }
    }

    async fn try_pay(&self, payments: &[(SparkAddress, Sats)]) -> Result<Payment> {
        let id = TransferId(uuid::Uuid::now_v7());
        let amounts = payments
            .iter()
            .map(|(_, amount)| *amount)
            .collect::<Vec<_>>();
        let sets = self.inner().pool().reserve(id, &amounts)?;
        let outgoing = sets
            .into_iter()
            .zip(payments)
            .flat_map(|(set, (to, _))| {
                set.into_iter().map(|node| Outgoing {
                    node,
                    receiver: to.identity,
                })
            })
            .collect::<Vec<_>>();
        let prepared = self.prepare(id, payments, outgoing).await;
        let pending = match prepared {
            Ok(pending) => pending,
            // Nothing has left this process.
            Err(error) => {
                self.inner().pool().release(id);
                return Err(error);
            }
        };
        match self.submit(id, &pending).await? {
            Outcome::Done => Ok(Payment {
                id,
                amount: pending.amount,
                leaves: pending.leaves,
            }),
            Outcome::Failed(error) => Err(error),
            Outcome::Unknown(reason) => Err(Error::OutcomeUnknown { id, reason }),
        }
    }

    /// Builds the request and writes it down, so that it can be sent again after a crash.
    async fn prepare(
        &self,
        id: TransferId,
        payments: &[(SparkAddress, Sats)],
        outgoing: Vec<Outgoing>,
    ) -> Result<PendingSend> {
        let leaves = outgoing.iter().map(|leaf| leaf.node.id).collect::<Vec<_>>();
        let nonces = self.commitments_for_send(&leaves).await?;
        let (signer, recipients) = (self.inner().signer.clone(), self.inner().recipients());
        let receivers = outgoing
            .iter()
            .map(|leaf| (leaf.node.id, leaf.receiver))
            .collect::<BTreeMap<_, _>>();
        // Curve work of milliseconds per leaf does not belong on the threads that drive connections.
        let package = tokio::task::spawn_blocking(move || {
            transfer_package(&*signer, &recipients, &id, &outgoing, &nonces)
        })
        .await
        .map_err(|e| Error::Config {
            what: format!("the package could not be built: {e}"),
        })??;
        let request = match payments {
            [(to, _)] => self.v2(id, to.identity, package).encode_to_vec(),
            _ => self.v3(id, &receivers, package).encode_to_vec(),
        };
        let amount = Sats(
            payments
                .iter()
                .fold(0, |sum, (_, amount)| amount.0.saturating_add(sum)),
        );
        let pending = PendingSend {
            leaves,
            amount,
            receivers: payments.len(),
            request,
        };
        self.inner()
            .records
            .put(Kind::PendingSend, &id.to_string(), &pending)?;
        Ok(pending)
    }

    fn v2(
        &self,
        id: TransferId,
        receiver: PublicKey,
        package: spark::TransferPackage,
    ) -> spark::StartTransferRequest {
        spark::StartTransferRequest {
            transfer_id: id.to_string(),
            owner_identity_public_key: self.inner().identity_bytes(),
            leaves_to_send: Vec::new(),
            receiver_identity_public_key: receiver.serialize().to_vec(),
            expiry_time: None,
            transfer_package: Some(package),
            spark_invoice: String::new(),
        }
    }

    fn v3(
        &self,
        id: TransferId,
        receivers: &BTreeMap<LeafId, PublicKey>,
        package: spark::TransferPackage,
    ) -> spark::StartTransferV3Request {
        spark::StartTransferV3Request {
            transfer_id: id.to_string(),
            sender_packages: vec![spark::SenderTransferPackage {
                owner_identity_public_key: self.inner().identity_bytes(),
                transfer_package: Some(package),
                receiver_identity_public_keys: receivers
                    .iter()
                    .map(|(leaf, key)| (leaf.to_string(), key.serialize().to_vec()))
                    .collect(),
            }],
            expiry_time: None,
        }
    }

    /// Sends a stored request, and takes its outcome in.
    async fn submit(&self, id: TransferId, pending: &PendingSend) -> Result<Outcome> {
        let outcome = match self.start(pending).await {
            Ok(Some(transfer)) => judge(id, transfer),
            Ok(None) => self.look_up(id, None).await,
            Err(error) => self.look_up(id, Some(error)).await,
        };
        self.settle(id, pending, &outcome)?;
        Ok(outcome)
    }

    async fn start(&self, pending: &PendingSend) -> Result<Option<Transfer>> {
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
            (
                call,
                coordinator
                    .call(call, request, |mut c, r| async move {
                        c.start_transfer_v2(r).await
                    })
                    .await?,
            )
        } else {
            let request =
                spark::StartTransferV3Request::decode(&*pending.request).map_err(damaged)?;
            let call = "start_transfer_v3";
            (
                call,
                coordinator
                    .call(call, request, |mut c, r| async move {
                        c.start_transfer_v3(r).await
                    })
                    .await?,
            )
        };
        let transfer = reply.transfer.as_ref().map(wire::transfer).transpose();
        transfer.map_err(|what| coordinator.nonsense(call, what))
    }

    /// What the operators say about a payment whose request was refused or got lost.
    async fn look_up(&self, id: TransferId, error: Option<Error>) -> Outcome {
        match self.find_transfer(id).await {
            Ok(Some(transfer)) => judge(id, transfer),
            Ok(None) => match error {
                Some(error) if is_refusal(&error) => Outcome::Failed(error),
                Some(error) => Outcome::Unknown(error.to_string()),
                None => Outcome::Unknown("the operators do not know it yet".into()),
            },
            Err(second) => Outcome::Unknown(
                error.map_or_else(|| second.to_string(), |first| first.to_string()),
            ),
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

    /// Brings payments to an end whose outcome was not known, by sending the same request again: operators
    /// answer an identical request with the stored outcome.
    pub(crate) async fn resolve_pending_sends(&self) -> Result<()> {
        for (key, pending) in self
            .inner()
            .records
            .list::<PendingSend>(Kind::PendingSend)?
        {
            let id = key.parse::<TransferId>()?;
            match self.find_transfer(id).await {
                Ok(Some(transfer)) => {
                    let outcome = judge(id, transfer);
                    self.settle(id, &pending, &outcome)?;
                }
                Ok(None) => {
                    self.submit(id, &pending).await?;
                }
                Err(error) => {
                    tracing::warn!(%error, %id, "the outcome of a payment is still unknown")
                }
            }
        }
        Ok(())
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

/// An answer that says for certain that nothing was done.
fn is_refusal(error: &Error) -> bool {
    use tonic::Code;
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

/// A refusal because a leaf is not what we think it is.
fn is_stale(error: &Error) -> bool {
    let Error::Refused { message, .. } = error else {
        return false;
    };
    let message = message.to_lowercase();
    [
        "not available to transfer",
        "not owned by",
        "leaf is unavailable",
        "leaf is not available",
    ]
    .iter()
    .any(|text| message.contains(text))
}

#[cfg(test)]
mod tests;
