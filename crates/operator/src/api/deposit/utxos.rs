//! `get_utxos_for_address`, `get_utxos_for_identity`.

use std::cmp::Reverse;
use std::str::FromStr;

use bitcoin::{Address, OutPoint};
use tinderbox_flows::record::Index;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::rows::{AddressRow, UtxoHoldRow, UtxoRow};
use tinderbox_store::Scan;

use crate::api::paging::Page;
use crate::api::{Api, ApiError};
use crate::convert::field::{check_network, malformed, public_key};
use crate::convert::spark::{
    AddressedUtxo, Direction, GetUtxosForAddressRequest, GetUtxosForAddressResponse,
    GetUtxosForIdentityRequest, GetUtxosForIdentityResponse, PageRequest, PageResponse, Utxo,
};
use crate::convert::utxo::utxo as to_wire;
use tinderbox_rpc::Caller;

/// Rows on a page if the caller names no number.
const DEFAULT_PAGE: usize = 50;
/// Rows on a page at most.
const MAX_PAGE: usize = 1000;

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
    let mut utxos = outputs(&api, &row).await?;
    utxos.retain(|utxo| depth(utxo, tip) >= needed);
    if request.exclude_claimed {
        utxos = unclaimed(&api, utxos, |utxo| utxo).await?;
    }
    let rows = page.of(&utxos);
    let offset = u64::try_from(page.offset.saturating_add(rows.len())).unwrap_or(u64::MAX);
    Ok(GetUtxosForAddressResponse {
        utxos: rows.into_iter().map(on_wire).collect(),
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
    let after = match asked.cursor.as_str() {
        "" => None,
        text => Some(
            Place::parse(text)
                .ok_or_else(|| malformed("page.cursor", "not a cursor of these operators"))?,
        ),
    };
    let size = size(&asked)?;
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
    if request.exclude_claimed {
        found = unclaimed(&api, found, |(_, utxo)| utxo).await?;
    }
    found.sort_by_key(|(_, utxo)| Place::of(utxo));
    if let Some(after) = after {
        found.retain(|(_, utxo)| Place::of(utxo) > after);
    }
    let more = found.len() > size;
    found.truncate(size);
    let next_cursor = match found.last() {
        Some((_, last)) if more => Place::of(last).to_string(),
        _ => String::new(),
    };
    Ok(GetUtxosForIdentityResponse {
        utxos: found
            .iter()
            .map(|(address, utxo)| AddressedUtxo {
                address: address.clone(),
                utxo: Some(on_wire(utxo)),
                is_confirmed: depth(utxo, tip) >= needed,
            })
            .collect(),
        page: Some(PageResponse {
            has_next_page: more,
            has_previous_page: !asked.cursor.is_empty(),
            next_cursor,
            previous_cursor: String::new(),
        }),
    })
}

fn size(asked: &PageRequest) -> Result<usize, Refusal> {
    let size = match (asked.page_size, asked.unsafe_page_size) {
        (0, 0) => DEFAULT_PAGE,
        (0, size) => usize::try_from(size)
            .map_err(|_| malformed("page.unsafe_page_size", "must not be negative"))?,
        (size, _) => usize::try_from(size).unwrap_or(usize::MAX),
    };
    if size > MAX_PAGE {
        return Err(malformed(
            "page.page_size",
            format!("{MAX_PAGE} are the most"),
        ));
    }
    Ok(size)
}

/// Where an output stands in a list: newest block first, then by transaction and number. As text
/// it is a cursor; a page after it is the same whatever blocks came meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place(Reverse<u32>, OutPoint);

impl Place {
    fn of(utxo: &UtxoRow) -> Self {
        let height = utxo.block.map_or(0, |(height, _)| height.0);
        Self(Reverse(height), utxo.outpoint)
    }

    fn parse(text: &str) -> Option<Self> {
        let (height, outpoint) = text.split_once('/')?;
        Some(Self(Reverse(height.parse().ok()?), outpoint.parse().ok()?))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.0.0, self.1)
    }
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
    rows.sort_by_key(Place::of);
    Ok(rows)
}

/// Those that have neither become a leaf nor been promised to anybody, be it their owner.
async fn unclaimed<T>(
    api: &Api,
    outputs: Vec<T>,
    utxo: impl Fn(&T) -> &UtxoRow,
) -> Result<Vec<T>, ApiError> {
    let holds = outputs
        .iter()
        .map(|output| UtxoHoldRow::output(&utxo(output).outpoint));
    let holds: Vec<Option<UtxoHoldRow>> = api.tables.get_many(holds.collect::<Vec<_>>()).await?;
    Ok(outputs
        .into_iter()
        .zip(holds)
        .filter(|(output, hold)| hold.is_none() && utxo(output).tree.is_none())
        .map(|(output, _)| output)
        .collect())
}

/// Blocks that bury an output, its own counted.
fn depth(utxo: &UtxoRow, tip: u32) -> u32 {
    utxo.block.map_or(0, |(height, _)| {
        tip.saturating_add(1).saturating_sub(height.0)
    })
}

fn on_wire(utxo: &UtxoRow) -> Utxo {
    to_wire(&utxo.outpoint, utxo.network)
}

#[cfg(test)]
mod tests {
    use bitcoin::Txid;
    use bitcoin::hashes::Hash;

    use super::*;

    fn place(height: u32, byte: u8, vout: u32) -> Place {
        Place(
            Reverse(height),
            OutPoint::new(Txid::from_byte_array([byte; 32]), vout),
        )
    }

    #[test]
    fn cursor_survives_as_text_and_newer_blocks_come_first() {
        let places = [
            place(9, 1, 0),
            place(9, 1, 1),
            place(9, 2, 0),
            place(8, 0, 0),
        ];
        assert!(places.is_sorted());
        for place in places {
            assert_eq!(Place::parse(&place.to_string()), Some(place));
        }
        for text in ["7", "x/y", "1/abc:0", "-1/", "/"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }

    #[test]
    fn page_sizes_follow_the_contract() {
        let page = |page_size, unsafe_page_size| PageRequest {
            page_size,
            unsafe_page_size,
            ..PageRequest::default()
        };
        assert_eq!(size(&page(0, 0)).unwrap(), 50);
        assert_eq!(size(&page(7, 9)).unwrap(), 7);
        assert_eq!(size(&page(0, 9)).unwrap(), 9);
        assert!(size(&page(0, -1)).is_err());
        assert!(size(&page(1001, 0)).is_err());
    }
}
