//! Results of the methods that we call, with the fields that we read.

use bitcoin::{Amount, BlockHash, ScriptBuf, Txid};
use serde::Deserialize;
use std::collections::BTreeMap;

/// `getblockchaininfo`.
#[derive(Debug, Clone, Deserialize)]
pub struct BlockchainInfo {
    /// `main`, `test`, `testnet4`, `signet` or `regtest`.
    pub chain: String,
    /// Height of the best chain.
    pub blocks: u32,
    /// Height of the best header chain.
    pub headers: u32,
    /// Tip of the best chain.
    #[serde(rename = "bestblockhash")]
    pub best_block_hash: BlockHash,
    /// Whether the node is still downloading the chain.
    #[serde(rename = "initialblockdownload")]
    pub initial_block_download: bool,
    /// Whether the node forgets old blocks.
    #[serde(default)]
    pub pruned: bool,
}

/// `getnetworkinfo`.
#[derive(Debug, Clone, Deserialize)]
pub struct NetworkInfo {
    /// 29.1 is 290100.
    pub version: u64,
    /// For people.
    pub subversion: String,
    /// Lowest fee rate that is relayed, per 1000 vbytes.
    #[serde(rename = "relayfee", with = "bitcoin::amount::serde::as_btc")]
    pub relay_fee: Amount,
}

/// `getblockheader` with `verbose`.
#[derive(Debug, Clone, Deserialize)]
pub struct BlockHeader {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height.
    pub height: u32,
    /// −1 if it is not in the best chain (any more).
    pub confirmations: i64,
    /// The block before; the genesis block has none.
    #[serde(rename = "previousblockhash")]
    pub previous: Option<BlockHash>,
    /// Seconds since 1970, as the miner says.
    pub time: u64,
    /// Median of the last eleven blocks' times: what absolute time locks compare to.
    #[serde(rename = "mediantime")]
    pub median_time: u64,
}

/// `gettxout`; present only while the output is unspent.
#[derive(Debug, Clone, Deserialize)]
pub struct TxOutInfo {
    /// The tip at the time of the answer.
    #[serde(rename = "bestblock")]
    pub best_block: BlockHash,
    /// 0 for an output of the mempool.
    pub confirmations: u32,
    /// Its amount.
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub value: Amount,
    /// Its script.
    #[serde(rename = "scriptPubKey")]
    pub script: ScriptHex,
    /// Whether a block reward.
    pub coinbase: bool,
}

/// A script inside an answer.
#[derive(Debug, Clone, Deserialize)]
pub struct ScriptHex {
    /// Its bytes.
    pub hex: ScriptBuf,
}

/// `getrawtransaction` with verbosity 1.
#[derive(Debug, Clone, Deserialize)]
pub struct RawTransaction {
    /// The serialized transaction.
    pub hex: String,
    /// The block, if confirmed.
    #[serde(rename = "blockhash")]
    pub block_hash: Option<BlockHash>,
    /// Absent while unconfirmed.
    #[serde(default)]
    pub confirmations: u32,
}

/// `getmempoolentry`.
#[derive(Debug, Clone, Deserialize)]
pub struct MempoolEntry {
    /// Virtual size.
    pub vsize: u64,
    /// Unconfirmed ancestors, itself counted.
    #[serde(rename = "ancestorcount")]
    pub ancestor_count: u32,
    /// Unconfirmed descendants, itself counted.
    #[serde(rename = "descendantcount")]
    pub descendant_count: u32,
    /// Its fees.
    pub fees: MempoolFees,
    /// Transactions of the mempool that spend its outputs.
    #[serde(rename = "spentby", default)]
    pub spent_by: Vec<Txid>,
}

/// Fees of a transaction in the mempool.
#[derive(Debug, Clone, Deserialize)]
pub struct MempoolFees {
    /// Its own.
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub base: Amount,
}

/// `getmempoolinfo`.
#[derive(Debug, Clone, Deserialize)]
pub struct MempoolInfo {
    /// Transactions in it.
    pub size: u64,
    /// Lowest fee rate that gets in at present, per 1000 vbytes.
    #[serde(rename = "mempoolminfee", with = "bitcoin::amount::serde::as_btc")]
    pub min_fee: Amount,
}

/// `estimatesmartfee`.
#[derive(Debug, Clone, Deserialize)]
pub struct FeeEstimate {
    /// BTC per 1000 vbytes; absent when the node has seen too little.
    #[serde(
        default,
        rename = "feerate",
        with = "bitcoin::amount::serde::as_btc::opt"
    )]
    pub fee_rate: Option<Amount>,
}

/// One transaction in the answer to `testmempoolaccept`.
#[derive(Debug, Clone, Deserialize)]
pub struct MempoolVerdict {
    /// The transaction.
    pub txid: Txid,
    /// Absent when a package-wide rule stopped the check.
    pub allowed: Option<bool>,
    /// Why not.
    #[serde(rename = "reject-reason")]
    pub reject_reason: Option<String>,
    /// Virtual size, if allowed.
    pub vsize: Option<u64>,
}

/// `submitpackage`.
#[derive(Debug, Clone, Deserialize)]
pub struct PackageAnswer {
    /// `success`, or what failed.
    pub package_msg: String,
    /// By wtxid.
    #[serde(rename = "tx-results")]
    pub tx_results: BTreeMap<String, PackageTxAnswer>,
    /// What the package drove out of the mempool.
    #[serde(rename = "replaced-transactions", default)]
    pub replaced: Vec<Txid>,
}

/// One transaction in the answer to `submitpackage`.
#[derive(Debug, Clone, Deserialize)]
pub struct PackageTxAnswer {
    /// The transaction.
    pub txid: Txid,
    /// Why it was refused.
    pub error: Option<String>,
    /// The mempool has the same transaction with another witness.
    #[serde(rename = "other-wtxid")]
    pub other_wtxid: Option<String>,
}

/// One entry of `gettxspendingprevout`.
#[derive(Debug, Clone, Deserialize)]
pub struct SpendingPrevout {
    /// The unconfirmed transaction that spends the output.
    #[serde(rename = "spendingtxid")]
    pub spending_txid: Option<Txid>,
}

/// `scantxoutset`: the confirmed unspent outputs of one script.
#[derive(Debug, Clone, Deserialize)]
pub struct ScanAnswer {
    /// The height that was scanned at.
    pub height: u32,
    /// What was found.
    pub unspents: Vec<ScannedOutput>,
}

/// One output of `scantxoutset`.
#[derive(Debug, Clone, Deserialize)]
pub struct ScannedOutput {
    /// Its transaction.
    pub txid: Txid,
    /// Its index there.
    pub vout: u32,
    /// Its amount.
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    pub amount: Amount,
    /// Whether a block reward, which can be spent after 100 blocks only.
    pub coinbase: bool,
    /// The height of its block.
    pub height: u32,
}

/// `waitfornewblock` and `waitforblockheight`.
#[derive(Debug, Clone, Deserialize)]
pub struct TipAnswer {
    /// The tip's hash.
    pub hash: BlockHash,
    /// The tip's height.
    pub height: u32,
}
