//! `reserve_instant_static_deposit_utxo_swap`, `claim_instant_static_deposit_utxo_swap`.

use std::str::FromStr;

use bitcoin::Address;
use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::{Request, UtxoClaimRequest, UtxoReserveRequest};
use tinderbox_flows::rows::{FlowId, TransferRow, UtxoSwapRow, UtxoSwapStatus};
use tinderbox_protocol::{Sats, TransferId};
use tinderbox_rpc::Caller;
use tinderbox_rpc::proto::spark_ssp_internal::{
    ClaimInstantStaticDepositUtxoSwapRequest, ClaimInstantStaticDepositUtxoSwapResponse,
    ReserveInstantStaticDepositUtxoSwapRequest, ReserveInstantStaticDepositUtxoSwapResponse,
};

use super::{earlier, request};
use crate::api::deposit::refund::settle;
use crate::api::{Api, ApiError};
use crate::convert::field::{malformed, missing, transfer_id};
use crate::convert::utxo::outpoint;

/// Leaves now for an output that is still to be confirmed. The same request again gets the same
/// answer.
pub async fn reserve_instant_static_deposit_utxo_swap(
    api: Api,
    caller: Caller,
    wire: ReserveInstantStaticDepositUtxoSwapRequest,
) -> Result<ReserveInstantStaticDepositUtxoSwapResponse, ApiError> {
    let provider = caller.require()?;
    let network = api.core.site.network;
    let seen = match &wire.on_chain_utxo {
        Some(utxo) if !utxo.txid.is_empty() || !utxo.raw_tx.is_empty() => {
            Some(outpoint("on_chain_utxo", Some(utxo), network)?)
        }
        _ => None,
    };
    let address = Address::from_str(&wire.destination_address)
        .ok()
        .and_then(|address| address.require_network(network.bitcoin()).ok())
        .ok_or_else(|| malformed("destination_address", "not an address of this network"))?;
    let secondary = secondary(
        wire.secondary_credit_amount_sats,
        wire.requested_secondary_transfer_id.as_deref(),
    )?;
    let send = request::send(&api, provider, wire.transfer)?;
    let reserve = UtxoReserveRequest {
        send: send.clone(),
        script: address.script_pubkey(),
        value: Sats(wire.value_sats),
        credit: Sats(wire.credit_amount_sats),
        secondary,
        seen,
        quote_signature: wire.ssp_signature,
        user_signature: wire.user_signature,
    };
    let request = Request::UtxoReserve(Box::new(reserve));
    let (transfer, swap) = earlier::run(&api, request, &send).await?;
    Ok(ReserveInstantStaticDepositUtxoSwapResponse {
        transfer: Some(api.show_one(transfer, &provider).await?),
        utxo_swap_id: uuid::Uuid::from_bytes(swap.id.0).to_string(),
    })
}

/// The rest of the credit, with the id of the transfer that will pay it.
fn secondary(
    credit: Option<u64>,
    transfer: Option<&str>,
) -> Result<Option<(TransferId, Sats)>, Refusal> {
    let field = "requested_secondary_transfer_id";
    match (
        credit.unwrap_or(0),
        transfer.filter(|text| !text.is_empty()),
    ) {
        (0, None) => Ok(None),
        (0, Some(_)) => Err(malformed(field, "there is no secondary credit")),
        (_, None) => Err(missing(field)),
        (credit, Some(text)) => Ok(Some((transfer_id(field, text)?, Sats(credit)))),
    }
}

/// The output of a reservation. The same request again gets the same answer.
pub async fn claim_instant_static_deposit_utxo_swap(
    api: Api,
    caller: Caller,
    wire: ClaimInstantStaticDepositUtxoSwapRequest,
) -> Result<ClaimInstantStaticDepositUtxoSwapResponse, ApiError> {
    let provider = caller.require()?;
    let network = api.core.site.network;
    let outpoint = outpoint("on_chain_utxo", wire.on_chain_utxo.as_ref(), network)?;
    let id = uuid::Uuid::from_str(&wire.utxo_swap_id)
        .map(|id| FlowId(id.into_bytes()))
        .map_err(|error| malformed("utxo_swap_id", error))?;
    let secondary = match wire.transfer {
        Some(transfer) => Some(request::send(&api, provider, Some(transfer))?),
        None => None,
    };
    let spend = request::spend(
        &api,
        wire.spend_tx_signing_job.as_ref(),
        wire.spend_signature,
    )
    .await?;
    let job = spend.job.clone();
    let is_done = |swap: &UtxoSwapRow| {
        swap.held.is_none()
            && swap.status == UtxoSwapStatus::Completed
            && swap.outpoint == Some(outpoint)
    };
    let done = earlier::swap(&api, &id).await?.filter(is_done);
    if done.is_none() {
        settle(&api, &outpoint).await?;
        let claim = UtxoClaimRequest {
            now: api.now(),
            swap: id,
            provider,
            outpoint,
            secondary,
            spend,
        };
        if let Err(refusal) = api.run(Request::UtxoClaim(Box::new(claim))).await {
            // The same call may have come another way.
            if earlier::swap(&api, &id).await?.filter(is_done).is_none() {
                return Err(refusal.into());
            }
        }
    }
    let swap = earlier::swap(&api, &id).await?.filter(is_done);
    let swap =
        swap.ok_or_else(|| Refusal::new(Reason::Internal, "a swap is not in the database"))?;
    let (result, address) = earlier::spent(&api, &swap, &provider, &job).await?;
    let transfer = shown(&api, &swap, &provider).await?;
    Ok(ClaimInstantStaticDepositUtxoSwapResponse {
        spend_tx_signing_result: Some(result),
        transfer: Some(api.show_one(transfer, &provider).await?),
        deposit_address: Some(address),
    })
}

/// The transfer that the claim made, or else the one of the reservation.
async fn shown(
    api: &Api,
    swap: &UtxoSwapRow,
    provider: &PublicKey,
) -> Result<TransferRow, ApiError> {
    let id = swap.secondary.map(|(id, _)| id).or(swap.transfer);
    let found = match id {
        Some(id) => api.transfer(&id).await?,
        None => None,
    };
    match found {
        Some(transfer) if transfer.sender == *provider => Ok(transfer),
        _ => Err(Refusal::new(Reason::Internal, "a swap's transfer is missing").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secondary_credit_and_its_transfer_come_together_or_not_at_all() {
        let id = "01234567-89ab-7cde-8f01-23456789abcd";
        assert_eq!(secondary(None, None).unwrap(), None);
        assert_eq!(secondary(Some(0), Some("")).unwrap(), None);
        assert_eq!(secondary(Some(5), Some(id)).unwrap().unwrap().1, Sats(5));
        assert!(secondary(Some(5), None).is_err());
        assert!(secondary(None, Some(id)).is_err());
        assert!(secondary(Some(5), Some("x")).is_err());
    }
}
