//! Taking a leaf in: into memory, and with its exit onto the disk.

use tinderbox_protocol::LeafId;

use crate::error::Result;
use crate::exit::{ExitPath, HexTx, PathNode, RefundKey};
use crate::leaf::{LeafStatus, Node};
use crate::storage::{Change, Kind};
use crate::wallet::Wallet;

/// The exit of a leaf, from verified nodes; `None` while it has no refund.
pub(crate) fn exit_path(leaf: &Node, lineage: &[&Node], refund_key: RefundKey) -> Option<ExitPath> {
    let hex = |tx: &Option<bitcoin::Transaction>| tx.clone().map(HexTx);
    Some(ExitPath {
        leaf: leaf.id,
        tree: leaf.tree,
        value: leaf.value,
        verifying_key: leaf.verifying_key,
        nodes: lineage
            .iter()
            .map(|node| PathNode {
                id: node.id,
                tx: node.node_tx.clone(),
                direct: hex(&node.direct_tx),
            })
            .collect(),
        refund: leaf.refund_tx.clone()?,
        refund_key,
        direct_from_cpfp_refund: hex(&leaf.direct_from_cpfp_refund_tx),
        direct_refund: hex(&leaf.direct_refund_tx),
    })
}

impl Wallet {
    /// Takes in a verified leaf: first its exit, durably, then the leaf itself.
    pub(crate) fn adopt(
        &self,
        leaf: &Node,
        lineage: &[&Node],
        refund_key: RefundKey,
    ) -> Result<()> {
        // Disk and memory change together, so that a synchronisation sees both or none.
        let mut pool = self.inner().pool();
        if let Some(path) = exit_path(leaf, lineage, refund_key) {
            self.inner()
                .records
                .put(Kind::ExitPath, &leaf.id.to_string(), &path)?;
        }
        if matches!(leaf.status, LeafStatus::Available | LeafStatus::Creating) {
            pool.insert(leaf.clone());
        }
        Ok(())
    }

    /// Lets leaves go that were paid to others, together with other changes: their old exits would be stale,
    /// and must never be published.
    pub(crate) fn let_go(&self, leaves: &[LeafId], mut changes: Vec<Change>) -> Result<()> {
        changes.extend(leaves.iter().map(|leaf| Change::Delete {
            kind: Kind::ExitPath,
            key: leaf.to_string(),
        }));
        let mut pool = self.inner().pool();
        self.inner().records.apply(&changes)?;
        for leaf in leaves {
            pool.remove(leaf);
        }
        Ok(())
    }
}
