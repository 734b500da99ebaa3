//! Paying, and finding out what became of a payment.

use tinderbox_protocol::{Network, Sats, SparkAddress, TransferId};
use tinderbox_rpc::proto::spark;
use tonic::Code;

use crate::error::Error;
use crate::exit::ExitPath;
use crate::outcome::PaymentState;
use crate::storage::{Kind, Records};
use crate::testing::{World, transfer_message};
use crate::transfer::TransferStatus;

/// Alice owns one leaf of 100,000 sats.
async fn world() -> World {
    let world = World::of_alice().await;
    world.tell_node(&world.scene.leaf());
    let payment = world.payment(world.scene.transfer_leaf());
    world.operators[0].with(|script| script.started = Some(transfer_message(&payment)));
    world
}

fn bob(world: &World) -> SparkAddress {
    SparkAddress::new(Network::Local, world.scene.receiver_key())
}

fn exits(world: &World) -> usize {
    Records::new(world.storage.clone())
        .list::<ExitPath>(Kind::ExitPath)
        .unwrap()
        .len()
}

fn pending(world: &World) -> usize {
    world.storage.list(Kind::PendingSend).unwrap().len()
}

#[tokio::test]
async fn a_payment_moves_the_leaf_and_drops_its_old_exit() {
    let world = world().await;
    world.wallet.sync().await.unwrap();
    assert_eq!(exits(&world), 1);
    let payment = world
        .wallet
        .send(&bob(&world), Sats(100_000))
        .await
        .unwrap();
    assert_eq!((payment.amount, payment.leaves.len()), (Sats(100_000), 1));
    assert!(world.wallet.leaves().is_empty());
    // A stale exit must never be published, not even by accident.
    assert_eq!((exits(&world), pending(&world)), (0, 0));
}

#[tokio::test]
async fn a_payment_needs_nothing_but_an_open_wallet() {
    let world = world().await;
    world
        .wallet
        .send(&bob(&world), Sats(100_000))
        .await
        .unwrap();
}

#[tokio::test]
async fn an_amount_that_no_leaves_make_is_refused_before_anything_is_sent() {
    let world = world().await;
    let error = world
        .wallet
        .send(&bob(&world), Sats(40_000))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::NoExactAmount {
                above: Some(Sats(100_000)),
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(world.operators[0].with(|script| script.payments.len()), 0);
    let error = world.wallet.send(&bob(&world), Sats(0)).await.unwrap_err();
    assert!(matches!(error, Error::ZeroAmount), "{error}");
}

#[tokio::test]
async fn an_address_of_another_network_is_refused() {
    let world = world().await;
    let foreign = SparkAddress::new(Network::Mainnet, world.scene.receiver_key());
    let error = world
        .wallet
        .send(&foreign, Sats(100_000))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::WrongNetwork {
                found: Network::Mainnet,
                ..
            }
        ),
        "{error}"
    );
    let error = world
        .wallet
        .parse_address(&foreign.to_string())
        .unwrap_err();
    assert!(
        error.to_string().contains("Ask for an address of local"),
        "{error}"
    );
    assert!(matches!(
        world.wallet.parse_address("nonsense"),
        Err(Error::BadAddress { .. })
    ));
    assert!(world.wallet.parse_address(&bob(&world).to_string()).is_ok());
}

