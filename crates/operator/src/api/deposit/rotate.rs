//! `rotate_static_deposit_address`.

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::record::Index;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::{Request, RotateRequest};
use tinderbox_flows::rows::{AddressRow, DefaultAddressRow};
use tinderbox_rpc::Caller;
use tinderbox_store::Scan;

use super::address::{ATTEMPTS, Template, check_variant, made, pause};
use crate::api::{Api, ApiError};
use crate::convert::address::address;
use crate::convert::field::{check_network, public_key};
use crate::convert::spark::{
    RotateStaticDepositAddressRequest, RotateStaticDepositAddressResponse,
};

/// A new static address in place of the present one, which stays watched, listed and refundable.
pub async fn rotate_static_deposit_address(
    api: Api,
    caller: Caller,
    request: RotateStaticDepositAddressRequest,
) -> Result<RotateStaticDepositAddressResponse, ApiError> {
    check_network(request.network, api.core.site.network)?;
    let owner = caller.require()?;
    let signing = public_key("signing_public_key", &request.signing_public_key)?;
    check_variant(request.hash_variant)?;
    check_cap(&api, owner).await?;
    let template = Template::new(&api, owner, signing, None, true).await?;
    let mut last = Refusal::new(
        Reason::LockConflict,
        "the address is being replaced: try again",
    );
    for attempt in 0..ATTEMPTS {
        let old = present(&api, owner).await?;
        let new = template.draw(&api).await?;
        let keyshare = new.keyshare;
        let rotate = RotateRequest {
            address: new,
            replaces: old.script.clone(),
        };
        match api.run(Request::Rotate(Box::new(rotate))).await {
            Ok(_) => {
                let new = made(&api, keyshare, signing).await?;
                return Ok(RotateStaticDepositAddressResponse {
                    new_deposit_address: Some(address(&new, request.hash_variant)),
                    archived_deposit_address: Some(address(&old, request.hash_variant)),
                });
            }
            Err(refusal) if refusal.reason == Reason::LockConflict => last = refusal,
            Err(refusal) => return Err(refusal.into()),
        }
        pause(&api, attempt).await;
    }
    Err(last.into())
}

/// The address that a wallet is shown now.
async fn present(api: &Api, owner: PublicKey) -> Result<AddressRow, ApiError> {
    let id = DefaultAddressRow::id_of(&owner, api.core.site.network);
    let mut row = None;
    // Twice: the first look may meet a flow whose end this operator has not heard.
    for _ in 0..2 {
        let Some(default) = api.tables.get::<DefaultAddressRow>(id.clone()).await? else {
            break;
        };
        row = api
            .tables
            .get::<AddressRow>(default.script.to_bytes())
            .await?;
        match row.as_ref().and_then(|row| row.pending) {
            Some(flow) => drop(api.settle([flow].into()).await),
            None => break,
        }
    }
    Ok(row.filter(|row| row.proof.is_some()).ok_or_else(|| {
        Refusal::new(
            Reason::MissingEntity,
            "this wallet has no static deposit address yet: generate one",
        )
    })?)
}

/// All addresses are watched for ever: a wallet cannot have any number of them.
async fn check_cap(api: &Api, owner: PublicKey) -> Result<(), ApiError> {
    let cap = usize::try_from(api.limits.static_addresses).unwrap_or(usize::MAX);
    let prefix = AddressRow::prefix(&owner, api.core.site.network, true);
    let mut scan = Scan::prefix(Index::AddressByOwner, &prefix);
    scan.limit = cap;
    if api.tables.scan::<AddressRow>(scan).await?.len() >= cap {
        return Err(Refusal::new(
            Reason::LimitExceeded,
            format!("{cap} static deposit addresses are the most that one wallet can have"),
        )
        .into());
    }
    Ok(())
}
