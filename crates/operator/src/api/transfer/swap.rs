//! Leaf swaps: `initiate_swap_primary_transfer`, and `initiate_counter_transfer` for providers; by the
//! older protocol `start_leaf_swap_v2`, and `counter_leaf_swap_v2` for providers.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::flow::{JobOutcome, Outcome};
use tinderbox_flows::form::Adaptors;
use tinderbox_flows::package::TweakPackage;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{FlowRow, FlowState, JobRow, Part, TransferRow};
use tinderbox_flows::swap_counter::SwapCounterRequest;
use tinderbox_flows::swap_legacy::LegacySwapRequest;
use tinderbox_flows::swap_legacy_counter::LegacyCounterRequest;
use tinderbox_flows::swap_primary::SwapPrimaryRequest;
use tinderbox_frost::{OperatorIndex, SignatureShare, tweak};
use tinderbox_protocol::{LeafId, TransferId};
use tinderbox_rpc::Caller;
use tinderbox_rpc::proto::spark_ssp_internal::CounterTransferRequest;

use super::start::started;
use crate::api::{Api, ApiError};
use crate::convert::field::{malformed, missing, public_key, transfer_id};
use crate::convert::node::keyshare_message;
use crate::convert::package::{send_package, signing_result};
use crate::convert::spark::{
    AdaptorPublicKeyPackage, CounterLeafSwapRequest, CounterLeafSwapResponse,
    InitiateSwapPrimaryTransferRequest, InitiateSwapPrimaryTransferResponse,
    LeafRefundTxSigningResult, SigningResult, StartTransferRequest, StartTransferResponse,
};

/// What every leg consists of.
struct Leg {
    transfer: TransferId,
    sender: PublicKey,
    receiver: PublicKey,
    package: TweakPackage,
}

fn leg(caller: &Caller, transfer: Option<&StartTransferRequest>) -> Result<Leg, ApiError> {
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
    Ok(Leg {
        transfer: transfer_id("transfer.transfer_id", &transfer.transfer_id)?,
        sender,
        receiver: public_key(
            "transfer.receiver_identity_public_key",
            &transfer.receiver_identity_public_key,
        )?,
        package: send_package(package)?,
    })
}

/// The one point that both legs are signed under. The keys for the other refunds are without
/// meaning: a swap has none of them.
fn adaptor(adaptors: Option<&AdaptorPublicKeyPackage>) -> Result<PublicKey, Refusal> {
    let adaptors = adaptors.ok_or_else(|| missing("adaptor_public_keys"))?;
    public_key(
        "adaptor_public_keys.adaptor_public_key",
        &adaptors.adaptor_public_key,
    )
}

/// Offers leaves for others: nothing moves before the answer.
pub async fn initiate_swap_primary_transfer(
    api: Api,
    caller: Caller,
    request: InitiateSwapPrimaryTransferRequest,
) -> Result<InitiateSwapPrimaryTransferResponse, ApiError> {
    let leg = leg(&caller, request.transfer.as_ref())?;
    let (transfer, sender) = (leg.transfer, leg.sender);
    let offer = SwapPrimaryRequest {
        now: api.now(),
        transfer,
        sender,
        receiver: leg.receiver,
        package: leg.package,
        adaptor: adaptor(request.adaptor_public_keys.as_ref())?,
    };
    let mark = offer.fingerprint();
    let request = Request::SwapPrimary(Box::new(offer));
    let row = started(&api, request, &transfer, &sender, &mark).await?;
    let signing_results = results(&api, &row).await?;
    if signing_results.len() < row.leaves.len() {
        return Err(Refusal::new(
            Reason::OperatorUnavailable,
            "an operator gave a wrong signature share, so this offer cannot be answered: its leaves come back in four minutes",
        )
        .into());
    }
    Ok(InitiateSwapPrimaryTransferResponse {
        transfer: Some(api.show_one(row, &sender).await?),
        signing_results,
    })
}

/// Answers an offer: both legs move, or none.
pub async fn initiate_counter_transfer(
    api: Api,
    caller: Caller,
    request: CounterTransferRequest,
) -> Result<StartTransferResponse, ApiError> {
    let leg = leg(&caller, request.transfer.as_ref())?;
    let primary = transfer_id("primary_transfer_id", &request.primary_transfer_id)?;
    let answer = SwapCounterRequest {
        now: api.now(),
        transfer: leg.transfer,
        sender: leg.sender,
        receiver: leg.receiver,
        package: leg.package,
        adaptor: adaptor(request.adaptor_public_keys.as_ref())?,
        primary,
    };
    let mark = answer.fingerprint();
    let request = Request::SwapCounter(Box::new(answer));
    answered(&api, request, primary, (leg.transfer, leg.sender), mark).await
}

