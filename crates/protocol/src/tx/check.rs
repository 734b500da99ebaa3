//! Comparison of a transaction that somebody sent with the one that the rules give.

use std::fmt::Display;

use bitcoin::{Sequence, Transaction};

use super::{TxField, TxKind, parse_any, parse_unsigned};
use crate::timelock::LeafSequence;
use crate::{Error, Result};

/// Reads `raw` and returns it if it is `expected`, byte for byte.
///
/// Bit 30 of a sequence means nothing to consensus and some wallets set it: it is taken over
/// from `raw` where the expected sequence is a timelock.
///
/// # Errors
/// [`Error::MalformedTx`] if `raw` is no unsigned transaction, [`Error::InvalidSequence`] for a
/// sequence that is no timelock in blocks, [`Error::TimelockMismatch`] for another timelock, and
/// [`Error::TxMismatch`] with the first other field that differs.
pub fn compare(expected: &Transaction, raw: &[u8], what: TxKind) -> Result<Transaction> {
    let actual = parse_unsigned(raw, what)?;
    compare_parsed(expected, &actual, what)?;
    Ok(actual)
}

/// Like [`compare`], for a transaction that may carry witnesses, which are not looked at.
///
/// # Errors
/// As [`compare`].
pub fn compare_signed(expected: &Transaction, raw: &[u8], what: TxKind) -> Result<Transaction> {
    let actual = parse_any(raw, what)?;
    compare_parsed(expected, &actual, what)?;
    Ok(actual)
}

fn compare_parsed(expected: &Transaction, actual: &Transaction, what: TxKind) -> Result<()> {
    let check = Check { kind: what };
    check.same(TxField::Version, &expected.version, &actual.version)?;
    check.same(TxField::LockTime, &expected.lock_time, &actual.lock_time)?;
    check.same(
        TxField::InputCount,
        &expected.input.len(),
        &actual.input.len(),
    )?;
    for (index, (wanted, got)) in expected.input.iter().zip(&actual.input).enumerate() {
        check.same(
            TxField::Prevout(index),
            &wanted.previous_output,
            &got.previous_output,
        )?;
        check.sequence(index, wanted.sequence, got.sequence)?;
        check.same(
            TxField::ScriptSig(index),
            &wanted.script_sig.to_hex_string(),
            &got.script_sig.to_hex_string(),
        )?;
    }
    check.same(
        TxField::OutputCount,
        &expected.output.len(),
        &actual.output.len(),
    )?;
    for (index, (wanted, got)) in expected.output.iter().zip(&actual.output).enumerate() {
        check.same(TxField::Value(index), &wanted.value, &got.value)?;
        check.same(
            TxField::Script(index),
            &wanted.script_pubkey.to_hex_string(),
            &got.script_pubkey.to_hex_string(),
        )?;
    }
    // Everything has been compared; this only guards against a field that is forgotten above.
    let mut same = expected.clone();
    for (wanted, got) in same.input.iter_mut().zip(&actual.input) {
        wanted.sequence = got.sequence;
    }
    check.same(TxField::Txid, &same.compute_txid(), &actual.compute_txid())
}

struct Check {
    kind: TxKind,
}

impl Check {
    fn same<T: PartialEq + Display>(&self, field: TxField, expected: &T, got: &T) -> Result<()> {
        if expected == got {
            return Ok(());
        }
        Err(Error::TxMismatch {
            kind: self.kind,
            field,
            expected: expected.to_string(),
            provided: got.to_string(),
        })
    }

    fn sequence(&self, index: usize, expected: Sequence, got: Sequence) -> Result<()> {
        if expected == got {
            return Ok(());
        }
        let Ok(wanted) = LeafSequence::from_bitcoin(expected) else {
            return self.same(TxField::Sequence(index), &expected, &got);
        };
        let got = LeafSequence::from_bitcoin(got)?;
        if wanted.timelock() != got.timelock() {
            return Err(Error::TimelockMismatch {
                kind: self.kind,
                expected: wanted.timelock(),
                provided: got.timelock(),
            });
        }
        Ok(())
    }
}
