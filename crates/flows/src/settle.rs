//! Settling a transfer that was started earlier: what it waited for has happened, so the sender's
//! staged tweaks are applied, and the refunds are signed that were not at the start.
//!
//! A flow that settles first [holds](hold) the transfer. Whoever holds it excludes every other
//! settlement and every return, whatever the clocks say.

use crate::checks::plan;
use crate::flow::{Frame, Outcome, Plan};
use crate::job::KeyJob;
use crate::refunds::JobSet;
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::rows::{FlowRow, JobRow, KeyshareRow, Millis, TransferRow, TransferStatus};
use crate::secret::SealedShare;
use crate::snapshot::Changes;
use crate::start::{self, Leaves, leaves_of, parts, send_tweak};

use bitcoin::secp256k1::PublicKey;

/// Refuses a transfer that is not staged, or that another flow holds.
///
/// # Errors
/// A refusal that names the transfer and its state.
pub fn check_free(transfer: &TransferRow) -> Result<(), Halt> {
    if !transfer.status.is_staged() {
        return refuse(
            Reason::InvalidState,
            format!(
                "transfer {} is not waiting any more: query its status",
                transfer.id
            ),
        );
    }
    if transfer.held.is_some() {
        return Err(Refusal::new(
            Reason::LockConflict,
            format!(
                "transfer {} is being settled or returned: try again",
                transfer.id
            ),
        )
        .held_by(transfer.held)
        .into());
    }
    Ok(())
}

/// What a settlement does to one transfer.
#[derive(Debug)]
pub struct Settlement {
    /// The transfer, held by the flow, with its new status.
    pub transfer: TransferRow,
    /// Its leaves as they are now.
    pub leaves: Leaves,
    /// What the signer does at commit: one tweak per leaf, in order of leaf id.
    pub keys: Vec<KeyJob>,
}

impl Settlement {
    /// The key shares and the commitments of their tweaks, for the digest.
    pub fn tweaks(&self) -> impl Iterator<Item = (&KeyshareRow, &[PublicKey])> {
        self.leaves.iter().map(|(leaf, (_, keyshare))| {
            let proofs = self
                .transfer
                .leaves
                .iter()
                .find(|sent| sent.leaf == *leaf)
                .map_or(&[][..], |sent| &sent.send_proofs);
            (keyshare, proofs)
        })
    }
}

/// Holds a staged transfer for `frame.flow`; `status` is what it shows meanwhile, `jobs` are what
/// the flow signs, those of other leaves too. The caller puts the transfer's row among its changes. The time of its last change stays: after a refusal it must
/// be the same everywhere, whoever held it.
///
/// # Errors
/// A miss, or a refusal unless the transfer is free and has all its tweaks.
pub fn hold(
    frame: &Frame<'_>,
    transfer: TransferRow,
    status: TransferStatus,
    jobs: &[JobRow],
) -> Result<Settlement, Halt> {
    check_free(&transfer)?;
    let leaves = leaves_of(frame, &transfer)?;
    if let Some(sent) = transfer
        .leaves
        .iter()
        .find(|leaf| leaf.send_tweak.is_none())
    {
        return Err(Refusal::new(
            Reason::InvalidState,
            format!(
                "transfer {} has no key tweak for leaf {}",
                transfer.id, sent.leaf
            ),
        )
        .into());
    }
    let keys = planned(frame, &transfer, &leaves, jobs).keys;
    let transfer = TransferRow {
        held: Some(frame.flow),
        status,
        ..transfer
    };
    Ok(Settlement {
        transfer,
        leaves,
        keys,
    })
}

fn planned(frame: &Frame<'_>, transfer: &TransferRow, leaves: &Leaves, jobs: &[JobRow]) -> Plan {
    let tweak = |leaf: &_| send_tweak(transfer, leaf);
    let set = JobSet::of(jobs);
    plan(frame.site, jobs, parts(leaves, &set, tweak, false))
}

/// The signer's plan: one tweak per leaf, in order of leaf id, and what `jobs` of the flow are of
/// these leaves.
///
/// # Errors
/// A miss, or a refusal if leaves are gone.
pub fn commit(frame: &Frame<'_>, transfer: &TransferRow, jobs: &[JobRow]) -> Result<Plan, Halt> {
    let leaves = leaves_of(frame, transfer)?;
    Ok(planned(frame, transfer, &leaves, jobs))
}

/// Applies the tweaks; `sealed` are the new shares in order of leaf id.
///
/// # Errors
/// A miss, or a refusal if leaves are gone.
pub fn apply(
    frame: &Frame<'_>,
    row: &FlowRow,
    transfer: &mut TransferRow,
    sealed: &[Option<SealedShare>],
    changes: &mut Changes,
) -> Result<(), Halt> {
    start::apply_tweaks(frame, row, transfer, sealed, changes)?;
    changes.put(frame.rows, transfer)?;
    Ok(())
}

/// Puts signatures that the flow has made into the refunds.
///
/// # Errors
/// A refusal if a stored refund is damaged.
pub fn sign(transfer: &mut TransferRow, row: &FlowRow, outcome: &Outcome) -> Result<(), Halt> {
    let set = JobSet::of(&row.jobs);
    for leaf in &mut transfer.leaves {
        // Without a signature the receiver still can claim, which makes a new one.
        leaf.intermediate = set.signed(&leaf.leaf, &leaf.intermediate, outcome)?;
    }
    Ok(())
}

/// The sender's key is out everywhere: receivers may claim.
///
/// # Errors
/// A miss.
pub fn finish(
    frame: &Frame<'_>,
    transfer: &mut TransferRow,
    now: Millis,
    changes: &mut Changes,
) -> Result<(), Halt> {
    start::let_go(transfer);
    transfer.held = None;
    transfer.updated = now;
    changes.put(frame.rows, transfer)?;
    Ok(())
}

/// Lets a held transfer go again, after a refusal; `status` is what it was.
///
/// # Errors
/// A miss.
pub fn rollback(
    frame: &Frame<'_>,
    mut transfer: TransferRow,
    status: TransferStatus,
    changes: &mut Changes,
) -> Result<(), Halt> {
    transfer.held = None;
    transfer.status = status;
    changes.put(frame.rows, &transfer)?;
    Ok(())
}
