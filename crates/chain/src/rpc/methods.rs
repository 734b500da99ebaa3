//! The methods that we call, typed.

use std::time::Duration;

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Address, Block, BlockHash, OutPoint, Transaction, Txid};
use serde_json::json;
use tinderbox_protocol::BlockHeight;

use super::transport::Rpc;
use super::types::{
    BlockHeader, BlockchainInfo, FeeEstimate, MempoolEntry, MempoolInfo, MempoolVerdict,
    NetworkInfo, PackageAnswer, RawTransaction, ScanAnswer, SpendingPrevout, TipAnswer, TxOutInfo,
};
use super::{MINIMUM_VERSION, code};
use crate::error::{Error, Result};
use crate::source::BlockRef;

impl Rpc {
    /// The node must be new enough, and on the chain that `expected` names (`None`: any).
    pub async fn check(&self, expected: Option<bitcoin::Network>) -> Result<()> {
        let found = self.version().await?;
        if found < MINIMUM_VERSION {
            return Err(Error::TooOld {
                found,
                needed: MINIMUM_VERSION,
            });
        }
        if let Some(expected) = expected {
            let found = self.blockchain_info().await?.chain;
            let expected = expected.to_core_arg();
            if found != expected {
                return Err(Error::WrongNetwork {
                    found,
                    expected: expected.to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Waits until the node answers, through refused connections and its start-up phase.
    pub async fn wait_until_ready(&self, limit: Duration) -> Result<()> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            match self.blockchain_info().await {
                Err(error) if error.is_temporary() && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(25)).await;
                }
                other => return other.map(|_| ()),
            }
        }
    }

    /// `getblockchaininfo`.
    pub async fn blockchain_info(&self) -> Result<BlockchainInfo> {
        self.call("getblockchaininfo", json!([])).await
    }

    /// `getnetworkinfo`.
    pub async fn network_info(&self) -> Result<NetworkInfo> {
        self.call("getnetworkinfo", json!([])).await
    }

    /// `getmempoolinfo`.
    pub async fn mempool_info(&self) -> Result<MempoolInfo> {
        self.call("getmempoolinfo", json!([])).await
    }

    /// The best chain's last block.
    pub async fn best_block(&self) -> Result<BlockRef> {
        let info = self.blockchain_info().await?;
        Ok(BlockRef {
            height: BlockHeight(info.blocks),
            hash: info.best_block_hash,
        })
    }

    /// The hash at a height of the best chain; `None` above the tip.
    pub async fn block_hash(&self, height: BlockHeight) -> Result<Option<BlockHash>> {
        optional(
            self.call("getblockhash", json!([height.0])).await,
            code::OUT_OF_RANGE,
        )
    }

    /// The hashes at `count` heights from `from` on, as far as the best chain reaches. One request.
    pub async fn block_hashes(&self, from: BlockHeight, count: u32) -> Result<Vec<BlockHash>> {
        let heights = from.0..from.0.saturating_add(count);
        let answers = self
            .batch("getblockhash", heights.map(|h| json!([h])))
            .await?;
        let mut hashes = Vec::with_capacity(answers.len());
        for answer in answers {
            match optional(answer, code::OUT_OF_RANGE)? {
                Some(hash) => hashes.push(hash),
                None => break,
            }
        }
        Ok(hashes)
    }

    /// `getblockheader`; `None` for an unknown hash.
    pub async fn block_header(&self, hash: &BlockHash) -> Result<Option<BlockHeader>> {
        optional(
            self.call("getblockheader", json!([hash, true])).await,
            code::NOT_FOUND,
        )
    }

    /// One block.
    pub async fn block(&self, hash: &BlockHash) -> Result<Block> {
        let hex: String = self.call("getblock", json!([hash, 0])).await?;
        decode_block(hash, &hex)
    }

    /// Many blocks in one request, in the order of `hashes`.
    pub async fn blocks(&self, hashes: &[BlockHash]) -> Result<Vec<Block>> {
        let answers = self
            .batch::<String>("getblock", hashes.iter().map(|h| json!([h, 0])))
            .await?;
        hashes
            .iter()
            .zip(answers)
            .map(|(hash, hex)| decode_block(hash, &hex?))
            .collect()
    }

    /// `gettxout`: an unspent output, or `None`. With `include_mempool`, outputs of unconfirmed transactions
    /// count and outputs that unconfirmed transactions spend do not.
    pub async fn tx_out(
        &self,
        outpoint: &OutPoint,
        include_mempool: bool,
    ) -> Result<Option<TxOutInfo>> {
        self.call(
            "gettxout",
            json!([outpoint.txid, outpoint.vout, include_mempool]),
        )
        .await
    }

    /// `getrawtransaction` with its block; `None` if neither mempool nor transaction index has it.
    pub async fn raw_transaction(&self, txid: &Txid) -> Result<Option<RawTransaction>> {
        optional(
            self.call("getrawtransaction", json!([txid, 1])).await,
            code::NOT_FOUND,
        )
    }

    /// `getmempoolentry`; `None` if it is not in the mempool.
    pub async fn mempool_entry(&self, txid: &Txid) -> Result<Option<MempoolEntry>> {
        optional(
            self.call("getmempoolentry", json!([txid])).await,
            code::NOT_FOUND,
        )
    }

    /// `gettxspendingprevout`: the unconfirmed transaction that spends the output.
    pub async fn mempool_spender_of(&self, outpoint: &OutPoint) -> Result<Option<Txid>> {
        let query = json!([[{"txid": outpoint.txid, "vout": outpoint.vout}]]);
        let answer: Vec<SpendingPrevout> = self.call("gettxspendingprevout", query).await?;
        Ok(answer
            .into_iter()
            .next()
            .and_then(|entry| entry.spending_txid))
    }

    /// `sendrawtransaction`, as Core has it. [`Broadcaster`](crate::Broadcaster) is the friendlier way.
    pub async fn send_raw_transaction(&self, tx: &Transaction) -> Result<Txid> {
        self.call("sendrawtransaction", json!([serialize_hex(tx)]))
            .await
    }

    /// `submitpackage`, as Core has it. [`Broadcaster`](crate::Broadcaster) is the friendlier way.
    pub async fn submit_raw_package(&self, txs: &[Transaction]) -> Result<PackageAnswer> {
        let hex = txs.iter().map(serialize_hex).collect::<Vec<_>>();
        self.call("submitpackage", json!([hex])).await
    }

    /// `testmempoolaccept`.
    pub async fn test_mempool_accept(&self, txs: &[Transaction]) -> Result<Vec<MempoolVerdict>> {
        let hex = txs.iter().map(serialize_hex).collect::<Vec<_>>();
        self.call("testmempoolaccept", json!([hex])).await
    }

    /// `estimatesmartfee`.
    pub async fn estimate_smart_fee(&self, blocks: u16) -> Result<FeeEstimate> {
        self.call("estimatesmartfee", json!([blocks])).await
    }

    /// `generatetoaddress`: mines blocks (regtest).
    pub async fn generate_to_address(
        &self,
        count: u32,
        address: &Address,
    ) -> Result<Vec<BlockHash>> {
        let limit = Duration::from_secs(60 + u64::from(count) / 10);
        self.call_within("generatetoaddress", json!([count, address]), limit)
            .await
    }

    /// `scantxoutset`: confirmed unspent outputs of an address. Core scans for one caller at a time; this waits
    /// for its turn.
    pub async fn scan_tx_out_set(&self, address: &Address) -> Result<ScanAnswer> {
        let params = json!(["start", [format!("addr({address})")]]);
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            match self.call("scantxoutset", params.clone()).await {
                Err(Error::Rpc { message, .. })
                    if message.contains("already in progress")
                        && tokio::time::Instant::now() < deadline =>
                {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                other => return other,
            }
        }
    }

    /// `invalidateblock`: the node leaves this block and all after it (regtest; used to make reorganisations).
    pub async fn invalidate_block(&self, hash: &BlockHash) -> Result<()> {
        self.call("invalidateblock", json!([hash])).await
    }

    /// Waits until the tip is another than `known`, at most `limit`; the tip at that time, changed or not.
    pub async fn wait_for_tip_change(&self, known: &BlockRef, limit: Duration) -> Result<BlockRef> {
        let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
        let patience = limit + Duration::from_secs(10);
        // Since version 30 the call can be told what we know, so that no block slips in between. Before, waiting
        // for the next height is the race-free way; a longer chain after a reorganisation reaches it too.
        let answer: TipAnswer = if self.version().await? >= 300_000 {
            self.call_within("waitfornewblock", json!([millis, known.hash]), patience)
                .await?
        } else {
            let next = known.height.0.saturating_add(1);
            self.call_within("waitforblockheight", json!([next, millis]), patience)
                .await?
        };
        Ok(BlockRef {
            height: BlockHeight(answer.height),
            hash: answer.hash,
        })
    }
}

/// Turns one error code into `None`.
fn optional<T>(result: Result<T>, none: i64) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code() == Some(none) => Ok(None),
        Err(error) => Err(error),
    }
}

fn decode_block(hash: &BlockHash, hex: &str) -> Result<Block> {
    let block: Block = deserialize_hex(hex).map_err(|e| Error::Answer {
        method: "getblock".into(),
        reason: format!("block {hash}: {e}"),
    })?;
    let found = block.block_hash();
    if found != *hash {
        return Err(Error::WrongBlock {
            expected: *hash,
            found,
        });
    }
    Ok(block)
}
