//! Locks whose time is over: returned or settled, never both.

use std::time::Duration;

use tinderbox_flows::htlc::lock::LockMode;
use tinderbox_flows::refusal::Reason;
use tinderbox_flows::request::Request;
use tinderbox_flows::return_rule::{MARGIN_MS, Why};
use tinderbox_flows::returns::ReturnRequest;
use tinderbox_flows::rows::{HashLockState, TransferStatus};
use tinderbox_protocol::TransferId;
use tinderbox_testkit::hashlocks::Refunds;
use tinderbox_testkit::sim::{LASTS_MS, Scene};

use super::{OPERATORS, PREIMAGE, assert_is, assert_is_free, claim, done, lock, refused, scene};
use super::{show, signed};

fn give_back(scene: &Scene, transfer: TransferId, why: Why) -> Request {
    Request::Return(Box::new(ReturnRequest {
        now: scene.now(),
        transfer,
        why,
    }))
}

/// A lock whose time is over, by every clock.
async fn lapsed(scene: &mut Scene) -> TransferId {
    let id = scene.transfer_id();
    let request = lock(scene, id, LockMode::Send, Refunds::Htlc).await;
    done(scene, 0, request).await;
    let early = give_back(scene, id, Why::Expired);
    assert_eq!(refused(scene, 0, early).await.reason, Reason::LockConflict);
    tokio::time::sleep(Duration::from_millis(LASTS_MS + MARGIN_MS)).await;
    id
}

#[tokio::test(start_paused = true)]
async fn case_42_preimage_that_comes_after_the_return_is_refused() {
    let mut scene = scene(60).await;
    let id = lapsed(&mut scene).await;
    let request = give_back(&scene, id, Why::Expired);
    done(&scene, 1, request).await;
    assert_is(
        &scene,
        id,
        TransferStatus::Returned,
        &HashLockState::Returned,
    );
    for operator in 0..OPERATORS {
        assert_eq!(signed(&scene, operator, id), 0);
        let lock = scene.lock(operator, id).unwrap();
        assert!(lock.jobs.is_empty() && lock.refunds.is_empty());
    }
    let late = show(&scene, id, &PREIMAGE);
    assert_eq!(refused(&scene, 0, late).await.reason, Reason::Expired);
    assert_is_free(&mut scene);
    scene.check();
    // The hash is free again, and the leaf pays.
    let again = scene.transfer_id();
    let request = lock(&mut scene, again, LockMode::Send, Refunds::Htlc).await;
    done(&scene, 2, request).await;
    let settle = show(&scene, again, &PREIMAGE);
    done(&scene, 0, settle).await;
    claim(&mut scene, again).await;
}

#[tokio::test(start_paused = true)]
async fn case_42_of_preimage_and_return_at_one_moment_one_happens() {
    let (mut settled, mut returned) = (0, 0);
    for seed in 61..77 {
        let mut scene = scene(seed).await;
        let id = lapsed(&mut scene).await;
        let back = give_back(&scene, id, Why::Expired);
        let (one, other) = if seed % 2 == 0 {
            (
                scene.begin(0, back),
                scene.begin(1, show(&scene, id, &PREIMAGE)),
            )
        } else {
            (
                scene.begin(1, show(&scene, id, &PREIMAGE)),
                scene.begin(0, back),
            )
        };
        let answers = [one.await.unwrap(), other.await.unwrap()];
        assert!(answers.iter().filter(|answer| answer.is_ok()).count() < 2);
        scene.heal().await;
        scene.check();
        match scene.lock(0, id).unwrap().state {
            HashLockState::Shared(_) => {
                settled += 1;
                let shared = HashLockState::Shared(PREIMAGE);
                assert_is(&scene, id, TransferStatus::SenderKeyTweaked, &shared);
                claim(&mut scene, id).await;
            }
            HashLockState::Returned => {
                returned += 1;
                assert_is(
                    &scene,
                    id,
                    TransferStatus::Returned,
                    &HashLockState::Returned,
                );
                assert_is_free(&mut scene);
            }
            // Both gave way: either may try again.
            HashLockState::Waiting => {
                done(&scene, 0, show(&scene, id, &PREIMAGE)).await;
            }
            HashLockState::Revealed(_) => panic!("no share is stored"),
        }
    }
    assert!(settled + returned > 0, "both always gave way");
}

/// Once operators know the preimage, not even the receiver can give the leaves back: who has seen the
/// preimage may have been paid for it.
#[tokio::test(start_paused = true)]
async fn known_preimage_cannot_be_returned() {
    let mut scene = scene(80).await;
    let deposit = scene.deposit_preimage(1, &PREIMAGE, &PREIMAGE, 100);
    done(&scene, 1, Request::StorePreimage(Box::new(deposit))).await;
    let id = scene.transfer_id();
    let request = lock(&mut scene, id, LockMode::Receive, Refunds::Plain).await;
    done(&scene, 0, request).await;
    let signature = scene.owner(1).unwanted(&id);
    let back = give_back(&scene, id, Why::Unwanted { signature });
    let refusal = refused(&scene, 0, back).await;
    assert_eq!(refusal.reason, Reason::InvalidState, "{refusal}");
    let revealed = HashLockState::Revealed(PREIMAGE);
    assert_is(&scene, id, TransferStatus::SenderKeyTweakPending, &revealed);
}
