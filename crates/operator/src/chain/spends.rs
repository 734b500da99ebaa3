//! Confirmed transactions that are ours, or that spend what is.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Transaction, Txid};
use futures::stream::{self, StreamExt, TryStreamExt};
use tinderbox_chain::{BlockRef, ConnectedBlock};
use tinderbox_flows::record::Index;
use tinderbox_flows::rows::{LeafRefunds, NodeRow, NodeStatus, TransferRow, TreeRow, UtxoRow};
use tinderbox_protocol::LeafId;
use tinderbox_store::Scan;

use super::effects::{self, Part};
use super::mark::{Confirmed, SpentBy};
use super::state::Duties;
use super::work::Work;
use crate::tables::{TableError, Tables};

/// Questions to the database that are on their way at one time.
const AT_ONCE: usize = 16;

/// A confirmed transaction that may concern us.
struct Candidate<'a> {
    txid: Txid,
    tx: &'a Transaction,
    at: BlockRef,
}

impl Candidate<'_> {
    /// The outputs that it spends in a way in which ours can be spent.
    fn spends(&self) -> impl Iterator<Item = OutPoint> + '_ {
        self.tx
            .input
            .iter()
            .filter(|input| effects::is_key_spend(input))
            .map(|input| input.previous_output)
    }
}

/// What the candidates have to do with us.
#[derive(Default)]
struct Ours {
    /// Nodes by the ids of their transactions.
    nodes: BTreeMap<Txid, Vec<LeafId>>,
    /// Deposits that are spent, with the root that they belong to.
    deposits: BTreeMap<OutPoint, LeafId>,
    /// Refunds of transfers that are not claimed.
    intermediate: BTreeMap<LeafId, BTreeSet<Txid>>,
}

fn candidates(blocks: &[ConnectedBlock]) -> Vec<Candidate<'_>> {
    blocks
        .iter()
        .flat_map(|block| block.block.txdata.iter().map(|tx| (tx, block.at)))
        // Whatever is ours spends a taproot key, and so does whatever takes it from us.
        .filter(|(tx, _)| tx.input.iter().any(effects::is_key_spend))
        .map(|(tx, at)| Candidate {
            txid: tx.compute_txid(),
            tx,
            at,
        })
        .collect()
}

impl Duties {
    /// Notes transactions of our nodes, and spends of their outputs and of deposits.
    pub(super) async fn take_transactions(
        &self,
        blocks: &[ConnectedBlock],
        work: &mut Work,
    ) -> Result<(), TableError> {
        let candidates = candidates(blocks);
        let ours = self.ours(&candidates, work).await?;
        for candidate in &candidates {
            take(candidate, &ours, work);
        }
        Ok(())
    }

