//! A chain that is made up: outputs exist because somebody says so.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, FeeRate, OutPoint, Transaction, TxOut, Txid};
use tinderbox_chain::{
    Accepted, BlockRef, ChainSource, OutputView, PackageOutcome, Result, Spend, TxView,
};
use tinderbox_protocol::{BlockHeight, Sats};

#[derive(Default)]
struct State {
    height: u32,
    outputs: BTreeMap<OutPoint, (TxOut, u32)>,
    sent: Vec<Txid>,
    spent: BTreeMap<OutPoint, Spend>,
}

/// A chain without blocks.
#[derive(Default)]
pub struct MemoryChain(Mutex<State>);

impl MemoryChain {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a transaction's outputs into the next block.
    pub fn confirm(&self, tx: &Transaction) {
        let mut state = self.state();
        state.height += 1;
        let height = state.height;
        let txid = tx.compute_txid();
        for (vout, output) in (0u32..).zip(&tx.output) {
            state
                .outputs
                .insert(OutPoint { txid, vout }, (output.clone(), height));
        }
    }

    /// A transaction spends an output: in the mempool, or in a block.
    pub fn spend(&self, outpoint: OutPoint, spent: Spend) {
        self.state().spent.insert(outpoint, spent);
    }

    /// The block that had an output is not part of the chain any more.
    pub fn forget(&self, outpoint: &OutPoint) {
        self.state().outputs.remove(outpoint);
    }

    /// An output is in a block again.
    pub fn restore(&self, outpoint: OutPoint, script: &bitcoin::ScriptBuf, value: u64) {
        let mut state = self.state();
        state.height += 1;
        let output = TxOut {
            value: bitcoin::Amount::from_sat(value),
            script_pubkey: script.clone(),
        };
        let height = state.height;
        state.outputs.insert(outpoint, (output, height));
    }

    /// Lets blocks pass.
    pub fn mine(&self, blocks: u32) {
        self.state().height += blocks;
    }
}

fn block(height: u32) -> BlockRef {
    BlockRef {
        height: BlockHeight(height),
        hash: BlockHash::hash(&height.to_be_bytes()),
    }
}

#[async_trait]
impl ChainSource for MemoryChain {
    async fn tip(&self) -> Result<BlockRef> {
        Ok(block(self.state().height))
    }

    async fn confirmations_of(&self, outpoint: &OutPoint) -> Result<Option<OutputView>> {
        let state = self.state();
        Ok(state
            .outputs
            .get(outpoint)
            .map(|(output, height)| OutputView {
                value: Sats(output.value.to_sat()),
                script: output.script_pubkey.clone(),
                block: Some(block(*height)),
                confirmations: state.height.saturating_sub(*height) + 1,
                spent: state.spent.get(outpoint).copied().unwrap_or(Spend::Unspent),
            }))
    }

    async fn tx(&self, _txid: &Txid) -> Result<Option<TxView>> {
        Ok(None)
    }

    async fn mempool_spender(&self, _outpoint: &OutPoint) -> Result<Option<Txid>> {
        Ok(None)
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<Accepted> {
        self.state().sent.push(tx.compute_txid());
        Ok(Accepted::InMempool)
    }

    async fn submit_package(&self, txs: &[Transaction]) -> Result<PackageOutcome> {
        let mut accepted = Vec::new();
        for tx in txs {
            let txid = tx.compute_txid();
            self.state().sent.push(txid);
            accepted.push((txid, Accepted::InMempool));
        }
        Ok(PackageOutcome {
            accepted,
            replaced: Vec::new(),
        })
    }

    async fn fee_rate(&self, _blocks: u16) -> Result<FeeRate> {
        Ok(FeeRate::BROADCAST_MIN)
    }
}
