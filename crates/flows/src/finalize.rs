//! `finalize_transfer_with_transfer_package`: the sender's package for a transfer that was started
//! without one, and whose leaves are locked already.
//!
//! What the package must satisfy is what a start must satisfy. If nothing is left to wait for, the
//! tweaks are applied with the certificate; else they stay staged, as if they had come with the
//! start.

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::{LeafId, TransferId, hash};

use crate::checks::{check_ecdsa, digest, plan, tweaked, tweaks_by_leaf};
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::htlc::lock_of;
use crate::package::TweakPackage;
use crate::refunds::{self, JobSet};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::Request;
use crate::rows::{
    FlowRow, Millis, NodeRow, NodeStatus, TransferKind, TransferRow, TransferStatus,
};
use crate::secret::SealedShare;
use crate::settle::{self, check_free};
use crate::snapshot::Changes;
use crate::start::{self, Form, Settle, held, leaves_of, parts, send_tweak, transfer};

/// Give a transfer that was started without tweaks the sender's package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalizeRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// Which transfer.
    pub transfer: TransferId,
    /// The sender's identity key.
    pub sender: PublicKey,
    /// Refunds and tweaks.
    pub package: TweakPackage,
}

/// When the tweaks of a transfer of this kind are applied once they are there.
fn settles(frame: &Frame<'_>, transfer: &TransferRow) -> Result<Settle, Halt> {
    let later = Settle::Later(TransferStatus::SenderKeyTweakPending);
    match transfer.kind {
        TransferKind::Transfer | TransferKind::UtxoSwap => Ok(Settle::AtOnce),
        // Whoever has been told the preimage has nothing left to wait for.
        TransferKind::PreimageSwap => Ok(match lock_of(frame, &transfer.id)? {
            Some(lock) if lock.shared().is_some() => Settle::AtOnce,
            _ => later,
        }),
        TransferKind::CooperativeExit => Ok(later),
        TransferKind::PrimarySwap
        | TransferKind::CounterSwap
        | TransferKind::LegacySwap
        | TransferKind::LegacyCounterSwap => refuse(
            Reason::InvalidState,
            format!(
                "transfer {} is a leg of a swap: it is settled together with the other leg",
                transfer.id
            ),
        ),
    }
}

impl FinalizeRequest {
    fn find(&self, frame: &Frame<'_>) -> Result<TransferRow, Halt> {
        let id = self.transfer;
        let Some(row) = transfer(frame, &id)? else {
            return refuse(
                Reason::MissingEntity,
                format!("transfer {id} is not known here: check the id"),
            );
        };
        if row.sender != self.sender {
            return refuse(
                Reason::NotOwner,
                format!("transfer {id} is not of {}", self.sender),
            );
        }
        check_free(&row)?;
        if row.status != TransferStatus::SenderInitiated {
            return refuse(
                Reason::InvalidState,
                format!("transfer {id} has its package: its status is not SENDER_INITIATED"),
            );
        }
        Ok(row)
    }

    /// The leaf must still be what the start locked.
    fn check_leaf(&self, node: &NodeRow) -> Result<(), Halt> {
        if node.owner == self.sender
            && node.status == NodeStatus::TransferLocked
            && node.lock.is_none()
        {
            return Ok(());
        }
        Err(Refusal::new(
            Reason::InvalidState,
            format!(
                "leaf {} cannot be sent any more: its status is {}",
                node.id,
                node.status.name()
            ),
        )
        .with("leaf_id", node.id)
        .held_by(node.lock)
        .into())
    }
}

/// Who gets a leaf of a transfer.
fn receiver_of(transfer: &TransferRow, leaf: &LeafId) -> Option<PublicKey> {
    let sent = transfer.leaves.iter().find(|sent| sent.leaf == *leaf)?;
    let place = usize::try_from(sent.receiver).ok()?;
    Some(transfer.receivers.get(place)?.identity)
}

