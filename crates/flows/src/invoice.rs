//! Paying a Spark invoice: what it asks for, once.
//!
//! The invoice's row is the place for one payment. It is taken in the same write that locks the
//! leaves, so of two payments that are begun at once, at whatever operators, at most one is made.

use std::collections::BTreeSet;
use std::str::FromStr;

use bitcoin::secp256k1::PublicKey;
use tinderbox_protocol::invoice::{Payment, SparkInvoice};
use tinderbox_protocol::{Network, Sats, TransferId};

use crate::flow::{Frame, Inputs};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::rows::{InvoiceRow, Millis, TransferRow, TransferStatus};
use crate::snapshot::Changes;
use crate::start::{Started, transfer};

/// How far the coordinator's clock, by which the end of an invoice is judged, may be from an
/// operator's own, in milliseconds.
pub const MAX_SKEW_MS: u64 = 15 * 60 * 1000;

/// The place of an invoice, free to be taken.
#[derive(Clone, Debug)]
pub struct Place {
    invoice: SparkInvoice,
    row: InvoiceRow,
}

/// The place of the invoice `text` for the payment `payer`; none if `text` is empty. Reads all rows
/// that are needed, so that nothing is computed twice.
///
/// # Errors
/// A miss, or a refusal if the text is no invoice for this network, or it is paid.
pub fn place(frame: &Frame<'_>, text: &str, payer: &TransferId) -> Result<Option<Place>, Halt> {
    if text.is_empty() {
        return Ok(None);
    }
    let invoice = read(text, frame.site.network)?;
    let id = invoice.fields.id.into_bytes();
    let row = InvoiceRow {
        id,
        text: text.to_owned(),
        transfer: *payer,
        before: returned_payment(frame, id, text, payer)?,
    };
    Ok(Some(Place { invoice, row }))
}

impl Place {
    /// Takes the place for the payment that `started` begins. `now` is the coordinator's time.
    ///
    /// # Errors
    /// A refusal that says what does not fit.
    pub fn take(
        &self,
        frame: &Frame<'_>,
        inputs: &Inputs,
        now: Millis,
        started: &mut Started,
    ) -> Result<(), Halt> {
        check(&self.invoice, &started.transfer)?;
        check_time(&self.invoice, now, inputs.clock)?;
        started.changes.put(frame.rows, &self.row)?;
        Ok(())
    }
}

/// Gives the place back if the payment `payer`, which had taken it, comes to nothing.
///
/// # Errors
/// A miss.
pub fn release(
    frame: &Frame<'_>,
    text: &str,
    payer: &TransferId,
    changes: &mut Changes,
) -> Result<(), Halt> {
    let Ok(invoice) = SparkInvoice::from_str(text) else {
        return Ok(());
    };
    let id = invoice.fields.id.into_bytes();
    let Some(row) = frame.rows.get::<InvoiceRow>(id)? else {
        return Ok(());
    };
    if row.transfer != *payer {
        return Ok(());
    }
    match row.before {
        None => changes.delete::<InvoiceRow>(frame.rows, id)?,
        Some(before) => changes.put(
            frame.rows,
            &InvoiceRow {
                transfer: before,
                before: None,
                ..row
            },
        )?,
    }
    Ok(())
}

/// An invoice for sats on this network.
///
/// # Errors
/// A refusal that says what is wrong with the text.
pub fn read(text: &str, network: Network) -> Result<SparkInvoice, Halt> {
    let invoice = SparkInvoice::from_str(text).map_err(|error| malformed(&error.to_string()))?;
    if invoice.network != network {
        return Err(malformed(&format!(
            "it is for network {}, these operators serve {network}",
            invoice.network
        )));
    }
    invoice
        .verify()
        .map_err(|error| Refusal::new(Reason::BadSignature, format!("spark_invoice: {error}")))?;
    Ok(invoice)
}

/// True if two invoices of one id ask for the same money: payee, kind, amount, token.
#[must_use]
pub fn same_money(one: &SparkInvoice, other: &SparkInvoice) -> bool {
    one.receiver == other.receiver && one.fields.payment == other.fields.payment
}

/// The transfer that had the place and was returned, if one had.
fn returned_payment(
    frame: &Frame<'_>,
    id: [u8; 16],
    text: &str,
    payer: &TransferId,
) -> Result<Option<TransferId>, Halt> {
    let Some(row) = frame.rows.get::<InvoiceRow>(id)? else {
        return Ok(None);
    };
    if row.text != text {
        return refuse(
            Reason::DuplicateOperation,
            "spark_invoice: another invoice with this id is known: ask the payee for a new one",
        );
    }
    if row.transfer == *payer {
        // The same request again: the start refuses it by its id.
        return Ok(row.before);
    }
    match transfer(frame, &row.transfer)? {
        Some(paying) if paying.status == TransferStatus::Returned => Ok(Some(row.transfer)),
        Some(paying) if paying.held.is_some() && paying.status.is_staged() => Err(Refusal::new(
            Reason::LockConflict,
            "spark_invoice: somebody is paying this invoice: try again",
        )
        .held_by(paying.held)
        .into()),
        _ => refuse(
            Reason::InvalidState,
            "spark_invoice: this invoice has already been paid: ask the payee for a new one",
        ),
    }
}

/// Compares what the invoice asks for with what is sent.
fn check(invoice: &SparkInvoice, transfer: &TransferRow) -> Result<(), Halt> {
    let receivers: BTreeSet<PublicKey> = transfer
        .receivers
        .iter()
        .map(|receiver| receiver.identity)
        .collect();
    if receivers != BTreeSet::from([invoice.receiver]) {
        return Err(malformed(
            "its payee is not the receiver of the transfer: send to the payee",
        ));
    }
    if invoice
        .fields
        .sender
        .is_some_and(|sender| sender != transfer.sender)
    {
        return Err(malformed("it asks somebody else to pay"));
    }
    match invoice.fields.payment {
        Payment::Sats(None) => Ok(()),
        Payment::Sats(Some(Sats(amount))) if amount == transfer.total().0 => Ok(()),
        Payment::Sats(Some(Sats(amount))) => Err(malformed(&format!(
            "it asks for {amount} sats, the leaves are worth {}: send leaves of exactly that",
            transfer.total().0
        ))),
        Payment::Tokens { .. } => Err(malformed("it asks for a token, not for sats")),
    }
}

/// The end of an invoice is judged by the coordinator's clock, so that all operators judge alike,
/// as long as that clock is right.
fn check_time(invoice: &SparkInvoice, now: Millis, clock: Option<Millis>) -> Result<(), Halt> {
    let Some(expiry) = invoice.fields.expiry else {
        return Ok(());
    };
    if clock.is_some_and(|clock| clock.0.abs_diff(now.0) > MAX_SKEW_MS) {
        return refuse(
            Reason::Disagreement,
            "clocks of operators are too far apart to judge whether the invoice has expired: use another operator",
        );
    }
    if expiry.as_millis() <= now.0 {
        return Err(malformed("it has expired: ask the payee for a new one"));
    }
    Ok(())
}

fn malformed(why: &str) -> Halt {
    Refusal::new(Reason::MalformedField, format!("spark_invoice: {why}"))
        .with("field", "spark_invoice")
        .into()
}
