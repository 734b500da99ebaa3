//! What blocks that join the chain change.

use tinderbox_chain::ConnectedBlock;
use tinderbox_chain::follow::WINDOW;
use tinderbox_flows::flow::Touch;
use tinderbox_flows::notice::note;
use tinderbox_flows::record::{Key, Row, Table};
use tinderbox_flows::rows::{ChainRow, KnownBlock};
use tinderbox_flows::snapshot::Changes;

use super::state::Duties;
use super::undo::UndoRow;
use super::work::Work;
use crate::tables::TableError;

impl Duties {
    /// Applies blocks that follow the tip, all in one write. Blocks that are applied already are
    /// skipped.
    pub(super) async fn connect(
        &self,
        blocks: &[ConnectedBlock],
    ) -> Result<Vec<Touch>, TableError> {
        let mut work = Work::default();
        self.tables
            .load(&mut work.rows, [Key::new(Table::Chain, ChainRow::ID)])
            .await?;
        let mut chain: ChainRow = work.rows.get(ChainRow::ID)?.unwrap_or_default();
        let tip = chain.tip();
        let fresh = &blocks[blocks
            .partition_point(|block| tip.is_some_and(|tip| block.at.height <= tip.height))..];
        let (Some(first), Some(last)) = (fresh.first(), fresh.last()) else {
            return Ok(Vec::new());
        };
        if tip.is_some_and(|tip| tip.hash != first.block.header.prev_blockhash) {
            // Another process of this operator went another way: the follower looks again.
            return Err(TableError::Conflict);
        }
        self.take_transactions(fresh, &mut work).await?;
        self.take_payments(fresh, &mut work).await?;
        self.take_orphans(&mut work).await?;
        let mut changes = Changes::new();
        let mut touches = Vec::new();
        for id in &work.changed {
            if let (Some(node), Some(mark)) = (work.nodes.get_mut(id), work.marks.get(id)) {
                mark.settle(node);
            }
        }
        self.flip_into(last.at.height, &mut work, &mut changes, &mut touches)
            .await?;
        self.take_exits(fresh, &mut work, &mut changes).await?;
        for utxo in work.utxos.values() {
            changes.put(&work.rows, utxo)?;
        }
        for id in &work.changed {
            if let (Some(node), Some(mark)) = (work.nodes.get(id), work.marks.get(id)) {
                changes.put(&work.rows, node)?;
                if !mark.is_empty() {
                    changes.put(&work.rows, mark)?;
                }
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
        changes.put(&work.rows, &chain)?;
        self.log(&chain, &dropped, &mut work, &mut changes).await?;
        // Also of what the contract has no event for; whoever wants to know looks in a moment.
        let mut noted = touches.clone();
        for id in &work.changed {
            if !touches.contains(&Touch::Deposit(*id)) {
                noted.push(Touch::Leaf(*id));
            }
        }
        let (id, now) = self.events.stamp();
        note(&mut changes, &work.rows, id, now, &noted)?;
        self.tables.write(&work.rows, changes).await?;
        Ok(touches)
    }

    /// Keeps what each block changed for as long as the block may be taken back.
    async fn log(
        &self,
        chain: &ChainRow,
        dropped: &[KnownBlock],
        work: &mut Work,
        changes: &mut Changes,
    ) -> Result<(), TableError> {
        let lowest = chain.blocks.first().map_or(0, |block| block.height.0);
        let undo: Vec<UndoRow> = std::mem::take(&mut work.undo)
            .into_values()
            .filter(|undo| undo.height.0 >= lowest)
            .collect();
        let forgotten: Vec<Vec<u8>> = dropped
            .iter()
            .map(|block| UndoRow::id_of(block.height))
            .collect();
        let keys: Vec<Key> = undo
            .iter()
            .map(Row::key)
            .chain(
                forgotten
                    .iter()
                    .map(|id| Key::new(Table::Chain, id.clone())),
            )
            .collect();
        self.tables.load(&mut work.rows, keys).await?;
        for row in &undo {
            changes.put(&work.rows, row)?;
        }
        for id in forgotten {
            if work.rows.get::<UndoRow>(id.clone())?.is_some() {
                changes.delete::<UndoRow>(&work.rows, id)?;
            }
        }
        Ok(())
    }
}
