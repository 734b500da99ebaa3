//! Outputs at deposit addresses, as those flows see them that spend one: is it there, whose is it,
//! is it promised to somebody, and what signs it.

use bitcoin::{OutPoint, TxOut};
use tinderbox_frost::{SigningPackage, tweak};
use tinderbox_protocol::hash::{StaticDepositRequest, StaticDepositStatement};
use tinderbox_protocol::tx::{UnsignedTx, Utxo};
use tinderbox_protocol::{Network, Sats};

use crate::checks::{KeyPart, check_ecdsa, plan};
use crate::flow::{ChainFact, Frame, Inputs, Plan};
use crate::package::{OpenJob, check_signers};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::rows::{
    AddressRow, FlowRow, JobRow, KeyshareRow, Part, UtxoHoldRow, UtxoRow, UtxoSwapKind, UtxoSwapRow,
};

/// An output at a deposit address, with what signs for it.
pub(crate) struct Output {
    /// Where it is, and what it holds.
    pub utxo: Utxo,
    /// The address.
    pub address: AddressRow,
    /// The operators' half of its key.
    pub keyshare: KeyshareRow,
    /// What the chain says.
    pub fact: ChainFact,
}

impl Output {
    /// Value of the output.
    pub(crate) fn value(&self) -> Sats {
        self.fact.value
    }
}

/// The text in which statements name a transaction: display order.
pub(crate) fn txid_text(outpoint: &OutPoint) -> String {
    outpoint.txid.to_string()
}

/// The output at `outpoint`, buried by `confirmations` blocks as this operator's own node sees it.
///
/// # Errors
/// A refusal if it is not there, spent, not deep enough, or at no address of ours.
pub(crate) fn find(
    frame: &Frame<'_>,
    inputs: &Inputs,
    outpoint: &OutPoint,
    confirmations: u32,
) -> Result<Output, Halt> {
    let Some(fact) = inputs.chain.get(outpoint) else {
        return refuse(
            Reason::MissingEntity,
            format!(
                "on_chain_utxo: no unspent output {outpoint} is on the chain: check txid and vout"
            ),
        );
    };
    let address = frame
        .rows
        .get::<AddressRow>(fact.script.to_bytes())?
        .filter(|address| address.proof.is_some());
    let Some(address) = address else {
        return refuse(
            Reason::MissingEntity,
            format!("on_chain_utxo: {outpoint} pays no deposit address of these operators"),
        );
    };
    if fact.confirmations < confirmations {
        return refuse(
            Reason::InsufficientConfirmations,
            format!(
                "utxo {outpoint} is not yet confirmed: {} of {confirmations} confirmations",
                fact.confirmations
            ),
        );
    }
    let Some(keyshare) = frame.rows.get::<KeyshareRow>(address.keyshare.0.to_vec())? else {
        return refuse(Reason::Internal, "the address' key share is missing");
    };
    Ok(Output {
        utxo: Utxo {
            outpoint: *outpoint,
            output: TxOut {
                value: fact.value.to_amount(),
                script_pubkey: fact.script.clone(),
            },
        },
        address,
        keyshare,
        fact: fact.clone(),
    })
}

/// Refuses an output that is, or is about to be, part of a tree, and one whose address' key has
/// moved on with a leaf.
///
/// A single-use address has the key of the leaf that its deposit became. While that leaf has not
/// moved, operators and the address' owner can sign for any other output at it. Afterwards nobody
/// can who should: the operators have destroyed their half. The outputs of the tree's own
/// transactions pay the same key: whoever spent one of them here would leave without the timelock
/// that protects those to whom the leaf is promised. Which those are only this operator's own view
/// of the chain tells, so an output at such an address must be in it.
///
/// # Errors
/// A refusal that says which.
pub(crate) fn check_signable(frame: &Frame<'_>, output: &Output) -> Result<(), Halt> {
    let outpoint = &output.utxo.outpoint;
    match frame.rows.get::<UtxoRow>(UtxoRow::id_of(outpoint))? {
        Some(row) if row.tree.is_some() || row.of_tree => {
            return refuse(
                Reason::DuplicateOperation,
                format!("utxo {outpoint} has become a leaf"),
            );
        }
        Some(row) if row.block.is_some() => {}
        _ if output.address.tree.is_some() => {
            return refuse(
                Reason::InsufficientConfirmations,
                format!("utxo {outpoint} is not yet seen in a block by all operators: try again"),
            );
        }
        _ => {}
    }
    if !output.address.is_static && output.address.pending.is_some() {
        return Err(Refusal::new(
            Reason::LockConflict,
            format!(
                "a deposit to {} is being made into a leaf: try again",
                output.address.address
            ),
        )
        .held_by(output.address.pending)
        .into());
    }
    if is_moved(&output.address, &output.keyshare) {
        return refuse(
            Reason::InvalidState,
            format!(
                "the key of the single-use address {} has moved on with the leaf that its first deposit became: nobody can sign for {outpoint} any more",
                output.address.address
            ),
        );
    }
    Ok(())
}

/// True if the key share is not the address' any more.
fn is_moved(address: &AddressRow, keyshare: &KeyshareRow) -> bool {
    !tweak::add_points(&keyshare.group_key, &address.owner_signing)
        .is_ok_and(|key| key == address.verifying_key)
}

