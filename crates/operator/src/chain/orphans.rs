//! Nodes below those that left.

use tinderbox_flows::record::Index;
use tinderbox_flows::rows::NodeRow;
use tinderbox_protocol::{BlockHeight, LeafId};
use tinderbox_store::Scan;

use super::effects;
use super::state::Duties;
use super::work::Work;
use crate::tables::TableError;

/// Generations that are walked down from a node that left.
const MAX_DEPTH: usize = 1024;

impl Duties {
    /// Direct children of a node that left die with it; below a child whose own transaction the
    /// watchtower will publish, or whose parent left in a way that nothing can follow, everything.
    pub(super) async fn take_orphans(&self, work: &mut Work) -> Result<(), TableError> {
        let mut parents: Vec<(LeafId, bool, BlockHeight)> = work
            .left
            .iter()
            .map(|(id, left)| (*id, left.all, left.at))
            .collect();
        for _ in 0..MAX_DEPTH {
            let mut next = Vec::new();
            for (parent, all, at) in parents {
                let children: Vec<LeafId> = self
                    .tables
                    .scan::<NodeRow>(Scan::prefix(Index::NodeByParent, &parent.bytes16()))
                    .await?
                    .iter()
                    .map(|child| child.row.id)
                    .collect();
                work.take(&self.tables, children.clone()).await?;
                for id in children {
                    let published = work.nodes.get(&id).is_some_and(|node| {
                        effects::timelock_of(&node.txs.direct).is_some_and(|timelock| timelock > 0)
                    });
                    work.orphan(id, at);
                    if all || published {
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
