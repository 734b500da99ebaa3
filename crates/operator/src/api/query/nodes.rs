//! `query_nodes`, `query_balance`.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::record::Index;
use tinderbox_flows::refusal::Refusal;
use tinderbox_flows::rows::{NodeRow, NodeStatus, owner_prefix};
use tinderbox_protocol::LeafId;
use tinderbox_store::Scan;

use crate::api::paging::Page;
use crate::api::{Api, ApiError};
use crate::convert::field::{is_network, leaf_id, malformed, missing, public_key};
use crate::convert::node::show_owner;
use crate::convert::spark::query_nodes_request::Source;
use crate::convert::spark::{
    QueryBalanceRequest, QueryBalanceResponse, QueryNodesRequest, QueryNodesResponse,
};
use crate::convert::status;
use tinderbox_rpc::Caller;

/// Ids that one request may name.
const MAX_IDS: usize = 1000;
/// Generations above a node at most: no leaf is renewed more often.
const MAX_ANCESTORS: usize = 1024;

/// Nodes of an owner, page by page, or nodes by id; with all their ancestors if asked for.
pub async fn query_nodes(
    api: Api,
    caller: Caller,
    request: QueryNodesRequest,
) -> Result<QueryNodesResponse, ApiError> {
    let statuses: BTreeSet<i32> = request.statuses.iter().copied().collect();
    let wanted = |node: &NodeRow| {
        statuses.is_empty() || statuses.contains(&i32::from(status::node(node.status)))
    };
    let (mut nodes, offset) = match &request.source {
        None => return Err(missing("source").into()),
        Some(Source::NodeIds(ids)) => {
            if ids.node_ids.len() > MAX_IDS {
                return Err(malformed("node_ids", format!("{MAX_IDS} are the most")).into());
            }
            let ids = ids
                .node_ids
                .iter()
                .map(|text| leaf_id("node_ids", text))
                .collect::<Result<BTreeSet<_>, _>>()?;
            let mut nodes = api.nodes(ids).await?;
            nodes.retain(wanted);
            if api.hide_balances {
                let mut seen = Vec::with_capacity(nodes.len());
                for node in nodes {
                    if api.may_see_leaves(&caller, &node.owner).await? {
                        seen.push(node);
                    }
                }
                nodes = seen;
            }
            (nodes, 0)
        }
        Some(Source::OwnerIdentityPubkey(key)) => {
            let owner = public_key("owner_identity_pubkey", key)?;
            // Nothing to page: everything at once, and an offset that says so.
            let whole = request.limit == 0;
            let page = Page::read(request.limit, request.offset)?;
            let hidden = |node: &NodeRow| {
                statuses.is_empty()
                    && matches!(node.status, NodeStatus::Creating | NodeStatus::Splitted)
            };
            let mut nodes = if api.may_see_leaves(&caller, &owner).await? {
                owned(&api, &owner, request.network).await?
            } else {
                Vec::new()
            };
            nodes.retain(|node| wanted(node) && !hidden(node));
            if whole {
                (nodes.into_iter().skip(page.offset).collect(), 0)
            } else {
                let nodes = page.of(nodes);
                let offset = page.next_if_full(nodes.len());
                (nodes, offset)
            }
        }
    };
    if request.include_parents {
        add_ancestors(&api, &mut nodes).await?;
    }
    let own: Vec<NodeRow> = nodes
        .iter()
        .filter(|node| caller.identity() == Some(&node.owner))
        .cloned()
        .collect();
    let mut nodes = api.tree_nodes(nodes).await?;
    for node in &own {
        if let Some(message) = nodes.get_mut(&node.id) {
            show_owner(message, node);
        }
    }
    Ok(QueryNodesResponse {
        nodes: nodes
            .into_iter()
            .map(|(id, node)| (id.to_string(), node))
            .collect(),
        offset,
    })
}

/// What an owner's leaves are worth.
pub async fn query_balance(
    api: Api,
    caller: Caller,
    request: QueryBalanceRequest,
) -> Result<QueryBalanceResponse, ApiError> {
    let owner = public_key("identity_public_key", &request.identity_public_key)?;
    let nodes = if api.may_see_leaves(&caller, &owner).await? {
        owned(&api, &owner, request.network).await?
    } else {
        Vec::new()
    };
    let node_balances: BTreeMap<String, u64> = nodes
        .iter()
        .filter(|node| node.status == NodeStatus::Available)
        .map(|node| (node.id.to_string(), node.value.0))
        .collect();
    Ok(QueryBalanceResponse {
        balance: node_balances
            .values()
            .fold(0u64, |sum, value| sum.saturating_add(*value)),
        node_balances: node_balances.into_iter().collect(),
    })
}

/// All nodes of an owner, highest id first, settled. An unnamed network means the one served.
async fn owned(api: &Api, owner: &PublicKey, network: i32) -> Result<Vec<NodeRow>, Refusal> {
    let served = api.core.site.network;
    if network != 0 && !is_network(network, served) {
        return Ok(Vec::new());
    }
    let mut scan = Scan::prefix(Index::NodeByOwner, &owner_prefix(owner, served));
    scan.descending = true;
    let nodes: Vec<NodeRow> = api
        .tables
        .scan::<NodeRow>(scan)
        .await?
        .into_iter()
        .map(|found| found.row)
        .collect();
    if nodes.iter().all(|node| node.lock.is_none()) {
        return Ok(nodes);
    }
    let mut nodes = api.nodes(nodes.into_iter().map(|node| node.id)).await?;
    // What was settled may have found another owner.
    nodes.retain(|node| node.owner == *owner);
    Ok(nodes)
}

/// Adds every node above those that are there.
async fn add_ancestors(api: &Api, nodes: &mut Vec<NodeRow>) -> Result<(), Refusal> {
    let mut known: BTreeSet<LeafId> = nodes.iter().map(|node| node.id).collect();
    let mut level: BTreeSet<LeafId> = nodes.iter().filter_map(|node| node.parent).collect();
    for _ in 0..MAX_ANCESTORS {
        level.retain(|id| !known.contains(id));
        if level.is_empty() {
            break;
        }
        known.extend(level.iter().copied());
        let above = api.nodes(level).await?;
        level = above.iter().filter_map(|node| node.parent).collect();
        nodes.extend(above);
    }
    Ok(())
}
