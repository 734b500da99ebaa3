//! `provide_preimage`.

use tinderbox_flows::htlc::settle::PreimageRequest;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{HashLockRow, HashLockState};
use tinderbox_flows::secret::Preimage;
use tinderbox_rpc::Caller;

use super::{bytes32, lock_of, no_lock};
use crate::api::{Api, ApiError};
use crate::convert::field::malformed;
use crate::convert::spark::{ProvidePreimageRequest, ProvidePreimageResponse};

/// Settles a hash lock. Repeatable: a settled one answers its transfer.
pub async fn provide_preimage(
    api: Api,
    caller: Caller,
    request: ProvidePreimageRequest,
) -> Result<ProvidePreimageResponse, ApiError> {
    let receiver = caller.require_key("identity_public_key", &request.identity_public_key)?;
    let payment_hash = bytes32("payment_hash", &request.payment_hash)?;
    let preimage = Preimage(bytes32("preimage", &request.preimage)?);
    if preimage.payment_hash() != payment_hash {
        return Err(malformed("preimage", "invalid preimage: payment_hash is of another").into());
    }
    let lock = lock_of(&api, &payment_hash, &receiver)
        .await?
        .ok_or_else(no_lock)?;
    let id = lock.transfer;
    if !matches!(lock.state, HashLockState::Shared(_)) {
        let settle = PreimageRequest {
            now: api.now(),
            transfer: id,
            receiver,
            preimage,
        };
        match api.run(Request::Preimage(Box::new(settle))).await {
            Ok(_) => {}
            // Another call with the same preimage may have been faster.
            Err(refusal) => {
                api.transfer(&id).await?;
                let lock = api
                    .tables
                    .get::<HashLockRow>(HashLockRow::id_of(&id))
                    .await?;
                if lock.is_none_or(|lock| lock.shared().is_none()) {
                    return Err(refusal.into());
                }
            }
        }
    }
    let row = api
        .transfer(&id)
        .await?
        .ok_or_else(|| Refusal::new(Reason::Internal, "the transfer is gone"))?;
    Ok(ProvidePreimageResponse {
        transfer: Some(api.show_one(row, &receiver).await?),
    })
}
