//! Transfers that go back to their sender.

use std::time::Duration;

use tinderbox_flows::refusal::Reason;
use tinderbox_flows::request::Request;
use tinderbox_flows::return_rule::{MARGIN_MS, Why};
use tinderbox_flows::returns::ReturnRequest;
use tinderbox_flows::rows::{ClaimPhase, Millis, NodeStatus, TransferKind, TransferStatus};
use tinderbox_operator::returns::{Returns, Turn};
use tinderbox_protocol::TransferId;
use tinderbox_testkit::sim::{Fate, Scene};

use super::finalize::finalize;
use super::staged::initiated;
use super::{done, refused, scene};

/// Ten minutes, as far as clocks may be apart.
const SKEW_MS: i64 = 600_000;

fn now(scene: &mut Scene) -> Millis {
    scene.flow_id().made()
}

fn give_back(scene: &mut Scene, transfer: TransferId, why: Why) -> Request {
    Request::Return(Box::new(ReturnRequest {
        now: now(scene),
        transfer,
        why,
    }))
}

fn status(scene: &Scene, id: TransferId) -> TransferStatus {
    let of = |operator| scene.transfer(operator, id).unwrap().status;
    assert!((1..3).all(|other| of(other) == of(0)), "operators differ");
    of(0)
}

/// The leaf is the sender's to spend again, with the keys that it had.
async fn assert_is_back(scene: &mut Scene, id: TransferId) {
    assert_eq!(status(scene, id), TransferStatus::Returned);
    for operator in 0..3 {
        let node = scene.node(operator, &scene.leaf(0));
        assert_eq!((node.status, node.lock), (NodeStatus::Available, None));
        let row = scene.transfer(operator, id).unwrap();
        assert_eq!(row.receivers[0].phase, ClaimPhase::Cancelled);
        assert!(row.leaves[0].send_tweak.is_none(), "nothing staged remains");
        assert_eq!(row.held, None);
    }
    scene.check();
    let leaf = scene.leaf(0);
    let next = scene.transfer_id();
    let send = scene.payment(next, 0, 1, &[leaf]).await;
    done(scene, 2, Request::Send(Box::new(send))).await;
    scene.check();
}

#[tokio::test(start_paused = true)]
async fn expired_transfer_goes_back_with_its_keys_unchanged() {
    let mut scene = scene(51, 2).await;
    let start = now(&mut scene);
    let id = initiated(
        &mut scene,
        TransferKind::PreimageSwap,
        Some(start.plus(60_000)),
    )
    .await;
    let package = finalize(&mut scene, id).await;
    done(&scene, 0, package).await;
    let before = scene.node(0, &scene.leaf(0));
    let early = give_back(&mut scene, id, Why::Expired);
    assert_eq!(refused(&scene, 1, early).await.reason, Reason::LockConflict);
    tokio::time::sleep(Duration::from_millis(60_000 + MARGIN_MS)).await;
    let due = give_back(&mut scene, id, Why::Expired);
    done(&scene, 1, due).await;
    let after = scene.node(0, &scene.leaf(0));
    assert_eq!(
        (before.owner_signing, before.txs.clone()),
        (after.owner_signing, after.txs)
    );
    assert_is_back(&mut scene, id).await;
    let late = give_back(&mut scene, id, Why::Expired);
    assert_eq!(refused(&scene, 0, late).await.reason, Reason::InvalidState);
}

