//! What taking blocks back changes.

use std::collections::BTreeSet;

use tinderbox_chain::BlockRef;
use tinderbox_flows::flow::Touch;
use tinderbox_flows::notice::note;
use tinderbox_flows::record::{Key, Table};
use tinderbox_flows::rows::{ChainRow, KnownBlock, NodeStatus, TreeRow, TreeStatus, UtxoRow};
use tinderbox_flows::snapshot::Changes;
use tinderbox_protocol::{BlockHeight, LeafId};

use super::mark::MarkRow;
use super::state::Duties;
use super::undo::UndoRow;
use super::work::Work;
use crate::tables::TableError;

impl Duties {
    /// Takes back all blocks above `to`. Does nothing if they are gone already.
    pub(super) async fn disconnect(&self, to: &BlockRef) -> Result<(), TableError> {
        let mut work = Work::default();
        self.tables
            .load(&mut work.rows, [Key::new(Table::Chain, ChainRow::ID)])
            .await?;
        let mut chain: ChainRow = work.rows.get(ChainRow::ID)?.unwrap_or_default();
        let Some(tip) = chain.tip() else {
            return Ok(());
        };
        let known = chain.blocks.iter().any(|block| block.hash == to.hash);
        let removed: Vec<KnownBlock> = chain
            .blocks
            .extract_if(.., |block| block.height > to.height)
            .collect();
        if !known {
            // Another process of this operator went another way: the follower looks again.
            return Err(TableError::Conflict);
        }
        if removed.is_empty() {
            return Ok(());
        }
        // Deposits that stay in a block may not be deep enough any more.
        let shallow = to
            .height
            .0
            .saturating_add(2)
            .saturating_sub(self.site.deposit_confirmations)..=to.height.0;
        let heights: Vec<BlockHeight> = removed
            .iter()
            .map(|block| block.height)
            .chain(shallow.map(BlockHeight))
            .collect();
        let keys: Vec<Key> = heights
            .iter()
            .map(|height| Key::new(Table::Chain, UndoRow::id_of(*height)))
            .collect();
        self.tables.load(&mut work.rows, keys).await?;
        let mut changes = Changes::new();
        let mut nodes = BTreeSet::new();
        let mut utxos = BTreeSet::new();
        let mut exits = BTreeSet::new();
        for height in heights {
            let id = UndoRow::id_of(height);
            if let Some(row) = work.rows.get::<UndoRow>(id.clone())? {
                utxos.extend(row.utxos);
                if height > to.height {
                    nodes.extend(row.nodes);
                    exits.extend(row.exits);
                    changes.delete::<UndoRow>(&work.rows, id)?;
                }
            }
        }
        self.unbury(to.height, tip.height, &utxos, &mut work, &mut changes)
            .await?;
        self.unsee(exits, to.height, &mut work, &mut changes)
            .await?;
        work.take(&self.tables, nodes.clone()).await?;
        for id in nodes {
            if let (Some(node), Some(mark)) = (work.nodes.get_mut(&id), work.marks.get_mut(&id)) {
                mark.take_back(to.height);
                mark.settle(node);
                work.changed.insert(id);
            }
        }
        for id in &work.changed {
            if let (Some(node), Some(mark)) = (work.nodes.get(id), work.marks.get(id)) {
                changes.put(&work.rows, node)?;
                if mark.is_empty() {
                    changes.delete::<MarkRow>(&work.rows, MarkRow::id_of(id))?;
                } else {
                    changes.put(&work.rows, mark)?;
                }
            }
        }
        changes.put(&work.rows, &chain)?;
        let touches: Vec<Touch> = work.changed.iter().map(|id| Touch::Leaf(*id)).collect();
        let (id, now) = self.events.stamp();
        note(&mut changes, &work.rows, id, now, &touches)?;
        self.tables.write(&work.rows, changes).await
    }

    /// Takes the blocks of deposits away. A leaf that was never transferred waits for its deposit
    /// again; any other is with somebody else now: nothing to take back but the alarm.
    async fn unbury(
        &self,
        to: BlockHeight,
        tip: BlockHeight,
        utxos: &BTreeSet<Vec<u8>>,
        work: &mut Work,
        changes: &mut Changes,
    ) -> Result<(), TableError> {
        let keys: Vec<Key> = utxos
            .iter()
            .map(|id| Key::new(Table::Utxo, id.clone()))
            .collect();
        self.tables.load(&mut work.rows, keys).await?;
        for id in utxos {
            let Some(mut utxo) = work.rows.get::<UtxoRow>(id.clone())? else {
                continue;
            };
            let Some((height, _)) = utxo.block else {
                continue;
            };
            if height > to {
                let depth = tip.0.saturating_sub(height.0).saturating_add(1);
                if depth >= self.site.deposit_confirmations && !utxo.of_tree {
                    tracing::error!(
                        outpoint = %utxo.outpoint,
                        depth,
                        "a deposit that counted as final was reorganised away; watch for its return"
                    );
                    metrics::counter!("tinderbox_chain_lost_deposits_total").increment(1);
                }
                utxo.block = None;
                if utxo.of_tree && utxo.tree.is_none() {
                    changes.delete::<UtxoRow>(&work.rows, id.clone())?;
                } else {
                    changes.put(&work.rows, &utxo)?;
                }
            }
            if let Some(tree) = utxo.tree {
                self.unbury_tree(tree, work, changes).await?;
            }
        }
        Ok(())
    }

    async fn unbury_tree(
        &self,
        id: tinderbox_protocol::TreeId,
        work: &mut Work,
        changes: &mut Changes,
    ) -> Result<(), TableError> {
        let key = Key::new(Table::Tree, id.bytes16());
        if !work.rows.knows(&key) {
            self.tables.load(&mut work.rows, [key]).await?;
        }
        let Some(mut tree) = work.rows.get::<TreeRow>(id.bytes16())? else {
            return Ok(());
        };
        let root: LeafId = tree.root;
        work.take(&self.tables, [root]).await?;
        let Some(mut node) = work.nodes.get(&root).cloned() else {
            return Ok(());
        };
        if tree.status != TreeStatus::Available || !self.never_moved(&node, work).await? {
            return Ok(());
        }
        tree.status = TreeStatus::Pending;
        changes.put(&work.rows, &tree)?;
        match (node.status, node.before_chain) {
            (NodeStatus::Available, _) => node.status = NodeStatus::Creating,
            (_, Some(NodeStatus::Available)) => node.before_chain = Some(NodeStatus::Creating),
            _ => return Ok(()),
        }
        work.changed.insert(root);
        work.nodes.insert(root, node);
        Ok(())
    }
}
