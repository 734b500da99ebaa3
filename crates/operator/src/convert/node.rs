//! Nodes as wallets see them.

use bitcoin::Transaction;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::flow::Site;
use tinderbox_flows::rows::{KeyshareRow, Millis, NodeRow};
use tinderbox_frost::OperatorIndex;

use super::{field, spark, status};

/// The operators' half of a leaf's key, as wallets see it.
#[must_use]
pub fn signing_keyshare(
    keyshare: &KeyshareRow,
    site: &Site,
    updated: Millis,
) -> spark::SigningKeyshare {
    keyshare_message(&keyshare.group_key, &keyshare.public_shares, site, updated)
}

/// A key share with these public keys as wallets see it.
#[must_use]
pub fn keyshare_message(
    group_key: &PublicKey,
    public_shares: &[PublicKey],
    site: &Site,
    updated: Millis,
) -> spark::SigningKeyshare {
    spark::SigningKeyshare {
        owner_identifiers: site
            .everyone()
            .map(|operator| operator.identifier())
            .collect(),
        threshold: u32::from(site.threshold),
        public_key: group_key.serialize().to_vec(),
        public_shares: (0u16..)
            .map(OperatorIndex)
            .zip(public_shares)
            .map(|(operator, share)| (operator.identifier(), share.serialize().to_vec()))
            .collect(),
        updated_time: Some(field::timestamp(updated)),
    }
}

/// A node as wallets see it. The fee-paying transactions go without witnesses: they are for the
/// operators to publish, the owner's own are the fee-less ones.
#[must_use]
pub fn tree_node(node: &NodeRow, keyshare: &KeyshareRow, site: &Site) -> spark::TreeNode {
    spark::TreeNode {
        id: node.id.to_string(),
        tree_id: node.tree.to_string(),
        value: node.value.0,
        parent_node_id: node.parent.map(|parent| parent.to_string()),
        node_tx: node.txs.node.clone(),
        refund_tx: node.txs.refund.clone(),
        vout: node.deposits.first().map_or(0, |outpoint| outpoint.vout),
        verifying_public_key: node.verifying_key.serialize().to_vec(),
        owner_identity_public_key: node.owner.serialize().to_vec(),
        signing_keyshare: Some(signing_keyshare(keyshare, site, node.updated)),
        status: node.status.name().to_owned(),
        network: field::network_number(node.network),
        created_time: Some(field::timestamp(node.created)),
        updated_time: Some(field::timestamp(node.updated)),
        owner_signing_public_key: node.owner_signing.serialize().to_vec(),
        direct_tx: without_witness(&node.txs.direct),
        direct_refund_tx: without_witness(&node.txs.direct_refund),
        direct_from_cpfp_refund_tx: without_witness(&node.txs.direct_from_cpfp_refund),
        treenode_status: status::node(node.status).into(),
    }
}

/// What a node's owner sees besides: the fee-paying refunds with witnesses, so that a watchtower of
/// its own can publish them. A fee-paying node transaction only if a refund follows it: without one
/// it would take the coin out of everybody's reach.
pub fn show_owner(message: &mut spark::TreeNode, node: &NodeRow) {
    message.direct_refund_tx.clone_from(&node.txs.direct_refund);
    message
        .direct_from_cpfp_refund_tx
        .clone_from(&node.txs.direct_from_cpfp_refund);
    let leads_on = deserialize::<Transaction>(&node.txs.direct_refund)
        .is_ok_and(|tx| tx.input.iter().all(|input| !input.witness.is_empty()));
    if leads_on {
        message.direct_tx.clone_from(&node.txs.direct);
    }
}

/// The same transaction without its signatures; nothing stays nothing.
#[must_use]
pub fn without_witness(raw: &[u8]) -> Vec<u8> {
    match deserialize::<Transaction>(raw) {
        Ok(mut tx) => {
            for input in &mut tx.input {
                input.witness.clear();
            }
            serialize(&tx)
        }
        Err(_) => Vec::new(),
    }
}
