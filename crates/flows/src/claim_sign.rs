//! The three-step claim, second step: `claim_transfer_sign_refunds_v2`.
//!
//! The receiver handed its tweaks to each operator by itself. Here they compare them, apply them,
//! and give signature shares for refunds that the receiver completes.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use tinderbox_frost::SigningPackage;
use tinderbox_protocol::LeafId;
use tinderbox_protocol::tx::UnsignedTx;

use crate::checks::{digest, gone, load_leaves, plan, tweaked};
use crate::claim::{
    apply_tweaks, check_claimable, check_leaf_set, lock, locked, receiver_of, unlock,
};
use crate::flow::{Flow, Frame, Inputs, JobOutcome, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::package::{OpenJob, check_signers};
use crate::refunds::{self, JobSet, bad_tx};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::{ClaimSignRequest, Request};
use crate::rows::{
    ClaimPhase, FlowRow, JobRow, KeptTweaksRow, KeyshareRow, Millis, NodeRow, Part, TransferRow,
};
use crate::secret::SealedShare;
use crate::snapshot::Changes;
use crate::start::parts;

type Leaves = BTreeMap<LeafId, (NodeRow, KeyshareRow)>;

fn open_job(
    site: &Site,
    node: &NodeRow,
    public_shares: &[PublicKey],
    owner_signing: &PublicKey,
    part: Part,
    expected: &UnsignedTx,
    sent: &OpenJob,
) -> Result<JobRow, Halt> {
    if sent.signing_key != *owner_signing {
        return Err(Refusal::new(
            Reason::MalformedField,
            format!(
                "signing_public_key of leaf {} is not the key that the tweak leads to",
                node.id
            ),
        )
        .with("leaf_id", node.id)
        .into());
    }
    check_signers(&sent.operators, site.threshold, site.count())?;
    let message = expected
        .check(&sent.tx)
        .and_then(|checked| checked.sighash())
        .map_err(|error| bad_tx(node.id, &error))?;
    Ok(JobRow {
        leaf: Some(node.id),
        part,
        package: SigningPackage {
            verifying_key: node.verifying_key,
            message,
            operators: sent.operators.clone(),
            user: Some(sent.commitment),
            adaptor: None,
            threshold: site.threshold,
        },
        user_share: None,
        user_key: Some(*owner_signing),
        public_shares: public_shares.to_vec(),
    })
}

/// Keeps the staged tweaks of a claim that is rolled back, as long as a certificate may turn up:
/// the receiver has handed them to each operator itself, and no request has them.
fn keep(
    frame: &Frame<'_>,
    transfer: &TransferRow,
    place: usize,
    changes: &mut Changes,
) -> Result<(), Halt> {
    let leaves: Vec<_> = transfer
        .leaves_of(place)
        .filter_map(|row| {
            let tweak = row.claim_tweak.clone()?;
            Some((row.leaf, tweak, row.claim_proofs.clone()))
        })
        .collect();
    if !leaves.is_empty() {
        let kept = KeptTweaksRow {
            flow: frame.flow,
            leaves,
        };
        changes.put(frame.rows, &kept)?;
    }
    Ok(())
}

/// Stages again what [`keep`] kept for this flow.
fn take_up(
    frame: &Frame<'_>,
    transfer: &mut TransferRow,
    place: usize,
    changes: &mut Changes,
) -> Result<(), Halt> {
    let id = KeptTweaksRow::id_of(&frame.flow);
    let Some(kept) = frame.rows.get::<KeptTweaksRow>(id.clone())? else {
        return Ok(());
    };
    let Some(receiver) = transfer.receivers.get_mut(place) else {
        return refuse(Reason::Internal, "receiver is gone");
    };
    // Whatever the receiver has staged since: everybody has agreed to these.
    if matches!(receiver.phase, ClaimPhase::Pending | ClaimPhase::KeyTweaked) {
        receiver.phase = ClaimPhase::KeyTweaked;
        for (leaf, tweak, proofs) in kept.leaves {
            if let Some(row) = transfer.leaves.iter_mut().find(|row| row.leaf == leaf) {
                row.claim_tweak = Some(tweak);
                row.claim_proofs = proofs;
            }
        }
    }
    changes.delete::<KeptTweaksRow>(frame.rows, id)?;
    Ok(())
}

impl ClaimSignRequest {
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

impl Flow for ClaimSignRequest {
    fn needs(&self, _site: &Site) -> Needs {
        Needs::default()
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        let (mut transfer, place) = receiver_of(frame, &self.transfer, &self.receiver)?;
        if transfer.receivers.len() > 1 {
            return refuse(
                Reason::InvalidState,
                "this transfer has multiple receivers: use claim_transfer",
            );
        }
        let mut changes = Changes::new();
        if inputs.clock.is_none() {
            take_up(frame, &mut transfer, place, &mut changes)?;
        }
        let applied = check_claimable(&transfer, place)?;
        let phase = transfer.receivers.get(place).map(|receiver| receiver.phase);
        if phase == Some(ClaimPhase::Pending) {
            return refuse(
                Reason::InvalidState,
                "claim_transfer_tweak_keys must come first, at every operator",
            );
        }
        check_leaf_set(&transfer, place, self.jobs.keys())?;
        let leaves = self.leaves(frame, &transfer, place)?;
        let mut jobs = Vec::new();
        for (leaf, (node, keyshare)) in &leaves {
            let (Some(sent), Some(claimed)) = (
                self.jobs.get(leaf),
                transfer.leaves.iter_mut().find(|row| row.leaf == *leaf),
            ) else {
                return refuse(Reason::MissingField, format!("leaf {leaf}"));
            };
            let (owner_signing, public_shares) = if applied {
                (node.owner_signing, keyshare.public_shares.clone())
            } else {
                if claimed.claim_tweak.is_none() {
                    return refuse(
                        Reason::InvalidState,
                        format!("claim_transfer_tweak_keys has not been called for leaf {leaf}"),
                    );
                }
                let after = tweaked(node, keyshare, &claimed.claim_proofs)?;
                (after.owner_signing, after.public_shares)
            };
            let expected = refunds::for_claim(node, owner_signing, claimed.previous_sequence)?;
            if expected.direct.is_some() != sent.direct.is_some() {
                return refuse(
                    Reason::MissingField,
                    format!("direct_refund_tx_signing_job of leaf {leaf}"),
                );
            }
            for (part, tx) in refunds::parts(&expected) {
                let open = match part {
                    Part::Direct => sent.direct.as_ref(),
                    Part::DirectFromCpfp => Some(&sent.direct_from_cpfp),
                    _ => Some(&sent.cpfp),
                };
                if let Some(open) = open {
                    jobs.push(open_job(
                        frame.site,
                        node,
                        &public_shares,
                        &owner_signing,
                        part,
                        tx,
                        open,
                    )?);
                }
            }
            claimed.claim_refunds = Some(refunds::unsigned(&expected));
        }
        let set = JobSet::of(&jobs);
        let request = Request::ClaimSign(Box::new(self.clone())).encode()?;
        let staged = |leaf: &LeafId| {
            transfer
                .leaves
                .iter()
                .find(|row| row.leaf == *leaf)
                .filter(|_| !applied)
        };
        let digest = digest(
            &request,
            leaves.iter().map(|(leaf, (_, keyshare))| {
                let proofs = staged(leaf).map_or(&[][..], |row| &row.claim_proofs);
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
                |leaf| staged(leaf).and_then(|row| row.claim_tweak.clone()),
                !applied,
            ),
        )
        .keys;
        lock(&mut transfer, place, frame);
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
            parts(&leaves, &JobSet::of(&row.jobs), tweak, after_tweak),
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
        let complete = outcome
            .jobs
            .iter()
            .all(|job| matches!(job, JobOutcome::Shares(_)));
        let Some(receiver) = transfer.receivers.get_mut(place) else {
            return gone("the receiver", row);
        };
        receiver.phase = if complete {
            ClaimPhase::RefundSigned
        } else {
            ClaimPhase::KeyTweakApplied
        };
        receiver.before = receiver.phase;
        transfer.updated = transfer.updated.max(self.now);
        let mut changes = Changes::new();
        changes.put(frame.rows, &transfer)?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let (mut transfer, place) = locked(frame, &self.transfer, &self.receiver, row)?;
        let mut changes = Changes::new();
        keep(frame, &transfer, place, &mut changes)?;
        unlock(&mut transfer, place);
        changes.put(frame.rows, &transfer)?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        Vec::new()
    }

    fn now(&self) -> Millis {
        self.now
    }
}
