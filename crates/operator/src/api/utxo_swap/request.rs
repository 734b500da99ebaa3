//! What the calls of service providers have in common.

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::refusal::Refusal;
use tinderbox_flows::request::SendRequest;
use tinderbox_flows::utxo_swap::ProviderSpend;

use crate::api::{Api, ApiError};
use crate::convert::field::{instant, leaf_id, malformed, missing, public_key, transfer_id};
use crate::convert::package::{open_job, send_package};
use crate::convert::spark::{SigningJob, StartTransferRequest};

/// The transfer of a swap: from the provider to one receiver.
pub(super) fn send(
    api: &Api,
    provider: PublicKey,
    wire: Option<StartTransferRequest>,
) -> Result<SendRequest, Refusal> {
    let wire = wire.ok_or_else(|| missing("transfer"))?;
    if provider.serialize().as_slice() != wire.owner_identity_public_key {
        return Err(malformed(
            "transfer.owner_identity_public_key",
            "not the identity of this session; use your own",
        ));
    }
    let receiver = public_key(
        "transfer.receiver_identity_public_key",
        &wire.receiver_identity_public_key,
    )?;
    let package = wire
        .transfer_package
        .as_ref()
        .ok_or_else(|| missing("transfer.transfer_package"))?;
    let receivers = package
        .leaves_to_send
        .iter()
        .map(|job| Ok((leaf_id("leaves_to_send.leaf_id", &job.leaf_id)?, receiver)))
        .collect::<Result<_, Refusal>>()?;
    Ok(SendRequest {
        now: api.now(),
        transfer: transfer_id("transfer.transfer_id", &wire.transfer_id)?,
        sender: provider,
        receivers,
        package: send_package(package)?,
        expiry: instant("transfer.expiry_time", wire.expiry_time.as_ref())?,
        invoice: wire.spark_invoice,
    })
}

/// The provider's spend, with nonces of operators.
pub(super) async fn spend(
    api: &Api,
    wire: Option<&SigningJob>,
    signature: Vec<u8>,
) -> Result<ProviderSpend, ApiError> {
    let wire = wire.ok_or_else(|| missing("spend_tx_signing_job"))?;
    if signature.is_empty() {
        return Err(missing("spend_signature").into());
    }
    let nonces = api.nonces.take(1).await?.pop().unwrap_or_default();
    Ok(ProviderSpend {
        job: open_job("spend_tx_signing_job", wire, nonces)?,
        signature,
    })
}
