//! Receiving: verifying transfers, and making their leaves ours.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use serde::Serialize;
use tinderbox_protocol::tx::TxKind;
use tinderbox_protocol::{LeafId, Sats, TransferId};
use tinderbox_rpc::proto::spark;
use tonic::Code;

use crate::error::{Error, Result};
use crate::events::WalletEvent;
use crate::exit::RefundKey;
use crate::leaf::Node;
use crate::package::{Incoming, claim_package};
use crate::transfer::{Transfer, TransferStatus};
use crate::verify::{Failure, keys, path, refund};
use crate::wallet::{Inner, Wallet};
use crate::wire::{self, Commitments};

/// How often a claim is tried while another claim of the same transfer, or a crash of one, is in the way.
const ATTEMPTS: u32 = 6;

/// Money that was received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claimed {
    /// The transfer.
    pub id: TransferId,
    /// Who paid.
    pub sender: PublicKey,
    /// How much.
    pub amount: Sats,
    /// The leaves.
    pub leaves: Vec<LeafId>,
}

/// What a round of claims did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ClaimReport {
    /// Received.
    pub claimed: Vec<Claimed>,
    /// Not believed, or failed for now, with the reason. They stay claimable.
    pub refused: Vec<(TransferId, String)>,
}

/// A transfer that passed every check.
pub(crate) struct Verified {
    leaves: Vec<Incoming>,
    known: BTreeMap<LeafId, Node>,
}

/// What this process has claimed, and claims.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    running: BTreeSet<TransferId>,
    /// The latest that are done, since an event may tell of a payment again.
    done: VecDeque<TransferId>,
}

/// How many finished claims are remembered.
const REMEMBERED: usize = 1000;

/// Marks a transfer as being claimed in this process, until it is dropped.
struct Claiming<'a> {
    inner: &'a Inner,
    id: TransferId,
}

impl<'a> Claiming<'a> {
    /// `None` if it is being claimed, or was.
    fn begin(inner: &'a Inner, id: TransferId) -> Option<Self> {
        let mut claims = inner.claims();
        if claims.done.contains(&id) || !claims.running.insert(id) {
            return None;
        }
        Some(Self { inner, id })
    }

    fn done(&self) {
        let mut claims = self.inner.claims();
        claims.done.push_back(self.id);
        if claims.done.len() > REMEMBERED {
            claims.done.pop_front();
        }
    }
}

impl Drop for Claiming<'_> {
    fn drop(&mut self) {
        self.inner.claims().running.remove(&self.id);
    }
}

impl Wallet {
    /// Verifies and claims everything that waits for this wallet. One transfer that is not believed does not
    /// stop the others.
    ///
    /// # Errors
    /// If the coordinator cannot be asked what waits.
    pub async fn claim_pending(&self) -> Result<ClaimReport> {
        let mut report = ClaimReport::default();
        for transfer in self.pending().await? {
            match self.claim_and_tell(&transfer).await {
                Ok(Some(claimed)) => report.claimed.push(claimed),
                Ok(None) => {}
                Err(error) => report.refused.push((transfer.id, error.to_string())),
            }
        }
        Ok(report)
    }

    /// Claims one transfer and tells listeners; `None` if it is being claimed elsewhere in this process, or was.
    pub(crate) async fn claim_and_tell(&self, transfer: &Transfer) -> Result<Option<Claimed>> {
        let id = transfer.id;
        let Some(claiming) = Claiming::begin(self.inner(), id) else {
            return Ok(None);
        };
        let result = self.claim(transfer).await;
        match &result {
            Ok(claimed) => {
                claiming.done();
                // So that they can be paid on at once.
                self.renew_leaves().await;
                self.inner().tell(WalletEvent::Received {
                    id,
                    sender: claimed.sender,
                    amount: claimed.amount,
                });
            }
            Err(error @ Error::Check { .. }) => {
                tracing::warn!(%id, %error, "a transfer is not believed");
                self.inner().tell(WalletEvent::NotBelieved {
                    id,
                    reason: error.to_string(),
                });
            }
            Err(error) => {
                tracing::warn!(%id, %error, "a claim failed for now");
                self.inner().tell(WalletEvent::ClaimFailed {
                    id,
                    reason: error.to_string(),
                });
            }
        }
        result.map(Some)
    }

