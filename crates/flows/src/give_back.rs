//! Returning a staged transfer to its sender: the tweaks were never applied, so nothing but locks
//! has to be undone. The keys of the leaves stay as they are.

use crate::flow::Frame;
use crate::htlc;
use crate::legs;
use crate::refusal::Halt;
use crate::rows::{ClaimPhase, Millis, TransferRow, TransferStatus};
use crate::settle::check_free;
use crate::snapshot::Changes;
use crate::start::{leaves_of, unlocked};

/// Holds a staged transfer for `frame.flow`: from here on nobody can settle it. The time of its
/// last change stays, as in [`settle::hold`](crate::settle::hold).
///
/// # Errors
/// A miss, or a refusal unless the transfer is staged and free.
pub fn hold(
    frame: &Frame<'_>,
    mut transfer: TransferRow,
    changes: &mut Changes,
) -> Result<TransferRow, Halt> {
    check_free(&transfer)?;
    htlc::check_returnable(frame, &transfer)?;
    transfer.held = Some(frame.flow);
    changes.put(frame.rows, &transfer)?;
    Ok(transfer)
}

/// Gives the leaves back. A leaf that is on chain by now stays there, as the sender's.
///
/// # Errors
/// A miss, or a refusal if leaves are gone.
pub fn finish(
    frame: &Frame<'_>,
    transfer: &mut TransferRow,
    now: Millis,
    changes: &mut Changes,
) -> Result<(), Halt> {
    for (node, _) in leaves_of(frame, transfer)?.into_values() {
        // A start that gives its leaves back itself still holds them.
        let lock = node.lock.filter(|lock| *lock == frame.flow);
        if let Some(mut node) = unlocked(node, lock) {
            node.updated = now;
            changes.put(frame.rows, &node)?;
        }
    }
    htlc::returned(frame, transfer, now, changes)?;
    legs::forget(frame, transfer, changes)?;
    for leaf in &mut transfer.leaves {
        leaf.send_tweak = None;
        leaf.send_proofs = Vec::new();
    }
    for receiver in &mut transfer.receivers {
        receiver.phase = ClaimPhase::Cancelled;
        receiver.before = ClaimPhase::Cancelled;
    }
    transfer.status = TransferStatus::Returned;
    transfer.held = None;
    transfer.updated = now;
    changes.put(frame.rows, transfer)?;
    Ok(())
}
