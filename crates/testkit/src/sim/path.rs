//! What must hold of the nodes above a leaf.

use std::collections::BTreeSet;

use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use tinderbox_flows::rows::{NodeRow, NodeStatus, TransferRow};
use tinderbox_protocol::LeafId;
use tinderbox_protocol::tx::{TxKind, verify_input};

use super::cluster::Cluster;

/// (I3) A signed chain of transactions leads from the deposit to the leaf, at every operator the
/// same.
pub(super) fn check(cluster: &Cluster, leaf: &NodeRow) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let mut at = leaf.clone();
    while let Some(parent) = at.parent {
        if !seen.insert(parent) {
            return Err("its nodes go in a circle".into());
        }
        let id = NodeRow::id_of(&parent);
        let above = cluster
            .row::<NodeRow>(0, &id)
            .ok_or_else(|| format!("node {parent} is missing"))?;
        for other in 1..cluster.machines.len() {
            if cluster.row::<NodeRow>(other, &id).as_ref() != Some(&above) {
                return Err(format!("operators 0 and {other} differ on node {parent}"));
            }
        }
        if above.status != NodeStatus::SplitLocked || above.lock.is_some() {
            return Err(format!("node {parent} above it is {:?}", above.status));
        }
        if (above.tree, above.value, above.verifying_key, above.keyshare)
            != (leaf.tree, leaf.value, leaf.verifying_key, leaf.keyshare)
        {
            return Err(format!("node {parent} above it is of another leaf"));
        }
        spends(&at, &above)?;
        at = above;
    }
    if at.deposits.is_empty() {
        return Err("its root spends no deposit".into());
    }
    Ok(())
}

/// Both forms of a node spend the node above, by valid signatures.
fn spends(node: &NodeRow, above: &NodeRow) -> Result<(), String> {
    let parse = |raw: &[u8]| deserialize::<Transaction>(raw).map_err(|error| error.to_string());
    let parent = parse(&above.txs.node)?;
    let spent = parent.output.first().ok_or("no output")?;
    for raw in [&node.txs.node, &node.txs.direct] {
        let tx = parse(raw)?;
        let from = tx.input.first().ok_or("no input")?.previous_output;
        if (from.txid, from.vout) != (parent.compute_txid(), 0) {
            return Err(format!("node {} does not spend the one above", node.id));
        }
        verify_input(&tx, 0, std::slice::from_ref(spent), TxKind::Node)
            .map_err(|error| format!("node {}: {error}", node.id))?;
    }
    Ok(())
}

/// (I5) For leaves that are renewed, whose timelocks do not tell the order of their payments: there
/// is an order in which every payment was its owner's at the time, and it leads to the owner.
pub(super) fn leads_to_owner(
    from: bitcoin::secp256k1::PublicKey,
    owner: &bitcoin::secp256k1::PublicKey,
    leaf: &LeafId,
    payments: &[&TransferRow],
) -> bool {
    if payments.is_empty() {
        return from == *owner;
    }
    payments.iter().enumerate().any(|(place, payment)| {
        if payment.sender != from {
            return false;
        }
        let receiver = payment
            .leaves
            .iter()
            .find(|row| row.leaf == *leaf)
            .and_then(|row| payment.receivers.get(usize::try_from(row.receiver).ok()?));
        let rest: Vec<&TransferRow> = payments
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != place)
            .map(|(_, payment)| *payment)
            .collect();
        match receiver {
            Some(receiver) if receiver.completed.is_some() => {
                leads_to_owner(receiver.identity, owner, leaf, &rest)
            }
            // Not claimed yet: it is the last one.
            _ => rest.is_empty() && payment.sender == *owner,
        }
    })
}
