//! What blocks that join the chain change.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid};
use tinderbox_chain::follow::WINDOW;
use tinderbox_chain::{BlockRef, ConnectedBlock};
use tinderbox_flows::flow::Touch;
use tinderbox_flows::record::{Index, Key, Row, Table};
use tinderbox_flows::rows::{AddressRow, ChainRow, KnownBlock, NodeRow, UtxoRow};
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_protocol::{LeafId, Sats};
use tinderbox_store::Scan;

use super::effects::{self, Part};
use super::state::Duties;
use super::undo::UndoRow;
use crate::tables::TableError;

/// Generations that are walked down from a node that left.
const MAX_DEPTH: usize = 1024;

/// A confirmed output that may pay one of our addresses.
struct Payment {
    outpoint: OutPoint,
    value: Sats,
    at: BlockRef,
}

/// A confirmed transaction that may be one of ours.
struct Candidate<'a> {
    txid: Txid,
    tx: &'a Transaction,
    at: BlockRef,
}

/// Everything that the blocks change, before it is written.
#[derive(Default)]
struct Work {
    nodes: BTreeMap<LeafId, NodeRow>,
    changed: BTreeSet<LeafId>,
    utxos: Vec<UtxoRow>,
    undo: BTreeMap<u32, UndoRow>,
    /// Nodes that left in the fee-paying form: nothing below them can follow.
    direct: BTreeSet<LeafId>,
}

impl Work {
    fn note_node(&mut self, id: LeafId, at: &BlockRef) {
        self.changed.insert(id);
        self.undo_at(at).nodes.push(id);
    }

    fn undo_at(&mut self, at: &BlockRef) -> &mut UndoRow {
        self.undo.entry(at.height.0).or_insert_with(|| UndoRow {
            height: at.height,
            ..UndoRow::default()
        })
    }
}

impl Duties {
    /// Applies blocks that follow the tip. Blocks that are applied already are skipped.
    pub(super) async fn connect(
        &self,
        blocks: &[ConnectedBlock],
    ) -> Result<Vec<Touch>, TableError> {
        let mut rows = Snapshot::new();
        self.tables
            .load(&mut rows, [Key::new(Table::Chain, ChainRow::ID)])
            .await?;
        let mut chain: ChainRow = rows.get(ChainRow::ID)?.unwrap_or_default();
        let tip = chain.tip();
        let fresh = &blocks[blocks
            .partition_point(|block| tip.is_some_and(|tip| block.at.height <= tip.height))..];
        let Some(first) = fresh.first() else {
            return Ok(Vec::new());
        };
        if tip.is_some_and(|tip| tip.hash != first.block.header.prev_blockhash) {
            // Another process of this operator went another way: the follower looks again.
            return Err(TableError::Conflict);
        }
        let mut work = Work::default();
        self.take_payments(fresh, &mut rows, &mut work).await?;
        self.take_transactions(fresh, &mut rows, &mut work).await?;
        self.take_orphans(&mut rows, &mut work).await?;
        let mut changes = Changes::new();
        for utxo in &work.utxos {
            changes.put(&rows, utxo)?;
        }
        let mut touches = Vec::new();
        let height = fresh
            .last()
            .map_or(first.at.height, |block| block.at.height);
        let known: BTreeMap<Vec<u8>, UtxoRow> = work
            .utxos
            .iter()
            .map(|utxo| (utxo.id(), utxo.clone()))
            .collect();
        self.flip_into(
            height,
            &known,
            &mut work.nodes,
            &mut rows,
            &mut changes,
            &mut touches,
        )
        .await?;
        for touch in &touches {
            if let Touch::Deposit(leaf) = touch {
                work.changed.insert(*leaf);
            }
        }
        for id in &work.changed {
            if let Some(node) = work.nodes.get(id) {
                changes.put(&rows, node)?;
            }
        }
        chain.blocks.extend(fresh.iter().map(|block| KnownBlock {
            height: block.at.height,
            hash: block.at.hash,
        }));
        let dropped: Vec<KnownBlock> = chain
            .blocks
            .drain(..chain.blocks.len().saturating_sub(WINDOW))
            .collect();
        let lowest = chain.blocks.first().map_or(0, |block| block.height.0);
        changes.put(&rows, &chain)?;
        let undo: Vec<UndoRow> = work
            .undo
            .into_values()
            .filter(|undo| undo.height.0 >= lowest)
            .collect();
        let forgotten: Vec<Vec<u8>> = dropped
            .iter()
            .map(|block| UndoRow::id_of(block.height))
            .collect();
        let keys = undo.iter().map(Row::key).chain(
            forgotten
                .iter()
                .map(|id| Key::new(Table::Chain, id.clone())),
        );
        let keys: Vec<Key> = keys.collect();
        self.tables.load(&mut rows, keys).await?;
        for row in &undo {
            changes.put(&rows, row)?;
        }
        for id in forgotten {
            if rows.get::<UndoRow>(id.clone())?.is_some() {
                changes.delete::<UndoRow>(&rows, id)?;
            }
        }
        self.tables.write(&rows, changes).await?;
        Ok(touches)
    }

