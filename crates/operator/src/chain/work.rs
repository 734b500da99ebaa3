//! Everything that a batch of blocks changes, before it is written.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::Txid;
use tinderbox_chain::BlockRef;
use tinderbox_flows::record::{Key, Table};
use tinderbox_flows::rows::{NodeRow, UtxoRow};
use tinderbox_flows::snapshot::Snapshot;
use tinderbox_protocol::{BlockHeight, LeafId};

use super::mark::{Confirmed, MarkRow, SpentBy};
use super::undo::UndoRow;
use crate::tables::{TableError, Tables};

/// A node that left in this batch.
#[derive(Clone, Copy)]
pub(super) struct Left {
    /// The lowest block that says so.
    pub(super) at: BlockHeight,
    /// Nothing below it can follow.
    pub(super) all: bool,
}

/// What a batch of blocks changes.
#[derive(Default)]
pub(super) struct Work {
    pub(super) rows: Snapshot,
    pub(super) nodes: BTreeMap<LeafId, NodeRow>,
    pub(super) marks: BTreeMap<LeafId, MarkRow>,
    pub(super) changed: BTreeSet<LeafId>,
    pub(super) left: BTreeMap<LeafId, Left>,
    pub(super) utxos: BTreeMap<Vec<u8>, UtxoRow>,
    pub(super) undo: BTreeMap<u32, UndoRow>,
    /// Transactions of nodes: their outputs pay the address of the deposit again, and are none.
    pub(super) ours: BTreeSet<Txid>,
}

impl Work {
    /// Reads nodes and what the chain has said about them.
    pub(super) async fn take(
        &mut self,
        tables: &Tables,
        ids: impl IntoIterator<Item = LeafId>,
    ) -> Result<(), TableError> {
        let new: BTreeSet<LeafId> = ids
            .into_iter()
            .filter(|id| !self.nodes.contains_key(id))
            .collect();
        let keys: Vec<Key> = new
            .iter()
            .flat_map(|id| {
                [
                    Key::new(Table::Node, NodeRow::id_of(id)),
                    Key::new(Table::Watch, MarkRow::id_of(id)),
                ]
            })
            .collect();
        tables.load(&mut self.rows, keys).await?;
        for id in new {
            if let Some(node) = self.rows.get::<NodeRow>(NodeRow::id_of(&id))? {
                let mark = self.rows.get::<MarkRow>(MarkRow::id_of(&id))?;
                self.nodes.insert(id, node);
                self.marks
                    .insert(id, mark.unwrap_or_else(|| MarkRow::new(id)));
            }
        }
        Ok(())
    }

    /// The log entry of a block.
    pub(super) fn undo_at(&mut self, height: BlockHeight) -> &mut UndoRow {
        self.undo.entry(height.0).or_insert_with(|| UndoRow {
            height,
            ..UndoRow::default()
        })
    }

    fn note(&mut self, id: LeafId, at: BlockHeight) {
        self.changed.insert(id);
        self.undo_at(at).nodes.push(id);
    }

    fn leave(&mut self, id: LeafId, at: BlockHeight, all: bool) {
        self.note(id, at);
        let left = self.left.entry(id).or_insert(Left { at, all });
        left.at = left.at.min(at);
        left.all |= all;
    }

    /// A node's own transaction is in a block.
    pub(super) fn confirm(&mut self, id: LeafId, confirmed: Confirmed) {
        if let (Some(node), Some(mark)) = (self.nodes.get(&id), self.marks.get_mut(&id))
            && mark.confirm(node, confirmed)
        {
            self.leave(id, confirmed.height, confirmed.direct);
        }
    }

    /// A node's output is spent in a block. True if that is news.
    pub(super) fn spend(&mut self, id: LeafId, at: &BlockRef, by: SpentBy) -> bool {
        let news = self
            .marks
            .get_mut(&id)
            .is_some_and(|mark| mark.spend(at.height, by));
        if news {
            self.leave(id, at.height, by == SpentBy::Unknown);
        }
        news
    }

    /// A node above left.
    pub(super) fn orphan(&mut self, id: LeafId, at: BlockHeight) {
        let news = self.marks.get_mut(&id).is_some_and(|mark| mark.orphan(at));
        if news {
            self.note(id, at);
        }
    }
}
