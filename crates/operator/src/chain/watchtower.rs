//! Broadcasts what must be on chain in time, for owners who are not there.
//!
//! When somebody publishes a node that was spent since, the refund with the lowest timelock is the
//! present owner's. The fee-paying variants need nobody to add a fee, so every operator can send
//! them as soon as their timelock is over. Whatever is due is sent again at every block until it is
//! confirmed.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bitcoin::consensus::deserialize;
use bitcoin::{Transaction, Txid};
use tinderbox_chain::{BlockRef, ChainSource, Error, Rejection};
use tinderbox_flows::record::Index;
use tinderbox_flows::rows::{LeafRefunds, NodeRow, TransferRow};
use tinderbox_protocol::tx::p2tr;
use tinderbox_protocol::{BlockHeight, LeafId};
use tinderbox_store::{Scan, Store};
use tokio::sync::watch;

use super::effects::{is_complete, timelock};
use super::mark::{Confirmed, MarkRow};
use crate::Core;
use crate::tables::{TableError, Tables};

/// How often a pass is made although no block came: a broadcast may have failed.
const AGAIN: Duration = Duration::from_secs(30);

/// Rows looked at in one go.
const PAGE: usize = 500;

/// Watches over nodes that are on chain.
pub struct Watchtower {
    tables: Tables,
    chain: Arc<dyn ChainSource>,
    /// What became of transactions that were sent at the last pass; true: the node has them.
    told: Mutex<BTreeMap<Txid, bool>>,
}

/// One pass.
struct Pass {
    tip: BlockHeight,
    sent: usize,
    outcomes: BTreeMap<Txid, bool>,
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
            told: Mutex::default(),
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

    /// Broadcasts all that is due at `tip`. Returns how many transactions the node has now.
    ///
    /// # Errors
    /// [`TableError`]. A transaction that the node refuses is not an error: the next pass tries
    /// again.
    pub async fn pass(&self, tip: BlockHeight) -> Result<usize, TableError> {
        let mut pass = Pass {
            tip,
            sent: 0,
            outcomes: BTreeMap::new(),
        };
        let mut from = Vec::new();
        // The next block is the first that could hold what is sent now.
        let to = tip.0.saturating_add(2).to_be_bytes();
        loop {
            let page = self
                .tables
                .scan::<MarkRow>(Scan::range(Index::WatchFrom, from, to).limit(PAGE))
                .await?;
            let ids: Vec<Vec<u8>> = page
                .iter()
                .map(|found| NodeRow::id_of(&found.row.node))
                .collect();
            let nodes: Vec<Option<NodeRow>> = self.tables.get_many(ids).await?;
            for (found, node) in page.iter().zip(nodes) {
                if let (Some(confirmed), Some(node)) = (found.row.confirmed, node) {
                    self.watch(&node, confirmed, &mut pass).await?;
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => {
                    from = last.listed.clone();
                    from.push(0);
                }
                _ => break,
            }
        }
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = pass.outcomes;
        Ok(pass.sent)
    }

    async fn watch(
        &self,
        node: &NodeRow,
        confirmed: Confirmed,
        pass: &mut Pass,
    ) -> Result<(), TableError> {
        let children = self
            .tables
            .scan::<NodeRow>(Scan::prefix(Index::NodeByParent, &node.id.bytes16()))
            .await?;
        if children.is_empty() {
            let refunds = self.refunds(node).await?;
            let due = if confirmed.direct {
                &refunds.direct
            } else {
                &refunds.direct_from_cpfp
            };
            self.send(due, confirmed.height, node.id, pass).await;
        } else if !confirmed.direct {
            // Whatever is below spends the fee-less form.
            for child in &children {
                let direct = &child.row.txs.direct;
                self.send(direct, confirmed.height, child.row.id, pass)
                    .await;
            }
        }
        Ok(())
    }

    /// The refunds of whoever the leaf belongs to, and no others: publishing a former owner's would
    /// be the very theft that this is against.
    async fn refunds(&self, node: &NodeRow) -> Result<LeafRefunds, TableError> {
        let own = || LeafRefunds {
            cpfp: node.txs.refund.clone(),
            direct: node.txs.direct_refund.clone(),
            direct_from_cpfp: node.txs.direct_from_cpfp_refund.clone(),
        };
        let scan = Scan::prefix(Index::TransferByLeaf, &node.id.bytes16());
        let under_way = self
            .tables
            .scan::<TransferRow>(scan.descending().limit(1))
            .await?;
        let transfer = under_way.first().map(|found| &found.row);
        Ok(transfer
            .and_then(|transfer| newest(transfer, &node.id))
            .cloned()
            .unwrap_or_else(own))
    }

    /// Sends a transaction that spends an output of height `confirmed`, if its time has come.
    async fn send(&self, raw: &[u8], confirmed: BlockHeight, node: LeafId, pass: &mut Pass) {
        let Ok(tx) = deserialize::<Transaction>(raw) else {
            return;
        };
        if !is_complete(&tx) || !is_due(&tx, confirmed, pass.tip) {
            return;
        }
        let txid = tx.compute_txid();
        let told = self
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&txid)
            .copied();
        let taken = match self.chain.broadcast(&tx).await {
            Ok(_) => {
                if told != Some(true) {
                    tracing::info!(leaf = %node, %txid, "the watchtower published a transaction");
                    metrics::counter!("tinderbox_watchtower_broadcasts_total").increment(1);
                }
                pass.sent += 1;
                true
            }
            // It was spent meanwhile: the next block says by what.
            Err(Error::Rejected {
                rejection: Rejection::MissingInputs,
                ..
            }) => return,
            Err(error) => {
                if told != Some(false) {
                    tracing::warn!(leaf = %node, %error, "a watchtower transaction was not taken; trying again at the next block");
                }
                metrics::counter!("tinderbox_watchtower_refusals_total").increment(1);
                false
            }
        };
        pass.outcomes.insert(txid, taken);
    }
}

/// The refunds that a transfer under way made of a leaf, if they are the ones to publish: once the
/// sender has let go they are the receiver's. Before, the leaf is the sender's, except that a
/// signed refund to a hash lock serves both; they are signed when the preimage is known.
fn newest<'a>(transfer: &'a TransferRow, leaf: &LeafId) -> Option<&'a LeafRefunds> {
    let sent = transfer.leaves.iter().find(|sent| sent.leaf == *leaf)?;
    let receiver = usize::try_from(sent.receiver)
        .ok()
        .and_then(|place| transfer.receivers.get(place))?;
    let plain = p2tr(&receiver.identity);
    let hash_locked = deserialize::<Transaction>(&sent.intermediate.cpfp).is_ok_and(|tx| {
        let is_signed = tx
            .input
            .first()
            .is_some_and(|input| !input.witness.is_empty());
        is_signed
            && tx
                .output
                .first()
                .is_some_and(|output| output.script_pubkey != plain)
    });
    (receiver.phase.is_pending() || hash_locked).then_some(&sent.intermediate)
}

/// True if the next block may hold a transaction whose parent confirmed at `confirmed`.
fn is_due(tx: &Transaction, confirmed: BlockHeight, tip: BlockHeight) -> bool {
    confirmed.0.saturating_add(timelock(tx)) <= tip.0.saturating_add(1)
}
