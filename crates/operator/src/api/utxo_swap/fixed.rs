//! `initiate_static_deposit_utxo_swap`.

use tinderbox_flows::request::{Request, UtxoSwapRequest};
use tinderbox_rpc::Caller;
use tinderbox_rpc::proto::spark_ssp_internal::{
    InitiateStaticDepositUtxoSwapRequest, InitiateStaticDepositUtxoSwapResponse,
};

use super::{earlier, request};
use crate::api::deposit::refund::settle;
use crate::api::{Api, ApiError};
use crate::convert::field::malformed;
use crate::convert::utxo::outpoint;

/// A confirmed output for leaves. The same request again gets the same answer.
pub async fn initiate_static_deposit_utxo_swap(
    api: Api,
    caller: Caller,
    wire: InitiateStaticDepositUtxoSwapRequest,
) -> Result<InitiateStaticDepositUtxoSwapResponse, ApiError> {
    let provider = caller.require()?;
    let site = api.core.site.clone();
    let outpoint = outpoint("on_chain_utxo", wire.on_chain_utxo.as_ref(), site.network)?;
    let send = request::send(&api, provider, wire.transfer)?;
    let spend = request::spend(
        &api,
        wire.spend_tx_signing_job.as_ref(),
        wire.spend_signature,
    )
    .await?;
    let job = spend.job.clone();
    let swap = UtxoSwapRequest {
        send: send.clone(),
        outpoint,
        confirmations: wire
            .confirmation_threshold
            .unwrap_or(site.deposit_confirmations),
        spend,
        quote_signature: wire.ssp_signature,
        user_signature: wire.user_signature,
        hash_variant: u8::try_from(wire.hash_variant)
            .map_err(|_| malformed("hash_variant", "unknown, use 0 or 1"))?,
    };
    settle(&api, &outpoint).await?;
    let request = Request::UtxoSwap(Box::new(swap));
    let (transfer, swap) = earlier::run(&api, request, &send).await?;
    let (result, address) = earlier::spent(&api, &swap, &provider, &job).await?;
    Ok(InitiateStaticDepositUtxoSwapResponse {
        spend_tx_signing_result: Some(result),
        transfer: Some(api.show_one(transfer, &provider).await?),
        deposit_address: Some(address),
    })
}
