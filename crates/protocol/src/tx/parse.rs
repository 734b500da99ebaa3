//! Reading transactions that somebody sent.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::Decodable;
use bitcoin::transaction::Version;
use bitcoin::{Transaction, TxIn, TxOut, Witness};

use super::TxKind;
use crate::{Error, Result};

/// More than any Spark transaction needs; a bound on what is read at all.
const MAX_BYTES: usize = 400_000;

/// Reads a transaction that must not be signed: no witness, no script signature, nothing after
/// its end. The segwit serialization is understood if all its witnesses are empty.
///
/// # Errors
/// [`Error::MalformedTx`].
pub fn parse_unsigned(raw: &[u8], kind: TxKind) -> Result<Transaction> {
    let tx = parse_any(raw, kind)?;
    if tx.input.iter().any(|input| !input.witness.is_empty()) {
        return Err(malformed(
            kind,
            "is already signed: send it without witness",
        ));
    }
    if tx.input.iter().any(|input| !input.script_sig.is_empty()) {
        return Err(malformed(
            kind,
            "has a script signature: send it with empty ones",
        ));
    }
    Ok(tx)
}

/// Reads a transaction with or without witnesses; nothing may follow its end.
///
/// # Errors
/// [`Error::MalformedTx`].
pub fn parse_any(raw: &[u8], kind: TxKind) -> Result<Transaction> {
    if raw.is_empty() {
        return Err(malformed(kind, "is empty"));
    }
    if raw.len() > MAX_BYTES {
        return Err(malformed(kind, "is too large"));
    }
    let mut rest = raw;
    let tx =
        read(&mut rest).map_err(|error| malformed(kind, &format!("cannot be read: {error}")))?;
    if !rest.is_empty() {
        return Err(malformed(
            kind,
            &format!("has {} bytes after its end", rest.len()),
        ));
    }
    if tx.input.is_empty() || tx.output.is_empty() {
        return Err(malformed(kind, "has no inputs or no outputs"));
    }
    Ok(tx)
}

/// Like the `bitcoin` crate's own reader, but takes segwit serializations whose witnesses are all
/// empty, which some wallets send.
fn read(rest: &mut &[u8]) -> std::result::Result<Transaction, bitcoin::consensus::encode::Error> {
    let version = Version::consensus_decode(rest)?;
    let segwit = rest.starts_with(&[0x00, 0x01]);
    if segwit {
        let _marker_and_flag = <[u8; 2]>::consensus_decode(rest)?;
    }
    let mut input = Vec::<TxIn>::consensus_decode(rest)?;
    let output = Vec::<TxOut>::consensus_decode(rest)?;
    if segwit {
        for input in &mut input {
            input.witness = Witness::consensus_decode(rest)?;
        }
    }
    Ok(Transaction {
        version,
        lock_time: LockTime::consensus_decode(rest)?,
        input,
        output,
    })
}

fn malformed(kind: TxKind, reason: &str) -> Error {
    Error::MalformedTx {
        kind,
        reason: reason.to_owned(),
    }
}
