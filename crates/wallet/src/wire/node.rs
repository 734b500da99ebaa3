use tinderbox_protocol::Sats;
use tinderbox_protocol::tx::TxKind;

use super::read::{Read, key, optional_tx, tx};
use super::spark;
use crate::leaf::{LeafStatus, Node};

/// Reads a node.
pub(crate) fn node(message: &spark::TreeNode) -> Read<Node> {
    let id = message.id.parse().map_err(|e| format!("node id: {e}"))?;
    let within = |e: String| format!("node {id}: {e}");
    let read = || -> Read<Node> {
        let keyshare = message
            .signing_keyshare
            .as_ref()
            .ok_or("there is no signing_keyshare")?;
        Ok(Node {
            id,
            tree: message
                .tree_id
                .parse()
                .map_err(|e| format!("tree id: {e}"))?,
            parent: match message.parent_node_id.as_deref() {
                None | Some("") => None,
                Some(text) => Some(text.parse().map_err(|e| format!("parent id: {e}"))?),
            },
            value: Sats(message.value),
            status: LeafStatus::from_name(&message.status),
            verifying_key: key("verifying_public_key", &message.verifying_public_key)?,
            keyshare: key("signing_keyshare.public_key", &keyshare.public_key)?,
            owner: key(
                "owner_identity_public_key",
                &message.owner_identity_public_key,
            )?,
            node_tx: tx(&message.node_tx, TxKind::Node)?,
            direct_tx: optional_tx(&message.direct_tx, TxKind::DirectNode)?,
            refund_tx: optional_tx(&message.refund_tx, TxKind::CpfpRefund)?,
            direct_refund_tx: optional_tx(&message.direct_refund_tx, TxKind::DirectRefund)?,
            direct_from_cpfp_refund_tx: optional_tx(
                &message.direct_from_cpfp_refund_tx,
                TxKind::DirectFromCpfpRefund,
            )?,
        })
    };
    read().map_err(within)
}
