//! What taking blocks back changes.

use std::collections::BTreeSet;

use tinderbox_chain::BlockRef;
use tinderbox_flows::record::{Key, Row, Table};
use tinderbox_flows::rows::{
    AddressRow, ChainRow, KnownBlock, NodeRow, NodeStatus, TreeRow, TreeStatus, UtxoRow,
};
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_protocol::LeafId;

use super::effects::unconfirm;
use super::state::Duties;
use super::undo::UndoRow;
use crate::tables::TableError;

impl Duties {
    /// Takes back all blocks above `to`. Does nothing if they are gone already.
    pub(super) async fn disconnect(&self, to: &BlockRef) -> Result<(), TableError> {
        let mut rows = Snapshot::new();
        self.tables
            .load(&mut rows, [Key::new(Table::Chain, ChainRow::ID)])
            .await?;
        let mut chain: ChainRow = rows.get(ChainRow::ID)?.unwrap_or_default();
        let tip = chain.tip();
        let removed: Vec<KnownBlock> = chain
            .blocks
            .extract_if(.., |block| block.height > to.height)
            .collect();
        if removed.is_empty() {
            return Ok(());
        }
        let ids: Vec<Vec<u8>> = removed
            .iter()
            .map(|block| UndoRow::id_of(block.height))
            .collect();
        self.tables
            .load(
                &mut rows,
                ids.iter().map(|id| Key::new(Table::Chain, id.clone())),
            )
            .await?;
        let mut changes = Changes::new();
        let mut undo = UndoRow::default();
        for id in ids {
            if let Some(row) = rows.get::<UndoRow>(id.clone())? {
                undo.utxos.extend(row.utxos);
                undo.nodes.extend(row.nodes);
                changes.delete::<UndoRow>(&rows, id)?;
            }
        }
        let mut nodes: BTreeSet<LeafId> = undo.nodes.into_iter().collect();
        let utxos: BTreeSet<Vec<u8>> = undo.utxos.into_iter().collect();
        self.tables
            .load(
                &mut rows,
                utxos.iter().map(|id| Key::new(Table::Utxo, id.clone())),
            )
            .await?;
        let mut unburied = BTreeSet::new();
        for id in utxos {
            let Some(utxo) = rows.get::<UtxoRow>(id)? else {
                continue;
            };
            if let (Some((height, _)), Some(tip)) = (utxo.block, tip) {
                let depth = tip.height.0.saturating_sub(height.0).saturating_add(1);
                if depth >= self.site.deposit_confirmations {
                    tracing::error!(
                        outpoint = %utxo.outpoint,
                        depth,
                        "a deposit that counted as final was reorganised away; watch for its return"
                    );
                    metrics::counter!("tinderbox_chain_lost_deposits_total").increment(1);
                }
            }
            if let Some(root) = self.unconfirm_utxo(utxo, &mut rows, &mut changes).await? {
                unburied.insert(root);
                nodes.insert(root);
            }
        }
        self.tables
            .load(
                &mut rows,
                nodes
                    .iter()
                    .map(|id| Key::new(Table::Node, NodeRow::id_of(id))),
            )
            .await?;
        for id in nodes {
            let Some(mut node) = rows.get::<NodeRow>(NodeRow::id_of(&id))? else {
                continue;
            };
            let mut changed = unconfirm(&mut node, to.height);
            if unburied.contains(&id) && node.status == NodeStatus::Available {
                node.status = NodeStatus::Creating;
                changed = true;
            }
            if changed {
                changes.put(&rows, &node)?;
            }
        }
        changes.put(&rows, &chain)?;
        self.tables.write(&rows, changes).await
    }

    /// Takes an output's block away. Returns the root of its tree if that was never transferred:
    /// such a leaf waits for its deposit again.
    async fn unconfirm_utxo(
        &self,
        mut utxo: UtxoRow,
        rows: &mut Snapshot,
        changes: &mut Changes,
    ) -> Result<Option<LeafId>, TableError> {
        utxo.block = None;
        let Some(tree_id) = utxo.tree else {
            changes.delete::<UtxoRow>(rows, utxo.id())?;
            return Ok(None);
        };
        changes.put(rows, &utxo)?;
        self.tables
            .load(
                rows,
                [
                    Key::new(Table::Tree, tree_id.bytes16()),
                    Key::new(Table::Address, utxo.script.to_bytes()),
                ],
            )
            .await?;
        let (Some(mut tree), Some(address)) = (
            rows.get::<TreeRow>(tree_id.bytes16())?,
            rows.get::<AddressRow>(utxo.script.to_bytes())?,
        ) else {
            return Ok(None);
        };
        let root = tree.root;
        self.tables
            .load(rows, [Key::new(Table::Node, NodeRow::id_of(&root))])
            .await?;
        let Some(node) = rows.get::<NodeRow>(NodeRow::id_of(&root))? else {
            return Ok(None);
        };
        let transferred =
            node.owner != address.owner || node.owner_signing != address.owner_signing;
        if transferred {
            // Its value is with somebody else now: nothing to take back but the alarm.
            return Ok(None);
        }
        if tree.status == TreeStatus::Available {
            tree.status = TreeStatus::Pending;
            changes.put(rows, &tree)?;
        }
        Ok(Some(root))
    }
}
