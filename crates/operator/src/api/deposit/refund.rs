//! `initiate_static_deposit_utxo_refund`.

use std::collections::BTreeMap;

use bitcoin::OutPoint;
use tinderbox_flows::flow::JobOutcome;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::{Request, UtxoRefundRequest};
use tinderbox_flows::rows::{AddressRow, KeyshareRow, UtxoHoldRow, UtxoSwapRow};
use tinderbox_frost::{NonceCommitment, OperatorIndex, SignatureShare};
use tinderbox_rpc::Caller;

use crate::api::{Api, ApiError};
use crate::convert::address::listed;
use crate::convert::field::{malformed, missing};
use crate::convert::node::signing_keyshare;
use crate::convert::package::{open_job, signing_result};
use crate::convert::spark::{
    DepositAddressQueryResult, InitiateStaticDepositUtxoRefundRequest,
    InitiateStaticDepositUtxoRefundResponse, SigningResult,
};
use crate::convert::utxo::outpoint;

/// The operators' shares of a transaction by which an owner takes an output back.
pub async fn initiate_static_deposit_utxo_refund(
    api: Api,
    caller: Caller,
    request: InitiateStaticDepositUtxoRefundRequest,
) -> Result<InitiateStaticDepositUtxoRefundResponse, ApiError> {
    let owner = caller.require()?;
    let network = api.core.site.network;
    let outpoint = outpoint("on_chain_utxo", request.on_chain_utxo.as_ref(), network)?;
    let hash_variant = u8::try_from(request.hash_variant)
        .map_err(|_| malformed("hash_variant", "unknown, use 0 or 1"))?;
    let wire = request
        .refund_tx_signing_job
        .as_ref()
        .ok_or_else(|| missing("refund_tx_signing_job"))?;
    if request.user_signature.is_empty() {
        return Err(missing("user_signature").into());
    }
    let nonces = api.nonces.take(1).await?.pop().unwrap_or_default();
    let spend = open_job("refund_tx_signing_job", wire, nonces)?;
    settle(&api, &outpoint).await?;
    let refund = UtxoRefundRequest {
        now: api.now(),
        owner,
        outpoint,
        spend: spend.clone(),
        user_signature: request.user_signature,
        hash_variant,
    };
    let outcome = api.run(Request::UtxoRefund(Box::new(refund))).await?;
    let hold = api
        .tables
        .get::<UtxoHoldRow>(UtxoHoldRow::output(&outpoint))
        .await?;
    let swap = match hold {
        Some(hold) => api.tables.get::<UtxoSwapRow>(hold.swap.0.to_vec()).await?,
        None => None,
    };
    let swap = swap.ok_or_else(|| Refusal::new(Reason::Internal, "a refund has no row"))?;
    let Some(JobOutcome::Shares(shares)) = outcome.jobs.first() else {
        return Err(wrong_share().into());
    };
    let (result, address) = spend_result(&api, &swap, &spend.operators, shares).await?;
    Ok(InitiateStaticDepositUtxoRefundResponse {
        refund_tx_signing_result: Some(result),
        deposit_address: Some(address),
    })
}

/// Hears the end of a flow that holds the swap of an output, if this operator missed it.
pub(in crate::api) async fn settle(api: &Api, outpoint: &OutPoint) -> Result<(), ApiError> {
    let hold = UtxoHoldRow::output(outpoint);
    let Some(hold) = api.tables.get::<UtxoHoldRow>(hold).await? else {
        return Ok(());
    };
    let swap = api.tables.get::<UtxoSwapRow>(hold.swap.0.to_vec()).await?;
    if let Some(flow) = swap.and_then(|swap| swap.held) {
        api.settle([flow].into()).await;
    }
    Ok(())
}

/// The refusal if shares do not fit together.
pub(in crate::api) fn wrong_share() -> Refusal {
    Refusal::new(
        Reason::OperatorUnavailable,
        "an operator gave a wrong signature share: ask again",
    )
}

/// The shares of a spend, and the address that it spends from.
pub(in crate::api) async fn spend_result(
    api: &Api,
    swap: &UtxoSwapRow,
    operators: &BTreeMap<OperatorIndex, NonceCommitment>,
    shares: &BTreeMap<OperatorIndex, SignatureShare>,
) -> Result<(SigningResult, DepositAddressQueryResult), ApiError> {
    let fault = || Refusal::new(Reason::Internal, "a deposit address is not in the database");
    let address = api
        .tables
        .get::<AddressRow>(swap.script.to_bytes())
        .await?
        .ok_or_else(fault)?;
    let keyshare = api
        .tables
        .get::<KeyshareRow>(address.keyshare.0.to_vec())
        .await?
        .ok_or_else(fault)?;
    let result = signing_result(
        shares,
        operators,
        &keyshare.public_shares,
        signing_keyshare(&keyshare, &api.core.site, address.created),
    );
    Ok((result, listed(&address, None)))
}
