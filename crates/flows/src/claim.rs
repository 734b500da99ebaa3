//! Claiming: `claim_transfer`.
//!
//! The receiver tweaks the key that the sender gave it into one that only it knows, and gets
//! refunds that pay it. Refunds are signed with the tweaked shares. Before the certificate nothing
//! has moved, and any other claim may take its place; after it the receiver's key controls the
//! leaf, even if a signature is missing: then the same call, with fresh nonces, completes it.

use std::collections::BTreeMap;

use tinderbox_protocol::{LeafId, hash};

use crate::checks::{
    check_ecdsa, digest, gone, load_leaves, plan, rotate, tweaked, tweaks_by_leaf,
};
use crate::flow::{Flow, Frame, Inputs, JobOutcome, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::refunds::{self, JobSet};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::{ClaimRequest, Request};
use crate::rows::{
    ClaimPhase, FlowRow, KeyshareRow, LeafRefunds, Millis, NodeRow, TransferKind, TransferRow,
    TransferStatus,
};
use crate::secret::SealedShare;
use crate::snapshot::Changes;
use crate::start::parts;

use bitcoin::secp256k1::PublicKey;
use tinderbox_protocol::TransferId;

/// A transfer and the caller's place among its receivers.
pub(crate) fn receiver_of(
    frame: &Frame<'_>,
    transfer: &TransferId,
    receiver: &PublicKey,
) -> Result<(TransferRow, usize), Halt> {
    let Some(row) = frame
        .rows
        .get::<TransferRow>(TransferRow::id_of(transfer))?
    else {
        return refuse(
            Reason::MissingEntity,
            format!("transfer {transfer} does not exist"),
        );
    };
    match row.receiver(receiver) {
        Some(place) => Ok((row, place)),
        None => refuse(
            Reason::NotOwner,
            format!("{receiver} does not receive transfer {transfer}"),
        ),
    }
}

/// Refuses unless the receiver may claim now. Returns true if its tweaks are applied already.
pub(crate) fn check_claimable(transfer: &TransferRow, place: usize) -> Result<bool, Halt> {
    let id = transfer.id;
    let phase = transfer
        .receivers
        .get(place)
        .map_or(ClaimPhase::Cancelled, |receiver| receiver.phase);
    match (transfer.status, phase) {
        (_, ClaimPhase::Completed) => refuse(
            Reason::DuplicateOperation,
            format!("transfer {id} has been claimed"),
        ),
        (status, _) if status.is_staged() && transfer.kind == TransferKind::CooperativeExit => {
            refuse(
                Reason::InsufficientConfirmations,
                format!("the payout of transfer {id} is not confirmed deep enough: wait for it"),
            )
        }
        (status, _) if status.is_staged() => refuse(
            Reason::InvalidState,
            format!("transfer {id} is SENDER_KEY_TWEAK_PENDING: its sender has not let go yet"),
        ),
        (TransferStatus::Returned, _) | (_, ClaimPhase::Cancelled | ClaimPhase::Initiated) => {
            refuse(
                Reason::InvalidState,
                format!("transfer {id} is RETURNED: it cannot be claimed any more"),
            )
        }
        (_, ClaimPhase::Locked(flow)) => Err(Refusal::new(
            Reason::ConcurrentClaimConflict,
            format!("transfer {id} is being claimed: try again"),
        )
        .held_by(Some(flow))
        .into()),
        (_, ClaimPhase::Pending | ClaimPhase::KeyTweaked) => Ok(false),
        (_, ClaimPhase::KeyTweakApplied | ClaimPhase::RefundSigned) => Ok(true),
    }
}

/// Marks the receiver's claim as being agreed on by `frame.flow`.
pub(crate) fn lock(transfer: &mut TransferRow, place: usize, frame: &Frame<'_>) {
    if let Some(receiver) = transfer.receivers.get_mut(place) {
        receiver.before = receiver.phase;
        receiver.phase = ClaimPhase::Locked(frame.flow);
    }
}

/// The transfer, if this flow still holds the receiver's claim.
pub(crate) fn locked(
    frame: &Frame<'_>,
    id: &TransferId,
    identity: &PublicKey,
    row: &FlowRow,
) -> Result<(TransferRow, usize), Halt> {
    let (transfer, place) = receiver_of(frame, id, identity)?;
    let phase = transfer.receivers.get(place).map(|receiver| receiver.phase);
    if phase == Some(ClaimPhase::Locked(frame.flow)) {
        Ok((transfer, place))
    } else {
        gone("the claim", row)
    }
}

/// Gives the claim back after a refusal. Staged tweaks are dropped: they were never applied.
pub(crate) fn unlock(transfer: &mut TransferRow, place: usize) {
    let Some(receiver) = transfer.receivers.get_mut(place) else {
        return;
    };
    receiver.phase = match receiver.before {
        ClaimPhase::KeyTweakApplied | ClaimPhase::RefundSigned => receiver.before,
        _ => ClaimPhase::Pending,
    };
    receiver.before = receiver.phase;
    let phase = receiver.phase;
    if phase == ClaimPhase::Pending {
        drop_tweaks(transfer, place);
    }
    if phase != ClaimPhase::RefundSigned {
        drop_refunds(transfer, place);
    }
}

fn drop_refunds(transfer: &mut TransferRow, place: usize) {
    for leaf in &mut transfer.leaves {
        if usize::try_from(leaf.receiver) == Ok(place) {
            leaf.claim_refunds = None;
        }
    }
}

pub(crate) fn drop_tweaks(transfer: &mut TransferRow, place: usize) {
    for leaf in &mut transfer.leaves {
        if usize::try_from(leaf.receiver) == Ok(place) {
            leaf.claim_tweak = None;
            leaf.claim_proofs = Vec::new();
        }
    }
}

/// Applies the receiver's tweaks to its leaves, in order of leaf id, and remembers that.
pub(crate) fn apply_tweaks(
    frame: &Frame<'_>,
    transfer: &mut TransferRow,
    place: usize,
    row: &FlowRow,
    sealed: &[Option<SealedShare>],
) -> Result<Changes, Halt> {
    let mut changes = Changes::new();
    let applied = transfer.receivers.get(place).is_some_and(|receiver| {
        matches!(
            receiver.before,
            ClaimPhase::KeyTweakApplied | ClaimPhase::RefundSigned
        )
    });
    if applied {
        return Ok(changes);
    }
    let leaves = load_leaves(
        frame,
        transfer
            .leaves_of(place)
            .map(|leaf| leaf.leaf)
            .collect::<Vec<_>>()
            .into_iter(),
    )?;
    for ((leaf, (mut node, mut keyshare)), sealed) in leaves.into_iter().zip(sealed) {
        let Some(claimed) = transfer.leaves.iter_mut().find(|row| row.leaf == leaf) else {
            return gone("a leaf", row);
        };
        rotate(
            &mut node,
            &mut keyshare,
            &claimed.claim_proofs,
            sealed.as_ref(),
        )?;
        changes.put(frame.rows, &keyshare)?;
        changes.put(frame.rows, &node)?;
    }
    drop_tweaks(transfer, place);
    if let Some(receiver) = transfer.receivers.get_mut(place) {
        receiver.before = ClaimPhase::KeyTweakApplied;
    }
    changes.put(frame.rows, transfer)?;
    Ok(changes)
}

/// Gives the receiver its leaves, with these refunds.
pub(crate) fn hand_over(
    frame: &Frame<'_>,
    transfer: &mut TransferRow,
    place: usize,
    now: Millis,
    refunds: &BTreeMap<LeafId, LeafRefunds>,
) -> Result<Changes, Halt> {
    let Some(owner) = transfer
        .receivers
        .get(place)
        .map(|receiver| receiver.identity)
    else {
        return refuse(Reason::Internal, "receiver is gone");
    };
    let ids: Vec<LeafId> = transfer.leaves_of(place).map(|leaf| leaf.leaf).collect();
    let mut changes = Changes::new();
    for (leaf, (mut node, _)) in load_leaves(frame, ids.into_iter())? {
        node.owner = owner;
        if let Some(refunds) = refunds.get(&leaf) {
            node.txs.refund = refunds.cpfp.clone();
            node.txs.direct_refund = refunds.direct.clone();
            node.txs.direct_from_cpfp_refund = refunds.direct_from_cpfp.clone();
        }
        // A leaf that went on chain meanwhile is the receiver's all the same, and stays there.
        node.unlock();
        node.updated = now;
        changes.put(frame.rows, &node)?;
    }
    if let Some(receiver) = transfer.receivers.get_mut(place) {
        receiver.phase = ClaimPhase::Completed;
        receiver.before = ClaimPhase::Completed;
        receiver.completed = Some(now);
    }
    drop_refunds(transfer, place);
    let all = transfer
        .receivers
        .iter()
        .all(|receiver| receiver.phase == ClaimPhase::Completed);
    if all {
        transfer.status = TransferStatus::Completed;
    }
    transfer.updated = transfer.updated.max(now);
    changes.put(frame.rows, transfer)?;
    Ok(changes)
}

/// Refuses a set of leaves that is not exactly the receiver's.
pub(crate) fn check_leaf_set<'a>(
    transfer: &TransferRow,
    place: usize,
    named: impl Iterator<Item = &'a LeafId>,
) -> Result<(), Halt> {
    let mut own: Vec<LeafId> = transfer.leaves_of(place).map(|leaf| leaf.leaf).collect();
    own.sort_unstable();
    let mut named: Vec<LeafId> = named.copied().collect();
    named.sort_unstable();
    if own == named {
        Ok(())
    } else {
        refuse(
            Reason::MalformedField,
            format!(
                "a claim must name exactly the {} leaves that this receiver gets in transfer {}",
                own.len(),
                transfer.id
            ),
        )
    }
}

