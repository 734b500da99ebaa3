//! The child that pays for a fee-less transaction in a unilateral exit.
//!
//! It spends P2WPKH outputs of the exiting user and the parent's anchor, and gives the rest back
//! to the script of the first funding output. Parent and child are submitted as one package. The
//! relay rules allow the child 1,000 virtual bytes and one unconfirmed parent, so its change must
//! confirm before it funds another one.

use bitcoin::psbt::Psbt;
use bitcoin::{Sequence, Transaction, TxOut};

use super::{TxKind, UnsignedTx, Utxo, is_anchor, spend};
use crate::{Error, Result, Sats};

/// Change below this is not made, in sats: funding is added until it is reached.
pub const MIN_CHANGE: Sats = Sats(546);
/// Fee if no rate is given.
pub const FLAT_FEE: Sats = Sats(1500);
/// Relay limit of a child of a version 3 transaction, in virtual bytes.
pub const MAX_VSIZE: u64 = 1000;

/// A fee-bump transaction that waits for the signatures of its funding inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeeBump {
    /// The transaction; the anchor is its last input and keeps an empty witness.
    pub child: UnsignedTx,
    /// What it pays for itself and its parent.
    pub fee: Sats,
    /// The funding outputs that it spends, in order of its inputs.
    pub used: Vec<Utxo>,
    /// The change, as funding for a later package once it has confirmed.
    pub change: Utxo,
}

impl FeeBump {
    /// As a partially signed transaction, with the outputs spent.
    ///
    /// # Errors
    /// [`Error::MalformedTx`], which does not happen for what [`build`] makes.
    pub fn psbt(&self) -> Result<Psbt> {
        let mut psbt =
            Psbt::from_unsigned_tx(self.child.tx.clone()).map_err(|error| Error::MalformedTx {
                kind: TxKind::FeeBump,
                reason: error.to_string(),
            })?;
        for (input, prevout) in psbt.inputs.iter_mut().zip(&self.child.prevouts) {
            input.witness_utxo = Some(prevout.clone());
        }
        Ok(psbt)
    }
}

/// The anchor of a transaction.
///
/// # Errors
/// [`Error::MalformedTx`] if it has none.
pub fn find_anchor(parent: &Transaction) -> Result<Utxo> {
    let place = parent
        .output
        .iter()
        .position(is_anchor)
        .and_then(|place| u32::try_from(place).ok())
        .ok_or_else(|| Error::MalformedTx {
            kind: TxKind::Other,
            reason: "has no anchor to add a fee to: publish it as it is".to_owned(),
        })?;
    Utxo::of(parent, place)
}

/// Size of a child with this many funding inputs, in virtual bytes: `⌈10.5 + 68·n + 41 + 31⌉`.
#[must_use]
pub fn child_vsize(funding: u64) -> u64 {
    funding.saturating_mul(68).saturating_add(83)
}

/// Makes the child of `parent`, which must be signed (its size counts), paying `rate` sats per
/// virtual byte for both, or a flat fee from all of `funding` if there is no rate.
///
/// With a rate, the largest outputs are used first, as few as reach the fee and [`MIN_CHANGE`];
/// if all together do not reach that, all are used as long as something is left.
///
/// # Errors
/// [`Error::MalformedTx`] if the parent has no anchor, [`Error::NotEnoughFunds`],
/// [`Error::TooLarge`] if the child would break the relay limit, [`Error::AmountOverflow`].
pub fn build(parent: &Transaction, funding: &[Utxo], rate: Option<u64>) -> Result<FeeBump> {
    let anchor = find_anchor(parent)?;
    let (used, fee) = match rate {
        None => (funding.to_vec(), FLAT_FEE),
        Some(rate) => select(parent, funding, rate)?,
    };
    let count = u64::try_from(used.len()).map_err(|_| Error::AmountOverflow)?;
    if child_vsize(count) > MAX_VSIZE {
        return Err(Error::TooLarge {
            vsize: child_vsize(count),
            limit: MAX_VSIZE,
        });
    }
    let available = total(&used)?;
    let not_enough = Error::NotEnoughFunds {
        available,
        needed: fee,
    };
    let rest = available
        .checked_sub(fee)
        .filter(|rest| *rest > Sats::ZERO)
        .ok_or(not_enough.clone())?;
    let first = funding.first().ok_or(not_enough)?;
    let output = TxOut {
        value: rest.to_amount(),
        script_pubkey: first.output.script_pubkey.clone(),
    };
    let inputs = used
        .iter()
        .cloned()
        .chain([anchor])
        .map(|utxo| (utxo, Sequence::MAX))
        .collect();
    let child = spend(TxKind::FeeBump, inputs, vec![output]);
    let change = child.first_output()?;
    Ok(FeeBump {
        child,
        fee,
        used,
        change,
    })
}

/// As few of the largest outputs as reach the fee (which grows with them) and the least change.
fn select(parent: &Transaction, funding: &[Utxo], rate: u64) -> Result<(Vec<Utxo>, Sats)> {
    let parent_vsize = u64::try_from(parent.vsize()).map_err(|_| Error::AmountOverflow)?;
    let mut largest_first = funding.to_vec();
    largest_first.sort_by_key(|utxo| std::cmp::Reverse(utxo.output.value));
    let mut used = Vec::new();
    let mut fee = Sats::ZERO;
    for utxo in largest_first {
        used.push(utxo);
        let count = u64::try_from(used.len()).map_err(|_| Error::AmountOverflow)?;
        fee = child_vsize(count)
            .checked_add(parent_vsize)
            .and_then(|size| size.checked_mul(rate))
            .map(Sats)
            .ok_or(Error::AmountOverflow)?;
        let enough = fee.checked_add(MIN_CHANGE).ok_or(Error::AmountOverflow)?;
        if total(&used)? >= enough {
            break;
        }
    }
    Ok((used, fee))
}

fn total(utxos: &[Utxo]) -> Result<Sats> {
    Sats::checked_sum(utxos.iter().map(|utxo| Sats::from(utxo.output.value)))
        .ok_or(Error::AmountOverflow)
}
