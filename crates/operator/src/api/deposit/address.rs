//! `generate_deposit_address`, `generate_static_deposit_address`.

use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::record::Index;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::{AddressRequest, Request};
use tinderbox_flows::rows::{AddressRow, DefaultAddressRow, KeyshareId, KeyshareRow};
use tinderbox_frost::tweak;
use tinderbox_protocol::{LeafId, deposit};
use tinderbox_store::Scan;

use crate::api::{Api, ApiError};
use crate::convert::address::address;
use crate::convert::field::{check_network, leaf_id, malformed, public_key};
use crate::convert::spark::{
    GenerateDepositAddressRequest, GenerateDepositAddressResponse,
    GenerateStaticDepositAddressRequest, GenerateStaticDepositAddressResponse,
};
use tinderbox_rpc::Caller;

/// Key shares to try when others of this operator's processes take the same.
const DRAWS: usize = 8;
/// Times that a call looks again when others stand in its way.
pub(super) const ATTEMPTS: u32 = 8;
/// Longest first pause between them, in milliseconds.
const PAUSE_MS: u64 = 100;

/// A new single-use address; or the static one, if that is asked for.
pub async fn generate_deposit_address(
    api: Api,
    caller: Caller,
    request: GenerateDepositAddressRequest,
) -> Result<GenerateDepositAddressResponse, ApiError> {
    check_network(request.network, api.core.site.network)?;
    let owner = caller.require_key("identity_public_key", &request.identity_public_key)?;
    let signing = public_key("signing_public_key", &request.signing_public_key)?;
    check_variant(request.hash_variant)?;
    let row = if request.is_static.unwrap_or(false) {
        default_static(&api, owner, signing).await?
    } else {
        let leaf = match request.leaf_id.as_deref() {
            None | Some("") => None,
            Some(text) => Some(leaf_id("leaf_id", text)?),
        };
        check_cap(&api, owner).await?;
        make(&api, owner, signing, leaf, false).await?
    };
    Ok(GenerateDepositAddressResponse {
        deposit_address: Some(address(&row, request.hash_variant)),
    })
}

/// The wallet's one static address: made at the first call, the same at every other.
pub async fn generate_static_deposit_address(
    api: Api,
    caller: Caller,
    request: GenerateStaticDepositAddressRequest,
) -> Result<GenerateStaticDepositAddressResponse, ApiError> {
    check_network(request.network, api.core.site.network)?;
    let owner = caller.require_key("identity_public_key", &request.identity_public_key)?;
    let signing = public_key("signing_public_key", &request.signing_public_key)?;
    check_variant(request.hash_variant)?;
    let row = default_static(&api, owner, signing).await?;
    Ok(GenerateStaticDepositAddressResponse {
        deposit_address: Some(address(&row, request.hash_variant)),
    })
}

pub(super) fn check_variant(variant: i32) -> Result<(), Refusal> {
    match variant {
        0 | 1 => Ok(()),
        other => Err(malformed(
            "hash_variant",
            format!("{other} is unknown, use 1"),
        )),
    }
}

/// A wallet that never deposits must not drain the pool.
async fn check_cap(api: &Api, owner: PublicKey) -> Result<(), ApiError> {
    let cap = usize::try_from(api.limits.unused_addresses).unwrap_or(usize::MAX);
    let prefix = AddressRow::prefix(&owner, api.core.site.network, false);
    let mut scan = Scan::prefix(Index::AddressByOwner, &prefix);
    scan.limit = cap;
    let unused = api
        .core
        .store
        .scan(scan)
        .await
        .map_err(crate::tables::TableError::from)?;
    if unused.len() >= cap {
        return Err(Refusal::new(
            Reason::LimitExceeded,
            format!("{cap} deposit addresses are unused: deposit to one of them first"),
        )
        .into());
    }
    Ok(())
}

