//! Refunds: what lets an owner leave alone.
//!
//! These take the sequence and the output script as they are; [`refunds`](crate::refunds) knows
//! which ones a situation demands.

use bitcoin::{ScriptBuf, Transaction, TxOut};

use super::fee::after_direct_fee;
use super::{TxKind, UnsignedTx, anchor, first_output, spend};
use crate::Result;
use crate::timelock::LeafSequence;

/// Spends the node transaction to `destination`, all of it; fee-less.
///
/// # Errors
/// [`Error::MissingOutput`](crate::Error::MissingOutput) if the node has no output.
pub fn cpfp(
    node_tx: &Transaction,
    sequence: LeafSequence,
    destination: ScriptBuf,
) -> Result<UnsignedTx> {
    let spent = first_output(node_tx)?;
    let output = TxOut {
        value: spent.output.value,
        script_pubkey: destination,
    };
    Ok(spend(
        TxKind::CpfpRefund,
        vec![(spent, sequence.to_bitcoin())],
        vec![output, anchor()],
    ))
}

/// Spends the direct node transaction to `destination`, less a second fee.
///
/// # Errors
/// [`Error::MissingOutput`](crate::Error::MissingOutput) if the node has no output.
pub fn direct(
    direct_tx: &Transaction,
    sequence: LeafSequence,
    destination: ScriptBuf,
) -> Result<UnsignedTx> {
    paying(TxKind::DirectRefund, direct_tx, sequence, destination)
}

/// Spends the fee-less node transaction to `destination`, less a fee.
///
/// # Errors
/// [`Error::MissingOutput`](crate::Error::MissingOutput) if the node has no output.
pub fn direct_from_cpfp(
    node_tx: &Transaction,
    sequence: LeafSequence,
    destination: ScriptBuf,
) -> Result<UnsignedTx> {
    paying(TxKind::DirectFromCpfpRefund, node_tx, sequence, destination)
}

fn paying(
    kind: TxKind,
    parent: &Transaction,
    sequence: LeafSequence,
    destination: ScriptBuf,
) -> Result<UnsignedTx> {
    let spent = first_output(parent)?;
    let output = TxOut {
        value: after_direct_fee(spent.output.value.into()).to_amount(),
        script_pubkey: destination,
    };
    Ok(spend(
        kind,
        vec![(spent, sequence.to_bitcoin())],
        vec![output],
    ))
}
