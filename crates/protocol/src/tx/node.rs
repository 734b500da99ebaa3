//! Node transactions below a root.

use bitcoin::{Transaction, TxOut};

use super::fee::after_direct_fee;
use super::{TxKind, UnsignedTx, anchor, first_output, spend};
use crate::Result;
use crate::timelock::LeafSequence;

/// Spends output 0 of the parent's node transaction to the same script; fee-less.
///
/// # Errors
/// [`Error::MissingOutput`](crate::Error::MissingOutput) if the parent has no output.
pub fn build(parent: &Transaction, sequence: LeafSequence) -> Result<UnsignedTx> {
    let spent = first_output(parent)?;
    let output = spent.output.clone();
    Ok(spend(
        TxKind::Node,
        vec![(spent, sequence.to_bitcoin())],
        vec![output, anchor()],
    ))
}

/// The fee-paying variant of [`build`]. It spends the same output, that of the parent's fee-less
/// transaction, [`DIRECT_OFFSET`](crate::timelock::DIRECT_OFFSET) blocks later. `sequence` is
/// that of the fee-less node.
///
/// # Errors
/// [`Error::MissingOutput`](crate::Error::MissingOutput),
/// [`Error::TimelockTooLong`](crate::Error::TimelockTooLong).
pub fn direct(parent: &Transaction, sequence: LeafSequence) -> Result<UnsignedTx> {
    let spent = first_output(parent)?;
    let output = TxOut {
        value: after_direct_fee(spent.output.value.into()).to_amount(),
        script_pubkey: spent.output.script_pubkey.clone(),
    };
    Ok(spend(
        TxKind::DirectNode,
        vec![(spent, sequence.direct()?.to_bitcoin())],
        vec![output],
    ))
}
