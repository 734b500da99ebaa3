//! The last transaction: all refunds, and left-over funding, to one address.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::sighash::{Prevouts, SighashCache, TapSighashType};
use bitcoin::{Address, Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use tinderbox_chain::Error as ChainError;
use tinderbox_protocol::{BlockHeight, LeafId, Sats};

use super::cost::{FUNDING_INPUT_VB, REFUND_INPUT_VB, Rate, SWEEP_BASE_VB};
use super::driver::{Place, Round};
use super::fund::sign_funding;
use super::path::{HexTx, RefundKey};
use super::report::ExitEvent;
use super::state::{FundingCoin, Stage, Sweep, Version};
use crate::error::{Error, Result};
use crate::signer::WalletSigner;
use crate::storage::{Change, Kind, Records};

/// Blocks after which a sweep that is still unconfirmed pays more.
const BUMP_AFTER: u32 = 3;

/// A refund to be swept.
#[derive(Debug, Clone)]
pub(super) struct Refund {
    pub(super) leaf: LeafId,
    pub(super) key: RefundKey,
    pub(super) outpoint: OutPoint,
    pub(super) output: TxOut,
}

/// A signed sweep.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    pub(super) tx: Transaction,
    pub(super) fee: Sats,
}

/// Builds and signs the sweep. `None` if fees would leave less than dust.
pub(super) fn sweep(
    signer: &dyn WalletSigner,
    refunds: &[Refund],
    funding: &[FundingCoin],
    destination: &Address,
    rate: Rate,
) -> Result<Option<Signed>> {
    let script = signer.funding_script();
    let prevouts = prevouts(refunds, funding, &script);
    let sum = prevouts.iter().fold(0u64, |sum, output| {
        sum.saturating_add(output.value.to_sat())
    });
    let size = SWEEP_BASE_VB
        .saturating_add(REFUND_INPUT_VB.saturating_mul(refunds.len() as u64))
        .saturating_add(FUNDING_INPUT_VB.saturating_mul(funding.len() as u64));
    let fee = rate.fee(size);
    let payout = destination.script_pubkey();
    let dust = payout.minimal_non_dust().to_sat();
    let Some(value) = sum.checked_sub(fee.0).filter(|value| *value >= dust) else {
        return Ok(None);
    };
    let inputs = refunds
        .iter()
        .map(|r| r.outpoint)
        .chain(funding.iter().map(|coin| coin.outpoint));
    let mut tx = Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: inputs
            .map(|previous_output| TxIn {
                previous_output,
                script_sig: ScriptBuf::new(),
                sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                witness: Witness::new(),
            })
            .collect(),
        output: vec![TxOut {
            value: Amount::from_sat(value),
            script_pubkey: payout,
        }],
    };
    let mut witnesses = Vec::with_capacity(refunds.len());
    let mut cache = SighashCache::new(&tx);
    for (index, refund) in refunds.iter().enumerate() {
        let hash = cache
            .taproot_key_spend_signature_hash(
                index,
                &Prevouts::All(&prevouts),
                TapSighashType::Default,
            )
            .map_err(|e| Error::Config {
                what: format!("sweep input {index} cannot be signed: {e}"),
            })?;
        let signature =
            signer.sign_refund_output(&refund.leaf, refund.key, hash.to_byte_array())?;
        witnesses.push(Witness::p2tr_key_spend(&bitcoin::taproot::Signature {
            signature,
            sighash_type: TapSighashType::Default,
        }));
    }
    for (input, witness) in tx.input.iter_mut().zip(witnesses) {
        input.witness = witness;
    }
    let first = refunds.len();
    let indexed = funding
        .iter()
        .enumerate()
        .map(|(i, coin)| (first + i, coin.value));
    sign_funding(signer, &mut tx, indexed, &script)?;
    Ok(Some(Signed { tx, fee }))
}

fn prevouts(refunds: &[Refund], funding: &[FundingCoin], script: &ScriptBuf) -> Vec<TxOut> {
    let coin = |coin: &FundingCoin| TxOut {
        value: Amount::from_sat(coin.value.0),
        script_pubkey: script.clone(),
    };
    refunds
        .iter()
        .map(|r| r.output.clone())
        .chain(funding.iter().map(coin))
        .collect()
}

impl super::driver::ExitDriver {
    /// Sends the sweep once every leaf has its refund, and sees it confirmed.
    pub(super) async fn advance_sweep(&mut self, round: &mut Round) -> Result<()> {
        let Some(sweep) = self.state.sweep.clone() else {
            if self.state.sweep_funding && !self.refunds().is_empty() {
                if self.state.funding.iter().any(|coin| !coin.confirmed) {
                    return Ok(());
                }
                // Change of a package that another version of it replaced is found only on chain.
                self.find_funding(round).await?;
            }
            return self.send_sweep(round.rate, round).await;
        };
        // A replaced version may be the one that a miner took.
        let mut in_mempool = false;
        for version in sweep.versions() {
            match self.place(version.txid).await? {
                Place::Block(_) if sweep.confirmed.is_some() => return Ok(()),
                Place::Block(height) => return self.swept(version, height, round),
                Place::Mempool => in_mempool = true,
                Place::Nowhere => {}
            }
        }
        if !in_mempool {
            // Never arrived, or a reorganisation took the refunds back.
            return self.unsweep();
        }
        if round.tip.0 >= sweep.at.0.saturating_add(BUMP_AFTER) {
            return self
                .send_sweep(sweep.rate.raised().max(round.rate), round)
                .await;
        }
        Ok(())
    }