    async fn ours(
        &self,
        candidates: &[Candidate<'_>],
        work: &mut Work,
    ) -> Result<Ours, TableError> {
        let mut ours = Ours::default();
        let spent: BTreeSet<OutPoint> = candidates.iter().flat_map(Candidate::spends).collect();
        let txids: BTreeSet<Txid> = candidates
            .iter()
            .map(|candidate| candidate.txid)
            .chain(spent.iter().map(|outpoint| outpoint.txid))
            .collect();
        let asked: Vec<_> = txids
            .into_iter()
            .map(|txid| nodes_of(self.tables.clone(), txid))
            .collect();
        let found: Vec<(Txid, Vec<LeafId>)> = stream::iter(asked)
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        ours.nodes = found
            .into_iter()
            .filter(|(_, ids): &(Txid, Vec<LeafId>)| !ids.is_empty())
            .collect();
        work.ours.extend(ours.nodes.keys().copied());
        ours.deposits = self.deposits(&spent).await?;
        let ids: BTreeSet<LeafId> = ours.nodes.values().flatten().copied().collect();
        work.take(&self.tables, ids).await?;
        let roots: Vec<LeafId> = ours.deposits.values().copied().collect();
        work.take(&self.tables, roots).await?;
        let touched: BTreeSet<LeafId> = spent
            .iter()
            .filter_map(|outpoint| ours.nodes.get(&outpoint.txid))
            .flatten()
            .copied()
            .collect();
        for id in touched {
            let refunds = self.intermediate(id).await?;
            ours.intermediate.insert(id, refunds);
        }
        Ok(ours)
    }

    /// Which of these outputs are deposits of trees.
    async fn deposits(
        &self,
        spent: &BTreeSet<OutPoint>,
    ) -> Result<BTreeMap<OutPoint, LeafId>, TableError> {
        let ids: Vec<Vec<u8>> = spent.iter().map(UtxoRow::id_of).collect();
        let utxos: Vec<Option<UtxoRow>> = self.tables.get_many(ids).await?;
        let of_trees: Vec<UtxoRow> = utxos
            .into_iter()
            .flatten()
            .filter(|utxo| utxo.tree.is_some())
            .collect();
        let ids: Vec<Vec<u8>> = of_trees
            .iter()
            .filter_map(|utxo| utxo.tree.map(|tree| tree.bytes16().to_vec()))
            .collect();
        let trees: Vec<Option<TreeRow>> = self.tables.get_many(ids).await?;
        Ok(of_trees
            .iter()
            .zip(trees)
            .filter_map(|(utxo, tree)| tree.map(|tree| (utxo.outpoint, tree.root)))
            .collect())
    }

    /// The refunds of a leaf that pay the receiver of a transfer which is not claimed.
    async fn intermediate(&self, leaf: LeafId) -> Result<BTreeSet<Txid>, TableError> {
        let ids = |refunds: &LeafRefunds| {
            [&refunds.cpfp, &refunds.direct, &refunds.direct_from_cpfp]
                .map(|raw| effects::id_of(raw))
        };
        let transfers = self
            .tables
            .scan::<TransferRow>(Scan::prefix(Index::TransferByLeaf, &leaf.bytes16()))
            .await?;
        Ok(transfers
            .iter()
            .flat_map(|found| &found.row.leaves)
            .filter(|sent| sent.leaf == leaf)
            .flat_map(|sent| ids(&sent.intermediate))
            .flatten()
            .collect())
    }
}

/// The nodes that have this transaction.
async fn nodes_of(tables: Tables, txid: Txid) -> Result<(Txid, Vec<LeafId>), TableError> {
    let listed = tables
        .scan::<NodeRow>(Scan::prefix(Index::NodeByTxid, txid.as_ref()))
        .await?;
    Ok((txid, listed.iter().map(|found| found.row.id).collect()))
}

fn take(candidate: &Candidate<'_>, ours: &Ours, work: &mut Work) {
    let own = ours
        .nodes
        .get(&candidate.txid)
        .map_or(&[][..], Vec::as_slice);
    for id in own {
        let part = work
            .nodes
            .get(id)
            .and_then(|node| effects::part_of(node, &candidate.txid));
        match part {
            Some(Part::Refund) => {
                work.spend(*id, &candidate.at, SpentBy::Refund);
            }
            Some(part) => work.confirm(
                *id,
                Confirmed {
                    height: candidate.at.height,
                    txid: candidate.txid,
                    direct: part == Part::DirectNode,
                },
            ),
            None => {}
        }
    }
    for outpoint in candidate.spends() {
        for id in ours.nodes.get(&outpoint.txid).into_iter().flatten() {
            spends_node(candidate, outpoint, *id, own, ours, work);
        }
        if let Some(root) = ours.deposits.get(&outpoint) {
            let tree = |id: &LeafId| work.nodes.get(id).map(|node| node.tree);
            let known = own.iter().any(|id| tree(id) == tree(root))
                || work
                    .nodes
                    .get(root)
                    .is_none_or(|node| node.status == NodeStatus::Exited);
            if !known && work.spend(*root, &candidate.at, SpentBy::Unknown) {
                alarm(*root, candidate);
            }
        }
    }
}

/// A transaction that spends an output of the transaction of node `id`.
fn spends_node(
    candidate: &Candidate<'_>,
    outpoint: OutPoint,
    id: LeafId,
    own: &[LeafId],
    ours: &Ours,
    work: &mut Work,
) {
    let spends = work
        .nodes
        .get(&id)
        .and_then(|node| effects::part_of(node, &outpoint.txid));
    // Output 0 carries the value. A spend of a refund is its owner's business.
    if outpoint.vout != 0
        || own.contains(&id)
        || !matches!(spends, Some(Part::Node | Part::DirectNode))
    {
        return;
    }
    let is_child = own
        .iter()
        .filter_map(|own| work.nodes.get(own))
        .any(|node| node.parent == Some(id));
    let is_intermediate = ours
        .intermediate
        .get(&id)
        .is_some_and(|refunds| refunds.contains(&candidate.txid));
    let by = if is_child {
        SpentBy::Child
    } else if is_intermediate {
        SpentBy::Intermediate
    } else {
        SpentBy::Unknown
    };
    if work.spend(id, &candidate.at, by) && by == SpentBy::Unknown {
        alarm(id, candidate);
    }
}

fn alarm(node: LeafId, candidate: &Candidate<'_>) {
    tracing::error!(
        leaf = %node,
        txid = %candidate.txid,
        height = candidate.at.height.0,
        "an output of ours was spent by a transaction that is none of the present owner's"
    );
    metrics::counter!("tinderbox_chain_unknown_spends_total").increment(1);
}
