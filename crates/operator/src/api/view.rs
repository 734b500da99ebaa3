//! Rows with everything that belongs to them, as they are shown to wallets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use futures::future::join_all;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::rows::{ClaimPhase, FlowId, KeyshareRow, NodeRow, TransferRow};
use tinderbox_protocol::{LeafId, TransferId};

use super::Api;
use crate::convert::node::tree_node;
use crate::convert::spark;
use crate::convert::transfer::{Leaves, View, shown, transfer};

/// A flow that has been open for less than this is in good hands.
const FRESH: u64 = 300;
/// Time for settling what a query met.
const SETTLE: Duration = Duration::from_secs(2);
/// Flows that one query settles at most.
const MAX_SETTLED: usize = 32;

impl Api {
    /// Asks the others about flows of which this operator has not heard the end. Wallets compare
    /// operators with each other: an operator that missed a message must not show old facts. True
    /// if there was anything to ask.
    pub(super) async fn settle(&self, flows: BTreeSet<FlowId>) -> bool {
        let now = self.now();
        let open: Vec<FlowId> = flows
            .into_iter()
            .filter(|flow| flow.made().plus(FRESH) < now)
            .take(MAX_SETTLED)
            .collect();
        if open.is_empty() {
            return false;
        }
        let all = join_all(
            open.iter()
                .map(|flow| self.engine.settle_flow(*flow, false)),
        );
        if tokio::time::timeout(SETTLE, all).await.is_err() {
            tracing::warn!(flows = open.len(), "a query could not wait for open flows");
        }
        true
    }

    /// A transfer, settled.
    ///
    /// # Errors
    /// A refusal if the database does not answer.
    pub async fn transfer(&self, id: &TransferId) -> Result<Option<TransferRow>, Refusal> {
        let rows = self.transfers([*id]).await?;
        Ok(rows.into_iter().next())
    }

    /// Transfers, settled; ids that do not exist are left out.
    ///
    /// # Errors
    /// A refusal if the database does not answer.
    pub async fn transfers(
        &self,
        ids: impl IntoIterator<Item = TransferId>,
    ) -> Result<Vec<TransferRow>, Refusal> {
        let ids: Vec<Vec<u8>> = ids.into_iter().map(|id| TransferRow::id_of(&id)).collect();
        let rows = self.tables.get_many::<TransferRow>(ids.clone()).await?;
        let flows = rows.iter().flatten().flat_map(open_flows).collect();
        let rows = if self.settle(flows).await {
            self.tables.get_many(ids).await?
        } else {
            rows
        };
        Ok(rows.into_iter().flatten().collect())
    }

    /// Settles transfers that were read from an index.
    ///
    /// # Errors
    /// A refusal if the database does not answer.
    pub async fn settled(&self, rows: Vec<TransferRow>) -> Result<Vec<TransferRow>, Refusal> {
        if rows.iter().flat_map(open_flows).next().is_none() {
            return Ok(rows);
        }
        self.transfers(rows.into_iter().map(|row| row.id)).await
    }

    /// Nodes, settled; ids that do not exist are left out.
    ///
    /// # Errors
    /// A refusal if the database does not answer.
    pub async fn nodes(
        &self,
        ids: impl IntoIterator<Item = LeafId>,
    ) -> Result<Vec<NodeRow>, Refusal> {
        let ids: Vec<Vec<u8>> = ids.into_iter().map(|id| NodeRow::id_of(&id)).collect();
        let rows = self.tables.get_many::<NodeRow>(ids.clone()).await?;
        let flows = rows.iter().flatten().filter_map(|node| node.lock).collect();
        let rows = if self.settle(flows).await {
            self.tables.get_many(ids).await?
        } else {
            rows
        };
        Ok(rows.into_iter().flatten().collect())
    }

    /// Nodes with their key shares, by id.
    ///
    /// # Errors
    /// A refusal if the database does not answer or a key share is missing.
    pub async fn with_keyshares(&self, nodes: Vec<NodeRow>) -> Result<Leaves, Refusal> {
        let keyshares = self
            .tables
            .get_many::<KeyshareRow>(nodes.iter().map(|node| node.keyshare.0.to_vec()))
            .await?;
        nodes
            .into_iter()
            .zip(keyshares)
            .map(|(node, keyshare)| {
                let keyshare = keyshare.ok_or_else(|| {
                    tracing::error!(leaf = %node.id, "the key share of a leaf is missing");
                    Refusal::new(Reason::Internal, "a key share is missing")
                })?;
                Ok((node.id, (node, keyshare)))
            })
            .collect()
    }

    /// Nodes as wallets see them, by id.
    ///
    /// # Errors
    /// As [`Api::with_keyshares`].
    pub async fn tree_nodes(
        &self,
        nodes: Vec<NodeRow>,
    ) -> Result<BTreeMap<LeafId, spark::TreeNode>, Refusal> {
        let site = &self.core.site;
        Ok(self
            .with_keyshares(nodes)
            .await?
            .into_iter()
            .map(|(id, (node, keyshare))| (id, tree_node(&node, &keyshare, site)))
            .collect())
    }

    /// Transfers as the given views show them, in the same order, with few questions to the
    /// database.
    ///
    /// # Errors
    /// As [`Api::with_keyshares`].
    pub async fn show(
        &self,
        rows: &[(TransferRow, View)],
    ) -> Result<Vec<spark::Transfer>, Refusal> {
        let ids: BTreeSet<LeafId> = rows
            .iter()
            .flat_map(|(row, view)| shown(row, *view).map(|leaf| leaf.leaf))
            .collect();
        let nodes = self
            .tables
            .get_many::<NodeRow>(ids.iter().map(NodeRow::id_of))
            .await?;
        let leaves = self
            .with_keyshares(nodes.into_iter().flatten().collect())
            .await?;
        Ok(rows
            .iter()
            .map(|(row, view)| transfer(row, *view, &leaves, &self.core.site))
            .collect())
    }

    /// One transfer as `identity` sees it.
    ///
    /// # Errors
    /// As [`Api::show`].
    pub async fn show_one(
        &self,
        row: TransferRow,
        identity: &PublicKey,
    ) -> Result<spark::Transfer, Refusal> {
        let view = View::of(&row, identity);
        let mut shown = self.show(&[(row, view)]).await?;
        shown
            .pop()
            .ok_or_else(|| Refusal::new(Reason::Internal, "the transfer is gone"))
    }
}

/// Flows that hold a transfer.
fn open_flows(row: &TransferRow) -> impl Iterator<Item = FlowId> + '_ {
    let claims = row
        .receivers
        .iter()
        .filter_map(|receiver| match receiver.phase {
            ClaimPhase::Locked(flow) => Some(flow),
            _ => None,
        });
    row.held.into_iter().chain(claims)
}
