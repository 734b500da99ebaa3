//! The rows after a renewal.

use sha2::{Digest, Sha256};
use tinderbox_protocol::LeafId;
use tinderbox_protocol::renewal::RenewalKind;

use super::made::Renewed;
use super::request::RenewRequest;
use crate::flow::Frame;
use crate::refusal::Halt;
use crate::rows::{FlowId, Millis, NodeRow, NodeStatus, NodeTxs, TreeRow};
use crate::snapshot::Changes;

/// The id of the split node that flow `flow` puts above `leaf`. Made from the flow's id, so that
/// all operators find the same one, no wallet can foresee it, and no coordinator can choose one
/// that somebody else has use for.
#[must_use]
pub fn split_id(flow: &FlowId, leaf: &LeafId) -> LeafId {
    let mut hash = Sha256::new();
    hash.update(b"tinderbox/split/1");
    hash.update(flow.0);
    hash.update(leaf.bytes16());
    let hash: [u8; 32] = hash.finalize().into();
    let (mut bytes, mut place) = ([0; 16], hash.iter());
    for byte in &mut bytes {
        *byte = place.next().copied().unwrap_or_default();
    }
    // The bits that say that the rest of the id is random.
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    LeafId::from_bytes16(bytes)
}

/// The leaf without the lock; what the chain said meanwhile stays.
pub(super) fn unlocked(mut node: NodeRow, now: Millis) -> NodeRow {
    node.unlock();
    node.updated = now;
    node
}

impl RenewRequest {
    /// The leaf as it was, but for nothing else than this renewal.
    pub(super) fn mark(&self, frame: &Frame<'_>, node: NodeRow) -> Result<Changes, Halt> {
        let mut changes = Changes::new();
        changes.put(
            frame.rows,
            &NodeRow {
                renewal: Some(self.jobs.kind()),
                ..unlocked(node, self.now)
            },
        )?;
        Ok(changes)
    }

    /// The renewed leaf, and the node that is above it from now on.
    pub(super) fn install(
        &self,
        frame: &Frame<'_>,
        node: NodeRow,
        renewed: Renewed,
    ) -> Result<Changes, Halt> {
        let kind = self.jobs.kind();
        // Meanwhile the leaf has left with its old transactions: those are the ones that count.
        if node.node_confirmed.is_some() || node.refund_confirmed.is_some() {
            return self.mark(frame, node);
        }
        let mut changes = Changes::new();
        let split = match kind {
            RenewalKind::Refund => None,
            RenewalKind::Node => Some(self.split(frame, &node, renewed.split)),
            RenewalKind::Zero => {
                let kept = NodeTxs {
                    node: node.txs.node.clone(),
                    direct: node.txs.direct.clone(),
                    ..NodeTxs::default()
                };
                Some(NodeRow {
                    deposits: node.deposits.clone(),
                    ..self.split(frame, &node, kept)
                })
            }
        };
        let mut leaf = NodeRow {
            txs: renewed.leaf,
            renewal: None,
            ..unlocked(node, self.now)
        };
        if let Some(split) = split {
            if split.parent.is_none() {
                let tree = leaf.tree.bytes16();
                if let Some(mut tree) = frame.rows.get::<TreeRow>(tree)? {
                    tree.root = split.id;
                    changes.put(frame.rows, &tree)?;
                }
            }
            leaf.parent = Some(split.id);
            leaf.deposits = Vec::new();
            changes.put(frame.rows, &split)?;
        }
        changes.put(frame.rows, &leaf)?;
        Ok(changes)
    }

    /// A node above the leaf, in the leaf's present place.
    fn split(&self, frame: &Frame<'_>, node: &NodeRow, txs: NodeTxs) -> NodeRow {
        NodeRow {
            id: split_id(&frame.flow, &node.id),
            status: NodeStatus::SplitLocked,
            before_chain: None,
            lock: None,
            renewal: None,
            txs,
            deposits: Vec::new(),
            created: self.now,
            updated: self.now,
            node_confirmed: None,
            refund_confirmed: None,
            ..node.clone()
        }
    }
}
