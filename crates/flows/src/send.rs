//! Sending leaves: `start_transfer_v2` and `start_transfer_v3`.
//!
//! One sender, one or more receivers, all leaves or none. With the certificate every operator
//! tweaks its share of every leaf, so that the sender's key is worth nothing from then on; until a
//! receiver claims, the leaves' refunds pay its identity key.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::secp256k1::PublicKey;
use sha2::{Digest, Sha256};
use tinderbox_protocol::LeafId;
use tinderbox_protocol::hash::{self, HashVariant};

use crate::checks::{
    KeyPart, check_ecdsa, digest, gone, load_leaves, plan, rotate, tweaked, tweaks_by_leaf,
};
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::job::OpenedTweak;
use crate::refunds::{self, JobSet};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::{Request, SendRequest};
use crate::rows::{
    ClaimPhase, FlowRow, KeyshareRow, LeafRefunds, Millis, NodeRow, NodeStatus, ReceiverRow,
    TransferKind, TransferLeafRow, TransferRow, TransferStatus,
};
use crate::secret::SealedShare;
use crate::snapshot::Changes;

/// Leaves in one transfer at most.
pub const MAX_LEAVES: usize = 1000;

type Leaves = BTreeMap<LeafId, (NodeRow, KeyshareRow)>;

/// Tells a retry of a request from another request under the same id: hash of the sender, who gets
/// what, and the sender's signature over the tweaks.
#[must_use]
pub fn fingerprint(request: &SendRequest) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"tinderbox/send/1");
    hash.update(request.transfer.bytes16());
    hash.update(request.sender.serialize());
    for (leaf, receiver) in &request.receivers {
        hash.update(leaf.bytes16());
        hash.update(receiver.serialize());
    }
    hash.update(&request.package.user_signature);
    hash.finalize().into()
}

/// Refuses a leaf that its owner cannot spend now.
fn check_spendable(node: &NodeRow, sender: &PublicKey, site: &Site) -> Result<(), Halt> {
    let id = node.id;
    if node.network != site.network {
        return refuse(
            Reason::MalformedField,
            format!("leaf {id} is on network {}", node.network),
        );
    }
    if node.owner != *sender {
        return Err(Refusal::new(
            Reason::NotOwner,
            format!("leaf {id} is not owned by {sender}"),
        )
        .with("leaf_id", id)
        .into());
    }
    if node.status != NodeStatus::Available || node.lock.is_some() {
        let reason = if node.status == NodeStatus::Creating {
            Reason::LeafUnavailable
        } else {
            Reason::InvalidState
        };
        return Err(Refusal::new(
            reason,
            format!(
                "leaf {id} is not available to transfer: its status is {}",
                node.status.name()
            ),
        )
        .with("leaf_id", id)
        .into());
    }
    Ok(())
}

impl SendRequest {
    fn check_request(&self, frame: &Frame<'_>) -> Result<(), Halt> {
        if self.package.cpfp.len() > MAX_LEAVES {
            return refuse(
                Reason::LimitExceeded,
                format!("{MAX_LEAVES} leaves are the most that one transfer takes"),
            );
        }
        if !self.invoice.is_empty() {
            return refuse(
                Reason::InvalidState,
                "spark_invoice: paying Spark invoices is not available yet",
            );
        }
        self.package.check_recipients(frame.site.everyone())?;
        let variant = match self.package.hash_variant {
            1 => HashVariant::V2,
            0 => HashVariant::Legacy,
            other => {
                return refuse(
                    Reason::MalformedField,
                    format!("hash_variant {other} is unknown: use 1"),
                );
            }
        };
        check_ecdsa(
            &self.sender,
            &hash::transfer_payload(&self.transfer, &self.package.tweaks, variant),
            &self.package.user_signature,
            "transfer_package.user_signature",
        )
    }

    fn transfer(&self, frame: &Frame<'_>) -> Result<Option<TransferRow>, Halt> {
        Ok(frame
            .rows
            .get::<TransferRow>(TransferRow::id_of(&self.transfer))?)
    }

