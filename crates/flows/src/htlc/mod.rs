//! Transfers against the preimage of a payment hash: Lightning in both directions, and hash locks
//! between wallets.
//!
//! ```text
//!  store    the receiver deposits its preimage, in shares           operators: a share each
//!  lock     the sender's leaves are locked, its tweaks staged       nothing is signed yet
//!           if shares are stored: with the certificate every
//!           operator gives its share                                the preimage, or proof that
//!                                                                   the shares are worthless
//!  settle   with the preimage: refunds signed, tweaks applied       the receiver may claim
//!  return   after its time, without the preimage                    as if nothing had been
//! ```
//!
//! Three rules, and why:
//!
//! **Refunds are signed when the transfer is settled.** A hash-locked refund becomes valid before the
//! sender's own. Had operators signed it at the start, one dishonest operator could keep it over a
//! return, and its accomplice would win the race on chain.
//!
//! **The preimage is proven before the sender's key moves.** Proofs say that shares belong together,
//! not that they belong to the payment hash: a receiver could deposit shares of another number. So
//! shares are given with the certificate of the lock, and only a preimage that hashes right leads on
//! to the settlement. What the shares give is proof either way: its point is the first commitment.
//!
//! **Known means settled.** Once operators can know the preimage no one of them returns the transfer;
//! any of them settles it, should the coordinator not.

pub mod legacy;
pub mod lock;
pub mod reveal;
pub mod settle;
pub mod store;

use bitcoin::secp256k1::PublicKey;
use tinderbox_protocol::refunds::{RefundPurpose, RefundSet};
use tinderbox_protocol::timelock::RENEW_BELOW;
use tinderbox_protocol::tx::htlc::HtlcOutput;
use tinderbox_protocol::{LeafId, LeafSequence, TransferId};

use crate::checks::gone;
use crate::flow::{Frame, Outcome};
use crate::give_back;
use crate::package::LeafJobs;
use crate::refunds;
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::rows::{
    Details, FlowRow, HashLockRow, HashLockState, HashSlotRow, Millis, NodeRow, PreimageShareRow,
    TransferRow,
};
use crate::secret::Preimage;
use crate::snapshot::Changes;
use crate::start::{self, Settle};

/// The hash lock of a transfer, if it has one.
///
/// # Errors
/// A miss.
pub fn lock_of(frame: &Frame<'_>, transfer: &TransferId) -> Result<Option<HashLockRow>, Halt> {
    Ok(frame
        .rows
        .get::<HashLockRow>(HashLockRow::id_of(transfer))?)
}

/// This operator's share of the preimage of a payment hash, if one is stored.
///
/// # Errors
/// A miss.
pub fn share_of(
    frame: &Frame<'_>,
    payment_hash: &[u8; 32],
) -> Result<Option<PreimageShareRow>, Halt> {
    Ok(frame
        .rows
        .get::<PreimageShareRow>(payment_hash.as_slice())?)
}

/// The hash-locked refunds of a leaf.
///
/// # Errors
/// A refusal if the leaf has too little timelock left.
pub fn locked_refunds(node: &NodeRow, htlc: &HtlcOutput) -> Result<RefundSet, Halt> {
    let current = refunds::current_sequence(node)?;
    check_floor(node.id, current)?;
    refunds::made(
        node,
        &RefundPurpose::Htlc {
            current,
            htlc: htlc.clone(),
        },
    )
}

/// The refunds of a leaf, plain or hash-locked, as the sender chose.
///
/// # Errors
/// A refusal if the leaf has too little timelock left.
pub fn chosen(
    node: &NodeRow,
    receiver: PublicKey,
    htlc: &HtlcOutput,
    sent: &LeafJobs<'_>,
) -> Result<RefundSet, Halt> {
    let plain = refunds::for_send(node, receiver)?;
    match plain.cpfp.check(&sent.cpfp.tx) {
        Ok(_) => Ok(plain),
        Err(_) => locked_refunds(node, htlc),
    }
}

/// Refuses a leaf from which a receiver could not go on: its claim would have no timelock left.
///
/// # Errors
/// A refusal that names the leaf.
pub fn check_floor(leaf: LeafId, current: LeafSequence) -> Result<(), Halt> {
    let timelock = current.timelock();
    if timelock.round_down() < RENEW_BELOW {
        return Err(Refusal::new(
            Reason::LeafRenewalRequired,
            format!(
                "leaf {leaf} has a refund timelock of {}, and a hash lock needs {}: renew it first",
                timelock.0, RENEW_BELOW.0
            ),
        )
        .with("leaf_id", leaf)
        .with("timelock", timelock.0)
        .into());
    }
    Ok(())
}

/// Refuses to return a transfer whose preimage operators may know. A transfer of another kind may
/// be returned as far as this is concerned.
///
/// # Errors
/// A miss, or a refusal.
pub fn check_returnable(frame: &Frame<'_>, transfer: &TransferRow) -> Result<(), Halt> {
    let Details::Preimage { .. } = transfer.details else {
        return Ok(());
    };
    match lock_of(frame, &transfer.id)?.map(|lock| lock.state) {
        Some(HashLockState::Revealed(_) | HashLockState::Shared(_)) => refuse(
            Reason::InvalidState,
            format!(
                "the preimage of transfer {} is known: it cannot be returned",
                transfer.id
            ),
        ),
        _ => Ok(()),
    }
}

