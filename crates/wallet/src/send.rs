//! Paying.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use prost::Message;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::{LeafId, Sats, SparkAddress, TransferId};
use tinderbox_rpc::proto::spark;

use crate::clock::now_ms;
use crate::error::{Error, Result};
use crate::outcome::Outcome;
use crate::package::{Outgoing, transfer_package};
use crate::storage::Kind;
use crate::wallet::Wallet;

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
    pub(crate) amount: Sats,
    pub(crate) receivers: usize,
    /// When it was last sent without a clear answer, in milliseconds since 1970 by our clock.
    pub(crate) sent: u64,
    /// The encoded request. It holds nothing secret that is not encrypted.
    #[serde(with = "hex::serde")]
    pub(crate) request: Vec<u8>,
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
        self.pay(payments, "").await
    }

    /// Pays, for an invoice if its text is not empty.
    pub(crate) async fn pay(
        &self,
        payments: &[(SparkAddress, Sats)],
        invoice: &str,
    ) -> Result<Payment> {
        self.ensure_synced().await?;
        // A payment that hangs is told as soon as the operators can say what became of it.
        self.resolve_pending_sends().await?;
        self.renew_leaves().await;
        match self.try_pay(payments, invoice).await {
            // What we know about our leaves is out of date, for example because another device paid.
            Err(error) if is_stale(&error) => {
                self.sync().await?;
                self.try_pay(payments, invoice).await
            }
            other => other,
        }
    }

    async fn try_pay(&self, payments: &[(SparkAddress, Sats)], invoice: &str) -> Result<Payment> {
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
        // From before it is written down: nobody else is to send it meanwhile.
        let _sending = self.inner().sending(id);
        let prepared = self.prepare(id, payments, invoice, outgoing).await;
        let pending = match prepared {
            Ok(pending) => pending,
            // Nothing has left this process.
            Err(error) => {
                self.inner().pool().release(id);
                return Err(error);
            }
        };
        match self.submit_first(id, &pending).await? {
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
        invoice: &str,
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
            [(to, _)] => self.v2(id, to.identity, package, invoice).encode_to_vec(),
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
            sent: now_ms(),
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
        invoice: &str,
    ) -> spark::StartTransferRequest {
        spark::StartTransferRequest {
            transfer_id: id.to_string(),
            owner_identity_public_key: self.inner().identity_bytes(),
            leaves_to_send: Vec::new(),
            receiver_identity_public_key: receiver.serialize().to_vec(),
            expiry_time: None,
            transfer_package: Some(package),
            spark_invoice: invoice.to_owned(),
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
