//! `renew_leaf`: fresh timelocks for a leaf.

use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::renew::{RenewJobs, RenewRequest};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{NodeRow, Part};
use tinderbox_protocol::LeafId;

use super::{Api, ApiError};
use crate::convert::field::leaf_id;
use crate::convert::node::without_witness;
use crate::convert::renew::renew_jobs;
use crate::convert::spark::renew_leaf_response::RenewResult;
use crate::convert::spark::{
    RenewLeafRequest, RenewLeafResponse, RenewNodeTimelockResult, RenewNodeZeroTimelockResult,
    RenewRefundTimelockResult, TreeNode,
};
use tinderbox_rpc::Caller;

/// Renews a leaf of the caller. The same request again, here or at another operator, gets the same
/// leaf.
pub async fn renew_leaf(
    api: Api,
    caller: Caller,
    request: RenewLeafRequest,
) -> Result<RenewLeafResponse, ApiError> {
    let owner = caller.require()?;
    let leaf = leaf_id("leaf_id", &request.leaf_id)?;
    let jobs = renew_jobs(request.signing_jobs.as_ref())?;
    let renew = RenewRequest {
        now: api.now(),
        leaf,
        owner,
        jobs,
    };
    if let Some(node) = renewed(&api, &renew).await? {
        return answer(&api, &renew.jobs, node).await;
    }
    let outcome = api.run(Request::Renew(Box::new(renew.clone()))).await;
    match (outcome, renewed(&api, &renew).await?) {
        (Ok(_), Some(node)) => answer(&api, &renew.jobs, node).await,
        // Decided, and finished here although not everybody answered in time; or the same request
        // was faster through another connection.
        (Err(refusal), Some(node)) if is_unclear(&refusal) => {
            tracing::debug!(%leaf, %refusal, "renewed all the same");
            answer(&api, &renew.jobs, node).await
        }
        (Err(refusal), _) => Err(refusal.into()),
        (Ok(_), None) => Err(Refusal::new(
            Reason::OperatorUnavailable,
            format!(
                "leaf {leaf}: a signature is missing: send the same renewal with fresh signing commitments"
            ),
        )
        .with("leaf_id", leaf)
        .into()),
    }
}

fn is_unclear(refusal: &Refusal) -> bool {
    refusal.reason == Reason::InvalidState
        || refusal.is_transient()
        || refusal.facts.contains_key("decided")
}

/// The leaf, if it is what this request makes of it.
async fn renewed(api: &Api, request: &RenewRequest) -> Result<Option<NodeRow>, ApiError> {
    let node = api.nodes([request.leaf]).await?.into_iter().next();
    let is = |part, raw: &[u8]| {
        request
            .jobs
            .job(part)
            .is_some_and(|job| job.tx == without_witness(raw))
    };
    Ok(node.filter(|node| {
        node.owner == request.owner
            && node.lock.is_none()
            && is(Part::Node, &node.txs.node)
            && is(Part::Cpfp, &node.txs.refund)
    }))
}

async fn answer(api: &Api, jobs: &RenewJobs, node: NodeRow) -> Result<RenewLeafResponse, ApiError> {
    let ids: Vec<LeafId> = node.parent.into_iter().collect();
    let (leaf, above) = (node.id, node.parent);
    let mut rows = api.nodes(ids).await?;
    rows.push(node);
    let mut shown = api.tree_nodes(rows).await?;
    let mut take = |id: Option<LeafId>| -> Option<TreeNode> { shown.remove(&id?) };
    let (split_node, node) = (take(above), take(Some(leaf)));
    let renew_result = match jobs {
        RenewJobs::Node(_) => {
            RenewResult::RenewNodeTimelockResult(RenewNodeTimelockResult { split_node, node })
        }
        RenewJobs::Refund(_) => {
            RenewResult::RenewRefundTimelockResult(RenewRefundTimelockResult { node })
        }
        RenewJobs::Zero(_) => {
            RenewResult::RenewNodeZeroTimelockResult(RenewNodeZeroTimelockResult {
                split_node,
                node,
            })
        }
    };
    Ok(RenewLeafResponse {
        renew_result: Some(renew_result),
    })
}
