//! Domain types as operators send them.

use bitcoin::Transaction;
use bitcoin::consensus::serialize;
use tinderbox_rpc::proto::spark;

use crate::leaf::{LeafStatus, Node};
use crate::transfer::{Transfer, TransferKind, TransferLeaf, TransferStatus};

fn raw(tx: Option<&Transaction>) -> Vec<u8> {
    tx.map(serialize).unwrap_or_default()
}

/// A node.
pub(crate) fn node_message(node: &Node) -> spark::TreeNode {
    let status = match node.status {
        LeafStatus::Creating => "CREATING",
        LeafStatus::Available => "AVAILABLE",
        LeafStatus::TransferLocked => "TRANSFER_LOCKED",
        LeafStatus::SplitLocked => "SPLIT_LOCKED",
        LeafStatus::OnChain => "ON_CHAIN",
        other => panic!("no test sends {other}"),
    };
    spark::TreeNode {
        id: node.id.to_string(),
        tree_id: node.tree.to_string(),
        value: node.value.0,
        parent_node_id: node.parent.map(|id| id.to_string()),
        node_tx: serialize(&node.node_tx),
        refund_tx: raw(node.refund_tx.as_ref()),
        verifying_public_key: node.verifying_key.serialize().to_vec(),
        owner_identity_public_key: node.owner.serialize().to_vec(),
        signing_keyshare: Some(spark::SigningKeyshare {
            public_key: node.keyshare.serialize().to_vec(),
            threshold: 2,
            ..Default::default()
        }),
        status: status.into(),
        network: spark::Network::Regtest.into(),
        direct_tx: raw(node.direct_tx.as_ref()),
        direct_refund_tx: raw(node.direct_refund_tx.as_ref()),
        direct_from_cpfp_refund_tx: raw(node.direct_from_cpfp_refund_tx.as_ref()),
        ..Default::default()
    }
}

fn leaf_message(leaf: &TransferLeaf) -> spark::TransferLeaf {
    spark::TransferLeaf {
        leaf: Some(node_message(&leaf.node)),
        secret_cipher: leaf.secret_cipher.clone(),
        signature: leaf.signature.clone(),
        intermediate_refund_tx: serialize(&leaf.refund),
        intermediate_direct_refund_tx: raw(leaf.direct_refund.as_ref()),
        intermediate_direct_from_cpfp_refund_tx: raw(leaf.direct_from_cpfp_refund.as_ref()),
        ..Default::default()
    }
}

/// A transfer.
pub(crate) fn transfer_message(transfer: &Transfer) -> spark::Transfer {
    let status = match transfer.status {
        TransferStatus::SenderPending => spark::TransferStatus::SenderKeyTweakPending,
        TransferStatus::Claimable => spark::TransferStatus::SenderKeyTweaked,
        TransferStatus::Completed => spark::TransferStatus::Completed,
        TransferStatus::Returned => spark::TransferStatus::Returned,
        other => panic!("no test sends {other}"),
    };
    let kind = match transfer.kind {
        TransferKind::Payment => spark::TransferType::Transfer,
        TransferKind::CooperativeExit => spark::TransferType::CooperativeExit,
        other => panic!("no test sends {other}"),
    };
    spark::Transfer {
        id: transfer.id.to_string(),
        sender_identity_public_key: transfer.sender.serialize().to_vec(),
        receiver_identity_public_key: transfer.receiver.serialize().to_vec(),
        status: status.into(),
        total_value: transfer.total.0,
        leaves: transfer.leaves.iter().map(leaf_message).collect(),
        r#type: kind.into(),
        network: spark::Network::Regtest.into(),
        ..Default::default()
    }
}
