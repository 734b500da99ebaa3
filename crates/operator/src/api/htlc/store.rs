//! `store_preimage_share`, `store_preimage_share_v2`.

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::htlc::store::{StorePreimageRequest, checked_row};
use tinderbox_flows::record::Row;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::PreimageShareRow;
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_rpc::Caller;
use tinderbox_signer::{PreimagePart, SignerError};
use zeroize::Zeroizing;

use super::bytes32;
use crate::api::{Api, ApiError};
use crate::convert::field::{missing, public_key};
use crate::convert::spark::{StorePreimageShareRequest, StorePreimageShareV2Request};

/// Stores the shares of all operators. The first write wins; a repetition changes nothing.
pub async fn store_preimage_share_v2(
    api: Api,
    caller: Caller,
    request: StorePreimageShareV2Request,
) -> Result<(), ApiError> {
    caller.require()?;
    let (payment_hash, owner) = whose(&request.payment_hash, &request.user_identity_public_key)?;
    if is_stored(&api, &payment_hash).await? {
        return Ok(());
    }
    let store = StorePreimageRequest {
        now: api.now(),
        payment_hash,
        owner,
        threshold: request.threshold,
        invoice: request.invoice_string,
        shares: request.encrypted_preimage_shares,
    };
    match api.run(Request::StorePreimage(Box::new(store))).await {
        Ok(_) => Ok(()),
        Err(refusal) if refusal.reason == Reason::DuplicateOperation => Ok(()),
        Err(refusal) => Err(refusal.into()),
    }
}

/// The payment hash, and who is paid.
fn whose(payment_hash: &[u8], owner: &[u8]) -> Result<([u8; 32], PublicKey), Refusal> {
    let payment_hash = bytes32("payment_hash", payment_hash)?;
    Ok((payment_hash, public_key("user_identity_public_key", owner)?))
}

async fn is_stored(api: &Api, payment_hash: &[u8; 32]) -> Result<bool, ApiError> {
    let row = api.tables.get::<PreimageShareRow>(*payment_hash).await?;
    Ok(row.is_some_and(|row| row.held.is_none()))
}

/// Stores the share of this operator, by the older protocol: the wallet calls every operator.
pub async fn store_preimage_share(
    api: Api,
    caller: Caller,
    request: StorePreimageShareRequest,
) -> Result<(), ApiError> {
    caller.require()?;
    let (payment_hash, owner) = whose(&request.payment_hash, &request.user_identity_public_key)?;
    let share = request
        .preimage_share
        .ok_or_else(|| missing("preimage_share"))?;
    let proofs = share
        .proofs
        .iter()
        .map(|point| public_key("preimage_share.proofs", point))
        .collect::<Result<_, _>>()?;
    let part = PreimagePart::Plain(Zeroizing::new(share.secret_share), proofs);
    let opened = api
        .core
        .signer
        .keep_preimage(payment_hash, part)
        .await
        .map_err(refused)?;
    let row = checked_row(
        &api.core.site,
        payment_hash,
        owner,
        request.threshold,
        &request.invoice_string,
        opened,
        api.now(),
    )?;
    let mut snapshot = Snapshot::new();
    api.tables.load(&mut snapshot, [row.key()]).await?;
    let stored = snapshot.get::<PreimageShareRow>(payment_hash);
    if stored.map_err(crate::tables::TableError::from)?.is_some() {
        return Ok(());
    }
    let mut changes = Changes::new();
    changes
        .put(&snapshot, &row)
        .map_err(crate::tables::TableError::from)?;
    Ok(api.tables.write(&snapshot, changes).await?)
}

fn refused(error: SignerError) -> Refusal {
    match error {
        SignerError::BadPreimage(_) => Refusal::new(Reason::BadSignature, error.to_string()),
        _ => {
            tracing::error!(%error, "signer");
            Refusal::new(
                Reason::Internal,
                "the operator's signer does not answer: try again",
            )
        }
    }
}
