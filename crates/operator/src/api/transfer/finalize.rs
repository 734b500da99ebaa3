//! `finalize_transfer_with_transfer_package`: the sender's package for a transfer that was started
//! without one.

use tinderbox_flows::finalize::FinalizeRequest;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::TransferStatus;

use crate::api::{Api, ApiError};
use crate::convert::field::{missing, transfer_id};
use crate::convert::package::send_package;
use crate::convert::spark::{FinalizeTransferResponse, FinalizeTransferWithTransferPackageRequest};
use tinderbox_rpc::Caller;

/// Completes the sender's part; asking again gives the transfer as it stands.
pub async fn finalize_transfer_with_transfer_package(
    api: Api,
    caller: Caller,
    request: FinalizeTransferWithTransferPackageRequest,
) -> Result<FinalizeTransferResponse, ApiError> {
    let sender = caller.require_key(
        "owner_identity_public_key",
        &request.owner_identity_public_key,
    )?;
    let id = transfer_id("transfer_id", &request.transfer_id)?;
    let package = request
        .transfer_package
        .as_ref()
        .ok_or_else(|| missing("transfer_package"))?;
    let finalize = FinalizeRequest {
        now: api.now(),
        transfer: id,
        sender,
        package: send_package(package)?,
    };
    let find = async || {
        let row = api.transfer(&id).await?;
        row.filter(|row| row.sender == sender).ok_or_else(|| {
            Refusal::new(
                Reason::MissingEntity,
                format!("transfer {id} is not known here as one of yours: check the id"),
            )
        })
    };
    let row = find().await?;
    if row.status == TransferStatus::Returned {
        return Err(Refusal::new(
            Reason::InvalidState,
            format!("transfer {id} is RETURNED: its leaves are yours again"),
        )
        .into());
    }
    // A wallet that has missed the answer asks again.
    let done = row.status != TransferStatus::SenderInitiated && row.held.is_none();
    if !done {
        match api.run(Request::Finalize(Box::new(finalize))).await {
            Ok(_) => {}
            Err(refusal) if refusal.facts.contains_key("decided") => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
    let row = find().await?;
    Ok(FinalizeTransferResponse {
        transfer: Some(api.show_one(row, &sender).await?),
    })
}