    /// Outputs that pay our addresses.
    async fn take_payments(
        &self,
        blocks: &[ConnectedBlock],
        rows: &mut Snapshot,
        work: &mut Work,
    ) -> Result<(), TableError> {
        let mut paid: BTreeMap<ScriptBuf, Vec<Payment>> = BTreeMap::new();
        for block in blocks {
            for tx in &block.block.txdata {
                let mut txid = None;
                for (vout, output) in (0u32..).zip(&tx.output) {
                    // All our addresses are taproot.
                    if output.script_pubkey.is_p2tr() {
                        let txid = *txid.get_or_insert_with(|| tx.compute_txid());
                        paid.entry(output.script_pubkey.clone())
                            .or_default()
                            .push(Payment {
                                outpoint: OutPoint::new(txid, vout),
                                value: Sats(output.value.to_sat()),
                                at: block.at,
                            });
                    }
                }
            }
        }
        let scripts: Vec<ScriptBuf> = paid.keys().cloned().collect();
        let ours: Vec<Option<AddressRow>> = self
            .tables
            .get_many(scripts.iter().map(|script| script.to_bytes()))
            .await?;
        let payments: Vec<(ScriptBuf, Payment)> = scripts
            .into_iter()
            .zip(ours)
            .filter(|(_, row)| row.is_some())
            .flat_map(|(script, _)| {
                let list = paid.remove(&script).unwrap_or_default();
                list.into_iter()
                    .map(move |payment| (script.clone(), payment))
            })
            .collect();
        let keys: Vec<Key> = payments
            .iter()
            .map(|(_, payment)| Key::new(Table::Utxo, UtxoRow::id_of(&payment.outpoint)))
            .collect();
        self.tables.load(rows, keys).await?;
        for (script, payment) in payments {
            let id = UtxoRow::id_of(&payment.outpoint);
            // A claim may have come before the block.
            let mut utxo = rows.get::<UtxoRow>(id.clone())?.unwrap_or(UtxoRow {
                outpoint: payment.outpoint,
                network: self.site.network,
                value: payment.value,
                script,
                block: None,
                tree: None,
            });
            utxo.block = Some((payment.at.height, payment.at.hash));
            work.utxos.push(utxo);
            work.undo_at(&payment.at).utxos.push(id);
            metrics::counter!("tinderbox_chain_deposits_total").increment(1);
        }
        Ok(())
    }

    /// Transactions of our nodes.
    async fn take_transactions(
        &self,
        blocks: &[ConnectedBlock],
        rows: &mut Snapshot,
        work: &mut Work,
    ) -> Result<(), TableError> {
        // Every transaction that can spend a key of ours was built by our rules: version 3.
        let candidates: Vec<Candidate<'_>> = blocks
            .iter()
            .flat_map(|block| {
                block
                    .block
                    .txdata
                    .iter()
                    .filter(|tx| tx.version == bitcoin::transaction::Version::non_standard(3))
                    .map(|tx| Candidate {
                        txid: tx.compute_txid(),
                        tx,
                        at: block.at,
                    })
            })
            .collect();
        let mut by_txid: BTreeMap<Txid, Vec<LeafId>> = BTreeMap::new();
        let asked: BTreeSet<Txid> = candidates
            .iter()
            .flat_map(|candidate| {
                let spent = candidate
                    .tx
                    .input
                    .iter()
                    .map(|input| input.previous_output.txid);
                std::iter::once(candidate.txid).chain(spent)
            })
            .collect();
        for txid in asked {
            let listed = self
                .tables
                .scan::<NodeRow>(Scan::prefix(Index::NodeByTxid, txid.as_ref()))
                .await?;
            if !listed.is_empty() {
                by_txid.insert(txid, listed.iter().map(|found| found.row.id).collect());
            }
        }
        let ids: BTreeSet<LeafId> = by_txid.values().flatten().copied().collect();
        self.take_nodes(ids, rows, work).await?;
        for candidate in &candidates {
            let own = by_txid.get(&candidate.txid).cloned().unwrap_or_default();
            for id in &own {
                let Some(node) = work.nodes.get_mut(id) else {
                    continue;
                };
                let part = effects::part_of(node, &candidate.txid);
                if part == Some(Part::DirectNode) {
                    work.direct.insert(*id);
                }
                if part.is_some_and(|part| effects::confirm(node, part, candidate.at.height)) {
                    work.note_node(*id, &candidate.at);
                }
            }
            if own.is_empty() {
                foreign_spends(candidate, &by_txid, work);
            }
        }
        Ok(())
    }

