//! `finalize_node_signatures_v2`: last of the three-step claim.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::record::Index;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::{ClaimFinishRequest, Request};
use tinderbox_flows::rows::{NodeStatus, TransferRow};
use tinderbox_protocol::LeafId;
use tinderbox_store::Scan;

use crate::api::{Api, ApiError};
use crate::convert::common::SignatureIntent;
use crate::convert::field::{leaf_id, malformed};
use crate::convert::package::MAX_LEAVES;
use crate::convert::spark::{FinalizeNodeSignaturesRequest, FinalizeNodeSignaturesResponse};
use tinderbox_rpc::Caller;

/// Stores the signatures that the receiver completed; the leaves are its own from then on.
pub async fn finalize_node_signatures_v2(
    api: Api,
    caller: Caller,
    request: FinalizeNodeSignaturesRequest,
) -> Result<FinalizeNodeSignaturesResponse, ApiError> {
    let receiver = caller.require()?;
    if request.node_signatures.is_empty() {
        return Ok(FinalizeNodeSignaturesResponse::default());
    }
    if request.intent != i32::from(SignatureIntent::Transfer) {
        return Err(malformed("intent", "only TRANSFER is served").into());
    }
    if request.node_signatures.len() > MAX_LEAVES {
        return Err(malformed("node_signatures", format!("{MAX_LEAVES} are the most")).into());
    }
    let mut signatures = BTreeMap::new();
    for wire in request.node_signatures {
        let leaf = leaf_id("node_signatures.node_id", &wire.node_id)?;
        let given = [
            wire.refund_tx_signature,
            wire.direct_refund_tx_signature,
            wire.direct_from_cpfp_refund_tx_signature,
        ];
        if signatures.insert(leaf, given).is_some() {
            return Err(Refusal::new(
                Reason::DuplicateField,
                format!("node_signatures: node {leaf} appears twice"),
            )
            .into());
        }
    }
    let leaves: BTreeSet<LeafId> = signatures.keys().copied().collect();
    match transfer_of(&api, &receiver, &leaves).await? {
        Some(transfer) => {
            let finish = ClaimFinishRequest {
                now: api.now(),
                transfer: transfer.id,
                receiver,
                signatures,
            };
            match api.run(Request::ClaimFinish(Box::new(finish))).await {
                Err(refusal) if refusal.reason != Reason::DuplicateOperation => {
                    return Err(refusal.into());
                }
                // A repeated call was faster: the leaves tell.
                _ => {}
            }
        }
        None => check_owned(&api, &receiver, &leaves).await?,
    }
    let nodes = api.nodes(leaves.iter().copied()).await?;
    Ok(FinalizeNodeSignaturesResponse {
        nodes: api.tree_nodes(nodes).await?.into_values().collect(),
    })
}

/// The caller's pending transfer that has these leaves.
async fn transfer_of(
    api: &Api,
    receiver: &PublicKey,
    leaves: &BTreeSet<LeafId>,
) -> Result<Option<TransferRow>, ApiError> {
    let prefix = TransferRow::pending_prefix(receiver, api.core.site.network);
    let pending = api
        .tables
        .scan::<TransferRow>(Scan::prefix(Index::TransferPending, &prefix))
        .await?;
    Ok(pending
        .into_iter()
        .map(|found| found.row)
        .find(|row| row.leaves.iter().any(|leaf| leaves.contains(&leaf.leaf))))
}

/// Without a pending transfer this can only be a repeated call: the leaves must be the caller's.
async fn check_owned(
    api: &Api,
    receiver: &PublicKey,
    leaves: &BTreeSet<LeafId>,
) -> Result<(), ApiError> {
    let nodes = api.nodes(leaves.iter().copied()).await?;
    let owned = nodes.len() == leaves.len()
        && nodes
            .iter()
            .all(|node| node.owner == *receiver && node.status == NodeStatus::Available);
    if owned {
        Ok(())
    } else {
        Err(Refusal::new(
            Reason::InvalidState,
            "no transfer of these nodes waits for signatures: claim_transfer_sign_refunds_v2 comes first",
        )
        .into())
    }
}
