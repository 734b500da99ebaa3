//! Which transfers may go back to their sender, and when.
//!
//! A return excludes settlement because both hold the transfer's row: see
//! [`check_free`](crate::settle::check_free). The rules here only say what is fair.

use serde::{Deserialize, Serialize};
use tinderbox_protocol::hash;

use crate::checks::check_ecdsa;
use crate::flow::Inputs;
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::rows::{Millis, TransferKind, TransferRow, TransferStatus};

/// How long after its expiry a transfer is returned, in milliseconds: whoever settles at the last
/// second shall find it there.
pub const MARGIN_MS: u64 = 10_000;

/// Why a transfer is to be returned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// Its time is over, by the clock of every operator.
    Expired,
    /// A receiver does not want it.
    Unwanted {
        /// The receiver's signature (DER or compact) over [`hash::return_payload`].
        signature: Vec<u8>,
    },
}

/// The time from which a transfer may be returned because of its expiry; none if it has none.
#[must_use]
pub fn due(transfer: &TransferRow) -> Option<Millis> {
    transfer.expiry.map(|expiry| expiry.plus(MARGIN_MS))
}

/// True if a transfer like this can be returned at all, as far as its own row tells.
#[must_use]
pub fn is_returnable(transfer: &TransferRow) -> bool {
    let waits = matches!(
        transfer.status,
        TransferStatus::SenderInitiated | TransferStatus::SenderKeyTweakPending
    );
    waits
        && match transfer.kind {
            TransferKind::PreimageSwap => true,
            // Not beside a second leg: both go together or not at all.
            TransferKind::PrimarySwap | TransferKind::LegacySwap => {
                transfer.details.other_leg().is_none()
            }
            // Settled with their own certificate, or with that of the first leg.
            TransferKind::Transfer
            | TransferKind::UtxoSwap
            | TransferKind::CounterSwap
            | TransferKind::LegacyCounterSwap => false,
            // Time alone proves nothing here: the payment on chain may still come.
            TransferKind::CooperativeExit => false,
        }
}

/// Refuses a return that is not fair to the receiver.
///
/// # Errors
/// A refusal that says why the transfer stays.
pub fn check(inputs: &Inputs, transfer: &TransferRow, why: &Why) -> Result<(), Halt> {
    if !is_returnable(transfer) {
        return refuse(
            Reason::InvalidState,
            format!(
                "transfer {} cannot be returned: it is settled, or waits for what cannot be called off",
                transfer.id
            ),
        );
    }
    match why {
        Why::Expired => check_expired(inputs, transfer),
        Why::Unwanted { signature } => check_unwanted(transfer, signature),
    }
}

/// Each operator asks its own clock, so a return begins everywhere only after the slowest clock has
/// reached it: until then somebody votes no, and the return is tried again.
fn check_expired(inputs: &Inputs, transfer: &TransferRow) -> Result<(), Halt> {
    let Some(due) = due(transfer) else {
        return refuse(
            Reason::InvalidState,
            format!("transfer {} does not expire", transfer.id),
        );
    };
    if inputs.clock.is_some_and(|clock| clock < due) {
        return Err(Refusal::new(
            Reason::LockConflict,
            format!(
                "transfer {} has not expired by this operator's clock: try again later",
                transfer.id
            ),
        )
        .with("due", due.0)
        .into());
    }
    Ok(())
}

/// Only a receiver can give up what was meant for it, and only in the one kind of transfer that it
/// may have asked for.
fn check_unwanted(transfer: &TransferRow, signature: &[u8]) -> Result<(), Halt> {
    let [receiver] = transfer.receivers.as_slice() else {
        return refuse(
            Reason::InvalidState,
            format!(
                "transfer {} has several receivers: one cannot return it",
                transfer.id
            ),
        );
    };
    if transfer.kind != TransferKind::PreimageSwap {
        return refuse(
            Reason::InvalidState,
            format!("transfer {} does not wait for a preimage", transfer.id),
        );
    }
    check_ecdsa(
        &receiver.identity,
        &hash::return_payload(&transfer.id),
        signature,
        "receiver_signature",
    )
}
