//! The way from a deposit to a leaf: the node transactions that its owner needs to leave alone.

use bitcoin::Transaction;
use bitcoin::secp256k1::PublicKey;

use crate::refunds::sequence_of;
use crate::tx::{TxField, TxKind, Utxo, node, p2tr, parse_any, root};
use crate::{Error, Result};

/// Checks a branch: `deposits` are the outputs on chain that the root spends, `nodes` the signed
/// node transactions from the root to the leaf. Each must be the one transaction that can follow
/// the one above it, pay all of the value to `verifying_key`, end in an anchor, and carry valid
/// signatures. Whether the deposits are confirmed and unspent is for the caller to ask the chain.
///
/// Returns the leaf's node transaction.
///
/// # Errors
/// [`Error::InvalidDeposit`] if there is no deposit or no root, [`Error::TxMismatch`] (or another
/// error of [`compare`](crate::tx::compare)) where a transaction is not what the one above
/// allows, [`Error::BadSignature`].
pub fn verify(
    verifying_key: &PublicKey,
    deposits: &[Utxo],
    nodes: &[Vec<u8>],
) -> Result<Transaction> {
    let Some((first, rest)) = nodes.split_first() else {
        return Err(Error::InvalidDeposit {
            reason: "the branch has no root: ask for the leaf's ancestors again".to_owned(),
        });
    };
    let expected = root::build(deposits)?;
    let script = p2tr(verifying_key);
    for (place, output) in expected.prevouts.iter().enumerate() {
        if output.script_pubkey != script {
            return Err(Error::TxMismatch {
                kind: TxKind::Root,
                field: TxField::Prevout(place),
                expected: format!("an output of the verifying key {verifying_key}"),
                provided: output.script_pubkey.to_hex_string(),
            });
        }
    }
    let mut above = expected.check_signed(first)?;
    for raw in rest {
        let sequence = sequence_of(&parse_any(raw, TxKind::Node)?, TxKind::Node)?;
        above = node::build(&above, sequence)?.check_signed(raw)?;
    }
    Ok(above)
}
