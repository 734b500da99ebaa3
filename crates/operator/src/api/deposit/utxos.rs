//! `get_utxos_for_address`, `get_utxos_for_identity`.

use std::str::FromStr;

use bitcoin::Address;
use bitcoin::hashes::Hash;
use tinderbox_flows::record::Index;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::rows::{AddressRow, UtxoRow};
use tinderbox_store::Scan;

use crate::api::paging::Page;
use crate::api::{Api, ApiError};
use crate::convert::field::{check_network, malformed, network_number, public_key};
use crate::convert::spark::{
    AddressedUtxo, Direction, GetUtxosForAddressRequest, GetUtxosForAddressResponse,
    GetUtxosForIdentityRequest, GetUtxosForIdentityResponse, PageResponse, Utxo,
};
use tinderbox_rpc::Caller;

/// Rows on a page if the caller names no number.
const DEFAULT_PAGE: usize = 50;

/// Confirmed outputs of one address, newest block first.
pub async fn get_utxos_for_address(
    api: Api,
    _caller: Caller,
    request: GetUtxosForAddressRequest,
) -> Result<GetUtxosForAddressResponse, ApiError> {
    let network = api.core.site.network;
    check_network(request.network, network)?;
    let number =
        |field, value: u64| i64::try_from(value).map_err(|_| malformed(field, "too large"));
    let page = Page::read(
        number("limit", request.limit)?,
        number("offset", request.offset)?,
    )?;
    let address = Address::from_str(&request.address)
        .ok()
        .and_then(|address| address.require_network(network.bitcoin()).ok())
        .ok_or_else(|| malformed("address", "not an address of this network"))?;
    let row = api
        .tables
        .get::<AddressRow>(address.script_pubkey().to_bytes())
        .await?
        .ok_or_else(|| {
            Refusal::new(
                Reason::MissingEntity,
                format!(
                    "{} is not a deposit address of these operators",
                    request.address
                ),
            )
        })?;
    let needed = api.core.site.deposit_confirmations;
    let tip = api.height();
    let utxos = outputs(&api, &row).await?;
    let deep = utxos.iter().filter(|utxo| depth(utxo, tip) >= needed);
    let rows = page.of(deep);
    let offset = u64::try_from(page.offset.saturating_add(rows.len())).unwrap_or(u64::MAX);
    Ok(GetUtxosForAddressResponse {
        utxos: rows.into_iter().map(to_wire).collect(),
        offset,
    })
}

/// Outputs of all static addresses of a wallet, newest block first.
pub async fn get_utxos_for_identity(
    api: Api,
    caller: Caller,
    request: GetUtxosForIdentityRequest,
) -> Result<GetUtxosForIdentityResponse, ApiError> {
    let network = api.core.site.network;
    check_network(request.network, network)?;
    let owner = public_key("identity_public_key", &request.identity_public_key)?;
    let asked = request.page.unwrap_or_default();
    if asked.direction == i32::from(Direction::Previous) {
        return Err(malformed("page.direction", "only NEXT is served").into());
    }
    let start = match asked.cursor.as_str() {
        "" => 0,
        text => text
            .parse::<usize>()
            .map_err(|_| malformed("page.cursor", "not a cursor of these operators"))?,
    };
    let size = match (asked.page_size, asked.unsafe_page_size) {
        (0, 0) => DEFAULT_PAGE,
        (0, size) => usize::try_from(size)
            .map_err(|_| malformed("page.unsafe_page_size", "must not be negative"))?,
        (size, _) => usize::try_from(size).unwrap_or(usize::MAX),
    };
    if size > 1000 {
        return Err(malformed("page.page_size", "1000 are the most").into());
    }
    let mut found = Vec::new();
    if api.may_read(&caller, &owner).await? {
        let prefix = AddressRow::prefix(&owner, network, true);
        let addresses = api
            .tables
            .scan::<AddressRow>(Scan::prefix(Index::AddressByOwner, &prefix))
            .await?;
        for address in addresses {
            let utxos = outputs(&api, &address.row).await?;
            found.extend(
                utxos
                    .into_iter()
                    .map(|utxo| (address.row.address.clone(), utxo)),
            );
        }
    }
    let (tip, needed) = (api.height(), api.core.site.deposit_confirmations);
    found.retain(|(_, utxo)| {
        let depth = depth(utxo, tip);
        depth >= needed || (request.include_pending && depth > 0)
    });
    found.sort_by_key(|(_, utxo)| {
        let height = utxo.block.map_or(0, |(height, _)| height.0);
        (std::cmp::Reverse(height), utxo.outpoint)
    });
    let end = start.saturating_add(size);
    let more = found.len() > end;
    Ok(GetUtxosForIdentityResponse {
        utxos: found
            .iter()
            .skip(start)
            .take(size)
            .map(|(address, utxo)| AddressedUtxo {
                address: address.clone(),
                utxo: Some(to_wire(utxo)),
                is_confirmed: depth(utxo, tip) >= needed,
            })
            .collect(),
        page: Some(PageResponse {
            has_next_page: more,
            has_previous_page: !asked.cursor.is_empty(),
            next_cursor: if more { end.to_string() } else { String::new() },
            previous_cursor: String::new(),
        }),
    })
}

/// The outputs that pay an address, newest block first, then by place.
async fn outputs(api: &Api, address: &AddressRow) -> Result<Vec<UtxoRow>, ApiError> {
    let prefix = UtxoRow::prefix(address.network, &address.script);
    let mut rows: Vec<UtxoRow> = api
        .tables
        .scan::<UtxoRow>(Scan::prefix(Index::UtxoByScript, &prefix))
        .await?
        .into_iter()
        .map(|found| found.row)
        .collect();
    rows.sort_by_key(|utxo| {
        let height = utxo.block.map_or(0, |(height, _)| height.0);
        (std::cmp::Reverse(height), utxo.outpoint)
    });
    Ok(rows)
}

/// Blocks that bury an output, its own counted.
fn depth(utxo: &UtxoRow, tip: u32) -> u32 {
    utxo.block.map_or(0, |(height, _)| {
        tip.saturating_add(1).saturating_sub(height.0)
    })
}

fn to_wire(utxo: &UtxoRow) -> Utxo {
    let mut txid = utxo.outpoint.txid.to_byte_array();
    // Wallets print these bytes as they are.
    txid.reverse();
    Utxo {
        raw_tx: Vec::new(),
        vout: utxo.outpoint.vout,
        network: network_number(utxo.network),
        txid: txid.to_vec(),
    }
}
