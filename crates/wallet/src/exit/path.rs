use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, Transaction, TxOut, Txid};
use serde::{Deserialize, Serialize};
use tinderbox_protocol::{LeafId, Sats, TreeId};

use super::tx_hex;

/// A node between the deposit and the leaf, the leaf's own node last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PathNode {
    /// The node.
    pub id: LeafId,
    /// Its signed fee-less transaction.
    #[serde(with = "tx_hex")]
    pub tx: Transaction,
    /// Its fee-paying variant, which a watchtower may publish instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct: Option<HexTx>,
}

/// A transaction that is written as hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HexTx(#[serde(with = "tx_hex")] pub Transaction);

/// The key that a refund pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundKey {
    /// The wallet's key of the leaf.
    Leaf,
    /// The wallet's identity key: a payment that was received but not claimed when the operators
    /// went away.
    Identity,
}

/// Everything that takes one leaf to the chain without any operator. No secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitPath {
    /// The leaf.
    pub leaf: LeafId,
    /// Its tree.
    pub tree: TreeId,
    /// Its value.
    pub value: Sats,
    /// The key of its output (user plus operators).
    pub verifying_key: PublicKey,
    /// From the root to the leaf's own node.
    pub nodes: Vec<PathNode>,
    /// The signed fee-less refund.
    #[serde(with = "tx_hex")]
    pub refund: Transaction,
    /// The key that every refund pays.
    pub refund_key: RefundKey,
    /// Fee-paying refund of the leaf's node, which a watchtower may publish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_from_cpfp_refund: Option<HexTx>,
    /// Fee-paying refund of the leaf's direct node, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direct_refund: Option<HexTx>,
}

impl ExitPath {
    /// The transactions that must confirm, in order; the refund is the last.
    pub fn steps(&self) -> impl ExactSizeIterator<Item = &Transaction> {
        (0..self.nodes.len() + 1).map(|index| self.step(index))
    }

    /// The transaction of a step.
    pub fn step(&self, index: usize) -> &Transaction {
        self.nodes.get(index).map_or(&self.refund, |node| &node.tx)
    }

    /// Blocks that step `index` must wait after its parent confirmed.
    pub fn timelock(&self, index: usize) -> u32 {
        // BIP 68: a block count in the low 16 bits. Verified when the path was stored.
        self.step(index)
            .input
            .first()
            .map_or(0, |input| input.sequence.0 & 0xffff)
    }

    /// The output that step `index` spends.
    pub fn input_of(&self, index: usize) -> OutPoint {
        self.step(index)
            .input
            .first()
            .map(|input| input.previous_output)
            .unwrap_or_default()
    }

    /// The refund's id.
    pub fn refund_txid(&self) -> Txid {
        self.refund.compute_txid()
    }

    /// The fee-less refund's timelock in blocks: what remains of the leaf's moves, and the wait of an exit.
    pub fn refund_timelock(&self) -> u32 {
        self.timelock(self.nodes.len())
    }

    /// The output of whichever refund `outpoint` is of.
    pub fn refund_output(&self, outpoint: OutPoint) -> Option<&TxOut> {
        let others = [&self.direct_from_cpfp_refund, &self.direct_refund];
        std::iter::once(&self.refund)
            .chain(others.into_iter().flatten().map(|tx| &tx.0))
            .find(|tx| tx.compute_txid() == outpoint.txid)
            .and_then(|tx| tx.output.get(usize::try_from(outpoint.vout).ok()?))
    }

    /// True if `self` describes a later state of the same leaf than `other`: its refund unlocks earlier, or
    /// the node was renewed.
    pub fn differs_from(&self, other: &Self) -> bool {
        self.refund_txid() != other.refund_txid()
            || self.refund_key != other.refund_key
            || self.nodes.len() != other.nodes.len()
    }
}