type Leaves = BTreeMap<LeafId, (NodeRow, KeyshareRow)>;

impl ClaimRequest {
    fn check_request(&self, frame: &Frame<'_>) -> Result<(), Halt> {
        self.package.check_recipients(frame.site.everyone())?;
        if self.package.hash_variant != 1 {
            return refuse(
                Reason::MalformedField,
                "claim_package.hash_variant must be 1",
            );
        }
        check_ecdsa(
            &self.receiver,
            &hash::claim_payload(&self.transfer, &self.package.tweaks),
            &self.package.user_signature,
            "claim_package.user_signature",
        )
    }

    fn leaves(
        &self,
        frame: &Frame<'_>,
        transfer: &TransferRow,
        place: usize,
    ) -> Result<Leaves, Halt> {
        let ids: Vec<LeafId> = transfer.leaves_of(place).map(|leaf| leaf.leaf).collect();
        load_leaves(frame, ids.into_iter())
    }
}

impl Flow for ClaimRequest {
    fn needs(&self, site: &Site) -> Needs {
        Needs {
            package: Some((false, self.package.ciphertext(site.me))),
            ..Needs::default()
        }
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        let (mut transfer, place) = receiver_of(frame, &self.transfer, &self.receiver)?;
        let applied = check_claimable(&transfer, place)?;
        let jobs_by_leaf = self.package.by_leaf()?;
        check_leaf_set(&transfer, place, jobs_by_leaf.keys())?;
        let leaves = self.leaves(frame, &transfer, place)?;
        self.check_request(frame)?;
        let tweaks = tweaks_by_leaf(&inputs.opened, jobs_by_leaf.keys().copied())?;
        let mut jobs = Vec::new();
        for (leaf, (node, keyshare)) in &leaves {
            let (Some(sent), Some(tweak)) = (jobs_by_leaf.get(leaf), tweaks.get(leaf)) else {
                return refuse(Reason::MissingField, format!("leaf {leaf}"));
            };
            let Some(claimed) = transfer.leaves.iter_mut().find(|row| row.leaf == *leaf) else {
                return refuse(Reason::Internal, format!("leaf {leaf}"));
            };
            // The refunds must pay exactly the key that the tweak leads to: so the receiver's new
            // key and its tweak fit together.
            let (owner_signing, public_shares) = if applied {
                (node.owner_signing, keyshare.public_shares.clone())
            } else {
                let after = tweaked(node, keyshare, &tweak.proofs)?;
                (after.owner_signing, after.public_shares)
            };
            let expected = refunds::for_claim(node, owner_signing, claimed.previous_sequence)?;
            jobs.extend(refunds::half_signed(
                frame.site,
                node,
                &public_shares,
                owner_signing,
                &expected,
                sent,
                |_| None,
            )?);
            claimed.claim_refunds = Some(refunds::unsigned(&expected));
            if !applied {
                claimed.claim_tweak = Some(tweak.staged.clone());
                claimed.claim_proofs = tweak.proofs.clone();
            }
        }
        let set = JobSet::of(&jobs);
        let request = Request::Claim(Box::new(self.clone())).encode()?;
        let digest = digest(
            &request,
            leaves.iter().map(|(leaf, (_, keyshare))| {
                let proofs = tweaks
                    .get(leaf)
                    .filter(|_| !applied)
                    .map_or(&[][..], |tweak| &tweak.proofs);
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
                |leaf| {
                    tweaks
                        .get(leaf)
                        .filter(|_| !applied)
                        .map(|tweak| tweak.staged.clone())
                },
                !applied,
            ),
        )
        .keys;
        lock(&mut transfer, place, frame);
        let mut changes = Changes::new();
        changes.put(frame.rows, &transfer)?;
        Ok(Prepared {
            changes,
            digest,
            jobs,
            keys,
        })
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        let (transfer, place) = locked(frame, &self.transfer, &self.receiver, row)?;
        let leaves = self.leaves(frame, &transfer, place)?;
        let set = JobSet::of(&row.jobs);
        let tweak = |leaf: &LeafId| {
            transfer
                .leaves
                .iter()
                .find(|claimed| claimed.leaf == *leaf)
                .and_then(|claimed| claimed.claim_tweak.clone())
        };
        let after_tweak = leaves.keys().any(|leaf| tweak(leaf).is_some());
        Ok(plan(
            frame.site,
            &row.jobs,
            parts(&leaves, &set, tweak, after_tweak),
        ))
    }

    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        let (mut transfer, place) = locked(frame, &self.transfer, &self.receiver, row)?;
        apply_tweaks(frame, &mut transfer, place, row, sealed)
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        let (mut transfer, place) = locked(frame, &self.transfer, &self.receiver, row)?;
        let failed = outcome
            .jobs
            .iter()
            .any(|job| !matches!(job, JobOutcome::Signed(_)));
        if failed {
            if let Some(receiver) = transfer.receivers.get_mut(place) {
                receiver.phase = ClaimPhase::KeyTweakApplied;
            }
            transfer.updated = transfer.updated.max(self.now);
            let mut changes = Changes::new();
            changes.put(frame.rows, &transfer)?;
            return Ok(changes);
        }
        let set = JobSet::of(&row.jobs);
        let mut signed = BTreeMap::new();
        for claimed in transfer.leaves_of(place) {
            let Some(unsigned) = &claimed.claim_refunds else {
                return gone("a refund", row);
            };
            signed.insert(claimed.leaf, set.signed(&claimed.leaf, unsigned, outcome)?);
        }
        hand_over(frame, &mut transfer, place, self.now, &signed)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let (mut transfer, place) = locked(frame, &self.transfer, &self.receiver, row)?;
        unlock(&mut transfer, place);
        let mut changes = Changes::new();
        changes.put(frame.rows, &transfer)?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::Transfer(self.transfer)]
    }

    fn now(&self) -> Millis {
        self.now
    }
}
