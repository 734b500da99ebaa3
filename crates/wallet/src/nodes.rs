//! Asking operators for nodes.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use tinderbox_protocol::{LeafId, Network};
use tinderbox_rpc::proto::spark;
use tinderbox_rpc::proto::spark::query_nodes_request::Source;

use crate::error::Result;
use crate::leaf::Node;
use crate::operators::Operator;
use crate::wallet::Wallet;
use crate::wire;

const CALL: &str = "query_nodes";

/// Most rows that operators give at once.
const PAGE: i64 = 100;

/// Statuses in which a leaf of ours can be.
const OWN: [spark::TreeNodeStatus; 8] = [
    spark::TreeNodeStatus::Creating,
    spark::TreeNodeStatus::Available,
    spark::TreeNodeStatus::TransferLocked,
    spark::TreeNodeStatus::RenewLocked,
    spark::TreeNodeStatus::OnChain,
    spark::TreeNodeStatus::Exited,
    spark::TreeNodeStatus::ParentExited,
    spark::TreeNodeStatus::Unavailable,
];

/// All nodes of an owner, and those above them.
pub(crate) async fn by_owner(
    operator: &Operator,
    owner: PublicKey,
    network: Network,
) -> Result<BTreeMap<LeafId, Node>> {
    let mut nodes = BTreeMap::new();
    let mut offset = 0;
    while offset >= 0 {
        let request = spark::QueryNodesRequest {
            source: Some(Source::OwnerIdentityPubkey(owner.serialize().to_vec())),
            include_parents: true,
            limit: PAGE,
            offset,
            network: wire::network(network).into(),
            statuses: OWN.iter().map(|status| i32::from(*status)).collect(),
        };
        let reply = ask(operator, request).await?;
        if reply.offset >= 0 && reply.offset <= offset {
            return Err(operator.nonsense(CALL, "its pages do not advance".into()));
        }
        offset = reply.offset;
        read(operator, &reply, &mut nodes);
    }
    Ok(nodes)
}

/// Nodes by id, with those above them if asked for.
pub(crate) async fn by_id(
    operator: &Operator,
    ids: &[LeafId],
    network: Network,
    with_parents: bool,
) -> Result<BTreeMap<LeafId, Node>> {
    let mut nodes = BTreeMap::new();
    // Requests may name at most 1000 nodes.
    for ids in ids.chunks(500) {
        let node_ids = ids.iter().map(ToString::to_string).collect();
        let request = spark::QueryNodesRequest {
            source: Some(Source::NodeIds(spark::TreeNodeIds { node_ids })),
            include_parents: with_parents,
            limit: 0,
            offset: 0,
            network: wire::network(network).into(),
            statuses: Vec::new(),
        };
        let reply = ask(operator, request).await?;
        read(operator, &reply, &mut nodes);
    }
    Ok(nodes)
}

async fn ask(
    operator: &Operator,
    request: spark::QueryNodesRequest,
) -> Result<spark::QueryNodesResponse> {
    operator
        .call(CALL, request, |mut client, r| async move {
            client.query_nodes(r).await
        })
        .await
}

/// A node that cannot be read is left out: to the comparison it is one that this operator does not know.
fn read(
    operator: &Operator,
    reply: &spark::QueryNodesResponse,
    nodes: &mut BTreeMap<LeafId, Node>,
) {
    for message in reply.nodes.values() {
        match wire::node(message) {
            Ok(node) => {
                nodes.insert(node.id, node);
            }
            Err(what) => {
                tracing::warn!(operator = %operator.index(), %what, "a node cannot be read")
            }
        }
    }
}

impl Wallet {
    /// Nodes by id as a majority of the operators describes them, with all those above them.
    pub(crate) async fn agreed_nodes(
        &self,
        ids: &[LeafId],
    ) -> Result<crate::verify::agreement::Agreed> {
        let operators = &self.inner().operators;
        let network = self.inner().config.network;
        let ids = ids.to_vec();
        let answers = operators
            .ask_all(|operator| {
                let ids = ids.clone();
                async move { by_id(&operator, &ids, network, true).await }
            })
            .await?;
        Ok(crate::verify::agreement::compare(
            &answers,
            operators.majority(),
        ))
    }
}