    /// The transfer that this flow made.
    fn mine(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<TransferRow, Halt> {
        match self.transfer(frame)? {
            Some(transfer) if transfer.started_by == frame.flow => Ok(transfer),
            _ => gone("the transfer", row),
        }
    }

    fn receiver_rows(&self) -> Vec<ReceiverRow> {
        let identities: BTreeSet<PublicKey> = self.receivers.values().copied().collect();
        identities
            .into_iter()
            .map(|identity| ReceiverRow {
                identity,
                phase: ClaimPhase::Initiated,
                before: ClaimPhase::Initiated,
                completed: None,
            })
            .collect()
    }

    fn new_row(
        &self,
        frame: &Frame<'_>,
        leaves: &Leaves,
        tweaks: &BTreeMap<LeafId, &OpenedTweak>,
        intermediate: &mut BTreeMap<LeafId, LeafRefunds>,
    ) -> Result<TransferRow, Halt> {
        let receivers = self.receiver_rows();
        let mut rows = Vec::new();
        let mut values = Vec::new();
        for (leaf, (node, _)) in leaves {
            let place = self
                .receivers
                .get(leaf)
                .and_then(|identity| {
                    receivers
                        .iter()
                        .position(|receiver| receiver.identity == *identity)
                })
                .and_then(|place| u32::try_from(place).ok());
            let (Some(receiver), Some(tweak)) = (place, tweaks.get(leaf)) else {
                return refuse(
                    Reason::MissingField,
                    format!("receiver_identity_public_keys has no entry for leaf {leaf}"),
                );
            };
            rows.push(TransferLeafRow {
                leaf: *leaf,
                receiver,
                secret_cipher: tweak.secret_cipher.clone(),
                signature: tweak.signature.clone(),
                send_tweak: Some(tweak.staged.clone()),
                send_proofs: tweak.proofs.clone(),
                claim_tweak: None,
                claim_proofs: Vec::new(),
                previous_sequence: refunds::current_sequence(node)?,
                intermediate: intermediate.remove(leaf).unwrap_or_default(),
                claim_refunds: None,
            });
            values.push(node.value);
        }
        Ok(TransferRow {
            id: self.transfer,
            kind: TransferKind::Transfer,
            status: TransferStatus::SenderKeyTweakPending,
            network: frame.site.network,
            sender: self.sender,
            receivers,
            leaves: rows,
            values,
            expiry: self.expiry,
            invoice: self.invoice.clone(),
            fingerprint: fingerprint(self),
            started_by: frame.flow,
            created: self.now,
            updated: self.now,
        })
    }
}

/// The key shares of a transfer's leaves as parts of a plan, jobs in the order of [`JobSet`].
pub(crate) fn parts<'a>(
    leaves: &'a Leaves,
    set: &JobSet,
    tweak: impl Fn(&LeafId) -> Option<crate::secret::StagedTweak>,
    after_tweak: bool,
) -> Vec<KeyPart<'a>> {
    leaves
        .iter()
        .map(|(leaf, (_, keyshare))| KeyPart {
            keyshare,
            tweak: tweak(leaf),
            after_tweak,
            places: set.places(leaf),
        })
        .collect()
}

