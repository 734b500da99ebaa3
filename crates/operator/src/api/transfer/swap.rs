//! Leaf swaps: `initiate_swap_primary_transfer`, and `initiate_counter_transfer` for providers.

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::flow::{JobOutcome, Outcome};
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{FlowRow, FlowState, JobRow, TransferRow};
use tinderbox_flows::swap_counter::SwapCounterRequest;
use tinderbox_flows::swap_primary::SwapPrimaryRequest;
use tinderbox_frost::tweak;
use tinderbox_protocol::TransferId;
use tinderbox_rpc::proto::spark_ssp_internal::CounterTransferRequest;
use tinderbox_rpc::{Caller, Reason as WireReason, ServiceError};

use super::start::started;
use crate::api::{Api, ApiError};
use crate::convert::field::{malformed, missing, public_key, transfer_id};
use crate::convert::node::keyshare_message;
use crate::convert::package::{send_package, signing_result};
use crate::convert::spark::{
    AdaptorPublicKeyPackage, CounterLeafSwapRequest, CounterLeafSwapResponse,
    InitiateSwapPrimaryTransferRequest, InitiateSwapPrimaryTransferResponse,
    LeafRefundTxSigningResult, StartTransferRequest, StartTransferResponse,
};
use tinderbox_flows::package::TweakPackage;

/// What both legs consist of.
struct Leg {
    transfer: TransferId,
    sender: PublicKey,
    receiver: PublicKey,
    package: TweakPackage,
    adaptor: PublicKey,
}

fn leg(
    caller: &Caller,
    transfer: Option<&StartTransferRequest>,
    adaptors: Option<&AdaptorPublicKeyPackage>,
) -> Result<Leg, ApiError> {
    let transfer = transfer.ok_or_else(|| missing("transfer"))?;
    let sender = caller.require_key(
        "transfer.owner_identity_public_key",
        &transfer.owner_identity_public_key,
    )?;
    if !transfer.spark_invoice.is_empty() {
        return Err(malformed("transfer.spark_invoice", "a swap pays no invoice").into());
    }
    let package = transfer
        .transfer_package
        .as_ref()
        .ok_or_else(|| missing("transfer.transfer_package"))?;
    // Its keys for the other refunds are without meaning: a swap has none of them.
    let adaptors = adaptors.ok_or_else(|| missing("adaptor_public_keys"))?;
    Ok(Leg {
        transfer: transfer_id("transfer.transfer_id", &transfer.transfer_id)?,
        sender,
        receiver: public_key(
            "transfer.receiver_identity_public_key",
            &transfer.receiver_identity_public_key,
        )?,
        package: send_package(package)?,
        adaptor: public_key(
            "adaptor_public_keys.adaptor_public_key",
            &adaptors.adaptor_public_key,
        )?,
    })
}

/// Offers leaves for others: nothing moves before the answer.
pub async fn initiate_swap_primary_transfer(
    api: Api,
    caller: Caller,
    request: InitiateSwapPrimaryTransferRequest,
) -> Result<InitiateSwapPrimaryTransferResponse, ApiError> {
    let leg = leg(
        &caller,
        request.transfer.as_ref(),
        request.adaptor_public_keys.as_ref(),
    )?;
    let offer = SwapPrimaryRequest {
        now: api.now(),
        transfer: leg.transfer,
        sender: leg.sender,
        receiver: leg.receiver,
        package: leg.package,
        adaptor: leg.adaptor,
    };
    let mark = offer.fingerprint();
    let request = Request::SwapPrimary(Box::new(offer));
    let row = started(&api, request, &leg.transfer, &leg.sender, &mark).await?;
    let signing_results = results(&api, &row).await?;
    if signing_results.len() < row.leaves.len() {
        return Err(Refusal::new(
            Reason::OperatorUnavailable,
            "an operator gave a wrong signature share, so this offer cannot be answered: its leaves come back in four minutes",
        )
        .into());
    }
    Ok(InitiateSwapPrimaryTransferResponse {
        transfer: Some(api.show_one(row, &leg.sender).await?),
        signing_results,
    })
}

