//! Deposits that are buried deep enough become spendable, and wait again if they are not any more.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use tinderbox_flows::flow::Touch;
use tinderbox_flows::notice::note;
use tinderbox_flows::record::{Index, Key, Row, Table};
use tinderbox_flows::rows::{AddressRow, NodeRow, NodeStatus, TreeRow, TreeStatus, UtxoRow};
use tinderbox_flows::snapshot::Changes;
use tinderbox_protocol::BlockHeight;
use tinderbox_store::Scan;

use super::effects::is_signed;
use super::state::Duties;
use super::work::Work;
use crate::tables::TableError;

/// How often deposits are looked at although no block came and nobody claimed.
const SWEEP: Duration = Duration::from_secs(5);

impl Duties {
    /// Looks at every tree that waits for its deposit, as of `tip`. Outputs of the same write are
    /// in `work`.
    pub(super) async fn flip_into(
        &self,
        tip: BlockHeight,
        work: &mut Work,
        changes: &mut Changes,
        touches: &mut Vec<Touch>,
    ) -> Result<(), TableError> {
        let waiting: Vec<TreeRow> = self
            .tables
            .scan::<TreeRow>(Scan::prefix(Index::TreePending, &[]))
            .await?
            .into_iter()
            .map(|found| found.row)
            .collect();
        // A first look that binds nothing: most of them are still waiting.
        let ids: Vec<Vec<u8>> = waiting
            .iter()
            .map(|tree| NodeRow::id_of(&tree.root))
            .collect();
        let roots: Vec<Option<NodeRow>> = self.tables.get_many(ids).await?;
        let deposits: Vec<Vec<u8>> = roots
            .iter()
            .flatten()
            .flat_map(|root| root.deposits.iter().map(UtxoRow::id_of))
            .collect();
        let utxos: Vec<Option<UtxoRow>> = self.tables.get_many(deposits.clone()).await?;
        let buried: BTreeSet<&Vec<u8>> = deposits
            .iter()
            .zip(&utxos)
            .filter(|(id, utxo)| {
                let utxo = work.utxos.get(*id).or(utxo.as_ref());
                is_deep(utxo, tip, self.site.deposit_confirmations)
            })
            .map(|(id, _)| id)
            .collect();
        let mut due = Vec::new();
        for (tree, root) in waiting.into_iter().zip(roots) {
            let Some(root) = root else { continue };
            let deep = !root.deposits.is_empty()
                && root
                    .deposits
                    .iter()
                    .all(|outpoint| buried.contains(&UtxoRow::id_of(outpoint)));
            if deep || root.status == NodeStatus::Available {
                due.push((tree, root, deep));
            }
        }
        for (tree, root, deep) in due {
            self.flip_one(&tree, &root, deep, work, changes, touches)
                .await?;
        }
        Ok(())
    }

    /// Changes one tree, if what was seen still holds; what is read here is a condition of the write.
    async fn flip_one(
        &self,
        tree: &TreeRow,
        root: &NodeRow,
        deep: bool,
        work: &mut Work,
        changes: &mut Changes,
        touches: &mut Vec<Touch>,
    ) -> Result<(), TableError> {
        let utxos = root
            .deposits
            .iter()
            .map(UtxoRow::id_of)
            .filter(|id| !work.utxos.contains_key(id))
            .map(|id| Key::new(Table::Utxo, id))
            .collect::<Vec<_>>();
        let unread: Vec<Key> = std::iter::once(tree.key())
            .chain(utxos.iter().cloned())
            .filter(|key| !work.rows.knows(key))
            .collect();
        self.tables.load(&mut work.rows, unread).await?;
        work.take(&self.tables, [root.id]).await?;
        let (Some(mut tree), Some(mut node)) = (
            work.rows.get::<TreeRow>(tree.id.bytes16())?,
            work.nodes.get(&root.id).cloned(),
        ) else {
            return Ok(());
        };
        if tree.status != TreeStatus::Pending {
            return Ok(());
        }
        for key in utxos {
            let _ = work.rows.get::<UtxoRow>(key.id)?;
        }
        if deep {
            if !is_signed(&node.txs.refund) && node.status == NodeStatus::Creating {
                return Ok(());
            }
            if node.status == NodeStatus::Creating {
                node.status = NodeStatus::Available;
                touches.push(Touch::Deposit(node.id));
            } else if node.before_chain == Some(NodeStatus::Creating) {
                node.before_chain = Some(NodeStatus::Available);
            }
            tree.status = TreeStatus::Available;
            changes.put(&work.rows, &tree)?;
        } else if node.status == NodeStatus::Available && self.never_moved(&node, work).await? {
            node.status = NodeStatus::Creating;
        } else {
            return Ok(());
        }
        work.changed.insert(node.id);
        work.nodes.insert(node.id, node);
        Ok(())
    }

    /// True if the leaf is with whoever deposited it, as it was deposited.
    pub(super) async fn never_moved(
        &self,
        node: &NodeRow,
        work: &mut Work,
    ) -> Result<bool, TableError> {
        let Some(outpoint) = node.deposits.first() else {
            return Ok(false);
        };
        let Some(utxo): Option<UtxoRow> = self.tables.get(UtxoRow::id_of(outpoint)).await? else {
            return Ok(false);
        };
        let key = Key::new(Table::Address, utxo.script.to_bytes());
        if !work.rows.knows(&key) {
            self.tables.load(&mut work.rows, [key]).await?;
        }
        let address = work.rows.get::<AddressRow>(utxo.script.to_bytes())?;
        Ok(address.is_some_and(|address| {
            node.owner == address.owner && node.owner_signing == address.owner_signing
        }))
    }

    /// One look at all deposits that wait. Returns how many became spendable.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn flip(&self) -> Result<usize, TableError> {
        let Some(tip) = self.tip().await? else {
            return Ok(0);
        };
        let mut work = Work::default();
        let mut changes = Changes::new();
        let mut touches = Vec::new();
        self.flip_into(tip.height, &mut work, &mut changes, &mut touches)
            .await?;
        for id in &work.changed {
            if let Some(node) = work.nodes.get(id) {
                changes.put(&work.rows, node)?;
            }
        }
        let (id, now) = self.events.stamp();
        note(&mut changes, &work.rows, id, now, &touches)?;
        self.tables.write(&work.rows, changes).await?;
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
