//! Refunds of static deposits: the depositor takes the output back.

use bitcoin::{ScriptBuf, Sequence, TxOut};

use super::fee::{ESTIMATED_VSIZE, estimated};
use super::{TxKind, UnsignedTx, Utxo, spend};
use crate::{Error, Result, Sats};

/// Highest fee rate that a wallet may ask for, in sats per virtual byte.
pub const MAX_RATE: u64 = 150;
/// Lowest fee.
pub const MIN_FEE: Sats = Sats(ESTIMATED_VSIZE);

/// The fee at `rate` sats per virtual byte.
///
/// # Errors
/// [`Error::InvalidFee`] unless the rate is 1 to [`MAX_RATE`].
pub fn fee(deposit: &Utxo, rate: u64) -> Result<Sats> {
    let fee = estimated(rate)?;
    if rate == 0 || rate > MAX_RATE {
        return Err(Error::InvalidFee {
            fee,
            value: deposit.output.value.into(),
            reason: "the rate must be 1 to 150 sats per virtual byte",
        });
    }
    Ok(fee)
}

/// Pays a static deposit, less `fee`, to `destination`. No anchor, no timelock.
///
/// # Errors
/// [`Error::InvalidFee`] if the fee is below [`MIN_FEE`] or leaves nothing.
pub fn refund(deposit: &Utxo, destination: ScriptBuf, fee: Sats) -> Result<UnsignedTx> {
    let value = Sats::from(deposit.output.value);
    let invalid = |reason| Error::InvalidFee { fee, value, reason };
    if fee < MIN_FEE {
        return Err(invalid("the least is 194 sats"));
    }
    let credit = value
        .checked_sub(fee)
        .filter(|credit| *credit > Sats::ZERO)
        .ok_or_else(|| invalid("nothing is left"))?;
    let output = TxOut {
        value: credit.to_amount(),
        script_pubkey: destination,
    };
    Ok(spend(
        TxKind::StaticDepositRefund,
        vec![(deposit.clone(), Sequence::MAX)],
        vec![output],
    ))
}