/// Answers an offer: both legs move, or none.
pub async fn initiate_counter_transfer(
    api: Api,
    caller: Caller,
    request: CounterTransferRequest,
) -> Result<StartTransferResponse, ApiError> {
    let leg = leg(
        &caller,
        request.transfer.as_ref(),
        request.adaptor_public_keys.as_ref(),
    )?;
    let answer = SwapCounterRequest {
        now: api.now(),
        transfer: leg.transfer,
        sender: leg.sender,
        receiver: leg.receiver,
        package: leg.package,
        adaptor: leg.adaptor,
        primary: transfer_id("primary_transfer_id", &request.primary_transfer_id)?,
    };
    // An operator that missed the end of the offer's start hears it now.
    api.transfer(&answer.primary).await?;
    let mark = answer.fingerprint();
    let request = Request::SwapCounter(Box::new(answer));
    let row = started(&api, request, &leg.transfer, &leg.sender, &mark).await?;
    Ok(StartTransferResponse {
        signing_results: results(&api, &row).await?,
        transfer: Some(api.show_one(row, &leg.sender).await?),
    })
}

/// The first leg of the older protocol.
pub async fn start_leaf_swap_v2(
    _: Api,
    _: Caller,
    _: StartTransferRequest,
) -> Result<StartTransferResponse, ApiError> {
    Err(older("initiate_swap_primary_transfer"))
}

/// The second leg of the older protocol.
pub async fn counter_leaf_swap_v2(
    _: Api,
    _: Caller,
    _: CounterLeafSwapRequest,
) -> Result<CounterLeafSwapResponse, ApiError> {
    Err(older("initiate_counter_transfer"))
}

/// No living wallet speaks the older protocol.
fn older(instead: &str) -> ApiError {
    let text = format!("this older form of leaf swaps is not served: call {instead}");
    ServiceError::new(WireReason::MethodDisabled, text).into()
}

/// The operators' shares of the adaptor signatures, as the flow that made them has kept them; a
/// leaf whose shares are wrong is left out.
async fn results(api: &Api, row: &TransferRow) -> Result<Vec<LeafRefundTxSigningResult>, ApiError> {
    let flow = api
        .tables
        .get::<FlowRow>(row.started_by.0.to_vec())
        .await?
        .filter(|flow| flow.state == FlowState::Done);
    let Some(flow) = flow else {
        return Err(Refusal::new(
            Reason::MissingEntity,
            format!("the shares of transfer {} are not kept any more", row.id),
        )
        .into());
    };
    let outcome: Outcome = postcard::from_bytes(&flow.outcome).map_err(|error| {
        tracing::error!(%error, flow = %flow.id, "outcome");
        Refusal::new(Reason::Internal, "the agreement log is damaged")
    })?;
    let jobs = flow.jobs.iter().zip(&outcome.jobs);
    Ok(jobs
        .filter_map(|(job, made)| result(api, row, job, made))
        .collect())
}

fn result(
    api: &Api,
    row: &TransferRow,
    job: &JobRow,
    made: &JobOutcome,
) -> Option<LeafRefundTxSigningResult> {
    let JobOutcome::Shares(shares) = made else {
        return None;
    };
    // As at signing: the tweaks of a second leg have moved the shares on since.
    let verifying_key = job.package.verifying_key;
    let group_key = tweak::sub_points(&verifying_key, job.user_key.as_ref()?).ok()?;
    let keyshare = keyshare_message(&group_key, &job.public_shares, &api.core.site, row.created);
    Some(LeafRefundTxSigningResult {
        leaf_id: job.leaf?.to_string(),
        refund_tx_signing_result: Some(signing_result(
            shares,
            &job.package.operators,
            &job.public_shares,
            keyshare,
        )),
        verifying_key: verifying_key.serialize().to_vec(),
        ..LeafRefundTxSigningResult::default()
    })
}
