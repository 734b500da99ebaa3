//! Retries: what became of an earlier call with the same request.

use bitcoin::TxOut;
use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::package::OpenJob;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::{Request, SendRequest};
use tinderbox_flows::rows::{Details, FlowId, TransferRow, UtxoSwapRow};
use tinderbox_flows::send::fingerprint;
use tinderbox_protocol::tx::static_deposit::parse_spend;
use tinderbox_protocol::tx::{TxKind, Utxo};

use crate::api::deposit::refund::spend_result;
use crate::api::transfer::started;
use crate::api::{Api, ApiError};
use crate::convert::spark::{DepositAddressQueryResult, SigningResult};

/// The transfer and the swap that `request` makes, or that an earlier call with the same transfer
/// has made.
pub(super) async fn run(
    api: &Api,
    request: Request,
    send: &SendRequest,
) -> Result<(TransferRow, UtxoSwapRow), ApiError> {
    let (id, mark) = (&send.transfer, fingerprint(send));
    let transfer = started(api, request, id, &send.sender, &mark).await?;
    let swap = match &transfer.details {
        Details::Utxo { swap } => api.tables.get::<UtxoSwapRow>(swap.clone()).await?,
        _ => None,
    };
    match swap {
        Some(swap) => Ok((transfer, swap)),
        None => Err(Refusal::new(
            Reason::DuplicateOperation,
            format!("transfer {id} exists already and is no swap: choose a new id"),
        )
        .into()),
    }
}

/// A swap once nothing is being decided on it.
pub(super) async fn swap(api: &Api, id: &FlowId) -> Result<Option<UtxoSwapRow>, ApiError> {
    let row = api.tables.get::<UtxoSwapRow>(id.0.to_vec()).await?;
    match row.as_ref().and_then(|row| row.held) {
        Some(flow) => {
            api.settle([flow].into()).await;
            Ok(api.tables.get::<UtxoSwapRow>(id.0.to_vec()).await?)
        }
        None => Ok(row),
    }
}

/// The shares of a swap's spend, if it is this one.
pub(super) async fn spent(
    api: &Api,
    swap: &UtxoSwapRow,
    provider: &PublicKey,
    job: &OpenJob,
) -> Result<(SigningResult, DepositAddressQueryResult), ApiError> {
    if swap.provider != Some(*provider) {
        return Err(Refusal::new(Reason::NotOwner, "this output is another provider's").into());
    }
    let same = swap.signed.as_ref().filter(|signed| {
        signed.commitment == job.commitment && message(swap, job) == Some(signed.message)
    });
    match same {
        Some(signed) => spend_result(api, swap, &signed.operators, &signed.shares).await,
        None => Err(Refusal::new(
            Reason::DuplicateOperation,
            "the swap is complete, with another spend_tx_signing_job: sign_static_deposit_sweep_tx signs further ones",
        )
        .into()),
    }
}

/// What the spend's input signs.
fn message(swap: &UtxoSwapRow, job: &OpenJob) -> Option<[u8; 32]> {
    let utxo = Utxo {
        outpoint: swap.outpoint?,
        output: TxOut {
            value: swap.value.to_amount(),
            script_pubkey: swap.script.clone(),
        },
    };
    parse_spend(&utxo, &job.tx, TxKind::Other)
        .and_then(|tx| tx.sighash())
        .ok()
}
