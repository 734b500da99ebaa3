//! Paying Spark invoices.

use tinderbox_flows::refusal::Reason;
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{InvoiceRow, Millis, NodeStatus};
use tinderbox_protocol::invoice::{Expiry, InvoiceFields, Payment, SparkInvoice};
use tinderbox_protocol::{Network, Sats, TransferId};
use tinderbox_testkit::sim::{Fate, Scene};

use super::{done, refused, scene};

const ID: [u8; 16] = [5; 16];

fn fields(payment: Payment) -> InvoiceFields {
    InvoiceFields {
        id: uuid::Uuid::from_bytes(ID),
        payment,
        memo: None,
        sender: None,
        expiry: None,
    }
}

/// An invoice of wallet 1, signed.
fn invoice(scene: &mut Scene, fields: InvoiceFields) -> SparkInvoice {
    let mut rng = scene.rng().clone();
    scene.owner(1).invoice(Network::Regtest, fields, &mut rng)
}

/// An invoice of wallet 1 for the value of wallet 0's leaf 0.
fn fitting(scene: &mut Scene) -> SparkInvoice {
    let value = scene.node(0, &scene.leaf(0)).value;
    invoice(scene, fields(Payment::Sats(Some(value))))
}

/// A payment of one leaf of wallet 0 to wallet 1, for an invoice.
async fn payment(scene: &mut Scene, id: TransferId, place: usize, invoice: &str) -> Request {
    let leaf = scene.leaf(place);
    let mut send = scene.payment(id, 0, 1, &[leaf]).await;
    invoice.clone_into(&mut send.invoice);
    Request::Send(Box::new(send))
}

fn place_at(scene: &Scene, operator: u16) -> Option<InvoiceRow> {
    scene.row(operator, &ID)
}

#[tokio::test(start_paused = true)]
async fn invoice_is_paid_once() {
    let mut scene = scene(1, 3).await;
    let text = invoice(&mut scene, fields(Payment::Sats(None))).to_string();
    let ids = [scene.transfer_id(), scene.transfer_id()];
    let first = payment(&mut scene, ids[0], 0, &text).await;
    done(&scene, 0, first).await;
    for operator in 0..3 {
        let place = place_at(&scene, operator).expect("its place is taken");
        assert_eq!(
            (place.transfer, place.text.as_str()),
            (ids[0], text.as_str())
        );
        let row = scene.transfer(operator, ids[0]).unwrap();
        assert_eq!(row.invoice, text, "both sides see what was paid");
    }
    for coordinator in 0..3 {
        let second = payment(&mut scene, ids[1], 2, &text).await;
        let refusal = refused(&scene, coordinator, second).await;
        assert_eq!(refusal.reason, Reason::InvalidState);
        assert!(refusal.message.contains("invoice has already been paid"));
    }
    scene.heal().await;
    scene.check();
    assert_eq!(scene.node(1, &scene.leaf(2)).status, NodeStatus::Available);
}