/// The static address, made if there is none. Calls at the same moment, at different operators,
/// stand in each other's way: then all but one make room, and look again.
async fn default_static(
    api: &Api,
    owner: PublicKey,
    signing: PublicKey,
) -> Result<AddressRow, ApiError> {
    let mut last = Refusal::new(Reason::LockConflict, "the static address is being made");
    for attempt in 0..ATTEMPTS {
        if let Some(row) = find_default(api, owner).await? {
            return Ok(row);
        }
        match make(api, owner, signing, None, true).await {
            Err(ApiError::Refused(refusal)) if refusal.reason == Reason::DuplicateOperation => {
                last = Refusal::new(
                    Reason::LockConflict,
                    "the static address is being made by another call: try again",
                );
            }
            made => return made,
        }
        pause(api, attempt).await;
    }
    match find_default(api, owner).await? {
        Some(row) => Ok(row),
        None => Err(last.into()),
    }
}

/// Waits a random while, longer after each attempt, so that two callers do not meet again.
pub(super) async fn pause(api: &Api, attempt: u32) {
    let most = PAUSE_MS.saturating_mul(1 << attempt.min(4));
    let wait = u64::from(u32::from_be_bytes(api.random())) % most;
    tokio::time::sleep(Duration::from_millis(wait.saturating_add(1))).await;
}

/// The static address that a wallet is shown, once it is complete here.
pub(super) async fn find_default(
    api: &Api,
    owner: PublicKey,
) -> Result<Option<AddressRow>, ApiError> {
    let network = api.core.site.network;
    let id = DefaultAddressRow::id_of(&owner, network);
    let Some(default) = api.tables.get::<DefaultAddressRow>(id).await? else {
        return Ok(None);
    };
    let row = api
        .tables
        .get::<AddressRow>(default.script.to_bytes())
        .await?;
    Ok(row.filter(|row| row.proof.is_some()))
}

/// Makes an address on all operators.
async fn make(
    api: &Api,
    owner: PublicKey,
    owner_signing: PublicKey,
    leaf: Option<LeafId>,
    is_static: bool,
) -> Result<AddressRow, ApiError> {
    let template = Template::new(api, owner, owner_signing, leaf, is_static).await?;
    let mut last = Refusal::new(Reason::LimitExceeded, "no key share is free: try again");
    for _ in 0..DRAWS {
        let request = template.draw(api).await?;
        let keyshare = request.keyshare;
        match api.run(Request::Address(Box::new(request))).await {
            Ok(_) => return made(api, keyshare, owner_signing).await,
            // Another process of this operator took the same key share.
            Err(refusal) if refusal.reason == Reason::LockConflict => last = refusal,
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Err(last.into())
}

/// An address that is wanted, but for the key share.
pub(super) struct Template(AddressRequest);

impl Template {
    /// With nonces for both forms of the possession proof.
    pub(super) async fn new(
        api: &Api,
        owner: PublicKey,
        owner_signing: PublicKey,
        leaf: Option<LeafId>,
        is_static: bool,
    ) -> Result<Self, ApiError> {
        let mut nonces = api.nonces.take(2).await?.into_iter();
        Ok(Self(AddressRequest {
            now: api.now(),
            owner,
            owner_signing,
            keyshare: KeyshareId([0; 16]),
            leaf,
            is_static,
            nonces: nonces.next().unwrap_or_default(),
            nonces_legacy: nonces.next().unwrap_or_default(),
        }))
    }

    /// With a key share of this operator's pool.
    pub(super) async fn draw(&self, api: &Api) -> Result<AddressRequest, ApiError> {
        Ok(AddressRequest {
            now: api.now(),
            keyshare: api.keyshares.draw().await?,
            ..self.0.clone()
        })
    }
}

/// The address that a flow has made of a key share.
pub(super) async fn made(
    api: &Api,
    keyshare: KeyshareId,
    owner_signing: PublicKey,
) -> Result<AddressRow, ApiError> {
    let fault = || Refusal::new(Reason::Internal, "a new address is not in the database");
    let row = api.tables.get::<KeyshareRow>(keyshare.0.to_vec()).await?;
    let keyshare = row.ok_or_else(fault)?;
    let key = tweak::add_points(&keyshare.group_key, &owner_signing).map_err(|_| fault())?;
    let script = deposit::address(&key, api.core.site.network).script_pubkey();
    let row = api.tables.get::<AddressRow>(script.to_bytes()).await?;
    Ok(row.filter(|row| row.proof.is_some()).ok_or_else(fault)?)
}