#[tokio::test]
async fn a_refused_payment_gives_its_leaves_back() {
    let world = world().await;
    world.operators[0].with(|script| script.refuse_start.push_back((Code::InvalidArgument, "no")));
    let error = world
        .wallet
        .send(&bob(&world), Sats(100_000))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Refused {
                code: Code::InvalidArgument,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!((exits(&world), pending(&world)), (1, 0));
    world
        .wallet
        .send(&bob(&world), Sats(100_000))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_payment_whose_answer_is_lost_is_sent_again_byte_for_byte() {
    let world = world().await;
    world.operators[0].with(|script| {
        script
            .refuse_start
            .push_back((Code::Unavailable, "restarting"))
    });
    world
        .wallet
        .send(&bob(&world), Sats(100_000))
        .await
        .unwrap();
    let payments = world.operators[0].with(|script| script.payments.clone());
    assert_eq!(payments.len(), 2);
    assert_eq!(payments[0], payments[1]);
}

#[tokio::test]
async fn a_payment_that_the_operators_know_although_they_refused_it_counts() {
    let world = world().await;
    world.wallet.sync().await.unwrap();
    // The first request arrived, its answer did not, and the second is refused as known.
    let done = world.payment(world.scene.transfer_leaf());
    world.operators[0].with(|script| {
        script
            .refuse_start
            .push_back((Code::AlreadyExists, "known"));
        script.adopt = Some(transfer_message(&done));
    });
    world
        .wallet
        .send(&bob(&world), Sats(100_000))
        .await
        .unwrap();
    assert_eq!((exits(&world), pending(&world)), (0, 0));
}

#[tokio::test]
async fn a_payment_of_unknown_outcome_keeps_its_leaves_and_ends_at_the_next_synchronisation() {
    let mut world = world().await;
    world.operators[0].with(|script| {
        script.refuse_start.extend([(Code::Unavailable, "gone"); 4]);
    });
    let error = world
        .wallet
        .send(&bob(&world), Sats(100_000))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    // Neither lost nor spent twice, also not after a restart.
    world.reopen();
    assert_eq!(pending(&world), 1);
    world.operators[0].with(|script| script.refuse_start.extend([(Code::Unavailable, "gone"); 4]));
    let error = world
        .wallet
        .send(&bob(&world), Sats(100_000))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Insufficient { .. }), "{error}");
    // The operators answer again: the same request completes.
    world.wallet.sync().await.unwrap();
    assert_eq!(pending(&world), 0);
    let payments = world.operators[0].with(|script| script.payments.clone());
    assert!(
        payments.windows(2).all(|pair| pair[0] == pair[1]),
        "always the same request"
    );
}

/// Makes what is on disk say that the payment was last in doubt at `sent`.
fn doubted_at(world: &World, sent: u64) {
    let (key, value) = world.storage.list(Kind::PendingSend).unwrap().remove(0);
    let mut record: serde_json::Value = serde_json::from_slice(&value).unwrap();
    record["sent"] = sent.into();
    let value = serde_json::to_vec(&record).unwrap();
    let kind = Kind::PendingSend;
    let change = crate::storage::Change::Put { kind, key, value };
    world.storage.apply(&[change]).unwrap();
}

/// The first copy of a request may be decided while a later one is being refused: believing the
/// refusal would have the money paid, and its owner pay again.
#[tokio::test]
async fn a_refusal_of_a_second_copy_says_nothing_of_the_first() {
    for code in [Code::Aborted, Code::FailedPrecondition] {
        let world = world().await;
        world.operators[0].with(|script| {
            script.refuse_start.push_back((Code::Unavailable, "killed"));
            script.refuse_start.push_back((code, "leaf is locked"));
        });
        let error = world
            .wallet
            .send(&bob(&world), Sats(100_000))
            .await
            .unwrap_err();
        let Error::OutcomeUnknown { id, .. } = error else {
            panic!("{error}")
        };
        world.operators[0].with(|script| script.refuse_start.push_back((code, "still locked")));
        assert_eq!(
            world.wallet.payment_state(id).await.unwrap(),
            PaymentState::Open
        );
        assert_eq!(pending(&world), 1);
        // It was decided after all.
        assert_eq!(
            world.wallet.payment_state(id).await.unwrap(),
            PaymentState::Paid
        );
        assert_eq!((exits(&world), pending(&world)), (0, 0));
    }
}

/// Whoever asks about a payment that is just being sent neither sends it again nor waits for it.
#[tokio::test]
async fn a_payment_that_is_being_sent_is_left_alone() {
    let world = world().await;
    let id = TransferId::from_bytes16([7; 16]);
    let inner = world.wallet.inner();
    let sending = inner.sending(id);
    assert!(sending.is_some());
    assert!(inner.sending(id).is_none());
    assert!(inner.sending(id).is_none(), "asking changes nothing");
    drop(sending);
    assert!(inner.sending(id).is_some());
}

