//! What a wallet asks of the chain beyond what operators ask.

mod core;

use async_trait::async_trait;
use bitcoin::{Block, BlockHash, MerkleBlock, OutPoint, Script, Txid};
use tinderbox_chain::{ChainSource, Result};
use tinderbox_protocol::{BlockHeight, Sats};

/// An unspent confirmed output of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it holds.
    pub value: Sats,
    /// The block that holds it.
    pub height: BlockHeight,
}

/// A proof that a block contains a transaction, without the rest of the block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inclusion {
    /// Header, and the branch from the transaction to its Merkle root.
    pub proof: MerkleBlock,
}

/// The chain as a wallet needs it: everything of [`ChainSource`], and coins by script, and proofs.
#[async_trait]
pub trait WalletChain: ChainSource {
    /// Confirmed unspent outputs that pay `script`. May take long on a large chain.
    ///
    /// # Errors
    /// As every question to the chain.
    async fn coins_of(&self, script: &Script) -> Result<Vec<Coin>>;

    /// A proof that `block` contains `txid`; `None` if it does not, or if the block is unknown.
    ///
    /// # Errors
    /// As every question to the chain.
    async fn inclusion(&self, txid: &Txid, block: &BlockHash) -> Result<Option<Inclusion>>;
}

/// A proof made from a whole block; for chain sources that have blocks at hand.
pub fn inclusion_from_block(block: &Block, txid: &Txid) -> Option<Inclusion> {
    block
        .txdata
        .iter()
        .any(|tx| tx.compute_txid() == *txid)
        .then(|| Inclusion {
            proof: MerkleBlock::from_block_with_predicate(block, |id| id == txid),
        })
}