/// Offers leaves for others by the older protocol: nothing moves, and nothing is signed, before the
/// answer.
pub async fn start_leaf_swap_v2(
    api: Api,
    caller: Caller,
    request: StartTransferRequest,
) -> Result<StartTransferResponse, ApiError> {
    let leg = leg(&caller, Some(&request))?;
    let (transfer, sender) = (leg.transfer, leg.sender);
    let offer = LegacySwapRequest {
        now: api.now(),
        transfer,
        sender,
        receiver: leg.receiver,
        package: leg.package,
    };
    let mark = offer.fingerprint();
    let request = Request::LegacySwap(Box::new(offer));
    let row = started(&api, request, &transfer, &sender, &mark).await?;
    Ok(StartTransferResponse {
        transfer: Some(api.show_one(row, &sender).await?),
        signing_results: Vec::new(),
    })
}

/// Answers an offer of the older protocol: both legs move, or none.
pub async fn counter_leaf_swap_v2(
    api: Api,
    caller: Caller,
    request: CounterLeafSwapRequest,
) -> Result<CounterLeafSwapResponse, ApiError> {
    let leg = leg(&caller, request.transfer.as_ref())?;
    let offer = transfer_id("swap_id", &request.swap_id)?;
    let or_none = |field, bytes: &[u8]| match bytes {
        [] => Ok(None),
        bytes => public_key(field, bytes).map(Some),
    };
    let answer = LegacyCounterRequest {
        now: api.now(),
        transfer: leg.transfer,
        sender: leg.sender,
        receiver: leg.receiver,
        package: leg.package,
        adaptors: Adaptors {
            cpfp: public_key("adaptor_public_key", &request.adaptor_public_key)?,
            direct: or_none(
                "direct_adaptor_public_key",
                &request.direct_adaptor_public_key,
            )?,
            direct_from_cpfp: or_none(
                "direct_from_cpfp_adaptor_public_key",
                &request.direct_from_cpfp_adaptor_public_key,
            )?,
        },
        offer,
    };
    let mark = answer.fingerprint();
    let request = Request::LegacyCounter(Box::new(answer));
    let made = answered(&api, request, offer, (leg.transfer, leg.sender), mark).await?;
    Ok(CounterLeafSwapResponse {
        transfer: made.transfer,
        signing_results: made.signing_results,
    })
}

/// The answer to `offer` that `request` starts, or that an earlier call with the same request has
/// started, as its sender sees it.
async fn answered(
    api: &Api,
    request: Request,
    offer: TransferId,
    (id, sender): (TransferId, PublicKey),
    mark: [u8; 32],
) -> Result<StartTransferResponse, ApiError> {
    // An operator that missed the end of the offer's start hears it now.
    api.transfer(&offer).await?;
    let row = started(api, request, &id, &sender, &mark).await?;
    Ok(StartTransferResponse {
        signing_results: results(api, &row).await?,
        transfer: Some(api.show_one(row, &sender).await?),
    })
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
    let mut by_leaf = BTreeMap::<LeafId, LeafRefundTxSigningResult>::new();
    let mut failed = BTreeSet::new();
    for (job, made) in flow.jobs.iter().zip(&outcome.jobs) {
        match (job.leaf, made) {
            (Some(leaf), JobOutcome::Shares(shares)) => {
                let one = by_leaf.entry(leaf).or_default();
                one.leaf_id = leaf.to_string();
                one.verifying_key = job.package.verifying_key.serialize().to_vec();
                let place = match job.part {
                    Part::Direct => &mut one.direct_refund_tx_signing_result,
                    Part::DirectFromCpfp => &mut one.direct_from_cpfp_refund_tx_signing_result,
                    _ => &mut one.refund_tx_signing_result,
                };
                *place = result(api, row, job, shares);
            }
            (Some(leaf), JobOutcome::Failed(_)) => {
                failed.insert(leaf);
            }
            _ => {}
        }
    }
    by_leaf.retain(|leaf, _| !failed.contains(leaf));
    Ok(by_leaf.into_values().collect())
}

fn result(
    api: &Api,
    row: &TransferRow,
    job: &JobRow,
    shares: &BTreeMap<OperatorIndex, SignatureShare>,
) -> Option<SigningResult> {
    // As at signing: the tweaks of a second leg have moved the shares on since.
    let group_key = tweak::sub_points(&job.package.verifying_key, job.user_key.as_ref()?).ok()?;
    let keyshare = keyshare_message(&group_key, &job.public_shares, &api.core.site, row.created);
    Some(signing_result(
        shares,
        &job.package.operators,
        &job.public_shares,
        keyshare,
    ))
}