impl Flow for FinalizeRequest {
    fn needs(&self, site: &Site) -> Needs {
        start::needs(site, &self.package)
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        let mut row = self.find(frame)?;
        let settle = settles(frame, &row)?;
        let leaves = leaves_of(frame, &row)?;
        let sent = self.package.by_leaf()?;
        if !sent.keys().eq(leaves.keys()) {
            return refuse(
                Reason::MalformedField,
                format!(
                    "transfer_package: its leaves are not those of transfer {}",
                    row.id
                ),
            );
        }
        // Every row is there: from here on it is arithmetic, done once.
        start::check_package(frame.site, &row.id, &self.sender, &self.package)?;
        let tweaks = tweaks_by_leaf(&inputs.opened, leaves.keys().copied())?;
        let mut jobs = Vec::new();
        for (leaf, (node, keyshare)) in &leaves {
            self.check_leaf(node)?;
            let (Some(sent), Some(tweak), Some(receiver)) =
                (sent.get(leaf), tweaks.get(leaf), receiver_of(&row, leaf))
            else {
                return refuse(
                    Reason::Internal,
                    format!("leaf {leaf} has no tweak or no receiver"),
                );
            };
            check_ecdsa(
                &self.sender,
                &hash::leaf_signature_digest(leaf, &row.id, &tweak.secret_cipher),
                &tweak.signature,
                "leaves_to_send.signature",
            )?;
            tweaked(node, keyshare, &tweak.proofs)?;
            let (_, made) = Form::Plain.jobs(frame.site, node, keyshare, receiver, sent)?;
            jobs.extend(made);
        }
        let request = Request::Finalize(Box::new(self.clone())).encode()?;
        let digest = digest(
            &request,
            leaves.iter().map(|(leaf, (_, keyshare))| {
                let proofs = tweaks.get(leaf).map_or(&[][..], |tweak| &tweak.proofs);
                (keyshare, proofs)
            }),
            &jobs,
        );
        for sent in &mut row.leaves {
            if let Some(tweak) = tweaks.get(&sent.leaf) {
                sent.secret_cipher.clone_from(&tweak.secret_cipher);
                sent.signature.clone_from(&tweak.signature);
                sent.send_tweak = Some(tweak.staged.clone());
                sent.send_proofs.clone_from(&tweak.proofs);
            }
        }
        row.status = TransferStatus::SenderKeyTweakPending;
        row.held = Some(frame.flow);
        let set = JobSet::of(&jobs);
        let tweak = tweak_of(&row, settle);
        let keys = plan(frame.site, &jobs, parts(&leaves, &set, tweak, false)).keys;
        let mut changes = Changes::new();
        changes.put(frame.rows, &row)?;
        Ok(Prepared {
            changes,
            digest,
            jobs,
            keys,
        })
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        let transfer = held(frame, &self.transfer, row)?;
        start::commit(frame, row, &self.transfer, settles(frame, &transfer)?)
    }

    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        let transfer = held(frame, &self.transfer, row)?;
        start::apply(
            frame,
            row,
            &self.transfer,
            settles(frame, &transfer)?,
            sealed,
        )
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        let mut transfer = held(frame, &self.transfer, row)?;
        let settle = settles(frame, &transfer)?;
        let set = JobSet::of(&row.jobs);
        for (leaf, (node, _)) in leaves_of(frame, &transfer)? {
            let Some(receiver) = receiver_of(&transfer, &leaf) else {
                continue;
            };
            let unsigned = refunds::unsigned(&Form::Plain.refunds(&node, receiver)?);
            if let Some(sent) = transfer.leaves.iter_mut().find(|sent| sent.leaf == leaf) {
                sent.intermediate = set.signed(&leaf, &unsigned, outcome)?;
            }
        }
        let mut changes = Changes::new();
        if settle == Settle::AtOnce {
            settle::finish(frame, &mut transfer, self.now, &mut changes)?;
        } else {
            transfer.updated = self.now;
            settle::rollback(
                frame,
                transfer,
                TransferStatus::SenderKeyTweakPending,
                &mut changes,
            )?;
        }
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let mut transfer = held(frame, &self.transfer, row)?;
        for sent in &mut transfer.leaves {
            sent.secret_cipher.clear();
            sent.signature.clear();
            sent.send_tweak = None;
            sent.send_proofs.clear();
        }
        let mut changes = Changes::new();
        settle::rollback(
            frame,
            transfer,
            TransferStatus::SenderInitiated,
            &mut changes,
        )?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::Transfer(self.transfer)]
    }

    fn now(&self) -> Millis {
        self.now
    }
}

/// The tweaks that are applied with the certificate.
fn tweak_of(
    transfer: &TransferRow,
    settle: Settle,
) -> impl Fn(&LeafId) -> Option<crate::secret::StagedTweak> + '_ {
    move |leaf| match settle {
        Settle::AtOnce => send_tweak(transfer, leaf),
        Settle::Later(_) => None,
    }
}
