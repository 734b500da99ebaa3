//! What a taproot key-path input signs, and the finished input.

use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{Message, XOnlyPublicKey, schnorr};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{TapSighashType, Transaction, TxOut, Witness};

use super::{TxField, TxKind};
use crate::curve::CURVE;
use crate::{Error, Result};

/// The BIP 341 key-path hash of `input`, sighash type default, no annex. `prevouts` are the
/// outputs that all inputs spend, in order.
///
/// # Errors
/// [`Error::MalformedTx`] if there is no such input or not one output per input.
pub fn sighash(tx: &Transaction, input: usize, prevouts: &[TxOut]) -> Result<[u8; 32]> {
    hash(tx, input, prevouts, TapSighashType::Default)
}

/// Puts a key-path signature into the witness of `input`. Without effect if there is no such
/// input.
#[must_use]
pub fn finalize(mut tx: Transaction, input: usize, signature: &[u8; 64]) -> Transaction {
    if let Some(input) = tx.input.get_mut(input) {
        input.witness = Witness::from_slice(&[signature.as_slice()]);
    }
    tx
}

/// Checks the key-path signature in the witness of `input`: exactly one element, sighash type
/// default or ALL, valid under the key of the output that it spends.
///
/// # Errors
/// [`Error::TxMismatch`] for a witness of another form, [`Error::BadSignature`] for a signature
/// that does not verify, [`Error::MalformedTx`] if the output spent is no taproot output.
pub fn verify_input(
    tx: &Transaction,
    input: usize,
    prevouts: &[TxOut],
    kind: TxKind,
) -> Result<()> {
    let malformed = |reason: &str| Error::MalformedTx {
        kind,
        reason: reason.to_owned(),
    };
    let signed = tx
        .input
        .get(input)
        .ok_or_else(|| malformed("has no such input"))?;
    let form = |provided: String| Error::TxMismatch {
        kind,
        field: TxField::Witness(input),
        expected: "one signature over all inputs and outputs".to_owned(),
        provided,
    };
    let mut elements = signed.witness.iter();
    let (Some(element), None) = (elements.next(), elements.next()) else {
        return Err(form(format!("{} elements", signed.witness.len())));
    };
    let (signature, sighash_type) = match element.split_last() {
        Some((&last, first)) if first.len() == 64 => {
            match TapSighashType::from_consensus_u8(last) {
                Ok(TapSighashType::All) => (first, TapSighashType::All),
                _ => return Err(form(format!("a signature with sighash byte {last:#04x}"))),
            }
        }
        _ if element.len() == 64 => (element, TapSighashType::Default),
        _ => return Err(form(format!("{} bytes", element.len()))),
    };
    let key = prevouts
        .get(input)
        .ok_or_else(|| malformed("has no output to spend"))
        .and_then(|output| {
            taproot_key(output).ok_or_else(|| malformed("spends no taproot output"))
        })?;
    let message = Message::from_digest(hash(tx, input, prevouts, sighash_type)?);
    let bad = |_| Error::BadSignature {
        what: "the signature of a transaction",
    };
    let signature = schnorr::Signature::from_slice(signature).map_err(bad)?;
    CURVE
        .verify_schnorr(&signature, &message, &key)
        .map_err(bad)
}

fn hash(
    tx: &Transaction,
    input: usize,
    prevouts: &[TxOut],
    sighash_type: TapSighashType,
) -> Result<[u8; 32]> {
    if input >= tx.input.len() {
        return Err(Error::MalformedTx {
            kind: TxKind::Other,
            reason: format!("has no input {input}"),
        });
    }
    SighashCache::new(tx)
        .taproot_key_spend_signature_hash(input, &Prevouts::All(prevouts), sighash_type)
        .map(|hash| hash.to_byte_array())
        .map_err(|error| Error::MalformedTx {
            kind: TxKind::Other,
            reason: error.to_string(),
        })
}

fn taproot_key(output: &TxOut) -> Option<XOnlyPublicKey> {
    if !output.script_pubkey.is_p2tr() {
        return None;
    }
    let key = output.script_pubkey.as_bytes().get(2..)?;
    XOnlyPublicKey::from_slice(key).ok()
}
