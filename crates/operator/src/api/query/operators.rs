//! `get_signing_operator_list`.

use crate::api::{Api, ApiError};
use crate::convert::spark::{GetSigningOperatorListResponse, SigningOperatorInfo};
use tinderbox_rpc::Caller;

/// All operators.
pub async fn get_signing_operator_list(
    api: Api,
    _caller: Caller,
    _request: (),
) -> Result<GetSigningOperatorListResponse, ApiError> {
    let signing_operators = api
        .core
        .site
        .everyone()
        .zip(api.operators.iter())
        .map(|(index, operator)| {
            let identifier = index.identifier();
            let info = SigningOperatorInfo {
                index: u64::from(index.0),
                identifier: identifier.clone(),
                public_key: operator.identity.serialize().to_vec(),
                address: operator.address.clone(),
            };
            (identifier, info)
        })
        .collect();
    Ok(GetSigningOperatorListResponse { signing_operators })
}
