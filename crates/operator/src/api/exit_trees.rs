//! `exit_single_node_trees`: trees of one leaf each leave in one transaction.

use std::collections::BTreeMap;
use std::str::FromStr;

use tinderbox_flows::exit_trees::{ExitTreesRequest, LeavingTree, MAX_TREES};
use tinderbox_flows::flow::JobOutcome;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::TreeRow;
use tinderbox_frost::{NonceCommitment, OperatorIndex};
use tinderbox_protocol::{LeafId, TreeId};
use tinderbox_rpc::Caller;

use super::{Api, ApiError};
use crate::convert::field::{commitment, malformed};
use crate::convert::node::signing_keyshare;
use crate::convert::package::signing_result;
use crate::convert::spark::{
    BitcoinTransactionOutput, ExitSingleNodeTreeSigningResult, ExitSingleNodeTreesRequest,
    ExitSingleNodeTreesResponse, ExitingTree,
};

/// Marks the caller's trees as gone and returns the operators' shares of the transaction that
/// spends their deposits. May be asked again, with another transaction too.
pub async fn exit_single_node_trees(
    api: Api,
    caller: Caller,
    request: ExitSingleNodeTreesRequest,
) -> Result<ExitSingleNodeTreesResponse, ApiError> {
    let owner = caller.require_key(
        "owner_identity_public_key",
        &request.owner_identity_public_key,
    )?;
    if request.exiting_trees.len() > MAX_TREES {
        return Err(malformed("exiting_trees", format!("at most {MAX_TREES}")).into());
    }
    let prevouts = request
        .previous_outputs
        .iter()
        .map(prevout)
        .collect::<Result<_, _>>()?;
    let mut nonces = api
        .nonces
        .take(request.exiting_trees.len())
        .await?
        .into_iter();
    let trees = request
        .exiting_trees
        .iter()
        .map(|wire| leaving(wire, nonces.next().unwrap_or_default()))
        .collect::<Result<Vec<_>, _>>()?;
    let exit = ExitTreesRequest {
        now: api.now(),
        owner,
        trees: trees.clone(),
        tx: request.raw_tx,
        prevouts,
    };
    let outcome = api.run(Request::ExitTrees(Box::new(exit))).await?;
    let roots = roots(&api, &trees).await?;
    let leaves = api
        .with_keyshares(api.nodes(roots.iter().copied()).await?)
        .await?;
    let mut signing_results = Vec::new();
    for ((leaving, root), job) in trees.iter().zip(&roots).zip(&outcome.jobs) {
        let (Some((node, keyshare)), JobOutcome::Shares(shares)) = (leaves.get(root), job) else {
            return Err(Refusal::new(
                Reason::OperatorUnavailable,
                format!(
                    "an operator gave a wrong signature share for tree {}: ask again",
                    leaving.tree
                ),
            )
            .into());
        };
        let shown = signing_keyshare(keyshare, &api.core.site, node.updated);
        signing_results.push(ExitSingleNodeTreeSigningResult {
            tree_id: leaving.tree.to_string(),
            signing_result: Some(signing_result(
                shares,
                &leaving.operators,
                &keyshare.public_shares,
                shown,
            )),
            verifying_key: node.verifying_key.serialize().to_vec(),
        });
    }
    Ok(ExitSingleNodeTreesResponse { signing_results })
}

async fn roots(api: &Api, trees: &[LeavingTree]) -> Result<Vec<LeafId>, ApiError> {
    let rows = api
        .tables
        .get_many::<TreeRow>(trees.iter().map(|leaving| leaving.tree.bytes16().to_vec()))
        .await?;
    rows.into_iter()
        .map(|row| {
            let missing = || Refusal::new(Reason::Internal, "a tree is not in the database");
            Ok(row.ok_or_else(missing)?.root)
        })
        .collect()
}

fn prevout(wire: &BitcoinTransactionOutput) -> Result<(u64, Vec<u8>), Refusal> {
    let value = u64::try_from(wire.value)
        .map_err(|_| malformed("previous_outputs.value", "less than nothing"))?;
    Ok((value, wire.pk_script.clone()))
}

fn leaving(
    wire: &ExitingTree,
    operators: BTreeMap<OperatorIndex, NonceCommitment>,
) -> Result<LeavingTree, Refusal> {
    let field = "exiting_trees";
    Ok(LeavingTree {
        tree: TreeId::from_str(&wire.tree_id).map_err(|_| {
            malformed(
                &format!("{field}.tree_id"),
                format!("\"{}\" is not a UUID", wire.tree_id),
            )
        })?,
        input: wire.vin,
        commitment: commitment(
            &format!("{field}.user_signing_commitment"),
            wire.user_signing_commitment.as_ref(),
        )?,
        operators,
    })
}
