//! `get_signing_commitments`: nonces for a wallet's next signatures.

use tinderbox_flows::refusal::{Reason, Refusal};

use super::Api;
use super::error::ApiError;
use crate::convert::field::{by_identifier, commitment_to_wire, leaf_id, malformed};
use crate::convert::spark::{
    GetSigningCommitmentsRequest, GetSigningCommitmentsResponse, RequestedSigningCommitments,
};
use tinderbox_rpc::Caller;

/// Leaves that one request may name.
const MAX_NODES: usize = 1000;
/// Commitments per leaf. A deposit of many outputs needs the most: one per output and two.
const MAX_COUNT: u32 = 32;

/// Hands out `count` sets of commitments per leaf, grouped by set: all leaves' first, then all
/// leaves' second, and so on. Every set names the same operators.
pub async fn get_signing_commitments(
    api: Api,
    caller: Caller,
    request: GetSigningCommitmentsRequest,
) -> Result<GetSigningCommitmentsResponse, ApiError> {
    let identity = caller.require()?;
    if !request.node_ids.is_empty() && request.node_id_count > 0 {
        return Err(malformed("node_id_count", "give node_ids or node_id_count, not both").into());
    }
    let count = request.count.max(1);
    if count > MAX_COUNT {
        return Err(malformed("count", format!("{count}, {MAX_COUNT} are the most")).into());
    }
    let nodes = if request.node_ids.is_empty() {
        usize::try_from(request.node_id_count).unwrap_or(usize::MAX)
    } else {
        request.node_ids.len()
    };
    if nodes == 0 {
        return Err(malformed("node_ids", "name leaves, or say how many in node_id_count").into());
    }
    if nodes > MAX_NODES {
        return Err(malformed(
            "node_ids",
            format!("{nodes} leaves, {MAX_NODES} are the most"),
        )
        .into());
    }
    if !request.node_ids.is_empty() {
        let ids = request
            .node_ids
            .iter()
            .map(|text| leaf_id("node_ids", text))
            .collect::<Result<Vec<_>, _>>()?;
        let found = api.nodes(ids.iter().copied()).await?;
        let foreign = ids.iter().find(|id| {
            !found
                .iter()
                .any(|node| node.id == **id && node.owner == identity)
        });
        if let Some(leaf) = foreign {
            // Whether it exists is none of a stranger's business.
            return Err(Refusal::new(
                Reason::NotOwner,
                format!("leaf {leaf} is not owned by {identity}"),
            )
            .with("leaf_id", leaf)
            .into());
        }
    }
    let total = nodes.saturating_mul(usize::try_from(count).unwrap_or(usize::MAX));
    // For leaves that are sent; what they are sent for, payment or swap, the wallet says later.
    let sets = if request.node_ids.is_empty() {
        api.nonces.take(total).await?
    } else {
        api.nonces.take_young(total).await?
    };
    Ok(GetSigningCommitmentsResponse {
        signing_commitments: sets
            .iter()
            .map(|set| RequestedSigningCommitments {
                signing_nonce_commitments: by_identifier(set, commitment_to_wire),
            })
            .collect(),
    })
}
