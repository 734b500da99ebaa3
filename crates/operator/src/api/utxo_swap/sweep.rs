//! `sign_static_deposit_sweep_tx`.

use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, OutPoint, ScriptBuf, TxOut};
use tinderbox_flows::flow::JobOutcome;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::{Request, UtxoSweepRequest};
use tinderbox_flows::rows::{UtxoHoldRow, UtxoRow, UtxoSwapRow};
use tinderbox_flows::utxo_sweep::{Ineligible, SweepInput, eligible};
use tinderbox_rpc::Caller;
use tinderbox_rpc::proto::spark_ssp_internal::{
    IneligibleSweepInput, SignStaticDepositSweepTxRequest, SignStaticDepositSweepTxResponse,
    SignedSweepInput, SweepIneligibleReason,
};

use super::earlier;
use crate::api::deposit::refund::{spend_result, wrong_share};
use crate::api::{Api, ApiError};
use crate::convert::field::{commitment, malformed};
use crate::convert::spark::BitcoinTransactionOutput;
use crate::convert::utxo::outpoint;

/// Signs all inputs that are named, or none and says which stand in the way.
pub async fn sign_static_deposit_sweep_tx(
    api: Api,
    caller: Caller,
    wire: SignStaticDepositSweepTxRequest,
) -> Result<SignStaticDepositSweepTxResponse, ApiError> {
    let provider = caller.require()?;
    let network = api.core.site.network;
    let mut named: Vec<(u32, OutPoint)> = Vec::new();
    for input in &wire.inputs {
        let utxo = input.on_chain_utxo.as_ref();
        named.push((input.vin, outpoint("inputs.on_chain_utxo", utxo, network)?));
    }
    let mut swaps = Vec::new();
    let mut ineligible_inputs = Vec::new();
    for (vin, outpoint) in &named {
        match look(&api, outpoint, &provider).await? {
            Ok(swap) => swaps.push(swap),
            Err(reason) => ineligible_inputs.push(IneligibleSweepInput {
                vin: *vin,
                reason: reason.into(),
            }),
        }
    }
    if !ineligible_inputs.is_empty() {
        return Ok(SignStaticDepositSweepTxResponse {
            signed_inputs: Vec::new(),
            ineligible_inputs,
        });
    }
    let mut nonces = api.nonces.take(named.len()).await?.into_iter();
    let mut inputs = Vec::new();
    for ((vin, outpoint), input) in named.into_iter().zip(&wire.inputs) {
        inputs.push(SweepInput {
            vin,
            outpoint,
            commitment: commitment(
                "inputs.user_signing_commitment",
                input.user_signing_commitment.as_ref(),
            )?,
            operators: nonces.next().unwrap_or_default(),
        });
    }
    let sweep = UtxoSweepRequest {
        now: api.now(),
        provider,
        tx: wire.raw_tx,
        prevouts: wire
            .previous_outputs
            .iter()
            .map(prevout)
            .collect::<Result<_, _>>()?,
        inputs: inputs.clone(),
        signature: wire.ssp_signature,
    };
    let outcome = api.run(Request::UtxoSweep(Box::new(sweep))).await?;
    let mut signed_inputs = Vec::new();
    for ((input, swap), made) in inputs.iter().zip(&swaps).zip(&outcome.jobs) {
        let JobOutcome::Shares(shares) = made else {
            return Err(wrong_share().into());
        };
        let (result, address) = spend_result(&api, swap, &input.operators, shares).await?;
        signed_inputs.push(SignedSweepInput {
            vin: input.vin,
            signing_result: Some(result),
            verifying_key: address.verifying_public_key,
        });
    }
    Ok(SignStaticDepositSweepTxResponse {
        signed_inputs,
        ineligible_inputs,
    })
}

fn prevout(wire: &BitcoinTransactionOutput) -> Result<TxOut, Refusal> {
    let value = u64::try_from(wire.value)
        .map_err(|_| malformed("previous_outputs.value", "must not be negative"))?;
    Ok(TxOut {
        value: Amount::from_sat(value),
        script_pubkey: ScriptBuf::from_bytes(wire.pk_script.clone()),
    })
}

/// The swap of an output, if this provider may spend it.
async fn look(
    api: &Api,
    outpoint: &OutPoint,
    provider: &PublicKey,
) -> Result<Result<UtxoSwapRow, SweepIneligibleReason>, ApiError> {
    let hold = api
        .tables
        .get::<UtxoHoldRow>(UtxoHoldRow::output(outpoint))
        .await?;
    let swap = match &hold {
        Some(hold) => earlier::swap(api, &hold.swap).await?,
        None => None,
    };
    match (eligible(swap.as_ref(), provider), swap) {
        (Ok(()), Some(swap)) => Ok(Ok(swap)),
        (Ok(()), None) => Err(Refusal::new(Reason::Internal, "a swap is missing").into()),
        (Err(why), _) => Ok(Err(match why {
            Ineligible::NoSwap => {
                let known = api.tables.get::<UtxoRow>(UtxoRow::id_of(outpoint)).await?;
                match known {
                    Some(_) => SweepIneligibleReason::NoSwap,
                    None => SweepIneligibleReason::UnknownUtxo,
                }
            }
            Ineligible::NotCompleted => SweepIneligibleReason::SwapNotCompleted,
            Ineligible::NotOwner => SweepIneligibleReason::NotOwnedByCaller,
            Ineligible::Refund => SweepIneligibleReason::RefundSwap,
        })),
    }
}
