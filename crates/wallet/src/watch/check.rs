//! What a bundle must be before it is relied on.

use bitcoin::Transaction;
use tinderbox_protocol::tx::{TxKind, first_output, p2tr, verify_input};

use crate::error::{Error, Result};
use crate::exit::{Bundle, ExitPath};

/// Checks that every leaf's transactions belong together and are signed: a damaged bundle must be
/// found out now, not when it is needed.
///
/// # Errors
/// [`Error::Bundle`] that names the leaf and what is wrong.
pub fn check(bundle: &Bundle) -> Result<()> {
    for path in &bundle.paths {
        check_path(path).map_err(|what| Error::Bundle {
            reason: format!(
                "leaf {}: {what}. The file is damaged: export it again",
                path.leaf
            ),
        })?;
    }
    Ok(())
}

fn check_path(path: &ExitPath) -> Result<(), String> {
    let Some(own) = path.nodes.last() else {
        return Err("it has no node".into());
    };
    if own.id != path.leaf {
        return Err("its last node is another leaf's".into());
    }
    let mut above: Option<&Transaction> = None;
    for node in &path.nodes {
        if let Some(parent) = above {
            spends(&node.tx, parent, TxKind::Node)?;
        }
        if let Some(direct) = &node.direct {
            let same = |tx: &Transaction| tx.input.first().map(|input| input.previous_output);
            if same(&direct.0) != same(&node.tx) {
                return Err("a fee-paying node transaction spends something else".into());
            }
            if let Some(parent) = above
                && is_signed(&direct.0)
            {
                spends(&direct.0, parent, TxKind::DirectNode)?;
            }
        }
        above = Some(&node.tx);
    }
    let output = first_output(&own.tx).map_err(|error| error.to_string())?;
    if output.output.script_pubkey != p2tr(&path.verifying_key) {
        return Err("its node does not pay its key".into());
    }
    spends(&path.refund, &own.tx, TxKind::CpfpRefund)?;
    let pays = |tx: &Transaction| tx.output.first().map(|output| output.script_pubkey.clone());
    let owner = pays(&path.refund);
    if let Some(refund) = &path.direct_from_cpfp_refund {
        spends_if_signed(&refund.0, &own.tx, TxKind::DirectFromCpfpRefund)?;
        if pays(&refund.0) != owner {
            return Err("its refunds pay different keys".into());
        }
    }
    if let (Some(refund), Some(direct)) = (&path.direct_refund, &own.direct) {
        spends_if_signed(&refund.0, &direct.0, TxKind::DirectRefund)?;
        if pays(&refund.0) != owner {
            return Err("its refunds pay different keys".into());
        }
    }
    Ok(())
}

/// True if every input has a witness.
pub(super) fn is_signed(tx: &Transaction) -> bool {
    tx.input.iter().all(|input| !input.witness.is_empty())
}

fn spends_if_signed(tx: &Transaction, parent: &Transaction, kind: TxKind) -> Result<(), String> {
    if is_signed(tx) {
        spends(tx, parent, kind)
    } else {
        Ok(())
    }
}

/// `tx` spends output 0 of `parent` and nothing else, with a valid signature.
fn spends(tx: &Transaction, parent: &Transaction, kind: TxKind) -> Result<(), String> {
    let spent = first_output(parent).map_err(|error| error.to_string())?;
    match tx.input.as_slice() {
        [input] if input.previous_output == spent.outpoint => {}
        _ => return Err(format!("its {kind:?} does not spend what is above it")),
    }
    verify_input(tx, 0, &[spent.output], kind).map_err(|error| error.to_string())
}
