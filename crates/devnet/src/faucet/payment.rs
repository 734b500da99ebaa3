//! Paying from the faucet.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::key::TapTweak;
use bitcoin::secp256k1::Message;
use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use tinderbox_chain::{Broadcaster, Error as ChainError, Rejection};

use super::coins::{Coin, Coins};
use super::{Error, Faucet, Result};

/// Sats per vbyte. A local node relays from 1 on.
const FEE_RATE: u64 = 2;
/// Virtual size of a key-path taproot input, rounded up.
const INPUT_VSIZE: u64 = 58;
/// Change below this goes to the miner: the dust limit of a taproot output is 330.
const MIN_CHANGE: Amount = Amount::from_sat(1000);

impl Faucet {
    /// Pays one output; the id of the transaction, which is in the mempool then.
    pub async fn send(&self, script: ScriptBuf, amount: Amount) -> Result<Txid> {
        self.send_many(&[TxOut {
            value: amount,
            script_pubkey: script,
        }])
        .await
        .map(|tx| tx.compute_txid())
    }

    /// Pays many outputs in one transaction, in this order, change last.
    pub async fn send_many(&self, outputs: &[TxOut]) -> Result<Transaction> {
        if let Some(none) = outputs.iter().find(|out| out.value == Amount::ZERO) {
            return Err(Error::Amount(none.value.to_string()));
        }
        let mut coins = self.inner.coins.lock().await;
        match self.pay(&mut coins, outputs).await {
            // Blocks may have come, or gone, since the coins were read: once more with fresh ones.
            Err(
                Error::Insufficient { .. }
                | Error::Chain(ChainError::Rejected {
                    rejection: Rejection::MissingInputs | Rejection::Conflict,
                    ..
                }),
            ) => {
                self.refresh(&mut coins).await?;
                self.pay(&mut coins, outputs).await
            }
            other => other,
        }
    }

    async fn pay(&self, coins: &mut Coins, outputs: &[TxOut]) -> Result<Transaction> {
        let amount: Amount = outputs.iter().map(|out| out.value).sum();
        // Size with one input and change; further inputs are counted by the choice.
        let change = TxOut {
            value: Amount::MAX_MONEY,
            script_pubkey: self.address().script_pubkey(),
        };
        let sized = outputs.iter().cloned().chain([change.clone()]).collect();
        let base_fee =
            Amount::from_sat(FEE_RATE * (unsigned(&[], sized).vsize() as u64 + INPUT_VSIZE));
        let input_fee = Amount::from_sat(FEE_RATE * INPUT_VSIZE);
        let needed = amount + base_fee;
        let chosen = coins
            .choose(needed, input_fee)
            .ok_or_else(|| Error::Insufficient {
                needed,
                have: coins.total(),
            })?;

        let further = (chosen.len() as u64).saturating_sub(1);
        let sum: Amount = chosen.iter().map(|(_, coin)| coin.value).sum();
        let rest = sum - needed - input_fee * further;
        let mut all = outputs.to_vec();
        if rest >= MIN_CHANGE {
            all.push(TxOut {
                value: rest,
                ..change
            });
        }
        let tx = self.sign(&chosen, all)?;
        // Whatever happened to it, these coins are not to be trusted before the next refresh.
        for (outpoint, _) in &chosen {
            coins.remove(outpoint);
        }
        Broadcaster::new(self.rpc().clone()).broadcast(&tx).await?;

        let depth = chosen.iter().map(|(_, coin)| coin.depth).max().unwrap_or(0) + 1;
        let txid = tx.compute_txid();
        for (vout, out) in (0u32..).zip(&tx.output) {
            if out.script_pubkey == self.address().script_pubkey() {
                coins.add(
                    OutPoint { txid, vout },
                    Coin {
                        value: out.value,
                        depth,
                    },
                );
            }
        }
        Ok(tx)
    }

    fn sign(&self, chosen: &[(OutPoint, Coin)], outputs: Vec<TxOut>) -> Result<Transaction> {
        let script = self.address().script_pubkey();
        let prevouts = chosen
            .iter()
            .map(|(_, coin)| TxOut {
                value: coin.value,
                script_pubkey: script.clone(),
            })
            .collect::<Vec<_>>();
        let mut tx = unsigned(
            &chosen
                .iter()
                .map(|(outpoint, _)| *outpoint)
                .collect::<Vec<_>>(),
            outputs,
        );
        let key = self
            .inner
            .keypair
            .tap_tweak(&self.inner.secp, None)
            .to_keypair();
        let mut signatures = Vec::with_capacity(chosen.len());
        let mut cache = SighashCache::new(&tx);
        for index in 0..chosen.len() {
            let hash = cache
                .taproot_key_spend_signature_hash(
                    index,
                    &Prevouts::All(&prevouts),
                    TapSighashType::Default,
                )
                .map_err(|e| Error::Internal(e.to_string()))?;
            let message = Message::from_digest(hash.to_byte_array());
            signatures.push(self.inner.secp.sign_schnorr(&message, &key).serialize());
        }
        for (input, signature) in tx.input.iter_mut().zip(signatures) {
            input.witness = Witness::from_slice(&[signature]);
        }
        Ok(tx)
    }
}

fn unsigned(inputs: &[OutPoint], outputs: Vec<TxOut>) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: inputs
            .iter()
            .map(|outpoint| TxIn {
                previous_output: *outpoint,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                witness: Witness::new(),
            })
            .collect(),
        output: outputs,
    }
}