/// Two payers (here one wallet with two leaves) at two operators at the same moment.
#[tokio::test(start_paused = true)]
async fn of_two_payments_of_an_invoice_at_two_coordinators_at_most_one_is_made() {
    for seed in 20..32 {
        let mut scene = scene(seed, 3).await;
        let text = invoice(&mut scene, fields(Payment::Sats(None))).to_string();
        let ids = [scene.transfer_id(), scene.transfer_id()];
        let first = payment(&mut scene, ids[0], 0, &text).await;
        let second = payment(&mut scene, ids[1], 2, &text).await;
        let (one, other) = (scene.begin(0, first), scene.begin(1, second));
        let answers = [one.await.unwrap(), other.await.unwrap()];
        scene.heal().await;
        scene.check();
        let paid: Vec<usize> = (0..2)
            .filter(|at| scene.transfer(0, ids[*at]).is_some())
            .collect();
        assert!(paid.len() < 2, "seed {seed}: the invoice was paid twice");
        for (at, answer) in answers.iter().enumerate() {
            assert_eq!(answer.is_ok(), paid == [at], "seed {seed}");
        }
        match paid.first() {
            Some(at) => assert_eq!(place_at(&scene, 2).unwrap().transfer, ids[*at]),
            None => {
                assert_eq!(
                    place_at(&scene, 2),
                    None,
                    "a refused payment keeps no place"
                );
                let again = payment(&mut scene, ids[0], 0, &text).await;
                done(&scene, 2, again).await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn payment_that_comes_to_nothing_leaves_the_invoice_payable() {
    let mut scene = scene(2, 3).await;
    let text = invoice(&mut scene, fields(Payment::Sats(None))).to_string();
    let ids = [scene.transfer_id(), scene.transfer_id()];
    // Operator 1 says yes, operator 2 never hears of it.
    scene.on_message(|passing| match passing.to.0 {
        2 => Fate::LoseRequest,
        _ => Fate::Carry,
    });
    let lost = payment(&mut scene, ids[0], 0, &text).await;
    refused(&scene, 0, lost).await;
    scene.heal().await;
    for operator in 0..3 {
        assert_eq!(place_at(&scene, operator), None, "operator {operator}");
    }
    let again = payment(&mut scene, ids[1], 2, &text).await;
    done(&scene, 2, again).await;
    assert_eq!(place_at(&scene, 1).unwrap().transfer, ids[1]);
}

/// What a payer's wallet must not be believed about.
#[tokio::test(start_paused = true)]
async fn payment_that_is_not_what_the_invoice_asks_for_is_refused_by_name() {
    let mut scene = scene(3, 3).await;
    let value = scene.node(0, &scene.leaf(0)).value;
    let start = scene.flow_id().made();
    let payee = scene.owner(1).identity();
    let payer = scene.owner(0).identity();
    let exact = fields(Payment::Sats(Some(value)));
    let mut forged = invoice(&mut scene, exact.clone());
    forged.signature = Some([1; 64]);
    let mut rng = scene.rng().clone();
    let wrong = [
        (
            invoice(&mut scene, fields(Payment::Sats(Some(Sats(value.0 - 1))))),
            "sats",
        ),
        (
            invoice(
                &mut scene,
                fields(Payment::Tokens {
                    identifier: None,
                    amount: None,
                }),
            ),
            "token",
        ),
        (
            scene
                .owner(0)
                .invoice(Network::Regtest, exact.clone(), &mut rng),
            "payee",
        ),
        (
            scene
                .owner(1)
                .invoice(Network::Mainnet, exact.clone(), &mut rng),
            "network",
        ),
        (
            invoice(
                &mut scene,
                InvoiceFields {
                    sender: Some(payee),
                    ..exact.clone()
                },
            ),
            "somebody else",
        ),
        (
            invoice(
                &mut scene,
                InvoiceFields {
                    expiry: Some(Expiry::from_millis(start.0 - 1)),
                    ..exact.clone()
                },
            ),
            "expired",
        ),
        (forged, "signature"),
    ];
    for (invoice, word) in wrong {
        let id = scene.transfer_id();
        let request = payment(&mut scene, id, 0, &invoice.to_string()).await;
        let refusal = refused(&scene, 1, request).await;
        assert!(
            matches!(
                refusal.reason,
                Reason::MalformedField | Reason::BadSignature
            ),
            "{word}: {refusal}"
        );
        assert!(
            refusal.message.contains(word) && refusal.message.contains("spark_invoice"),
            "{word}: {refusal}"
        );
        assert_eq!(place_at(&scene, 1), None, "{word}");
    }
    // Everything fits: also who must pay, and until when.
    let right = invoice(
        &mut scene,
        InvoiceFields {
            sender: Some(payer),
            expiry: Some(Expiry::from_millis(start.0 + 600_000)),
            ..exact
        },
    );
    let id = scene.transfer_id();
    let request = payment(&mut scene, id, 0, &right.to_string()).await;
    done(&scene, 1, request).await;
}

#[tokio::test(start_paused = true)]
async fn other_invoice_under_a_used_id_is_a_duplicate() {
    let mut scene = scene(4, 3).await;
    let first = fitting(&mut scene).to_string();
    let id = scene.transfer_id();
    let request = payment(&mut scene, id, 0, &first).await;
    done(&scene, 0, request).await;
    let other = invoice(&mut scene, fields(Payment::Sats(None))).to_string();
    let id = scene.transfer_id();
    let request = payment(&mut scene, id, 2, &other).await;
    let refusal = refused(&scene, 1, request).await;
    assert_eq!(refusal.reason, Reason::DuplicateOperation);
}

/// A coordinator that turns its clock back does not make an old invoice payable.
#[tokio::test(start_paused = true)]
async fn coordinator_cannot_turn_back_the_clock_of_an_invoice() {
    let mut scene = scene(5, 3).await;
    let now = scene.flow_id().made();
    let expired = invoice(
        &mut scene,
        InvoiceFields {
            expiry: Some(Expiry::from_millis(now.0 - 3_600_000)),
            ..fields(Payment::Sats(None))
        },
    )
    .to_string();
    let id = scene.transfer_id();
    let Request::Send(mut send) = payment(&mut scene, id, 0, &expired).await else {
        unreachable!("it is a payment");
    };
    send.now = Millis(now.0 - 7_200_000);
    // Its own check would refuse: what counts is that the others do.
    scene.set_clock(0, -7_200_000);
    let refusal = refused(&scene, 0, Request::Send(send)).await;
    assert_eq!(refusal.reason, Reason::Disagreement, "{refusal}");
    scene.heal().await;
    assert_eq!(scene.node(0, &scene.leaf(0)).status, NodeStatus::Available);
    assert_eq!(place_at(&scene, 1), None);
}
