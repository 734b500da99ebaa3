//! Locks that wait for a preimage.

use tinderbox_flows::htlc::lock::LockMode;
use tinderbox_flows::refusal::Reason;
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{HashLockState, NodeStatus, TransferStatus};
use tinderbox_flows::secret::Preimage;
use tinderbox_protocol::Sats;
use tinderbox_testkit::hashlocks::{Refunds, invoice};

use super::{OPERATORS, PREIMAGE, assert_is, assert_is_free, claim, done, lock, refused, scene};
use super::{show, signed};

#[tokio::test(start_paused = true)]
async fn preimage_settles_a_lock_and_the_receiver_claims() {
    for (mode, refunds) in [
        (LockMode::Send, Refunds::Htlc),
        (LockMode::Hold, Refunds::Htlc),
        (LockMode::Hold, Refunds::Plain),
    ] {
        let mut scene = scene(1).await;
        let id = scene.transfer_id();
        let request = lock(&mut scene, id, mode, refunds).await;
        done(&scene, 0, request).await;
        let waiting = TransferStatus::SenderKeyTweakPending;
        assert_is(&scene, id, waiting, &HashLockState::Waiting);
        for operator in 0..OPERATORS {
            // Whatever an operator keeps over a return is worth nothing.
            assert_eq!(signed(&scene, operator, id), 0);
            let node = scene.node(operator, &scene.leaf(0));
            assert_eq!(node.status, NodeStatus::TransferLocked);
        }
        scene.check();
        let settle = show(&scene, id, &PREIMAGE);
        done(&scene, 1, settle).await;
        let shared = HashLockState::Shared(PREIMAGE);
        assert_is(&scene, id, TransferStatus::SenderKeyTweaked, &shared);
        for operator in 0..OPERATORS {
            assert_eq!(signed(&scene, operator, id), 2);
            assert!(scene.lock(operator, id).unwrap().jobs.is_empty());
        }
        let again = show(&scene, id, &PREIMAGE);
        let refusal = refused(&scene, 2, again).await;
        assert_eq!(refusal.reason, Reason::DuplicateOperation);
        claim(&mut scene, id).await;
    }
}

/// Case 47: a wrong preimage.
#[tokio::test(start_paused = true)]
async fn case_47_wrong_preimage_changes_nothing() {
    let mut scene = scene(2).await;
    let id = scene.transfer_id();
    let request = lock(&mut scene, id, LockMode::Send, Refunds::Htlc).await;
    done(&scene, 0, request).await;
    let settle = show(&scene, id, &Preimage([1; 32]));
    let refusal = refused(&scene, 0, settle).await;
    assert_eq!(refusal.reason, Reason::MalformedField);
    assert!(refusal.message.contains("invalid preimage"), "{refusal}");
    scene.heal().await;
    let waiting = TransferStatus::SenderKeyTweakPending;
    assert_is(&scene, id, waiting, &HashLockState::Waiting);
    // Somebody else's preimage of somebody else's lock.
    let mut other = scene.show(id, 1, &PREIMAGE);
    other.receiver = scene.owner(0).identity();
    let refusal = refused(&scene, 0, Request::Preimage(Box::new(other))).await;
    assert_eq!(refusal.reason, Reason::MissingEntity);
}

/// Case 47: the same payment hash twice, underpaid, another invoice.
#[tokio::test(start_paused = true)]
async fn case_47_terms_that_do_not_fit_are_refused_and_lock_nothing() {
    let mut scene = scene(3).await;
    let value = scene.node(0, &scene.leaf(0)).value.0;
    let hash = PREIMAGE.payment_hash();
    let id = scene.transfer_id();
    for (place, what) in [
        "amount above the leaves",
        "amount and fee above the leaves",
        "fee of everything",
        "invoice above the leaves",
        "invoice of another hash",
        "no expiry",
        "expiry that is over",
        "no plain halves",
    ]
    .into_iter()
    .enumerate()
    {
        let Request::HashLock(mut bad) = lock(&mut scene, id, LockMode::Send, Refunds::Htlc).await
        else {
            panic!("it is a lock");
        };
        match place {
            0 => bad.amount = Sats(value + 1),
            1 => (bad.amount, bad.fee) = (Sats(value - 9), Sats(10)),
            2 => bad.fee = Sats(value),
            3 => bad.invoice = invoice(&hash, value + 1),
            4 => bad.invoice = invoice(&[9; 32], 1),
            5 => bad.expiry = None,
            6 => bad.expiry = Some(bad.now),
            _ => bad.plain.clear(),
        }
        let refusal = refused(&scene, 0, Request::HashLock(bad)).await;
        let reasons = [Reason::MalformedField, Reason::MissingField];
        assert!(reasons.contains(&refusal.reason), "{what}: {refusal}");
        assert!(scene.transfer(0, id).is_none() && scene.lock(0, id).is_none());
        assert_is_free(&mut scene);
    }
    let Request::HashLock(mut exact) = lock(&mut scene, id, LockMode::Send, Refunds::Htlc).await
    else {
        panic!("it is a lock");
    };
    (exact.amount, exact.fee) = (Sats(value - 10), Sats(10));
    exact.invoice = invoice(&hash, value - 10);
    done(&scene, 0, Request::HashLock(exact)).await;
    // The same hash for the same receiver, with another leaf.
    let leaf = scene.leaf(1);
    let other = scene.transfer_id();
    let twice = scene
        .hash_lock(
            other,
            (1, 1),
            &[leaf],
            &PREIMAGE,
            LockMode::Send,
            Refunds::Htlc,
        )
        .await;
    let refusal = refused(&scene, 1, Request::HashLock(Box::new(twice))).await;
    assert_eq!(refusal.reason, Reason::DuplicateOperation);
    assert!(refusal.message.contains("preimage request already exists"));
    assert_eq!(scene.node(0, &leaf).status, NodeStatus::Available);
    scene.check();
}

/// A payment to Lightning must be hash-locked: a plain refund would be the receiver's without it.
#[tokio::test(start_paused = true)]
async fn plain_refunds_are_refused_for_a_send() {
    let mut scene = scene(4).await;
    let id = scene.transfer_id();
    let request = lock(&mut scene, id, LockMode::Send, Refunds::Plain).await;
    let refusal = refused(&scene, 0, request).await;
    let reasons = [Reason::TimelockMismatch, Reason::MalformedField];
    assert!(reasons.contains(&refusal.reason), "{refusal}");
    assert_is_free(&mut scene);
}

/// Two operators are shown the preimage at the same moment: one settlement.
#[tokio::test(start_paused = true)]
async fn preimage_shown_twice_at_once_settles_once() {
    for seed in 10..20 {
        let mut scene = scene(seed).await;
        let id = scene.transfer_id();
        let request = lock(&mut scene, id, LockMode::Send, Refunds::Htlc).await;
        done(&scene, 0, request).await;
        let one = scene.begin(0, show(&scene, id, &PREIMAGE));
        let other = scene.begin(1, show(&scene, id, &PREIMAGE));
        let answers = [one.await.unwrap(), other.await.unwrap()];
        assert!(answers.iter().filter(|answer| answer.is_ok()).count() < 2);
        scene.heal().await;
        if answers.iter().all(Result::is_err) {
            done(&scene, 2, show(&scene, id, &PREIMAGE)).await;
        }
        let shared = HashLockState::Shared(PREIMAGE);
        assert_is(&scene, id, TransferStatus::SenderKeyTweaked, &shared);
        claim(&mut scene, id).await;
    }
}
