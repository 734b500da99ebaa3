//! Spends of static deposits: the depositor takes the output back, or a service provider takes it
//! for leaves that it gave.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Amount, ScriptBuf, Sequence, TxOut};

use super::fee::{ESTIMATED_VSIZE, estimated};
use super::{TxKind, UnsignedTx, Utxo, parse_unsigned, spend};
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

/// Reads a transaction that pays a deposit back: version 3, locktime 0, exactly this input with the
/// highest sequence, and outputs that do not exceed it.
///
/// # Errors
/// [`Error::MalformedTx`] says which rule it breaks.
pub fn parse_refund(deposit: &Utxo, raw: &[u8]) -> Result<UnsignedTx> {
    let kind = TxKind::StaticDepositRefund;
    let sent = parse_spend(deposit, raw, kind)?;
    let malformed = |reason: &str| Error::MalformedTx {
        kind,
        reason: reason.to_owned(),
    };
    if sent.tx.version != Version::non_standard(3) {
        return Err(malformed("must have version 3"));
    }
    if sent.tx.lock_time != LockTime::ZERO {
        return Err(malformed("must have locktime 0"));
    }
    // Built anew: nothing that was not looked at comes along.
    let expected = spend(
        kind,
        vec![(deposit.clone(), Sequence::MAX)],
        sent.tx.output.clone(),
    );
    if expected.tx != sent.tx {
        return Err(malformed("must have the sequence 0xffffffff"));
    }
    Ok(expected)
}

/// Reads a transaction by which a service provider takes a deposit: exactly this input, and
/// outputs that do not exceed it. Version, locktime and sequence are the provider's affair.
///
/// # Errors
/// [`Error::MalformedTx`] says which rule it breaks.
pub fn parse_spend(deposit: &Utxo, raw: &[u8], kind: TxKind) -> Result<UnsignedTx> {
    let tx = parse_unsigned(raw, kind)?;
    let malformed = |reason: String| Error::MalformedTx { kind, reason };
    match tx.input.as_slice() {
        [input] if input.previous_output == deposit.outpoint => {}
        [_] => return Err(malformed(format!("must spend {}", deposit.outpoint))),
        inputs => {
            return Err(malformed(format!(
                "must have one input, has {}",
                inputs.len()
            )));
        }
    }
    let total = paid(&tx.output).ok_or_else(|| malformed("pays more than exists".to_owned()))?;
    if total > deposit.output.value {
        return Err(malformed(format!(
            "pays {total}, the deposit holds {}",
            deposit.output.value
        )));
    }
    Ok(UnsignedTx {
        tx,
        prevouts: vec![deposit.output.clone()],
        kind,
    })
}

/// Sum of outputs; `None` if one of them, or all together, exceed what can exist.
#[must_use]
pub fn paid(outputs: &[TxOut]) -> Option<Amount> {
    outputs.iter().try_fold(Amount::ZERO, |sum, output| {
        sum.checked_add(output.value)
            .filter(|sum| *sum <= Amount::MAX_MONEY)
    })
}