    async fn claim(&self, transfer: &Transfer) -> Result<Claimed> {
        // Nonces are asked for while the checks run; if these fail they lapse.
        let count = transfer.leaves.len();
        let (verified, nonces) =
            tokio::join!(self.verify(transfer), self.commitments_for_claim(count));
        let verified = verified?;
        let mut nonces = Some(nonces?);
        let mut pause = Duration::from_millis(100);
        let mut attempt = 1;
        let done = loop {
            match self.try_claim(transfer, &verified, nonces.take()).await {
                Ok(done) => break done,
                // Somebody was faster: another device, or an attempt of ours whose answer was lost.
                Err(Error::Refused {
                    code: Code::AlreadyExists,
                    ..
                }) => {
                    let found = self.find_transfer(transfer.id).await?;
                    match found.filter(|found| found.status == TransferStatus::Completed) {
                        Some(found) => break found,
                        None if attempt < ATTEMPTS => {}
                        None => {
                            return Err(Error::OutcomeUnknown {
                                id: transfer.id,
                                reason: "another claim of it is not finished".into(),
                            });
                        }
                    }
                }
                Err(error) if error.is_temporary() && attempt < ATTEMPTS => {
                    tracing::debug!(%error, id = %transfer.id, "claiming again");
                }
                Err(error) => return Err(error),
            }
            attempt += 1;
            tokio::time::sleep(pause).await;
            pause *= 2;
        };
        self.take_in(&done, &verified)
    }

    /// Everything that must be true before a claim (cases 1 to 13).
    pub(crate) async fn verify(&self, transfer: &Transfer) -> Result<Verified> {
        let about = |failure: Failure| failure.about(format!("transfer {}", transfer.id));
        transfer_is_sound(transfer, &self.inner().signer.identity()).map_err(about)?;
        let ids = transfer
            .leaves
            .iter()
            .map(|leaf| leaf.node.id)
            .collect::<Vec<_>>();
        let agreed = self.agreed_nodes(&ids).await?;
        for dissent in &agreed.dissent {
            tracing::info!(operator = %dissent.operator, leaf = %dissent.leaf, about = %dissent.about, "an operator differs");
        }
        let mut known = agreed.nodes;
        self.fetch_missing_ancestors(&ids, &mut known).await;

        let mut leaves = Vec::with_capacity(ids.len());
        for leaf in &transfer.leaves {
            let no_agreement = || Failure::NoAgreement {
                what: format!("leaf {}", leaf.node.id),
            };
            let node = known
                .get(&leaf.node.id)
                .ok_or_else(no_agreement)
                .map_err(about)?;
            if node.owner != transfer.sender && !self.is_half_claimed(transfer, node) {
                return Err(about(Failure::NoAgreement {
                    what: format!("the owner of leaf {}", node.id),
                }));
            }
            // Ciphertext, signature and refund are the sender's; about the leaf itself the majority is asked.
            let told = crate::transfer::TransferLeaf {
                node: node.clone(),
                ..leaf.clone()
            };
            self.verify_leaf(transfer, &told).map_err(about)?;
            let lineage = path::lineage(node, &known).map_err(about)?;
            let deposits = path::check(&lineage).map_err(about)?;
            if let Some(root) = lineage.first() {
                self.check_root_on_chain(root, &deposits.outpoints).await?;
            }
            leaves.push(Incoming {
                node: node.clone(),
                secret_cipher: leaf.secret_cipher.clone(),
                refund: leaf.refund.clone(),
            });
        }
        Ok(Verified { leaves, known })
    }

    fn verify_leaf(
        &self,
        transfer: &Transfer,
        leaf: &crate::transfer::TransferLeaf,
    ) -> Result<(), Failure> {
        use crate::verify::handover;
        let signer = &*self.inner().signer;
        handover::sender_signed(leaf, &transfer.id, &transfer.sender)?;
        keys::node_pays_its_key(&leaf.node)?;
        let expected = if self.is_half_claimed(transfer, &leaf.node) {
            refund::Expected::Exactly(refund::sequence(&leaf.refund, TxKind::CpfpRefund)?)
        } else {
            handover::key_opens_leaf(leaf, signer)?;
            let no_refund = Failure::Form {
                kind: TxKind::CpfpRefund,
                what: "the sender had none".into(),
            };
            let current = leaf.node.refund_tx.as_ref().ok_or(no_refund)?;
            refund::Expected::OneHopBelow(refund::sequence(current, TxKind::CpfpRefund)?)
        };
        let signed = leaf
            .refund
            .input
            .iter()
            .any(|input| !input.witness.is_empty());
        refund::check(
            &leaf.refund,
            &leaf.node.node_tx,
            &signer.identity(),
            expected,
            signed,
        )
    }

    /// A claim of ours in several steps that was interrupted: the node's refund is ours already.
    fn is_half_claimed(&self, transfer: &Transfer, node: &Node) -> bool {
        let Ok(key) = self.inner().signer.leaf_key(&node.id) else {
            return false;
        };
        let script = tinderbox_protocol::tx::p2tr(&key);
        let pays_us = |tx: &bitcoin::Transaction| {
            tx.output
                .first()
                .is_some_and(|out| out.script_pubkey == script)
        };
        transfer.status == TransferStatus::Claiming && node.refund_tx.as_ref().is_some_and(pays_us)
    }

