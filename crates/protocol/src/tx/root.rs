//! Root transactions: a deposit becomes a tree.

use bitcoin::{Sequence, TxOut};

use super::fee::after_direct_fee;
use super::{TxKind, UnsignedTx, Utxo, anchor, spend};
use crate::timelock::{DIRECT_OFFSET, LeafSequence, Timelock};
use crate::{Error, Result, Sats};

/// How many outputs a deposit may add to its first one.
pub const MAX_ADDITIONAL: usize = 10;

/// Spends one or more deposits of one address into one node, in the order given. No timelock, no
/// fee, ends in an anchor. Each input has a signature of its own.
///
/// # Errors
/// [`Error::InvalidDeposit`] for no deposit, too many, one that is named twice or worth nothing,
/// or deposits of different addresses; [`Error::AmountOverflow`].
pub fn build(deposits: &[Utxo]) -> Result<UnsignedTx> {
    let invalid = |reason: String| Error::InvalidDeposit { reason };
    let Some((first, additional)) = deposits.split_first() else {
        return Err(invalid("there is no output to spend".to_owned()));
    };
    if additional.len() > MAX_ADDITIONAL {
        return Err(invalid(format!(
            "{} additional outputs, at most {MAX_ADDITIONAL} fit: use several deposits",
            additional.len()
        )));
    }
    for (index, deposit) in deposits.iter().enumerate() {
        if deposits
            .iter()
            .take(index)
            .any(|other| other.outpoint == deposit.outpoint)
        {
            return Err(invalid(format!("{} is named twice", deposit.outpoint)));
        }
        if deposit.output.script_pubkey != first.output.script_pubkey {
            return Err(invalid(format!(
                "{} pays another address than {}",
                deposit.outpoint, first.outpoint
            )));
        }
        if deposit.output.value == bitcoin::Amount::ZERO {
            return Err(invalid(format!("{} is worth nothing", deposit.outpoint)));
        }
    }
    let value = Sats::checked_sum(deposits.iter().map(|one| Sats::from(one.output.value)))
        .ok_or(Error::AmountOverflow)?;
    let output = TxOut {
        value: value.to_amount(),
        script_pubkey: first.output.script_pubkey.clone(),
    };
    let zero = LeafSequence::ZERO.to_bitcoin();
    let inputs = deposits.iter().map(|one| (one.clone(), zero)).collect();
    Ok(spend(TxKind::Root, inputs, vec![output, anchor()]))
}

/// The fee-paying variant of a root. Present wallets never ask for one.
#[must_use]
pub fn direct(deposit: &Utxo) -> UnsignedTx {
    let sequence: Sequence = LeafSequence::new(Timelock(DIRECT_OFFSET)).to_bitcoin();
    let output = TxOut {
        value: after_direct_fee(deposit.output.value.into()).to_amount(),
        script_pubkey: deposit.output.script_pubkey.clone(),
    };
    spend(
        TxKind::DirectNode,
        vec![(deposit.clone(), sequence)],
        vec![output],
    )
}
