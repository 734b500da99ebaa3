//! Connectors: they tie the refunds of a cooperative exit to the exit transaction, so that the
//! leaves are only lost if the payout confirms.

use bitcoin::{Script, Sequence, Transaction, Txid};

use super::{TxField, TxKind, UnsignedTx, Utxo, parse_unsigned};
use crate::{Error, Result, Sats};

/// Adds `connector` as the second input of a refund.
#[must_use]
pub fn attach(refund: UnsignedTx, connector: &Utxo) -> UnsignedTx {
    let mut refund = refund;
    refund.tx.input.push(bitcoin::TxIn {
        previous_output: connector.outpoint,
        script_sig: bitcoin::ScriptBuf::new(),
        sequence: Sequence::MAX,
        witness: bitcoin::Witness::new(),
    });
    refund.prevouts.push(connector.output.clone());
    refund
}

/// A connector transaction that has been checked: one input, which spends the exit transaction,
/// one output per leaf and one for the fee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectorTx {
    tx: Transaction,
}

impl ConnectorTx {
    /// Reads a connector transaction for `leaves` leaves of the exit `exit_txid`.
    ///
    /// # Errors
    /// [`Error::MalformedTx`] unless it is an unsigned transaction, [`Error::TxMismatch`] for
    /// another version or locktime, not exactly one input that spends `exit_txid`, or not
    /// exactly one output more than leaves.
    pub fn parse(raw: &[u8], exit_txid: Txid, leaves: usize) -> Result<Self> {
        let kind = TxKind::Connector;
        let tx = parse_unsigned(raw, kind)?;
        let mismatch = |field, expected: String, provided: String| Error::TxMismatch {
            kind,
            field,
            expected,
            provided,
        };
        if tx.version != bitcoin::transaction::Version::non_standard(3) {
            return Err(mismatch(
                TxField::Version,
                "3".to_owned(),
                tx.version.to_string(),
            ));
        }
        if tx.lock_time != bitcoin::absolute::LockTime::ZERO {
            return Err(mismatch(
                TxField::LockTime,
                "0".to_owned(),
                tx.lock_time.to_string(),
            ));
        }
        let [input] = tx.input.as_slice() else {
            return Err(mismatch(
                TxField::InputCount,
                "1".to_owned(),
                tx.input.len().to_string(),
            ));
        };
        if input.previous_output.txid != exit_txid {
            return Err(mismatch(
                TxField::Prevout(0),
                format!("an output of {exit_txid}"),
                input.previous_output.to_string(),
            ));
        }
        let outputs = leaves.checked_add(1).ok_or(Error::AmountOverflow)?;
        if tx.output.len() != outputs {
            return Err(mismatch(
                TxField::OutputCount,
                outputs.to_string(),
                tx.output.len().to_string(),
            ));
        }
        Ok(Self { tx })
    }

    /// The connector of the leaf at place `leaf` in the request (fee leaves first).
    ///
    /// # Errors
    /// [`Error::MissingOutput`] for the last output, which pays the fee, and beyond.
    pub fn connector(&self, leaf: usize) -> Result<Utxo> {
        let vout = u32::try_from(leaf).unwrap_or(u32::MAX);
        if leaf.saturating_add(1) >= self.tx.output.len() {
            return Err(Error::MissingOutput {
                outpoint: bitcoin::OutPoint {
                    txid: self.tx.compute_txid(),
                    vout,
                },
            });
        }
        Utxo::of(&self.tx, vout)
    }

    /// The transaction.
    #[must_use]
    pub const fn tx(&self) -> &Transaction {
        &self.tx
    }
}

/// Checks that an exit transaction is the one announced and pays `least` or more to `script`.
///
/// # Errors
/// [`Error::TxMismatch`] for another id, or if no output pays enough.
pub fn check_payout(
    exit: &Transaction,
    announced: Txid,
    script: &Script,
    least: Sats,
) -> Result<()> {
    let kind = TxKind::CoopExit;
    let txid = exit.compute_txid();
    if txid != announced {
        return Err(Error::TxMismatch {
            kind,
            field: TxField::Txid,
            expected: announced.to_string(),
            provided: txid.to_string(),
        });
    }
    let paid = exit
        .output
        .iter()
        .filter(|output| *output.script_pubkey == *script)
        .map(|output| Sats::from(output.value))
        .max()
        .unwrap_or_default();
    if paid < least {
        return Err(Error::TxMismatch {
            kind,
            field: TxField::Payout,
            expected: least.to_string(),
            provided: paid.to_string(),
        });
    }
    Ok(())
}