    async fn try_claim(
        &self,
        transfer: &Transfer,
        verified: &Verified,
        nonces: Option<Vec<Commitments>>,
    ) -> Result<Transfer> {
        const CALL: &str = "claim_transfer";
        let nonces = match nonces {
            Some(nonces) => nonces,
            None => self.commitments_for_claim(verified.leaves.len()).await?,
        };
        let (signer, recipients) = (self.inner().signer.clone(), self.inner().recipients());
        let (id, leaves) = (transfer.id, verified.leaves.clone());
        let package = tokio::task::spawn_blocking(move || {
            claim_package(&*signer, &recipients, &id, &leaves, &nonces)
        })
        .await
        .map_err(|e| Error::Config {
            what: format!("the package could not be built: {e}"),
        })??;
        let request = spark::ClaimTransferRequest {
            transfer_id: id.to_string(),
            owner_identity_public_key: self.inner().identity_bytes(),
            claim_package: Some(package),
        };
        let coordinator = self.inner().operators.coordinator();
        let reply = coordinator
            .call(CALL, request, |mut client, r| async move {
                client.claim_transfer(r).await
            })
            .await?;
        let transfer = reply
            .transfer
            .ok_or_else(|| coordinator.nonsense(CALL, "there is no transfer".into()))?;
        wire::transfer(&transfer).map_err(|what| coordinator.nonsense(CALL, what))
    }

    /// Checks what the claim gave, keeps the exits, and adds the leaves.
    fn take_in(&self, done: &Transfer, verified: &Verified) -> Result<Claimed> {
        let about = |failure: Failure| failure.about(format!("the claim of transfer {}", done.id));
        let mut amount = 0u64;
        let mut ids = Vec::with_capacity(verified.leaves.len());
        for before in &verified.leaves {
            let after = done
                .leaves
                .iter()
                .map(|leaf| &leaf.node)
                .find(|node| node.id == before.node.id);
            let missing = || Failure::NoAgreement {
                what: format!("leaf {}, which is not in it", before.node.id),
            };
            let after = after.ok_or_else(missing).map_err(about)?;
            self.check_claimed(before, after).map_err(about)?;
            let mut known = verified.known.clone();
            known.insert(after.id, after.clone());
            let lineage = path::lineage(after, &known).map_err(about)?;
            self.adopt(after, &lineage, RefundKey::Leaf)?;
            amount = amount.saturating_add(after.value.0);
            ids.push(after.id);
        }
        Ok(Claimed {
            id: done.id,
            sender: done.sender,
            amount: Sats(amount),
            leaves: ids,
        })
    }

    fn check_claimed(&self, before: &Incoming, after: &Node) -> Result<(), Failure> {
        let signer = &self.inner().signer;
        let key = signer
            .leaf_key(&after.id)
            .map_err(|_| Failure::Keys { leaf: after.id })?;
        if after.verifying_key != before.node.verifying_key {
            return Err(Failure::Keys { leaf: after.id });
        }
        keys::halves_add_up(&after.id, &after.verifying_key, &key, &after.keyshare)?;
        keys::node_pays_its_key(after)?;
        if after.node_tx.compute_txid() != before.node.node_tx.compute_txid() {
            return Err(Failure::Form {
                kind: TxKind::Node,
                what: "it is another one than before the claim".into(),
            });
        }
        let payment = refund::sequence(&before.refund, TxKind::CpfpRefund)?;
        let no_refund = Failure::Form {
            kind: TxKind::CpfpRefund,
            what: "there is none".into(),
        };
        let refund = after.refund_tx.as_ref().ok_or(no_refund)?;
        refund::check(
            refund,
            &after.node_tx,
            &key,
            refund::Expected::ClaimOf(payment),
            true,
        )
    }
}

/// What can be said about a transfer without looking at its leaves' history.
fn transfer_is_sound(transfer: &Transfer, me: &PublicKey) -> Result<(), Failure> {
    use crate::transfer::TransferKind;
    if matches!(
        transfer.kind,
        TransferKind::CooperativeExit | TransferKind::PreimageSwap | TransferKind::Other
    ) {
        return Err(Failure::Unsupported {
            kind: transfer.kind.to_string(),
        });
    }
    let named = transfer.receiver == *me
        || transfer
            .receivers
            .iter()
            .any(|receiver| receiver.identity == *me);
    if !named || transfer.leaves.is_empty() {
        return Err(Failure::NotForUs);
    }
    let mut ids = transfer
        .leaves
        .iter()
        .map(|leaf| leaf.node.id)
        .collect::<Vec<_>>();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(Failure::Doubled { leaf: pair[0] });
    }
    let claimed = match transfer
        .receivers
        .iter()
        .find(|receiver| receiver.identity == *me)
    {
        Some(receiver) => receiver.amount,
        None if transfer.receivers.is_empty() => transfer.total,
        None => return Ok(()),
    };
    let found = transfer.visible();
    if claimed == found {
        Ok(())
    } else {
        Err(Failure::Total { claimed, found })
    }
}

#[cfg(test)]
mod tests;
