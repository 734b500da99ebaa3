//! Spark invoices: one payment each.

use serde::{Deserialize, Serialize};
use tinderbox_protocol::TransferId;

use crate::record::{Row, Table};

/// The one place that an invoice has for a payment. There is a row from the moment at which
/// somebody begins to pay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceRow {
    /// The invoice's id: 16 bytes.
    pub id: [u8; 16],
    /// Its text, exactly as sent.
    pub text: String,
    /// The transfer that pays it. If that was returned, the place is free.
    pub transfer: TransferId,
    /// The returned transfer that had the place before, if one had: it gets it back if this one
    /// comes to nothing.
    pub before: Option<TransferId>,
}

impl Row for InvoiceRow {
    const TABLE: Table = Table::Invoice;

    fn id(&self) -> Vec<u8> {
        self.id.to_vec()
    }
}
