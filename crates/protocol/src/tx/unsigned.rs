//! Unsigned transactions together with the outputs that they spend.

use std::ops::Deref;

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

use super::{TxKind, compare, compare_signed, finalize, sighash, verify_input};
use crate::{Error, Result};

/// An output of the chain or of a parent transaction: where it is and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Utxo {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it holds.
    pub output: TxOut,
}

impl Utxo {
    /// Output `vout` of `tx`.
    ///
    /// # Errors
    /// [`Error::MissingOutput`].
    pub fn of(tx: &Transaction, vout: u32) -> Result<Self> {
        let outpoint = OutPoint {
            txid: tx.compute_txid(),
            vout,
        };
        let index = usize::try_from(vout).map_err(|_| Error::MissingOutput { outpoint })?;
        match tx.output.get(index) {
            Some(output) => Ok(Self {
                outpoint,
                output: output.clone(),
            }),
            None => Err(Error::MissingOutput { outpoint }),
        }
    }
}

/// Output 0 of a node or refund transaction, which is the one that carries the value.
///
/// # Errors
/// [`Error::MissingOutput`].
pub fn first_output(tx: &Transaction) -> Result<Utxo> {
    Utxo::of(tx, 0)
}

/// A transaction without witness, and the outputs that its inputs spend, in order. It can be used
/// wherever a `&Transaction` is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsignedTx {
    /// The transaction.
    pub tx: Transaction,
    /// What its inputs spend.
    pub prevouts: Vec<TxOut>,
    /// What it is.
    pub kind: TxKind,
}

impl UnsignedTx {
    /// The hash that input 0 signs.
    ///
    /// # Errors
    /// [`Error::MalformedTx`] if inputs and outputs spent differ in number.
    pub fn sighash(&self) -> Result<[u8; 32]> {
        self.sighash_of(0)
    }

    /// The hash that one input signs.
    ///
    /// # Errors
    /// [`Error::MalformedTx`] if there is no such input.
    pub fn sighash_of(&self, input: usize) -> Result<[u8; 32]> {
        sighash(&self.tx, input, &self.prevouts)
    }

    /// Takes over `raw` if it is this transaction; see [`compare`].
    ///
    /// # Errors
    /// As [`compare`].
    pub fn check(&self, raw: &[u8]) -> Result<Self> {
        Ok(Self {
            tx: compare(&self.tx, raw, self.kind)?,
            prevouts: self.prevouts.clone(),
            kind: self.kind,
        })
    }

    /// Reads `raw` and returns it if it is this transaction with valid key-path signatures: of
    /// every input of a root, of input 0 of any other (whoever owns a connector signs it last).
    ///
    /// # Errors
    /// As [`compare`] and [`verify_input`].
    pub fn check_signed(&self, raw: &[u8]) -> Result<Transaction> {
        let actual = compare_signed(&self.tx, raw, self.kind)?;
        let signed = match self.kind {
            TxKind::Root => actual.input.len(),
            _ => 1,
        };
        for input in 0..signed {
            verify_input(&actual, input, &self.prevouts, self.kind)?;
        }
        Ok(actual)
    }

    /// The transaction with a key-path signature for input 0.
    #[must_use]
    pub fn finalize(&self, signature: &[u8; 64]) -> Transaction {
        finalize(self.tx.clone(), 0, signature)
    }

    /// The bytes that requests carry.
    #[must_use]
    pub fn serialize(&self) -> Vec<u8> {
        bitcoin::consensus::serialize(&self.tx)
    }

    /// The output that carries the value, as the parent of the next transaction.
    ///
    /// # Errors
    /// [`Error::MissingOutput`].
    pub fn first_output(&self) -> Result<Utxo> {
        first_output(&self.tx)
    }
}

impl Deref for UnsignedTx {
    type Target = Transaction;

    fn deref(&self) -> &Transaction {
        &self.tx
    }
}

impl AsRef<Transaction> for UnsignedTx {
    fn as_ref(&self) -> &Transaction {
        &self.tx
    }
}

/// A version 3 transaction without locktime that spends `inputs` into `outputs`.
pub(crate) fn spend(kind: TxKind, inputs: Vec<(Utxo, Sequence)>, output: Vec<TxOut>) -> UnsignedTx {
    let mut input = Vec::with_capacity(inputs.len());
    let mut prevouts = Vec::with_capacity(inputs.len());
    for (utxo, sequence) in inputs {
        input.push(TxIn {
            previous_output: utxo.outpoint,
            script_sig: ScriptBuf::new(),
            sequence,
            witness: Witness::new(),
        });
        prevouts.push(utxo.output);
    }
    UnsignedTx {
        tx: Transaction {
            version: Version::non_standard(3),
            lock_time: LockTime::ZERO,
            input,
            output,
        },
        prevouts,
        kind,
    }
}
