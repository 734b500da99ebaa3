//! `claim_transfer_sign_refunds_v2`: second of the three-step claim.

use std::collections::BTreeMap;

use tinderbox_flows::flow::{JobOutcome, Outcome};
use tinderbox_flows::package::OpenJob;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::{ClaimSignRequest, OpenRefunds, Request};
use tinderbox_flows::rows::{ClaimPhase, KeyshareRow, NodeRow};
use tinderbox_frost::{NonceCommitment, OperatorIndex};
use tinderbox_protocol::LeafId;

use super::{claimed, received};
use crate::api::{Api, ApiError};
use crate::convert::field::{leaf_id, malformed, missing, transfer_id};
use crate::convert::node::signing_keyshare;
use crate::convert::package::{MAX_LEAVES, open_job, signing_result};
use crate::convert::spark::{
    ClaimTransferSignRefundsRequest, ClaimTransferSignRefundsResponse, LeafRefundTxSigningJob,
    LeafRefundTxSigningResult, SigningJob, SigningResult,
};
use tinderbox_rpc::Caller;

type NonceSet = BTreeMap<OperatorIndex, NonceCommitment>;

/// Applies the tweaks that were put aside, and gives the operators' shares of the refunds'
/// signatures.
pub async fn claim_transfer_sign_refunds_v2(
    api: Api,
    caller: Caller,
    request: ClaimTransferSignRefundsRequest,
) -> Result<ClaimTransferSignRefundsResponse, ApiError> {
    let receiver = caller.require_key(
        "owner_identity_public_key",
        &request.owner_identity_public_key,
    )?;
    let id = transfer_id("transfer_id", &request.transfer_id)?;
    let (row, place) = received(&api, &id, &receiver).await?;
    if row.receivers.get(place).map(|receiver| receiver.phase) == Some(ClaimPhase::Completed) {
        return Err(claimed(&id).into());
    }
    if request.signing_jobs.len() > MAX_LEAVES {
        return Err(malformed("signing_jobs", format!("{MAX_LEAVES} are the most")).into());
    }
    let count: usize = request.signing_jobs.iter().map(jobs_in).sum();
    let mut nonces = api.nonces.take(count).await?.into_iter();
    let mut jobs = BTreeMap::new();
    for job in &request.signing_jobs {
        let (leaf, refunds) = open_refunds(job, &mut nonces)?;
        if jobs.insert(leaf, refunds).is_some() {
            return Err(Refusal::new(
                Reason::DuplicateField,
                format!("signing_jobs: leaf {leaf} appears twice"),
            )
            .into());
        }
    }
    let sign = ClaimSignRequest {
        now: api.now(),
        transfer: id,
        receiver,
        jobs,
    };
    let outcome = api.run(Request::ClaimSign(Box::new(sign.clone()))).await?;
    results(&api, &sign.jobs, &outcome).await
}

fn jobs_in(job: &LeafRefundTxSigningJob) -> usize {
    // The empty message stands for an absent one in some clients.
    2 + usize::from(is_given(job.direct_refund_tx_signing_job.as_ref()))
}

fn is_given(job: Option<&SigningJob>) -> bool {
    job.is_some_and(|job| !job.raw_tx.is_empty())
}

fn open_refunds(
    wire: &LeafRefundTxSigningJob,
    nonces: &mut impl Iterator<Item = NonceSet>,
) -> Result<(LeafId, OpenRefunds), Refusal> {
    let mut job = |field: &str, wire: Option<&SigningJob>| {
        open_job(
            field,
            wire.ok_or_else(|| missing(field))?,
            nonces.next().unwrap_or_default(),
        )
    };
    let direct = wire.direct_refund_tx_signing_job.as_ref();
    let refunds = OpenRefunds {
        cpfp: job("refund_tx_signing_job", wire.refund_tx_signing_job.as_ref())?,
        direct: if is_given(direct) {
            Some(job("direct_refund_tx_signing_job", direct)?)
        } else {
            None
        },
        direct_from_cpfp: job(
            "direct_from_cpfp_refund_tx_signing_job",
            wire.direct_from_cpfp_refund_tx_signing_job.as_ref(),
        )?,
    };
    Ok((leaf_id("signing_jobs.leaf_id", &wire.leaf_id)?, refunds))
}

/// The shares, leaf by leaf: the flow makes its jobs in this order.
async fn results(
    api: &Api,
    jobs: &BTreeMap<LeafId, OpenRefunds>,
    outcome: &Outcome,
) -> Result<ClaimTransferSignRefundsResponse, ApiError> {
    let nodes = api.nodes(jobs.keys().copied()).await?;
    let leaves = api.with_keyshares(nodes).await?;
    let mut made = outcome.jobs.iter();
    let mut signing_results = Vec::new();
    for (leaf, refunds) in jobs {
        let (node, keyshare) = leaves
            .get(leaf)
            .ok_or_else(|| Refusal::new(Reason::Internal, "a leaf of a claim is missing"))?;
        let cpfp = result(api, node, keyshare, &refunds.cpfp, made.next())?;
        let direct = match &refunds.direct {
            Some(job) => Some(result(api, node, keyshare, job, made.next())?),
            None => None,
        };
        let direct_from_cpfp = result(api, node, keyshare, &refunds.direct_from_cpfp, made.next())?;
        signing_results.push(LeafRefundTxSigningResult {
            leaf_id: leaf.to_string(),
            refund_tx_signing_result: Some(cpfp),
            verifying_key: node.verifying_key.serialize().to_vec(),
            direct_refund_tx_signing_result: direct,
            direct_from_cpfp_refund_tx_signing_result: Some(direct_from_cpfp),
        });
    }
    Ok(ClaimTransferSignRefundsResponse { signing_results })
}

fn result(
    api: &Api,
    node: &NodeRow,
    keyshare: &KeyshareRow,
    job: &OpenJob,
    outcome: Option<&JobOutcome>,
) -> Result<SigningResult, Refusal> {
    match outcome {
        Some(JobOutcome::Shares(shares)) => Ok(signing_result(
            shares,
            &job.operators,
            &keyshare.public_shares,
            signing_keyshare(keyshare, &api.core.site, node.updated),
        )),
        _ => Err(Refusal::new(
            Reason::OperatorUnavailable,
            "an operator gave a wrong signature share: ask again",
        )),
    }
}
