//! [`WalletChain`] answered by Bitcoin Core.

use async_trait::async_trait;
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Amount, BlockHash, OutPoint, Script, Txid};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use tinderbox_chain::rpc::code;
use tinderbox_chain::{Error, Result, Rpc};
use tinderbox_protocol::{BlockHeight, Sats};

use super::{Coin, Inclusion, WalletChain};

#[derive(Deserialize)]
struct Scan {
    success: bool,
    #[serde(default)]
    unspents: Vec<Unspent>,
}

#[derive(Deserialize)]
struct Unspent {
    txid: Txid,
    vout: u32,
    #[serde(with = "bitcoin::amount::serde::as_btc")]
    amount: Amount,
    height: u32,
}

/// A scan reads the whole set of unspent outputs: about a minute on the main network.
const SCAN_LIMIT: Duration = Duration::from_secs(300);

#[async_trait]
impl WalletChain for Rpc {
    async fn coins_of(&self, script: &Script) -> Result<Vec<Coin>> {
        let descriptor = format!("raw({})", script.to_hex_string());
        let scan: Scan = self
            .call_within("scantxoutset", json!(["start", [descriptor]]), SCAN_LIMIT)
            .await?;
        if !scan.success {
            return Err(Error::Answer {
                method: "scantxoutset".into(),
                reason: "the scan was aborted".into(),
            });
        }
        Ok(scan
            .unspents
            .into_iter()
            .map(|u| Coin {
                outpoint: OutPoint::new(u.txid, u.vout),
                value: Sats(u.amount.to_sat()),
                height: BlockHeight(u.height),
            })
            .collect())
    }

    async fn inclusion(&self, txid: &Txid, block: &BlockHash) -> Result<Option<Inclusion>> {
        let hex: String = match self.call("gettxoutproof", json!([[txid], block])).await {
            Ok(hex) => hex,
            Err(error) if error.code() == Some(code::NOT_FOUND) => return Ok(None),
            Err(error) => return Err(error),
        };
        let proof = deserialize_hex(&hex).map_err(|e| Error::Answer {
            method: "gettxoutproof".into(),
            reason: format!("{txid}: {e}"),
        })?;
        Ok(Some(Inclusion { proof }))
    }
}
