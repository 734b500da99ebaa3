//! Broadcasts what must be on chain in time, for owners who are not there.
//!
//! When somebody publishes a node that was spent since, the refund with the lowest timelock is the
//! present owner's. The fee-paying variants need nobody to add a fee, so every operator can send
//! them as soon as their timelock is over.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use tinderbox_chain::{BlockRef, ChainSource, Error, Rejection};
use tinderbox_flows::record::Index;
use tinderbox_flows::rows::{LeafRefunds, NodeRow, NodeStatus, TransferRow, TransferStatus};
use tinderbox_protocol::BlockHeight;
use tinderbox_store::{Scan, Store};
use tokio::sync::watch;

use super::effects::timelock;
use crate::Core;
use crate::tables::{TableError, Tables};

/// How often a pass is made although no block came: a broadcast may have failed.
const AGAIN: Duration = Duration::from_secs(30);

/// Rows looked at in one go.
const PAGE: usize = 500;

/// Watches over leaves whose node is on chain.
pub struct Watchtower {
    tables: Tables,
    chain: Arc<dyn ChainSource>,
}

impl Watchtower {
    /// A watchtower on these parts.
    #[must_use]
    pub fn new(core: &Core) -> Self {
        Self::on(core.store.clone(), core.chain.clone())
    }

    /// A watchtower on a store and a chain.
    #[must_use]
    pub fn on(store: Arc<dyn Store>, chain: Arc<dyn ChainSource>) -> Self {
        Self {
            tables: Tables::new(store),
            chain,
        }
    }

    /// Makes a pass at every new tip, until `stop`.
    pub async fn run(
        self,
        mut tips: watch::Receiver<Option<BlockRef>>,
        stop: impl Future<Output = ()>,
    ) {
        tokio::pin!(stop);
        loop {
            let tip = *tips.borrow_and_update();
            if let Some(tip) = tip
                && let Err(error) = self.pass(tip.height).await
            {
                tracing::warn!(%error, "the watchtower could not look at its list; trying again");
            }
            tokio::select! {
                () = &mut stop => return,
                changed = tips.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(AGAIN) => {}
            }
        }
    }

    /// Broadcasts all that is due at `tip`. Returns how many transactions the node took.
    ///
    /// # Errors
    /// [`TableError`]. A transaction that the node refuses is not an error: the next pass tries
    /// again.
    pub async fn pass(&self, tip: BlockHeight) -> Result<usize, TableError> {
        let mut sent = 0;
        let mut from = Vec::new();
        loop {
            let page = self
                .tables
                .scan::<NodeRow>(Scan {
                    index: Index::NodeOnChain,
                    from: from.clone(),
                    to: Vec::new(),
                    descending: false,
                    limit: PAGE,
                })
                .await?;
            for found in &page {
                sent += self.watch(&found.row, tip).await?;
            }
            match page.last() {
                Some(last) if page.len() == PAGE => {
                    from.clone_from(&last.listed);
                    from.push(0);
                }
                _ => return Ok(sent),
            }
        }
    }

    async fn watch(&self, node: &NodeRow, tip: BlockHeight) -> Result<usize, TableError> {
        let Some(height) = node.node_confirmed else {
            return Ok(0);
        };
        let mut sent = 0;
        let children = self
            .tables
            .scan::<NodeRow>(Scan::prefix(Index::NodeByParent, &node.id.bytes16()))
            .await?;
        for child in &children {
            if child.row.node_confirmed.is_none() {
                sent += self.send(&child.row.txs.direct, height, tip, node).await;
            }
        }
        if !children.is_empty() {
            return Ok(sent);
        }
        // The receiver of an unclaimed transfer has the lower timelock: first in time.
        if node.before_chain == Some(NodeStatus::TransferLocked)
            && let Some(refunds) = self.intermediate(node).await?
        {
            sent += self.send(&refunds.direct, height, tip, node).await;
            sent += self
                .send(&refunds.direct_from_cpfp, height, tip, node)
                .await;
        }
        if sent == 0 {
            sent += self.send(&node.txs.direct_refund, height, tip, node).await;
        }
        if sent == 0 {
            sent += self
                .send(&node.txs.direct_from_cpfp_refund, height, tip, node)
                .await;
        }
        Ok(sent)
    }

    /// The refunds that pay the receiver of a transfer that nobody has claimed.
    async fn intermediate(&self, node: &NodeRow) -> Result<Option<LeafRefunds>, TableError> {
        let mut from = Vec::new();
        loop {
            let page = self
                .tables
                .scan::<TransferRow>(Scan {
                    index: Index::TransferPending,
                    from: from.clone(),
                    to: Vec::new(),
                    descending: false,
                    limit: PAGE,
                })
                .await?;
            for found in &page {
                if found.row.status != TransferStatus::SenderKeyTweaked {
                    continue;
                }
                if let Some(leaf) = found.row.leaves.iter().find(|leaf| leaf.leaf == node.id) {
                    return Ok(Some(leaf.intermediate.clone()));
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => {
                    from.clone_from(&last.listed);
                    from.push(0);
                }
                _ => return Ok(None),
            }
        }
    }

    /// Sends a transaction that spends an output of height `confirmed`, if its time has come.
    async fn send(
        &self,
        raw: &[u8],
        confirmed: BlockHeight,
        tip: BlockHeight,
        node: &NodeRow,
    ) -> usize {
        let Ok(tx) = deserialize::<Transaction>(raw) else {
            return 0;
        };
        let signed = tx.input.iter().all(|input| !input.witness.is_empty());
        let due = confirmed.0.saturating_add(timelock(&tx));
        // The next block is the first that could hold it.
        if !signed || due > tip.0.saturating_add(1) {
            return 0;
        }
        match self.chain.broadcast(&tx).await {
            Ok(_) => {
                tracing::info!(leaf = %node.id, txid = %tx.compute_txid(), "the watchtower published a transaction");
                metrics::counter!("tinderbox_watchtower_broadcasts_total").increment(1);
                1
            }
            // The other form of the node is on chain, or it was spent meanwhile.
            Err(Error::Rejected {
                rejection: Rejection::MissingInputs,
                ..
            }) => 0,
            Err(error) => {
                tracing::warn!(leaf = %node.id, %error, "a watchtower transaction was not taken; trying again at the next block");
                metrics::counter!("tinderbox_watchtower_refusals_total").increment(1);
                0
            }
        }
    }
}
