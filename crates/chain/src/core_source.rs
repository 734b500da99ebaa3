//! [`ChainSource`] answered by Bitcoin Core.

use async_trait::async_trait;
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{FeeRate, OutPoint, Transaction, Txid};
use serde_json::json;
use tinderbox_protocol::{BlockHeight, Sats};

use crate::broadcast::{Accepted, Broadcaster, PackageOutcome};
use crate::error::{Error, Result};
use crate::fees::FeeEstimator;
use crate::rpc::Rpc;
use crate::source::{BlockRef, ChainSource, OutputView, Spend, TxView};

#[async_trait]
impl ChainSource for Rpc {
    async fn tip(&self) -> Result<BlockRef> {
        self.best_block().await
    }

    async fn confirmations_of(&self, outpoint: &OutPoint) -> Result<Option<OutputView>> {
        let Some(found) = ChainSource::tx(self, &outpoint.txid).await? else {
            // Without a transaction index the node still knows what is unspent.
            return unspent_without_index(self, outpoint).await;
        };
        let Some(output) = usize::try_from(outpoint.vout)
            .ok()
            .and_then(|i| found.tx.output.get(i))
        else {
            return Ok(None);
        };
        let query = |mempool: bool| ("gettxout", json!([outpoint.txid, outpoint.vout, mempool]));
        let answers = self.batch_values(&[query(false), query(true)]).await?;
        let mut unspent = answers
            .into_iter()
            .map(|answer| answer.map(|value| !value.is_null()));
        let in_chain = unspent.next().transpose()?.unwrap_or(false);
        let with_mempool = unspent.next().transpose()?.unwrap_or(false);
        let spent = match (with_mempool, in_chain || found.block.is_none()) {
            (true, _) => Spend::Unspent,
            (false, true) => Spend::InMempool,
            (false, false) => Spend::Confirmed,
        };
        Ok(Some(OutputView {
            value: Sats(output.value.to_sat()),
            script: output.script_pubkey.clone(),
            block: found.block,
            confirmations: found.confirmations,
            spent,
        }))
    }

    async fn tx(&self, txid: &Txid) -> Result<Option<TxView>> {
        let Some(raw) = self.raw_transaction(txid).await? else {
            return Ok(None);
        };
        let tx: Transaction = deserialize_hex(&raw.hex).map_err(|e| Error::Answer {
            method: "getrawtransaction".into(),
            reason: format!("{txid}: {e}"),
        })?;
        if tx.compute_txid() != *txid {
            return Err(Error::Answer {
                method: "getrawtransaction".into(),
                reason: format!("asked for {txid}, got {}", tx.compute_txid()),
            });
        }
        let Some(hash) = raw.block_hash else {
            return Ok(Some(TxView {
                tx,
                block: None,
                confirmations: 0,
            }));
        };
        let header = self.block_header(&hash).await?;
        // −1: the block has left the best chain between the two calls.
        Ok(Some(match header.filter(|h| h.confirmations > 0) {
            Some(header) => TxView {
                tx,
                block: Some(BlockRef {
                    height: BlockHeight(header.height),
                    hash,
                }),
                confirmations: u32::try_from(header.confirmations).unwrap_or(u32::MAX),
            },
            None => TxView {
                tx,
                block: None,
                confirmations: 0,
            },
        }))
    }

    async fn mempool_spender(&self, outpoint: &OutPoint) -> Result<Option<Txid>> {
        self.mempool_spender_of(outpoint).await
    }

    async fn broadcast(&self, tx: &Transaction) -> Result<Accepted> {
        Broadcaster::new(self.clone()).broadcast(tx).await
    }

    async fn submit_package(&self, txs: &[Transaction]) -> Result<PackageOutcome> {
        Broadcaster::new(self.clone()).submit_package(txs).await
    }

    async fn fee_rate(&self, blocks: u16) -> Result<FeeRate> {
        FeeEstimator::new(self.clone()).fee_rate(blocks).await
    }
}

async fn unspent_without_index(rpc: &Rpc, outpoint: &OutPoint) -> Result<Option<OutputView>> {
    let Some(out) = rpc.tx_out(outpoint, false).await? else {
        return Ok(None);
    };
    let with_mempool = rpc.tx_out(outpoint, true).await?;
    let block = match rpc.block_header(&out.best_block).await? {
        Some(tip) if out.confirmations > 0 => {
            let height = BlockHeight((tip.height + 1).saturating_sub(out.confirmations));
            rpc.block_hash(height)
                .await?
                .map(|hash| BlockRef { height, hash })
        }
        _ => None,
    };
    Ok(Some(OutputView {
        value: Sats(out.value.to_sat()),
        script: out.script.hex,
        block,
        confirmations: out.confirmations,
        spent: if with_mempool.is_some() {
            Spend::Unspent
        } else {
            Spend::InMempool
        },
    }))
}