/// The swap that has this output, or the next one of its value at its address.
///
/// With a certificate only the output counts: a reservation that was made since, beside those who
/// had this flow's row already, is for another one.
///
/// # Errors
/// A miss, or a fault.
pub(crate) fn promised(
    frame: &Frame<'_>,
    inputs: &Inputs,
    output: &Output,
) -> Result<Option<UtxoSwapRow>, Halt> {
    let slot = inputs
        .clock
        .map(|_| UtxoHoldRow::slot(&output.address.script, output.value()));
    let own = UtxoHoldRow::output(&output.utxo.outpoint);
    for what in std::iter::once(own).chain(slot) {
        if let Some(hold) = frame.rows.get::<UtxoHoldRow>(what)? {
            return swap(frame, &hold).map(Some);
        }
    }
    Ok(None)
}

/// The swap that a hold names.
///
/// # Errors
/// A miss, or a fault if it is not there.
pub(crate) fn swap(frame: &Frame<'_>, hold: &UtxoHoldRow) -> Result<UtxoSwapRow, Halt> {
    match frame.rows.get::<UtxoSwapRow>(hold.swap.0.to_vec())? {
        Some(swap) => Ok(swap),
        None => refuse(Reason::Internal, format!("swap {} is missing", hold.swap)),
    }
}

/// The refusal for an output that somebody else has.
pub(crate) fn registered(outpoint: &OutPoint, swap: &UtxoSwapRow) -> Halt {
    let what = match swap.kind {
        UtxoSwapKind::Refund => "it is refunded to its owner",
        UtxoSwapKind::Fixed => "a service provider takes it",
        UtxoSwapKind::Instant => "a service provider has paid for it",
    };
    Refusal::new(
        Reason::DuplicateOperation,
        format!("utxo swap is already registered for {outpoint}: {what}"),
    )
    .held_by(swap.held)
    .into()
}

/// Checks what an output's owner signed.
///
/// # Errors
/// A refusal that names `user_signature`, or `hash_variant` if it is unknown.
pub(crate) fn check_statement(
    network: Network,
    output: &Output,
    credit: Sats,
    request: StaticDepositRequest<'_>,
    signature: &[u8],
    hash_variant: u8,
) -> Result<(), Halt> {
    let txid = txid_text(&output.utxo.outpoint);
    let statement = StaticDepositStatement {
        network,
        txid: &txid,
        vout: output.utxo.outpoint.vout,
        credit,
        request,
    };
    let digest = match hash_variant {
        0 => statement.digest(),
        1 => statement.digest_v2(),
        other => {
            return refuse(
                Reason::MalformedField,
                format!("hash_variant {other} is unknown: use 0 or 1"),
            );
        }
    };
    check_ecdsa(&output.address.owner, &digest, signature, "user_signature")
}

/// The operators' part of the signature of a transaction that spends an output. Whoever has the
/// other half of the key completes it.
///
/// # Errors
/// A refusal that names `field`.
pub(crate) fn spend_job(
    frame: &Frame<'_>,
    output: &Output,
    tx: &UnsignedTx,
    sent: &OpenJob,
    field: &str,
) -> Result<JobRow, Halt> {
    if sent.signing_key != output.address.owner_signing {
        return refuse(
            Reason::MalformedField,
            format!("{field}.signing_public_key is not the key of this address"),
        );
    }
    check_signers(&sent.operators, frame.site.threshold, frame.site.count())?;
    Ok(JobRow {
        leaf: None,
        part: Part::Spend,
        package: SigningPackage {
            verifying_key: output.address.verifying_key,
            message: tx.sighash().map_err(|error| bad_spend(field, &error))?,
            operators: sent.operators.clone(),
            user: Some(sent.commitment),
            adaptor: None,
            threshold: frame.site.threshold,
        },
        user_share: None,
        user_key: Some(output.address.owner_signing),
        public_shares: output.keyshare.public_shares.clone(),
    })
}

/// The refusal of a transaction that breaks a rule.
pub(crate) fn bad_spend(field: &str, error: &tinderbox_protocol::Error) -> Halt {
    Refusal::new(Reason::MalformedField, format!("{field}.raw_tx: {error}")).into()
}

/// The key share's part in a plan.
pub(crate) fn key_part(keyshare: &KeyshareRow, place: u32) -> KeyPart<'_> {
    KeyPart {
        keyshare,
        tweak: None,
        after_tweak: false,
        places: vec![place],
    }
}

/// What the signer does for a flow whose only job spends an output at `script`. Nothing, if the
/// key moved on meanwhile: what it signed then would be worthless.
///
/// # Errors
/// A miss, or a fault if the rows are gone.
pub(crate) fn spend_plan(
    frame: &Frame<'_>,
    row: &FlowRow,
    address: &AddressRow,
) -> Result<Plan, Halt> {
    match frame.rows.get::<KeyshareRow>(address.keyshare.0.to_vec())? {
        Some(keyshare) if is_moved(address, &keyshare) => Ok(Plan::default()),
        Some(keyshare) => Ok(plan(frame.site, &row.jobs, vec![key_part(&keyshare, 0)])),
        None => refuse(Reason::Internal, "the address' key share is missing"),
    }
}
