//! `cooperative_exit_v2`.

use tinderbox_flows::exit::fingerprint;
use tinderbox_flows::request::{ExitRequest, Request};
use tinderbox_rpc::Caller;

use super::start::{expiry, leaves_of, started};
use crate::api::{Api, ApiError};
use crate::convert::field::{malformed, missing, public_key, transfer_id};
use crate::convert::package::send_package;
use crate::convert::spark::{CooperativeExitRequest, CooperativeExitResponse};

/// Gives leaves to a provider that pays out on chain.
pub async fn cooperative_exit_v2(
    api: Api,
    caller: Caller,
    request: CooperativeExitRequest,
) -> Result<CooperativeExitResponse, ApiError> {
    let sent = request.transfer.ok_or_else(|| missing("transfer"))?;
    let sender = caller.require_key(
        "transfer.owner_identity_public_key",
        &sent.owner_identity_public_key,
    )?;
    let receiver = public_key(
        "transfer.receiver_identity_public_key",
        &sent.receiver_identity_public_key,
    )?;
    if !sent.spark_invoice.is_empty() {
        return Err(malformed("transfer.spark_invoice", "an exit pays no invoice").into());
    }
    let package = sent
        .transfer_package
        .as_ref()
        .ok_or_else(|| missing("transfer.transfer_package"))?;
    let exit = uuid::Uuid::parse_str(&request.exit_id)
        .map_err(|_| malformed("exit_id", "it is not a UUID"))?;
    let exit_txid = <[u8; 32]>::try_from(request.exit_txid.as_slice())
        .map_err(|_| malformed("exit_txid", "it must have 32 bytes"))?;
    if request.connector_tx.is_empty() {
        return Err(missing("connector_tx").into());
    }
    let exit = ExitRequest {
        now: api.now(),
        transfer: transfer_id("transfer.transfer_id", &sent.transfer_id)?,
        sender,
        receiver,
        receivers: leaves_of(package)?
            .into_iter()
            .map(|leaf| (leaf, receiver))
            .collect(),
        package: send_package(package)?,
        expiry: expiry(&api, sent.expiry_time.as_ref())?
            .ok_or_else(|| missing("transfer.expiry_time"))?,
        exit: exit.into_bytes(),
        exit_txid,
        connector_tx: request.connector_tx,
    };
    let (id, mark) = (exit.transfer, fingerprint(&exit));
    let row = started(&api, Request::Exit(Box::new(exit)), &id, &sender, &mark).await?;
    Ok(CooperativeExitResponse {
        transfer: Some(api.show_one(row, &sender).await?),
        signing_results: Vec::new(),
    })
}