    async fn take_nodes(
        &self,
        ids: BTreeSet<LeafId>,
        rows: &mut Snapshot,
        work: &mut Work,
    ) -> Result<(), TableError> {
        let new: Vec<LeafId> = ids
            .into_iter()
            .filter(|id| !work.nodes.contains_key(id))
            .collect();
        let keys: Vec<Key> = new
            .iter()
            .map(|id| Key::new(Table::Node, NodeRow::id_of(id)))
            .collect();
        self.tables.load(rows, keys).await?;
        for id in new {
            if let Some(node) = rows.get::<NodeRow>(NodeRow::id_of(&id))? {
                work.nodes.insert(id, node);
            }
        }
        Ok(())
    }

    /// Nodes below those that left. Direct children die; below a child whose own transaction the
    /// watchtower will publish, or whose parent was published in the fee-paying form, everything.
    async fn take_orphans(&self, rows: &mut Snapshot, work: &mut Work) -> Result<(), TableError> {
        let mut parents: Vec<(LeafId, bool, u32)> = work
            .undo
            .iter()
            .flat_map(|(height, undo)| undo.nodes.iter().map(|id| (*id, *height)))
            .map(|(id, height)| (id, work.direct.contains(&id), height))
            .collect();
        for _ in 0..MAX_DEPTH {
            let mut next = Vec::new();
            for (parent, all, at) in parents {
                let children = self
                    .tables
                    .scan::<NodeRow>(Scan::prefix(Index::NodeByParent, &parent.bytes16()))
                    .await?;
                let ids: BTreeSet<LeafId> = children.iter().map(|child| child.row.id).collect();
                self.take_nodes(ids.clone(), rows, work).await?;
                for id in ids {
                    let Some(node) = work.nodes.get_mut(&id) else {
                        continue;
                    };
                    let deeper = all || has_timelock(&node.txs.direct);
                    if effects::orphan(node) {
                        work.changed.insert(id);
                        if let Some(undo) = work.undo.get_mut(&at) {
                            undo.nodes.push(id);
                        }
                    }
                    if deeper {
                        next.push((id, true, at));
                    }
                }
            }
            if next.is_empty() {
                return Ok(());
            }
            parents = next;
        }
        Ok(())
    }
}

fn has_timelock(raw: &[u8]) -> bool {
    bitcoin::consensus::deserialize::<Transaction>(raw).is_ok_and(|tx| effects::timelock(&tx) > 0)
}

/// Spends of a node's output by a transaction that no node has.
fn foreign_spends(
    candidate: &Candidate<'_>,
    by_txid: &BTreeMap<Txid, Vec<LeafId>>,
    work: &mut Work,
) {
    for input in &candidate.tx.input {
        // Output 0 carries the value; output 1 is the anchor, which anybody may spend.
        if input.previous_output.vout != 0 {
            continue;
        }
        for id in by_txid
            .get(&input.previous_output.txid)
            .into_iter()
            .flatten()
        {
            let Some(node) = work.nodes.get_mut(id) else {
                continue;
            };
            let spends_node = matches!(
                effects::part_of(node, &input.previous_output.txid),
                Some(Part::Node | Part::DirectNode)
            );
            if spends_node && effects::confirm(node, Part::ForeignSpend, candidate.at.height) {
                tracing::warn!(
                    leaf = %id,
                    txid = %candidate.txid,
                    height = candidate.at.height.0,
                    "a leaf left the network with a refund that is not its owner's latest"
                );
                metrics::counter!("tinderbox_chain_foreign_refunds_total").increment(1);
                work.note_node(*id, &candidate.at);
            }
        }
    }
}