/// Case 39: one clock ten minutes ahead, one ten minutes behind. Nothing goes back before the
/// slowest clock agrees, and until then the transfer stays as it was.
#[tokio::test(start_paused = true)]
async fn case_39_return_waits_for_the_slowest_clock() {
    let mut scene = scene(52, 2).await;
    scene.set_clock(1, SKEW_MS);
    scene.set_clock(2, -SKEW_MS);
    let start = now(&mut scene);
    let id = initiated(
        &mut scene,
        TransferKind::PreimageSwap,
        Some(start.plus(1_000)),
    )
    .await;
    let wait = u64::try_from(SKEW_MS).unwrap() + 1_000 + MARGIN_MS;
    let mut jobs: Vec<Returns> = (0..3)
        .map(|operator| Returns::new(scene.engine(operator)))
        .collect();
    let mut waited = 0;
    while status(&scene, id) != TransferStatus::Returned {
        assert!(waited < wait + 60_000, "it was never returned");
        for job in &mut jobs {
            let returned = job.round(Turn::Now).await.unwrap();
            assert!(
                returned == 0 || now(&mut scene).0 >= start.0 + wait - 1_000,
                "too early for operator 2"
            );
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        waited += 10_000;
        // Refused attempts leave nothing behind.
        scene.check();
    }
    scene.heal().await;
    assert_is_back(&mut scene, id).await;
}

/// Case 39: the return and the sender's package at the same moment, at two operators, at the exact
/// second at which the transfer lapses.
#[tokio::test(start_paused = true)]
async fn case_39_of_return_and_package_at_the_same_second_one_wins() {
    let (mut returned, mut kept) = (0, 0);
    for seed in 60..84 {
        let mut scene = scene(seed, 2).await;
        let start = now(&mut scene);
        let id = initiated(
            &mut scene,
            TransferKind::PreimageSwap,
            Some(start.plus(5_000)),
        )
        .await;
        let package = finalize(&mut scene, id).await;
        tokio::time::sleep(Duration::from_millis(5_000 + MARGIN_MS)).await;
        let back = give_back(&mut scene, id, Why::Expired);
        let (one, other) = if seed % 2 == 0 {
            (scene.begin(0, back), scene.begin(1, package))
        } else {
            (scene.begin(1, back), scene.begin(0, package))
        };
        let (back, package) = (one.await.unwrap(), other.await.unwrap());
        scene.heal().await;
        scene.check();
        match status(&scene, id) {
            TransferStatus::Returned => {
                assert!(back.is_ok(), "seed {seed}");
                returned += 1;
                assert_is_back(&mut scene, id).await;
            }
            TransferStatus::SenderKeyTweakPending => {
                assert!(package.is_ok() && back.is_err(), "seed {seed}");
                kept += 1;
            }
            TransferStatus::SenderInitiated => {
                assert!(package.is_err() && back.is_err(), "seed {seed}");
            }
            other => panic!("seed {seed}: {other:?}"),
        }
    }
    // Sometimes they refuse each other; a run in which nobody ever wins proves nothing.
    assert!(returned + kept > 0, "nobody ever wins");
}

/// With an operator down the return waits, nothing is lost, and it happens by itself afterwards.
#[tokio::test(start_paused = true)]
async fn return_waits_for_an_operator_that_is_down() {
    let mut scene = scene(53, 2).await;
    let start = now(&mut scene);
    let id = initiated(
        &mut scene,
        TransferKind::PrimarySwap,
        Some(start.plus(1_000)),
    )
    .await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    scene.crash(2);
    let mut job = Returns::new(scene.engine(0));
    assert_eq!(job.round(Turn::Now).await.unwrap(), 0);
    scene.heal().await;
    assert_eq!(status(&scene, id), TransferStatus::SenderInitiated);
    scene.check();
    // The pause after the refusal is over by now, and its turn has come.
    tokio::time::sleep(Duration::from_secs(120)).await;
    let mut job = Returns::new(scene.engine(0));
    assert_eq!(job.round(Turn::Own).await.unwrap(), 1);
    assert_is_back(&mut scene, id).await;
}

/// One operator acts first; another takes over if it does not.
#[tokio::test(start_paused = true)]
async fn another_operator_takes_over_a_return() {
    let mut scene = scene(54, 2).await;
    let start = now(&mut scene);
    let id = initiated(
        &mut scene,
        TransferKind::PreimageSwap,
        Some(start.plus(1_000)),
    )
    .await;
    tokio::time::sleep(Duration::from_millis(1_000 + MARGIN_MS + 1)).await;
    let first = u16::from(id.bytes16()[15] % 3);
    let second = (first + 1) % 3;
    let mut job = Returns::new(scene.engine(second));
    assert_eq!(job.round(Turn::Own).await.unwrap(), 0, "not its turn yet");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(job.round(Turn::Own).await.unwrap(), 1);
    assert_is_back(&mut scene, id).await;
}

#[tokio::test(start_paused = true)]
async fn receiver_may_give_back_early_and_nobody_may_for_it() {
    let mut scene = scene(55, 2).await;
    let id = initiated(&mut scene, TransferKind::PreimageSwap, None).await;
    let forged = scene.owner(0).unwanted(&id);
    let forged = give_back(&mut scene, id, Why::Unwanted { signature: forged });
    assert_eq!(
        refused(&scene, 0, forged).await.reason,
        Reason::BadSignature
    );
    let other = scene.transfer_id();
    let other = scene.owner(1).unwanted(&other);
    let other = give_back(&mut scene, id, Why::Unwanted { signature: other });
    assert_eq!(refused(&scene, 0, other).await.reason, Reason::BadSignature);
    let wish = scene.owner(1).unwanted(&id);
    let wish = give_back(&mut scene, id, Why::Unwanted { signature: wish });
    done(&scene, 1, wish).await;
    assert_is_back(&mut scene, id).await;
}

#[tokio::test(start_paused = true)]
async fn what_does_not_wait_is_never_returned() {
    for kind in [
        TransferKind::Transfer,
        TransferKind::UtxoSwap,
        TransferKind::CounterSwap,
        TransferKind::LegacyCounterSwap,
    ] {
        let mut scene = scene(56, 2).await;
        let start = now(&mut scene);
        let id = initiated(&mut scene, kind, Some(start.plus(1_000))).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let request = give_back(&mut scene, id, Why::Expired);
        assert_eq!(
            refused(&scene, 0, request).await.reason,
            Reason::InvalidState,
            "{kind:?}"
        );
        let mut job = Returns::new(scene.engine(1));
        assert_eq!(job.round(Turn::Now).await.unwrap(), 0);
    }
}

/// A coordinator that dies after the others have said yes: the transfer is held until somebody
/// finishes or refuses the return, then all is well.
#[tokio::test(start_paused = true)]
async fn return_whose_coordinator_dies_ends_by_itself() {
    for seed in 90..96 {
        let mut scene = scene(seed, 2).await;
        let start = now(&mut scene);
        let id = initiated(
            &mut scene,
            TransferKind::PreimageSwap,
            Some(start.plus(1_000)),
        )
        .await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        let mut left = seed - 90;
        scene.on_message(move |passing| {
            if passing.from.0 != 0 {
                return Fate::Carry;
            }
            if left == 0 {
                return Fate::LoseRequest;
            }
            left -= 1;
            Fate::Carry
        });
        let request = give_back(&mut scene, id, Why::Expired);
        let begun = scene.begin(0, request);
        tokio::time::sleep(Duration::from_millis(300)).await;
        scene.crash(0);
        drop(begun.await);
        scene.heal().await;
        scene.check();
        match status(&scene, id) {
            TransferStatus::Returned => assert_is_back(&mut scene, id).await,
            TransferStatus::SenderInitiated => {
                let again = give_back(&mut scene, id, Why::Expired);
                done(&scene, 1, again).await;
                assert_is_back(&mut scene, id).await;
            }
            other => panic!("{other:?}"),
        }
    }
}
