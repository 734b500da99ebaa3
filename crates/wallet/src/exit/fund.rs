//! Coins that pay for packages, and the children that spend them.

use bitcoin::hashes::Hash;
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{OutPoint, ScriptBuf, Transaction, TxOut, Witness};
use tinderbox_protocol::tx::{Utxo, fee_bump};
use tinderbox_protocol::{LeafId, Sats};

use super::cost::{Rate, package_fee};
use super::state::FundingCoin;
use crate::error::Result;
use crate::signer::WalletSigner;

/// A TRUC child may have at most 1000 vbytes: 13 funding inputs.
const MAX_INPUTS: usize = 13;

/// Coins for a package: the smallest single one that suffices, else the largest together.
pub(super) fn choose(
    coins: &[FundingCoin],
    parent: &Transaction,
    rate: Rate,
) -> Option<Vec<FundingCoin>> {
    let mut free = coins
        .iter()
        .filter(|c| c.confirmed && c.used_by.is_none())
        .copied()
        .collect::<Vec<_>>();
    free.sort_by_key(|coin| (coin.value, coin.outpoint));
    let needed = |inputs: usize| {
        package_fee(parent, inputs, rate)
            .0
            .saturating_add(fee_bump::MIN_CHANGE.0)
    };
    if let Some(coin) = free.iter().find(|coin| coin.value.0 >= needed(1)) {
        return Some(vec![*coin]);
    }
    let mut chosen = Vec::new();
    let mut sum = 0u64;
    for coin in free.iter().rev().take(MAX_INPUTS) {
        chosen.push(*coin);
        sum = sum.saturating_add(coin.value.0);
        if sum >= needed(chosen.len()) {
            return Some(chosen);
        }
    }
    None
}

/// A signed child with what it pays.
#[derive(Debug, Clone)]
pub(super) struct Child {
    pub(super) tx: Transaction,
    pub(super) fee: Sats,
    pub(super) change: Sats,
}

/// The child that spends the parent's anchor and the coins, and pays for both. `None` if the coins
/// do not suffice.
pub(super) fn child(
    signer: &dyn WalletSigner,
    parent: &Transaction,
    coins: &[FundingCoin],
    rate: Rate,
) -> Result<Option<Child>> {
    let script = signer.funding_script();
    let utxos = coins
        .iter()
        .map(|coin| utxo(coin, &script))
        .collect::<Vec<_>>();
    let bump = match fee_bump::build(parent, &utxos, Some(rate.0)) {
        Ok(bump) => bump,
        Err(tinderbox_protocol::Error::NotEnoughFunds { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let change = Sats::from(bump.change.output.value);
    if change < fee_bump::MIN_CHANGE {
        return Ok(None);
    }
    let values = bump
        .used
        .iter()
        .map(|utxo| Sats::from(utxo.output.value))
        .collect::<Vec<_>>();
    let mut tx = bump.child.tx;
    sign_funding(signer, &mut tx, values.into_iter().enumerate(), &script)?;
    Ok(Some(Child {
        tx,
        fee: bump.fee,
        change,
    }))
}

fn utxo(coin: &FundingCoin, script: &ScriptBuf) -> Utxo {
    let output = TxOut {
        value: coin.value.to_amount(),
        script_pubkey: script.clone(),
    };
    Utxo {
        outpoint: coin.outpoint,
        output,
    }
}

/// Signs inputs that spend the funding script.
pub(super) fn sign_funding(
    signer: &dyn WalletSigner,
    tx: &mut Transaction,
    inputs: impl Iterator<Item = (usize, Sats)>,
    script: &ScriptBuf,
) -> Result<()> {
    let mut witnesses = Vec::new();
    let mut cache = SighashCache::new(&*tx);
    for (index, value) in inputs {
        let hash = cache
            .p2wpkh_signature_hash(index, script, value.to_amount(), EcdsaSighashType::All)
            .map_err(|e| crate::Error::Config {
                what: format!("input {index} cannot be signed: {e}"),
            })?;
        let signature = bitcoin::ecdsa::Signature {
            signature: signer.sign_funding(hash.to_byte_array()),
            sighash_type: EcdsaSighashType::All,
        };
        witnesses.push((index, Witness::p2wpkh(&signature, &signer.funding_key().0)));
    }
    for (index, witness) in witnesses {
        if let Some(input) = tx.input.get_mut(index) {
            input.witness = witness;
        }
    }
    Ok(())
}

/// The coins of a state.
pub(super) struct Funding<'a>(pub(super) &'a mut Vec<FundingCoin>);

impl Funding<'_> {
    /// Adds a coin that is not known yet; or notes that a known one is confirmed.
    pub(super) fn learn(&mut self, outpoint: OutPoint, value: Sats, confirmed: bool) {
        match self.0.iter_mut().find(|coin| coin.outpoint == outpoint) {
            Some(coin) => coin.confirmed |= confirmed,
            None => self.0.push(FundingCoin {
                outpoint,
                value,
                used_by: None,
                confirmed,
            }),
        }
    }

    /// Ties coins to a leaf's package.
    pub(super) fn reserve(&mut self, coins: &[FundingCoin], leaf: LeafId) {
        for coin in self
            .0
            .iter_mut()
            .filter(|coin| coins.iter().any(|c| c.outpoint == coin.outpoint))
        {
            coin.used_by = Some(leaf);
        }
    }

    /// Frees the coins of a leaf whose package will not confirm.
    pub(super) fn release(&mut self, leaf: LeafId) {
        for coin in self.0.iter_mut().filter(|coin| coin.used_by == Some(leaf)) {
            coin.used_by = None;
        }
    }

    /// Coins tied to a leaf.
    pub(super) fn of(&self, leaf: LeafId) -> Vec<FundingCoin> {
        self.0
            .iter()
            .filter(|coin| coin.used_by == Some(leaf))
            .copied()
            .collect()
    }

    /// Forgets coins that are spent.
    pub(super) fn forget(&mut self, spent: impl Fn(&FundingCoin) -> bool) {
        self.0.retain(|coin| !spent(coin));
    }
}

/// The output that a child gives back.
pub(super) fn change_of(child: &Transaction) -> Option<(OutPoint, &TxOut)> {
    child
        .output
        .first()
        .map(|output| (OutPoint::new(child.compute_txid(), 0), output))
}