#[tokio::test]
async fn a_refusal_long_after_the_last_copy_in_doubt_ends_a_payment() {
    let world = world().await;
    world.operators[0].with(|script| {
        script.refuse_start.extend([(Code::Unavailable, "gone"); 4]);
    });
    let error = world
        .wallet
        .send(&bob(&world), Sats(100_000))
        .await
        .unwrap_err();
    let Error::OutcomeUnknown { id, .. } = error else {
        panic!("{error}")
    };
    doubted_at(&world, 0);
    // "Try again" is no end, however late.
    world.operators[0].with(|script| script.refuse_start.push_back((Code::Aborted, "locked")));
    assert_eq!(
        world.wallet.payment_state(id).await.unwrap(),
        PaymentState::Open
    );
    let refusal = (Code::FailedPrecondition, "it is too late");
    world.operators[0].with(|script| script.refuse_start.push_back(refusal));
    assert_eq!(
        world.wallet.payment_state(id).await.unwrap(),
        PaymentState::NotMade
    );
    assert_eq!((exits(&world), pending(&world)), (1, 0));
}

#[tokio::test]
async fn a_payment_that_was_given_back_can_be_made_anew() {
    let world = world().await;
    let mut returned = world.payment(world.scene.transfer_leaf());
    returned.status = TransferStatus::Returned;
    world.operators[0].with(|script| {
        script
            .refuse_start
            .push_back((Code::AlreadyExists, "known"));
        script.adopt = Some(transfer_message(&returned));
    });
    let error = world
        .wallet
        .send(&bob(&world), Sats(100_000))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::PaymentReturned { .. }), "{error}");
    world.operators[0].with(|script| script.adopt = None);
    world
        .wallet
        .send(&bob(&world), Sats(100_000))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_stale_view_of_the_leaves_is_refreshed_once() {
    let world = world().await;
    world.operators[0].with(|script| {
        script.refuse_start.push_back((
            Code::FailedPrecondition,
            "leaf is not available to transfer: TRANSFER_LOCKED",
        ));
    });
    world
        .wallet
        .send(&bob(&world), Sats(100_000))
        .await
        .unwrap();
    let ids = world.operators[0].with(|script| {
        script
            .payments
            .iter()
            .map(|payment| payment.transfer_id.clone())
            .collect::<Vec<_>>()
    });
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1], "a new payment, not the refused one");
}

#[tokio::test]
async fn two_payments_at_once_never_spend_the_same_leaf() {
    let world = world().await;
    let to = bob(&world);
    let (first, second) = tokio::join!(
        world.wallet.send(&to, Sats(100_000)),
        world.wallet.send(&to, Sats(100_000))
    );
    assert_eq!(
        [first.is_ok(), second.is_ok()]
            .iter()
            .filter(|ok| **ok)
            .count(),
        1,
        "{first:?} {second:?}"
    );
    assert_eq!(world.operators[0].with(|script| script.payments.len()), 1);
}

#[tokio::test]
async fn the_request_names_the_receiver_and_every_operator() {
    let world = world().await;
    let payment = world
        .wallet
        .send(&bob(&world), Sats(100_000))
        .await
        .unwrap();
    let request: spark::StartTransferRequest =
        world.operators[0].with(|script| script.payments[0].clone());
    assert_eq!(
        request.receiver_identity_public_key,
        world.scene.receiver_key().serialize()
    );
    let package = request.transfer_package.unwrap();
    assert_eq!(
        (package.key_tweak_package.len(), package.hash_variant),
        (3, 1)
    );
    let payload = tinderbox_protocol::hash::transfer_payload(
        &payment.id,
        &package.key_tweak_package,
        tinderbox_protocol::hash::HashVariant::V2,
    );
    let alice = world.wallet.address().identity;
    tinderbox_protocol::signature::verify_der(&alice, &payload, &package.user_signature, "package")
        .unwrap();
}
