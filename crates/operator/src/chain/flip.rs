//! Deposits that are buried deep enough become spendable.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tinderbox_flows::flow::Touch;
use tinderbox_flows::record::{Index, Key, Row, Table};
use tinderbox_flows::rows::{NodeRow, NodeStatus, TreeRow, TreeStatus, UtxoRow};
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_protocol::{BlockHeight, LeafId};
use tinderbox_store::Scan;

use super::effects::is_signed;
use super::state::Duties;
use crate::tables::TableError;

/// How often deposits are looked at although no block came and nobody claimed.
const SWEEP: Duration = Duration::from_secs(5);

impl Duties {
    /// Looks at every node that waits for its deposit and makes those spendable that are deep
    /// enough at `tip`. `fresh` are outputs of the same write; `nodes` gets the changed nodes,
    /// `changes` their trees.
    pub(super) async fn flip_into(
        &self,
        tip: BlockHeight,
        fresh: &BTreeMap<Vec<u8>, UtxoRow>,
        nodes: &mut BTreeMap<LeafId, NodeRow>,
        rows: &mut Snapshot,
        changes: &mut Changes,
        touches: &mut Vec<Touch>,
    ) -> Result<(), TableError> {
        let needed = self.site.deposit_confirmations;
        let waiting = self
            .tables
            .scan::<NodeRow>(Scan::prefix(Index::NodeCreating, &[]))
            .await?;
        for found in waiting {
            let id = found.row.id;
            if !nodes.contains_key(&id) {
                let mut keys = vec![found.row.key()];
                keys.push(Key::new(Table::Tree, found.row.tree.bytes16()));
                keys.extend(
                    found
                        .row
                        .deposits
                        .iter()
                        .map(|outpoint| Key::new(Table::Utxo, UtxoRow::id_of(outpoint)))
                        .filter(|key| !fresh.contains_key(&key.id)),
                );
                self.tables.load(rows, keys).await?;
            } else {
                self.tables
                    .load(rows, [Key::new(Table::Tree, found.row.tree.bytes16())])
                    .await?;
            }
            let Some(mut node) = nodes.get(&id).cloned().map_or_else(
                || rows.get::<NodeRow>(NodeRow::id_of(&id)),
                |node| Ok(Some(node)),
            )?
            else {
                continue;
            };
            if node.status != NodeStatus::Creating || !is_signed(&node.txs.refund) {
                continue;
            }
            let mut deep = !node.deposits.is_empty();
            for outpoint in &node.deposits {
                let utxo_id = UtxoRow::id_of(outpoint);
                let utxo = match fresh.get(&utxo_id) {
                    Some(utxo) => Some(utxo.clone()),
                    None => {
                        self.tables
                            .load(rows, [Key::new(Table::Utxo, utxo_id.clone())])
                            .await?;
                        rows.get::<UtxoRow>(utxo_id)?
                    }
                };
                deep = deep && is_deep(utxo.as_ref(), tip, needed);
            }
            if !deep {
                continue;
            }
            node.status = NodeStatus::Available;
            if let Some(mut tree) = rows.get::<TreeRow>(node.tree.bytes16())?
                && tree.status == TreeStatus::Pending
            {
                tree.status = TreeStatus::Available;
                changes.put(rows, &tree)?;
            }
            touches.push(Touch::Deposit(id));
            nodes.insert(id, node);
        }
        Ok(())
    }

    /// One look at all deposits that wait. Returns how many became spendable.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn flip(&self) -> Result<usize, TableError> {
        let Some(tip) = self.tip().await? else {
            return Ok(0);
        };
        let mut rows = Snapshot::new();
        let mut changes = Changes::new();
        let mut nodes = BTreeMap::new();
        let mut touches = Vec::new();
        self.flip_into(
            tip.height,
            &BTreeMap::new(),
            &mut nodes,
            &mut rows,
            &mut changes,
            &mut touches,
        )
        .await?;
        for node in nodes.values() {
            changes.put(&rows, node)?;
        }
        self.tables.write(&rows, changes).await?;
        let count = touches.len();
        self.events.tell(touches);
        Ok(count)
    }
}

fn is_deep(utxo: Option<&UtxoRow>, tip: BlockHeight, needed: u32) -> bool {
    utxo.and_then(|utxo| utxo.block).is_some_and(|(height, _)| {
        // Its own block is the first confirmation.
        tip.0.saturating_add(1) >= height.0.saturating_add(needed)
    })
}

/// Looks at waiting deposits now and then, until `stop`. Blocks and claims both look by themselves;
/// this is for what neither of them could do at its time.
pub async fn run_flips(duties: Duties, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(SWEEP) => {}
        }
        match duties.flip().await {
            // Whoever changed a row meanwhile looks itself, or the next sweep does.
            Ok(_) | Err(TableError::Conflict) => {}
            Err(error) => {
                tracing::warn!(%error, "looking at waiting deposits failed; trying again")
            }
        }
    }
}
