//! What a confirmed transaction means for a node.

use bitcoin::consensus::deserialize;
use bitcoin::{Transaction, Txid};
use tinderbox_flows::rows::{NodeRow, NodeStatus};
use tinderbox_protocol::BlockHeight;

/// How a confirmed transaction concerns a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It is the node's own transaction.
    Node,
    /// It is the fee-paying variant of it.
    DirectNode,
    /// It is one of the node's refunds.
    Refund,
    /// It spends the node's output and is none that is stored with the node: a refund that pays a
    /// receiver who has not claimed, or one of a former owner.
    ForeignSpend,
}

fn id_of(raw: &[u8]) -> Option<Txid> {
    deserialize::<Transaction>(raw)
        .ok()
        .map(|tx| tx.compute_txid())
}

/// What `txid` is to `node`, if it is one of its transactions.
pub(super) fn part_of(node: &NodeRow, txid: &Txid) -> Option<Part> {
    let is = |raw: &[u8]| id_of(raw).as_ref() == Some(txid);
    if is(&node.txs.node) {
        Some(Part::Node)
    } else if is(&node.txs.direct) {
        Some(Part::DirectNode)
    } else if is(&node.txs.refund)
        || is(&node.txs.direct_refund)
        || is(&node.txs.direct_from_cpfp_refund)
    {
        Some(Part::Refund)
    } else {
        None
    }
}

/// True if the refund carries its signature: without one nobody could leave.
pub(super) fn is_signed(raw: &[u8]) -> bool {
    deserialize::<Transaction>(raw)
        .is_ok_and(|tx| tx.input.iter().all(|input| !input.witness.is_empty()))
}

/// Notes that `part` confirmed at `height`. Returns true if that changed the node.
pub(super) fn confirm(node: &mut NodeRow, part: Part, height: BlockHeight) -> bool {
    let before = node.clone();
    match part {
        Part::Node | Part::DirectNode => {
            node.node_confirmed.get_or_insert(height);
            if !matches!(node.status, NodeStatus::OnChain | NodeStatus::Exited) {
                move_to(node, NodeStatus::OnChain);
            }
        }
        Part::Refund => {
            node.refund_confirmed.get_or_insert(height);
            move_to(node, NodeStatus::Exited);
        }
        Part::ForeignSpend => {
            node.refund_confirmed.get_or_insert(height);
            if node.status != NodeStatus::Exited {
                move_to(node, NodeStatus::OnChain);
            }
        }
    }
    *node != before
}

/// Takes back what blocks above `to` said about a node. Returns true if that changed the node.
pub(super) fn unconfirm(node: &mut NodeRow, to: BlockHeight) -> bool {
    let before = node.clone();
    let gone = |height: Option<BlockHeight>| height.filter(|height| *height <= to);
    node.node_confirmed = gone(node.node_confirmed);
    node.refund_confirmed = gone(node.refund_confirmed);
    if node.status.is_on_chain() {
        if node.refund_confirmed.is_some() {
            // What confirmed the refund still stands, and so does the status that it gave.
        } else if node.node_confirmed.is_some() {
            node.status = NodeStatus::OnChain;
        } else if let Some(status) = node.before_chain.take() {
            node.status = status;
        }
    }
    *node != before
}

/// Marks a node that died with its parent. Returns true if that changed it.
pub(super) fn orphan(node: &mut NodeRow) -> bool {
    let dies = matches!(
        node.status,
        NodeStatus::Creating
            | NodeStatus::Available
            | NodeStatus::TransferLocked
            | NodeStatus::SplitLocked
            | NodeStatus::RenewLocked
    );
    if dies {
        move_to(node, NodeStatus::ParentExited);
    }
    dies
}

fn move_to(node: &mut NodeRow, status: NodeStatus) {
    if !node.status.is_on_chain() {
        node.before_chain = Some(node.status);
    }
    node.status = status;
}

/// Blocks that the first input of a transaction must wait for.
pub(super) fn timelock(tx: &Transaction) -> u32 {
    tx.input
        .first()
        .map_or(0, |input| input.sequence.to_consensus_u32() & 0xffff)
}
