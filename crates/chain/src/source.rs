//! The questions that operators and wallets ask of the chain.
//!
//! A trait, so that a simulator can answer them from a chain that it makes up. [`Rpc`](crate::Rpc) answers
//! them from Bitcoin Core.

use async_trait::async_trait;
use bitcoin::{BlockHash, FeeRate, OutPoint, ScriptBuf, Transaction, Txid};
use serde::{Deserialize, Serialize};
use tinderbox_protocol::{BlockHeight, Sats};

use crate::broadcast::{Accepted, PackageOutcome};
use crate::error::Result;

/// A block by height and hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRef {
    /// Its height; the genesis block has 0.
    pub height: BlockHeight,
    /// Its hash.
    pub hash: BlockHash,
}

/// Whether an output is spent, as far as the chain and the mempool know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spend {
    /// Neither a block nor the mempool spends it.
    Unspent,
    /// An unconfirmed transaction spends it.
    InMempool,
    /// A confirmed transaction spends it.
    Confirmed,
}

/// An output of the chain or the mempool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputView {
    /// Its amount.
    pub value: Sats,
    /// Its locking script.
    pub script: ScriptBuf,
    /// The block that holds its transaction; `None` while that is unconfirmed.
    pub block: Option<BlockRef>,
    /// Blocks from its own up to the tip, both counted; 0 while unconfirmed.
    pub confirmations: u32,
    /// Whether it is spent.
    pub spent: Spend,
}

/// A transaction of the chain or the mempool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxView {
    /// The transaction.
    pub tx: Transaction,
    /// The block that holds it; `None` while it is unconfirmed.
    pub block: Option<BlockRef>,
    /// Blocks from its own up to the tip, both counted; 0 while unconfirmed.
    pub confirmations: u32,
}

/// A view of the chain that can also send transactions.
///
/// Errors say whether a retry may help ([`Error::is_temporary`](crate::Error::is_temporary)); "not there" is
/// `None`, not an error.
#[async_trait]
pub trait ChainSource: Send + Sync {
    /// The last block of the best chain.
    async fn tip(&self) -> Result<BlockRef>;

    /// One output with its confirmations, or `None` if no transaction of the chain or the mempool has it.
    async fn confirmations_of(&self, outpoint: &OutPoint) -> Result<Option<OutputView>>;

    /// A transaction by id, confirmed or not. Needs the node's transaction index for confirmed ones.
    async fn tx(&self, txid: &Txid) -> Result<Option<TxView>>;

    /// The unconfirmed transaction that spends an output, if there is one.
    async fn mempool_spender(&self, outpoint: &OutPoint) -> Result<Option<Txid>>;

    /// Sends a transaction. That the network has it already is success.
    async fn broadcast(&self, tx: &Transaction) -> Result<Accepted>;

    /// Sends transactions that need each other, parents first, the child last. Those already there count as
    /// accepted.
    async fn submit_package(&self, txs: &[Transaction]) -> Result<PackageOutcome>;

    /// A fee rate that should confirm within `blocks` blocks.
    async fn fee_rate(&self, blocks: u16) -> Result<FeeRate>;
}