impl Flow for SendRequest {
    fn needs(&self, site: &Site) -> Needs {
        Needs {
            package: Some((true, self.package.ciphertext(site.me))),
            outputs: Vec::new(),
        }
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        let jobs_by_leaf = self.package.by_leaf()?;
        let ids = || jobs_by_leaf.keys().copied();
        if let Some(leaf) = self
            .receivers
            .keys()
            .find(|leaf| !jobs_by_leaf.contains_key(leaf))
        {
            return refuse(
                Reason::MalformedField,
                format!("receiver_identity_public_keys names leaf {leaf}, which is not sent"),
            );
        }
        if let Some(existing) = self.transfer(frame)? {
            return Err(Refusal::new(
                Reason::DuplicateOperation,
                format!("transfer {} exists already", existing.id),
            )
            .into());
        }
        let leaves = load_leaves(frame, ids())?;
        // Every row is there: from here on it is arithmetic, done once.
        self.check_request(frame)?;
        let tweaks = tweaks_by_leaf(&inputs.opened, ids())?;
        let mut jobs = Vec::new();
        let mut intermediate = BTreeMap::new();
        for (leaf, (node, keyshare)) in &leaves {
            check_spendable(node, &self.sender, frame.site)?;
            let (Some(sent), Some(tweak), Some(receiver)) = (
                jobs_by_leaf.get(leaf),
                tweaks.get(leaf),
                self.receivers.get(leaf),
            ) else {
                return refuse(
                    Reason::MissingField,
                    format!("receiver_identity_public_keys has no entry for leaf {leaf}"),
                );
            };
            check_ecdsa(
                &self.sender,
                &hash::leaf_signature_digest(leaf, &self.transfer, &tweak.secret_cipher),
                &tweak.signature,
                "leaves_to_send.signature",
            )?;
            tweaked(node, keyshare, &tweak.proofs)?;
            let expected = refunds::for_send(node, *receiver)?;
            let made = refunds::half_signed(
                frame.site,
                node,
                &keyshare.public_shares,
                node.owner_signing,
                &expected,
                sent,
            )?;
            intermediate.insert(*leaf, refunds::unsigned(&expected));
            jobs.extend(made);
        }
        let set = JobSet::of(&jobs);
        let request = Request::Send(Box::new(self.clone())).encode()?;
        let digest = digest(
            &request,
            leaves.iter().map(|(leaf, (_, keyshare))| {
                let proofs = tweaks.get(leaf).map_or(&[][..], |tweak| &tweak.proofs);
                (keyshare, proofs)
            }),
            &jobs,
        );
        let keys = plan(
            frame.site,
            &jobs,
            parts(
                &leaves,
                &set,
                |leaf| tweaks.get(leaf).map(|tweak| tweak.staged.clone()),
                false,
            ),
        )
        .keys;
        let mut changes = Changes::new();
        let transfer = self.new_row(frame, &leaves, &tweaks, &mut intermediate)?;
        changes.put(frame.rows, &transfer)?;
        for (node, _) in leaves.into_values() {
            let node = NodeRow {
                status: NodeStatus::TransferLocked,
                lock: Some(frame.flow),
                updated: self.now,
                ..node
            };
            changes.put(frame.rows, &node)?;
        }
        Ok(Prepared {
            changes,
            digest,
            jobs,
            keys,
        })
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        let transfer = self.mine(frame, row)?;
        let leaves = load_leaves(frame, transfer.leaves.iter().map(|leaf| leaf.leaf))?;
        let set = JobSet::of(&row.jobs);
        Ok(plan(
            frame.site,
            &row.jobs,
            parts(
                &leaves,
                &set,
                |leaf| {
                    transfer
                        .leaves
                        .iter()
                        .find(|sent| sent.leaf == *leaf)
                        .and_then(|sent| sent.send_tweak.clone())
                },
                false,
            ),
        ))
    }

    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        let mut transfer = self.mine(frame, row)?;
        let leaves = load_leaves(frame, transfer.leaves.iter().map(|leaf| leaf.leaf))?;
        let mut changes = Changes::new();
        // Every leaf has a tweak, so the plan left none out: shares come in order of leaf id.
        for ((leaf, (mut node, mut keyshare)), sealed) in leaves.into_iter().zip(sealed) {
            let Some(sent) = transfer.leaves.iter_mut().find(|sent| sent.leaf == leaf) else {
                return gone("a leaf", row);
            };
            rotate(&mut node, &mut keyshare, &sent.send_proofs, sealed.as_ref())?;
            sent.send_tweak = None;
            sent.send_proofs = Vec::new();
            changes.put(frame.rows, &keyshare)?;
            changes.put(frame.rows, &node)?;
        }
        changes.put(frame.rows, &transfer)?;
        Ok(changes)
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        let mut transfer = self.mine(frame, row)?;
        let leaves = load_leaves(frame, transfer.leaves.iter().map(|leaf| leaf.leaf))?;
        let set = JobSet::of(&row.jobs);
        let mut changes = Changes::new();
        for (leaf, (node, _)) in leaves {
            if let Some(sent) = transfer.leaves.iter_mut().find(|sent| sent.leaf == leaf) {
                // Without a signature the receiver still can claim, which makes a new one.
                sent.intermediate = set.signed(&leaf, &sent.intermediate, outcome)?;
            }
            let node = NodeRow {
                lock: None,
                updated: self.now,
                ..node
            };
            changes.put(frame.rows, &node)?;
        }
        transfer.status = TransferStatus::SenderKeyTweaked;
        transfer.updated = self.now;
        for receiver in &mut transfer.receivers {
            receiver.phase = ClaimPhase::Pending;
            receiver.before = ClaimPhase::Pending;
        }
        changes.put(frame.rows, &transfer)?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let transfer = self.mine(frame, row)?;
        let leaves = load_leaves(frame, transfer.leaves.iter().map(|leaf| leaf.leaf))?;
        let mut changes = Changes::new();
        for (mut node, _) in leaves.into_values() {
            if node.lock == Some(frame.flow) {
                node.lock = None;
                // What the chain said meanwhile stays.
                if node.status == NodeStatus::TransferLocked {
                    node.status = NodeStatus::Available;
                }
                changes.put(frame.rows, &node)?;
            }
        }
        changes.delete::<TransferRow>(frame.rows, TransferRow::id_of(&transfer.id))?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::Transfer(self.transfer)]
    }

    fn now(&self) -> Millis {
        self.now
    }
}