    async fn send_sweep(&mut self, rate: Rate, round: &mut Round) -> Result<()> {
        let refunds = self.refunds();
        if refunds.is_empty() {
            return Ok(());
        }
        let worth = rate.fee(FUNDING_INPUT_VB);
        let funding = if self.state.sweep_funding {
            self.state
                .funding
                .iter()
                .filter(|c| c.confirmed && c.value > worth)
                .copied()
                .collect()
        } else {
            Vec::new()
        };
        let destination = self.destination()?;
        let Some(signed) = sweep(&*self.signer, &refunds, &funding, &destination, rate)? else {
            for leaf in &mut self.state.leaves {
                if let Stage::Refunded {
                    outpoint, value, ..
                } = leaf.stage
                {
                    let reason = format!(
                        "its refund {outpoint} of {value} is worth less than sweeping it costs now"
                    );
                    round.events.push(ExitEvent::Failed {
                        leaf: leaf.path.leaf,
                        reason: reason.clone(),
                    });
                    leaf.stage = Stage::Failed { reason };
                }
            }
            return Ok(());
        };
        let txid = signed.tx.compute_txid();
        let value = Sats(
            signed
                .tx
                .output
                .first()
                .map_or(0, |output| output.value.to_sat()),
        );
        let older = self.state.sweep.take();
        self.state.sweep = Some(Sweep {
            tx: HexTx(signed.tx.clone()),
            fee: signed.fee,
            rate,
            at: round.tip,
            confirmed: None,
            replaced: older.iter().flat_map(Sweep::versions).collect(),
        });
        self.save()?;
        match self.chain.broadcast(&signed.tx).await {
            Ok(_) => round.events.push(ExitEvent::SweepSent {
                txid,
                value,
                fee: signed.fee,
            }),
            Err(ChainError::Rejected {
                txid,
                rejection,
                reason,
            }) => {
                let text = ChainError::Rejected {
                    txid,
                    rejection,
                    reason,
                }
                .to_string();
                round
                    .events
                    .extend(refunds.first().map(|refund| ExitEvent::Refused {
                        leaf: refund.leaf,
                        reason: text,
                    }));
                self.state.sweep = older.map(|older| Sweep {
                    at: round.tip,
                    ..older
                });
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The exit is done: its leaves are gone for good.
    fn swept(&mut self, version: Version, height: BlockHeight, round: &mut Round) -> Result<()> {
        let Version { txid, fee } = version;
        round
            .events
            .push(ExitEvent::SweepConfirmed { txid, height });
        if let Some(sweep) = &mut self.state.sweep {
            sweep.confirmed = Some(height);
            sweep.fee = fee;
        }
        let mut changes = Vec::new();
        for leaf in &mut self.state.leaves {
            if matches!(leaf.stage, Stage::Refunded { .. }) {
                leaf.stage = Stage::Swept { txid };
                let key = leaf.path.leaf.to_string();
                changes.push(Records::change(Kind::Swept, &key, &txid)?);
                changes.push(Change::Delete {
                    kind: Kind::ExitPath,
                    key,
                });
            }
        }
        self.save()?;
        self.records.apply(&changes)
    }

    /// No version of the sweep is anywhere: begin it anew, from where the refunds stand.
    fn unsweep(&mut self) -> Result<()> {
        self.state.sweep = None;
        let mut changes = Vec::new();
        for leaf in &mut self.state.leaves {
            if matches!(leaf.stage, Stage::Swept { .. }) {
                let step = leaf.path.nodes.len();
                leaf.stage = Stage::Running {
                    step,
                    sent: None,
                    until: None,
                };
                let key = leaf.path.leaf.to_string();
                changes.push(Records::change(Kind::ExitPath, &key, &leaf.path)?);
                changes.push(Change::Delete {
                    kind: Kind::Swept,
                    key,
                });
            }
        }
        self.records.apply(&changes)
    }

    fn refunds(&self) -> Vec<Refund> {
        self.state
            .leaves
            .iter()
            .filter_map(|leaf| {
                let Stage::Refunded { outpoint, .. } = leaf.stage else {
                    return None;
                };
                let output = leaf.path.refund_output(outpoint)?.clone();
                Some(Refund {
                    leaf: leaf.path.leaf,
                    key: leaf.path.refund_key,
                    outpoint,
                    output,
                })
            })
            .collect()
    }
}
