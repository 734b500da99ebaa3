//! `query_spark_invoices`: what became of invoices. Whoever knows the text may ask.

use std::str::FromStr;

use tinderbox_flows::invoice::same_money;
use tinderbox_flows::rows::{InvoiceRow, TransferRow, TransferStatus};
use tinderbox_protocol::invoice::SparkInvoice;

use crate::api::{Api, ApiError};
use crate::convert::field::{malformed, missing};
use crate::convert::spark::invoice_response::TransferType;
use crate::convert::spark::{
    InvoiceResponse, InvoiceStatus, QuerySparkInvoicesRequest, QuerySparkInvoicesResponse,
    SatsTransfer,
};
use tinderbox_rpc::Caller;

/// Invoices that one request may name.
const MAX_INVOICES: usize = 100;

/// One answer per invoice, in the order of the request; `limit` and `offset` have no meaning for a
/// list that the caller has written itself.
pub async fn query_spark_invoices(
    api: Api,
    _caller: Caller,
    request: QuerySparkInvoicesRequest,
) -> Result<QuerySparkInvoicesResponse, ApiError> {
    if request.invoice.is_empty() {
        return Err(missing("invoice").into());
    }
    if request.invoice.len() > MAX_INVOICES {
        let why = format!(
            "{} invoices, {MAX_INVOICES} are the most: ask in parts",
            request.invoice.len()
        );
        return Err(malformed("invoice", why).into());
    }
    let asked: Vec<SparkInvoice> = request
        .invoice
        .iter()
        .enumerate()
        .map(|(at, text)| {
            SparkInvoice::from_str(text)
                .map_err(|error| malformed(&format!("invoice[{at}]"), error))
        })
        .collect::<Result<_, _>>()?;
    let ids = asked
        .iter()
        .map(|invoice| invoice.fields.id.into_bytes().to_vec());
    let places = api.tables.get_many::<InvoiceRow>(ids).await?;
    let payments: Vec<TransferRow> = api
        .transfers(places.iter().flatten().map(|place| place.transfer))
        .await?;
    let statuses = request
        .invoice
        .into_iter()
        .zip(&asked)
        .zip(places)
        .map(|((text, invoice), place)| {
            let place = place.and_then(|place| {
                let paid = payments.iter().find(|row| row.id == place.transfer)?;
                Some((place, paid))
            });
            match place {
                None => InvoiceResponse {
                    invoice: text,
                    status: InvoiceStatus::NotFound.into(),
                    transfer_type: None,
                },
                Some((place, paid)) => found(text, invoice, place, paid),
            }
        })
        .collect();
    Ok(QuerySparkInvoicesResponse {
        offset: -1,
        invoice_statuses: statuses,
    })
}

/// The answer about an invoice whose place is taken. If it was another invoice of the same id that
/// took it, and that asks for other money, the answer shows that one.
fn found(
    text: String,
    asked: &SparkInvoice,
    place: InvoiceRow,
    payment: &TransferRow,
) -> InvoiceResponse {
    let same = place.text == text
        || SparkInvoice::from_str(&place.text).is_ok_and(|known| same_money(&known, asked));
    InvoiceResponse {
        status: status(payment.status, same).into(),
        invoice: if same { text } else { place.text },
        transfer_type: Some(TransferType::SatsTransfer(SatsTransfer {
            transfer_id: payment.id.bytes16().to_vec(),
        })),
    }
}

const fn status(payment: TransferStatus, same: bool) -> InvoiceStatus {
    use InvoiceStatus as Wire;
    match (payment, same) {
        (TransferStatus::SenderKeyTweaked | TransferStatus::Completed, true) => Wire::Finalized,
        (TransferStatus::SenderKeyTweaked | TransferStatus::Completed, false) => {
            Wire::MismatchedInvoiceFinalized
        }
        (TransferStatus::Returned, true) => Wire::Returned,
        (TransferStatus::Returned, false) => Wire::MismatchedInvoiceReturned,
        (
            TransferStatus::SenderInitiated
            | TransferStatus::SenderKeyTweakPending
            | TransferStatus::ApplyingSenderKeyTweak,
            true,
        ) => Wire::Pending,
        (
            TransferStatus::SenderInitiated
            | TransferStatus::SenderKeyTweakPending
            | TransferStatus::ApplyingSenderKeyTweak,
            false,
        ) => Wire::MismatchedInvoicePending,
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::secp256k1::{PublicKey, SECP256K1, SecretKey};
    use tinderbox_flows::rows::{Details, FlowId, Millis, TransferKind};
    use tinderbox_protocol::invoice::{InvoiceFields, Payment};
    use tinderbox_protocol::{Network, Sats, TransferId};

    use super::*;

    fn key(byte: u8) -> PublicKey {
        SecretKey::from_slice(&[byte; 32])
            .unwrap()
            .public_key(SECP256K1)
    }

    fn invoice(amount: u64, memo: Option<&str>) -> SparkInvoice {
        let fields = InvoiceFields {
            id: uuid::Uuid::from_bytes([9; 16]),
            payment: Payment::Sats(Some(Sats(amount))),
            memo: memo.map(str::to_owned),
            sender: None,
            expiry: None,
        };
        SparkInvoice::unsigned(Network::Local, key(2), fields).unwrap()
    }

    fn payment(status: TransferStatus) -> TransferRow {
        TransferRow {
            id: TransferId::from_bytes16([7; 16]),
            kind: TransferKind::Transfer,
            status,
            network: Network::Local,
            sender: key(1),
            receivers: Vec::new(),
            leaves: Vec::new(),
            values: Vec::new(),
            expiry: None,
            invoice: String::new(),
            fingerprint: [0; 32],
            details: Details::None,
            started_by: FlowId([0; 16]),
            held: None,
            created: Millis(1),
            updated: Millis(1),
        }
    }

    fn answer(known: &SparkInvoice, asked: &SparkInvoice, status: TransferStatus) -> (String, i32) {
        let paid = payment(status);
        let place = InvoiceRow {
            id: [9; 16],
            text: known.to_string(),
            transfer: paid.id,
            before: None,
        };
        let found = found(asked.to_string(), asked, place, &paid);
        assert_eq!(
            found.transfer_type,
            Some(TransferType::SatsTransfer(SatsTransfer {
                transfer_id: vec![7; 16]
            }))
        );
        (found.invoice, found.status)
    }

    #[test]
    fn invoice_is_final_as_soon_as_its_payment_cannot_be_undone() {
        let one = invoice(5, None);
        for (status, wire) in [
            (TransferStatus::SenderKeyTweakPending, 1),
            (TransferStatus::SenderKeyTweaked, 2),
            (TransferStatus::Completed, 2),
            (TransferStatus::Returned, 4),
        ] {
            assert_eq!(answer(&one, &one, status), (one.to_string(), wire));
        }
    }

    #[test]
    fn invoice_with_the_same_id_and_other_money_is_told_apart() {
        let (known, asked) = (invoice(5, None), invoice(6, None));
        for (status, wire) in [
            (TransferStatus::SenderKeyTweaked, 5),
            (TransferStatus::ApplyingSenderKeyTweak, 6),
            (TransferStatus::Returned, 7),
        ] {
            assert_eq!(answer(&known, &asked, status), (known.to_string(), wire));
        }
        // What it says besides is not money.
        let noted = invoice(5, Some("for the bread"));
        assert_eq!(
            answer(&known, &noted, TransferStatus::Completed),
            (noted.to_string(), 2)
        );
    }
}
