//! `query_unused_deposit_addresses`, `query_static_deposit_addresses`.

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::record::Index;
use tinderbox_flows::rows::AddressRow;
use tinderbox_protocol::Network;
use tinderbox_store::Scan;

use crate::api::paging::Page;
use crate::api::{Api, ApiError};
use crate::convert::address::listed;
use crate::convert::field::{is_network, public_key};
use crate::convert::spark::{
    QueryStaticDepositAddressesRequest, QueryStaticDepositAddressesResponse,
    QueryUnusedDepositAddressesRequest, QueryUnusedDepositAddressesResponse,
};
use tinderbox_rpc::Caller;

/// Single-use addresses without a deposit, newest first.
pub async fn query_unused_deposit_addresses(
    api: Api,
    caller: Caller,
    request: QueryUnusedDepositAddressesRequest,
) -> Result<QueryUnusedDepositAddressesResponse, ApiError> {
    let owner = public_key("identity_public_key", &request.identity_public_key)?;
    let page = Page::read(request.limit, request.offset)?;
    let hidden = !api.may_read(&caller, &owner).await?;
    if hidden || !serves(&api, request.network) {
        return Ok(QueryUnusedDepositAddressesResponse {
            deposit_addresses: Vec::new(),
            offset: -1,
        });
    }
    // One more than the page shows whether another page follows.
    let rows = addresses(&api, &owner, false, page.end().saturating_add(1)).await?;
    let more = rows.len() > page.end();
    Ok(QueryUnusedDepositAddressesResponse {
        deposit_addresses: page
            .of(&rows)
            .into_iter()
            .map(|row| listed(row, None))
            .collect(),
        offset: page.next_if(more),
    })
}

/// All static addresses of a wallet, newest first, with proofs.
pub async fn query_static_deposit_addresses(
    api: Api,
    caller: Caller,
    request: QueryStaticDepositAddressesRequest,
) -> Result<QueryStaticDepositAddressesResponse, ApiError> {
    let owner = public_key("identity_public_key", &request.identity_public_key)?;
    let page = Page::read(request.limit, request.offset)?;
    let hidden = !api.may_read(&caller, &owner).await?;
    if hidden || !serves(&api, request.network) {
        return Ok(QueryStaticDepositAddressesResponse::default());
    }
    let rows = addresses(&api, &owner, true, usize::MAX).await?;
    let wanted = request
        .deposit_address
        .as_deref()
        .filter(|text| !text.is_empty());
    let rows = rows
        .iter()
        .filter(|row| wanted.is_none_or(|wanted| row.address == wanted));
    Ok(QueryStaticDepositAddressesResponse {
        deposit_addresses: page
            .of(rows)
            .into_iter()
            .map(|row| listed(row, Some(request.hash_variant)))
            .collect(),
    })
}

/// An unnamed network means mainnet here.
fn serves(api: &Api, network: i32) -> bool {
    let served = api.core.site.network;
    match network {
        0 => served == Network::Mainnet,
        named => is_network(named, served),
    }
}

async fn addresses(
    api: &Api,
    owner: &PublicKey,
    is_static: bool,
    limit: usize,
) -> Result<Vec<AddressRow>, ApiError> {
    let prefix = AddressRow::prefix(owner, api.core.site.network, is_static);
    let mut scan = Scan::prefix(Index::AddressByOwner, &prefix);
    scan.descending = true;
    scan.limit = limit;
    let found = api.tables.scan::<AddressRow>(scan).await?;
    Ok(found.into_iter().map(|found| found.row).collect())
}
