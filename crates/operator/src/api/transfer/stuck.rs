//! `return_stuck_transfer`: a receiver gives back what it cannot use, before its time is over.

use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::Request;
use tinderbox_flows::return_rule::Why;
use tinderbox_flows::returns::ReturnRequest;
use tinderbox_flows::rows::TransferStatus;
use tinderbox_rpc::Caller;
use tinderbox_rpc::proto::spark_ssp_internal::{
    ReturnStuckTransferRequest, ReturnStuckTransferResponse,
};

use super::received;
use crate::api::{Api, ApiError};
use crate::convert::field::transfer_id;

/// Returns a transfer that waits for a preimage. Done already is as good.
pub async fn return_stuck_transfer(
    api: Api,
    caller: Caller,
    request: ReturnStuckTransferRequest,
) -> Result<ReturnStuckTransferResponse, ApiError> {
    let receiver = caller.require()?;
    let id = transfer_id("transfer_id", &request.transfer_id)?;
    let (row, _) = received(&api, &id, &receiver).await?;
    if row.status == TransferStatus::Returned {
        return Ok(ReturnStuckTransferResponse {});
    }
    let give_back = ReturnRequest {
        now: api.now(),
        transfer: id,
        why: Why::Unwanted {
            signature: request.receiver_signature,
        },
    };
    let refusal = match api.run(Request::Return(Box::new(give_back))).await {
        Ok(_) => return Ok(ReturnStuckTransferResponse {}),
        Err(refusal) => refusal,
    };
    // The same wish may have come twice.
    let (row, _) = received(&api, &id, &receiver).await?;
    match row.status {
        TransferStatus::Returned => Ok(ReturnStuckTransferResponse {}),
        _ if refusal.reason == Reason::InvalidState => Err(Refusal::new(
            Reason::InvalidState,
            format!("{refusal} (its status is {:?})", row.status),
        )
        .into()),
        _ => Err(refusal.into()),
    }
}
