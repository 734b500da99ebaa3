//! `claim_transfer`: all in one call.

use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::{ClaimRequest, Request};
use tinderbox_flows::rows::{ClaimPhase, TransferKind, TransferStatus};

use super::{claimed, received};
use crate::api::{Api, ApiError};
use crate::convert::field::{malformed, missing, transfer_id};
use crate::convert::package::claim_package;
use crate::convert::spark::{ClaimTransferRequest, ClaimTransferResponse};
use crate::convert::status;
use tinderbox_rpc::Caller;

/// Claims the caller's leaves of a transfer.
pub async fn claim_transfer(
    api: Api,
    caller: Caller,
    request: ClaimTransferRequest,
) -> Result<ClaimTransferResponse, ApiError> {
    let receiver = caller.require_key(
        "owner_identity_public_key",
        &request.owner_identity_public_key,
    )?;
    let id = transfer_id("transfer_id", &request.transfer_id)?;
    let package = request
        .claim_package
        .as_ref()
        .ok_or_else(|| missing("claim_package"))?;
    if package.hash_variant != 1 {
        return Err(malformed("claim_package.hash_variant", "use 1").into());
    }
    let package = claim_package(package)?;
    let (row, place) = received(&api, &id, &receiver).await?;
    let phase = row.receivers.get(place).map(|receiver| receiver.phase);
    if phase == Some(ClaimPhase::Completed) {
        return Err(claimed(&id).into());
    }
    if row.status.is_staged() && row.kind == TransferKind::CooperativeExit {
        return Err(Refusal::new(
            Reason::InsufficientConfirmations,
            format!("transfer {id} cannot be claimed: its payout is not confirmed deep enough, wait for it"),
        )
        .into());
    }
    if row.status.is_staged() || row.status == TransferStatus::Returned {
        return Err(Refusal::new(
            Reason::InvalidState,
            format!(
                "transfer {id} cannot be claimed: its status is {}",
                status::transfer(&row, Some(place)).as_str_name()
            ),
        )
        .into());
    }
    let claim = ClaimRequest {
        now: api.now(),
        transfer: id,
        receiver,
        package,
    };
    let outcome = api.run(Request::Claim(Box::new(claim))).await;
    let (row, place) = received(&api, &id, &receiver).await?;
    let phase = row.receivers.get(place).map(|receiver| receiver.phase);
    match outcome {
        Err(refusal) if !refusal.facts.contains_key("decided") => Err(refusal.into()),
        // Decided, and finished here although not everybody answered in time.
        Ok(_) | Err(_) if phase == Some(ClaimPhase::Completed) => Ok(ClaimTransferResponse {
            transfer: Some(api.show_one(row, &receiver).await?),
        }),
        Err(refusal) => Err(refusal.into()),
        Ok(_) => Err(Refusal::new(
            Reason::OperatorUnavailable,
            "the keys have moved but a signature is missing: claim again with fresh signing commitments",
        )
        .into()),
    }
}