/// Ends the hash lock of a transfer that is given back, in the same write, and frees its payment
/// hash. Nothing for a transfer of another kind.
///
/// # Errors
/// A miss, or a refusal as [`check_returnable`].
pub fn returned(
    frame: &Frame<'_>,
    transfer: &TransferRow,
    now: Millis,
    changes: &mut Changes,
) -> Result<(), Halt> {
    check_returnable(frame, transfer)?;
    let Details::Preimage { .. } = transfer.details else {
        return Ok(());
    };
    if let Some(mut lock) = lock_of(frame, &transfer.id)? {
        lock.end(HashLockState::Returned, now);
        free_slot(frame, &lock, changes)?;
        changes.put(frame.rows, &lock)?;
    }
    Ok(())
}

/// Frees the payment hash for another request.
fn free_slot(frame: &Frame<'_>, lock: &HashLockRow, changes: &mut Changes) -> Result<(), Halt> {
    let id = HashSlotRow::id_of(&lock.payment_hash, &lock.receiver);
    if let Some(slot) = frame.rows.get::<HashSlotRow>(id.clone())?
        && slot.transfer == lock.transfer
    {
        changes.delete::<HashSlotRow>(frame.rows, id)?;
    }
    Ok(())
}

/// Ends a start that gave its shares of the preimage away: the transfer stands with its lock in the
/// state that `known` makes of the preimage, or, if the shares were of something else, goes back;
/// whoever stored them gets nothing.
fn finish_revealed(
    frame: &Frame<'_>,
    row: &FlowRow,
    outcome: &Outcome,
    transfer: &TransferId,
    share: &PreimageShareRow,
    now: Millis,
    known: impl FnOnce(&mut HashLockRow, Preimage),
) -> Result<Changes, Halt> {
    let Some(mut lock) = lock_of(frame, transfer)? else {
        return gone("the hash lock", row);
    };
    let mut held = start::held(frame, transfer, row)?;
    let mut changes = match reveal::check(share, outcome.secret.as_ref())? {
        Some(preimage) => {
            known(&mut lock, preimage);
            let settle = Settle::Later(held.status);
            let (_, mut changes) = start::finish(frame, row, transfer, settle, now, outcome)?;
            changes.put(frame.rows, &lock)?;
            changes
        }
        None => {
            let mut changes = Changes::new();
            give_back::finish(frame, &mut held, now, &mut changes)?;
            changes
        }
    };
    changes.delete::<PreimageShareRow>(frame.rows, share.payment_hash)?;
    Ok(changes)
}

/// Undoes what the start of a hash lock wrote, after a refusal.
fn forget(
    frame: &Frame<'_>,
    transfer: &TransferId,
    payment_hash: &[u8; 32],
    changes: &mut Changes,
) -> Result<(), Halt> {
    if let Some(lock) = lock_of(frame, transfer)? {
        free_slot(frame, &lock, changes)?;
        changes.delete::<HashLockRow>(frame.rows, HashLockRow::id_of(transfer))?;
    }
    if let Some(mut share) = share_of(frame, payment_hash)?
        && share.held == Some(frame.flow)
    {
        share.held = None;
        changes.put(frame.rows, &share)?;
    }
    Ok(())
}

/// Refuses a payment hash that another transfer to the same receiver has.
fn check_slot(
    frame: &Frame<'_>,
    payment_hash: &[u8; 32],
    receiver: &PublicKey,
) -> Result<(), Halt> {
    match frame
        .rows
        .get::<HashSlotRow>(HashSlotRow::id_of(payment_hash, receiver))?
    {
        Some(slot) => Err(Refusal::new(
            Reason::DuplicateOperation,
            format!(
                "preimage request already exists for this payment hash and receiver: transfer {}",
                slot.transfer
            ),
        )
        .with("transfer_id", slot.transfer)
        .into()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tinderbox_protocol::Timelock;

    /// Case 46: whoever gets a leaf against a preimage must be able to claim it.
    #[test]
    fn case_46_leaf_below_the_floor_is_not_locked() {
        let leaf = LeafId::from_bytes16([1; 16]);
        for (timelock, fits) in [
            (2000, true),
            (250, true),
            (200, true),
            (199, false),
            (100, false),
        ] {
            let current = LeafSequence::new(Timelock(timelock));
            match check_floor(leaf, current) {
                Ok(()) => assert!(fits, "{timelock}"),
                Err(Halt::Refuse(refusal)) => {
                    assert!(!fits, "{timelock}");
                    assert_eq!(refusal.reason, Reason::LeafRenewalRequired);
                }
                Err(Halt::Miss(_)) => panic!("no row is read"),
            }
        }
    }
}
