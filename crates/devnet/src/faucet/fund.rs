//! Filling the faucet on a fresh chain.

use bitcoin::{Amount, TxOut};

use super::coins::MATURITY;
use super::{Error, Faucet, Result, SdkFaucetKeys};

/// Blocks mined for the faucet itself at the very start, when each pays 50 BTC.
const OWN_BLOCKS: u32 = 25;
/// Blocks mined for the official SDK's test faucet.
const SDK_BLOCKS: u32 = 20;
/// The faucet's coins are split into so many, so that many payments can be made between two blocks.
const PARTS: usize = 200;
/// Each worth so much.
const PART: Amount = Amount::from_sat(5 * 100_000_000);
/// Outputs for the SDK's miner address, beside its block rewards: each test file takes one and gives it back,
/// but what it gives back must wait 100 blocks.
const SDK_OUTPUTS: usize = 60;
/// Each worth so much; the suite wants at least 1,001,000 sats.
const SDK_OUTPUT: Amount = Amount::from_sat(10_000_000);
/// The suite calls its own coins spendable at this depth.
const SDK_DEPTH: u32 = 100;
/// A faucet with fewer coins is filled up.
const ENOUGH_COINS: usize = 50;
const ENOUGH: Amount = Amount::from_sat(100 * 100_000_000);

impl Faucet {
    /// Prepares the chain: afterwards the faucet has plenty of coins that can be spent at once, and the
    /// official SDK's test faucet has what it looks for. On a fresh chain that takes 247 blocks and less than a
    /// second or two; where all is well already, nothing happens. Rewards halve every 150 blocks, so this
    /// comes first in a chain's life.
    pub async fn fund(&self) -> Result<()> {
        let sdk = SdkFaucetKeys::new("local")?;
        let mut coins = self.inner.coins.lock().await;
        self.refresh(&mut coins).await?;
        let rich =
            coins.total() >= ENOUGH && coins.count_of_at_least(Amount::ONE_BTC) >= ENOUGH_COINS;
        let scan = self.rpc().scan_tx_out_set(&sdk.miner).await?;
        let sdk_rich = scan
            .unspents
            .iter()
            .any(|out| out.amount >= SDK_OUTPUT && scan.height >= out.height + SDK_DEPTH);
        if rich && sdk_rich {
            return Ok(());
        }

        let needed = PART * PARTS as u64 + SDK_OUTPUT * SDK_OUTPUTS as u64 + Amount::ONE_BTC;
        if coins.total() < needed {
            self.rpc()
                .generate_to_address(OWN_BLOCKS, self.address())
                .await?;
            self.rpc()
                .generate_to_address(SDK_BLOCKS, &sdk.miner)
                .await?;
            self.rpc()
                .generate_to_address(MATURITY, self.address())
                .await?;
            self.refresh(&mut coins).await?;
            if coins.total() < needed {
                return Err(Error::ChainTooOld {
                    height: self.rpc().best_block().await?.height.0,
                });
            }
        }
        drop(coins);

        let part = TxOut {
            value: PART,
            script_pubkey: self.address().script_pubkey(),
        };
        let sdk_part = TxOut {
            value: SDK_OUTPUT,
            script_pubkey: sdk.miner.script_pubkey(),
        };
        let mut outputs = vec![part; PARTS];
        outputs.extend(vec![sdk_part; SDK_OUTPUTS]);
        self.send_many(&outputs).await?;
        // Confirms the parts and lets the SDK's outputs reach the depth that it asks for.
        self.rpc()
            .generate_to_address(SDK_DEPTH + 1, self.address())
            .await?;
        let mut coins = self.inner.coins.lock().await;
        self.refresh(&mut coins).await
    }

    /// What can be spent now, unconfirmed change included.
    pub async fn balance(&self) -> Result<Amount> {
        let mut coins = self.inner.coins.lock().await;
        self.refresh(&mut coins).await?;
        Ok(coins.total())
    }
}
