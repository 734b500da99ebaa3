//! Invoices: asking for a payment, and paying what somebody asks for.

use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use tinderbox_protocol::invoice::{Expiry, InvoiceFields, Payment as Wanted};
use tinderbox_protocol::{Sats, SparkInvoice};

use crate::clock::now_ms;
use crate::error::{Error, Result};
use crate::send::Payment;
use crate::wallet::Wallet;

/// What an invoice asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InvoiceTerms {
    /// How much; if absent the payer chooses.
    pub amount: Option<Sats>,
    /// A note to the payer, of at most 120 bytes.
    pub memo: Option<String>,
    /// Who must pay; if absent anybody may.
    pub payer: Option<PublicKey>,
    /// How long it can be paid from now on; if absent for ever.
    pub lasts: Option<Duration>,
}

impl Wallet {
    /// An invoice of this wallet, signed. Nobody else is told of it: hand its text to the payer.
    ///
    /// # Errors
    /// [`Error::BadInvoice`] if the memo is too long or the amount exceeds all bitcoin.
    pub fn create_invoice(&self, terms: InvoiceTerms) -> Result<SparkInvoice> {
        let fields = InvoiceFields {
            id: uuid::Uuid::now_v7(),
            payment: Wanted::Sats(terms.amount),
            memo: terms.memo,
            sender: terms.payer,
            expiry: terms.lasts.map(|lasts| {
                let lasts = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
                Expiry::from_millis(now_ms().saturating_add(lasts))
            }),
        };
        let inner = self.inner();
        let mut invoice =
            SparkInvoice::unsigned(inner.config.network, inner.signer.identity(), fields)
                .map_err(bad)?;
        let signature = inner.signer.sign_identity_schnorr(invoice.digest());
        invoice.signature = Some(signature.serialize());
        Ok(invoice)
    }

    /// Pays an invoice, once: operators refuse a second payment, whoever makes it. `amount` is for
    /// invoices that leave it to the payer.
    ///
    /// # Errors
    /// [`Error::BadInvoice`] if it is not for this wallet to pay, has expired, or needs another
    /// amount; then as [`send`](Wallet::send).
    pub async fn pay_invoice(
        &self,
        invoice: &SparkInvoice,
        amount: Option<Sats>,
    ) -> Result<Payment> {
        let inner = self.inner();
        let (network, payer) = (inner.config.network, inner.signer.identity());
        invoice
            .check_payable(network, &payer, now_ms())
            .map_err(bad)?;
        let asked = match invoice.fields.payment {
            Wanted::Sats(asked) => asked,
            Wanted::Tokens { .. } => return Err(reason("it asks for a token, not for sats")),
        };
        let amount = match (asked, amount) {
            (Some(asked), None) => asked,
            (Some(asked), Some(given)) if asked == given => asked,
            (Some(asked), Some(_)) => {
                return Err(reason(&format!("it asks for exactly {asked}: pay that")));
            }
            (None, Some(given)) => given,
            (None, None) => return Err(reason("it leaves the amount to you: name one")),
        };
        self.pay(&[(invoice.address(), amount)], &invoice.to_string())
            .await
    }
}

fn bad(error: tinderbox_protocol::Error) -> Error {
    reason(&error.to_string())
}

fn reason(reason: &str) -> Error {
    Error::BadInvoice {
        reason: reason.to_owned(),
    }
}
