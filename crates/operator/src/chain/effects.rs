//! What a confirmed transaction is to a node.

use bitcoin::consensus::deserialize;
use bitcoin::{Transaction, TxIn, Txid};
use tinderbox_flows::rows::NodeRow;

/// How a confirmed transaction concerns a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It is the node's own transaction.
    Node,
    /// It is the fee-paying variant of it.
    DirectNode,
    /// It is one of the node's refunds.
    Refund,
}

/// The id of an encoded transaction, if there is one.
pub(super) fn id_of(raw: &[u8]) -> Option<Txid> {
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
    deserialize::<Transaction>(raw).is_ok_and(|tx| is_complete(&tx))
}

/// True if every input has a witness.
pub(super) fn is_complete(tx: &Transaction) -> bool {
    tx.input.iter().all(|input| !input.witness.is_empty())
}

/// True if the input is spent with a taproot key, as every output of ours is.
pub(super) fn is_key_spend(input: &TxIn) -> bool {
    let annex = |last: &[u8]| last.first() == Some(&0x50);
    match input.witness.len() {
        1 => input
            .witness
            .nth(0)
            .is_some_and(|signature| matches!(signature.len(), 64 | 65)),
        2 => input.witness.last().is_some_and(annex),
        _ => false,
    }
}

/// Blocks that the first input of a transaction must wait for.
pub(super) fn timelock(tx: &Transaction) -> u32 {
    tx.input
        .first()
        .map_or(0, |input| input.sequence.to_consensus_u32() & 0xffff)
}

/// The same for an encoded transaction, if there is one.
pub(super) fn timelock_of(raw: &[u8]) -> Option<u32> {
    deserialize::<Transaction>(raw).ok().map(|tx| timelock(&tx))
}
