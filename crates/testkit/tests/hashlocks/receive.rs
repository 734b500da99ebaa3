//! Payments from Lightning: the preimage is stored in shares.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tinderbox_commit::{Certificate, Message, Reply};
use tinderbox_flows::htlc::lock::LockMode;
use tinderbox_flows::refusal::Reason;
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{HashLockState, TransferStatus};
use tinderbox_flows::secret::{Preimage, PreimageShare};
use tinderbox_testkit::hashlocks::Refunds;
use tinderbox_testkit::sim::{Fate, Scene};

use super::{OPERATORS, PREIMAGE, assert_is, assert_is_free, claim, done, lock, refused, scene};
use super::{show, signed};

async fn deposit(scene: &mut Scene, secret: &Preimage, sats: u64) {
    let request = scene.deposit_preimage(1, &PREIMAGE, secret, sats);
    done(scene, 1, Request::StorePreimage(Box::new(request))).await;
}

#[tokio::test(start_paused = true)]
async fn receive_reveals_the_preimage_to_operators_and_settles() {
    for refunds in [Refunds::Plain, Refunds::Htlc] {
        let mut scene = scene(40).await;
        deposit(&mut scene, &PREIMAGE, 100).await;
        let id = scene.transfer_id();
        let request = lock(&mut scene, id, LockMode::Receive, refunds).await;
        done(&scene, 0, request).await;
        // Known to operators, and to nobody else; nothing is signed yet.
        let waiting = TransferStatus::SenderKeyTweakPending;
        assert_is(&scene, id, waiting, &HashLockState::Revealed(PREIMAGE));
        for operator in 0..OPERATORS {
            assert!(scene.preimage_share(operator, &PREIMAGE).is_none());
            assert!(scene.lock(operator, id).unwrap().shared().is_none());
            assert_eq!(signed(&scene, operator, id), 0);
        }
        let settle = show(&scene, id, &PREIMAGE);
        done(&scene, 0, settle).await;
        let shared = HashLockState::Shared(PREIMAGE);
        assert_is(&scene, id, TransferStatus::SenderKeyTweaked, &shared);
        assert_eq!(signed(&scene, 1, id), 2);
        claim(&mut scene, id).await;
    }
}

/// The coordinator dies once the preimage is known: the others settle, and nobody can return it.
#[tokio::test(start_paused = true)]
async fn known_preimage_is_settled_by_whoever_is_there() {
    let mut scene = scene(41).await;
    deposit(&mut scene, &PREIMAGE, 100).await;
    let id = scene.transfer_id();
    let request = lock(&mut scene, id, LockMode::Receive, Refunds::Htlc).await;
    done(&scene, 0, request).await;
    // Nobody asks for the settlement.
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if scene.lock(2, id).unwrap().shared().is_some() {
            break;
        }
    }
    scene.heal().await;
    let shared = HashLockState::Shared(PREIMAGE);
    assert_is(&scene, id, TransferStatus::SenderKeyTweaked, &shared);
    claim(&mut scene, id).await;
}

/// Proofs say that shares belong together, not that they are of the preimage. A receiver that stores
/// shares of another number is not paid, and the sender is free at once.
#[tokio::test(start_paused = true)]
async fn shares_of_another_number_pay_nobody() {
    let mut scene = scene(42).await;
    deposit(&mut scene, &Preimage([3; 32]), 100).await;
    let id = scene.transfer_id();
    let request = lock(&mut scene, id, LockMode::Receive, Refunds::Plain).await;
    done(&scene, 0, request).await;
    assert_is(
        &scene,
        id,
        TransferStatus::Returned,
        &HashLockState::Returned,
    );
    for operator in 0..OPERATORS {
        assert_eq!(signed(&scene, operator, id), 0);
        assert!(scene.preimage_share(operator, &PREIMAGE).is_none());
    }
    assert_is_free(&mut scene);
    let late = show(&scene, id, &PREIMAGE);
    assert_eq!(refused(&scene, 0, late).await.reason, Reason::Expired);
    scene.check();
    // The hash is free again, for an honest deposit.
    deposit(&mut scene, &PREIMAGE, 100).await;
    let id = scene.transfer_id();
    let request = lock(&mut scene, id, LockMode::Receive, Refunds::Plain).await;
    done(&scene, 0, request).await;
    assert_is(
        &scene,
        id,
        TransferStatus::SenderKeyTweakPending,
        &HashLockState::Revealed(PREIMAGE),
    );
}

/// Case 43: whoever does not hand in its tweaks, all of them, gets no preimage and sends nothing.
#[tokio::test(start_paused = true)]
async fn case_43_receive_without_the_senders_tweaks_makes_no_transfer_and_shows_no_preimage() {
    let mut scene = scene(46).await;
    deposit(&mut scene, &PREIMAGE, 100).await;
    let id = scene.transfer_id();
    let leaf = scene.leaf(0);
    let mode = LockMode::Receive;
    let good = scene
        .hash_lock(id, (0, 1), &[leaf], &PREIMAGE, mode, Refunds::Plain)
        .await;
    let mut without = good.clone();
    without.package.tweaks.clear();
    without.package.user_signature.clear();
    let mut but_one = good.clone();
    but_one.package.tweaks.pop_last();
    let mut unsigned = good.clone();
    unsigned.package.user_signature.pop();
    for wrong in [without, but_one, unsigned] {
        for operator in 0..OPERATORS {
            let request = Request::HashLock(Box::new(wrong.clone()));
            let refusal = refused(&scene, operator, request).await;
            let reasons = [Reason::MissingField, Reason::BadSignature];
            assert!(reasons.contains(&refusal.reason), "{refusal}");
        }
        scene.heal().await;
        for operator in 0..OPERATORS {
            assert!(scene.transfer(operator, id).is_none());
            assert!(scene.lock(operator, id).is_none());
            let share = scene.preimage_share(operator, &PREIMAGE).unwrap();
            assert_eq!(share.held, None, "not given away");
        }
        assert_is_free(&mut scene);
        scene.check();
    }
    done(&scene, 0, Request::HashLock(Box::new(good))).await;
    let revealed = HashLockState::Revealed(PREIMAGE);
    assert_is(&scene, id, TransferStatus::SenderKeyTweakPending, &revealed);
}

/// Case 43: a coordinator that lies gets no share of the preimage without everybody's yes.
#[tokio::test(start_paused = true)]
async fn case_43_no_share_of_a_preimage_leaves_before_the_certificate() {
    let mut scene = scene(43).await;
    deposit(&mut scene, &PREIMAGE, 100).await;
    let id = scene.transfer_id();
    let request = lock(&mut scene, id, LockMode::Receive, Refunds::Htlc).await;
    let flow = scene.flow_id();
    let mut votes = Vec::new();
    for peer in [1, 2] {
        let prepare = Message::Prepare {
            flow,
            coordinator: tinderbox_frost::OperatorIndex(0),
            request: request.encode().unwrap(),
        };
        match scene.say(0, peer, prepare).await.unwrap() {
            Reply::Yes(vote) => votes.push(vote),
            other => panic!("{other:?}"),
        }
    }
    // The certificate lacks the liar's own yes; or has another's vote twice.
    let mut doubled = votes.clone();
    doubled.push(votes[0].clone());
    for votes in [votes.clone(), doubled] {
        for peer in [1, 2] {
            let commit = Message::Commit {
                flow,
                certificate: Certificate {
                    votes: votes.clone(),
                },
            };
            let reply = scene.say(0, peer, commit).await.unwrap();
            assert!(matches!(reply, Reply::Later(_)), "{reply:?}");
        }
    }
    scene.heal().await;
    assert!(scene.transfer(1, id).is_none());
    for operator in 0..OPERATORS {
        let share = scene.preimage_share(operator, &PREIMAGE).unwrap();
        assert_eq!(share.held, None);
    }
    assert_is_free(&mut scene);
    scene.check();
}

/// An operator that gives a wrong share is outvoted by the proofs.
#[tokio::test(start_paused = true)]
async fn wrong_share_of_a_preimage_is_left_out() {
    let mut scene = scene(44).await;
    deposit(&mut scene, &PREIMAGE, 100).await;
    let id = scene.transfer_id();
    let request = lock(&mut scene, id, LockMode::Receive, Refunds::Htlc).await;
    let lies = Arc::new(Mutex::new(0));
    let told = Arc::clone(&lies);
    scene.on_message(move |passing| {
        if passing.to.0 != 1 || !matches!(passing.message, Message::Commit { .. }) {
            return Fate::Carry;
        }
        let told = Arc::clone(&told);
        Fate::Alter(Box::new(move |mut reply| {
            if let Reply::Committed { output, .. } = &mut reply
                && output.preimage.is_some()
            {
                output.preimage = Some(PreimageShare([8; 32]));
                *told.lock().unwrap() += 1;
            }
            reply
        }))
    });
    let outcome = done(&scene, 0, request).await;
    assert_eq!(outcome.secret, Some(PREIMAGE));
    assert_eq!(*lies.lock().unwrap(), 1);
    scene.heal().await;
    let state = scene.lock(1, id).unwrap().state;
    assert!(matches!(
        state,
        HashLockState::Revealed(_) | HashLockState::Shared(_)
    ));
}

/// What is owed stands in the stored invoice, and is owed to who stored it.
#[tokio::test(start_paused = true)]
async fn case_47_underpaid_receive_gets_no_preimage() {
    let mut scene = scene(45).await;
    let value = scene.node(0, &scene.leaf(0)).value.0;
    deposit(&mut scene, &PREIMAGE, value + 1).await;
    let id = scene.transfer_id();
    let request = lock(&mut scene, id, LockMode::Receive, Refunds::Htlc).await;
    let refusal = refused(&scene, 0, request).await;
    assert_eq!(refusal.reason, Reason::MalformedField, "{refusal}");
    let hold = lock(&mut scene, id, LockMode::Hold, Refunds::Htlc).await;
    let refusal = refused(&scene, 0, hold).await;
    assert_eq!(refusal.reason, Reason::InvalidState, "{refusal}");
    let leaf = scene.leaf(0);
    let other = scene
        .hash_lock(
            id,
            (0, 0),
            &[leaf],
            &PREIMAGE,
            LockMode::Receive,
            Refunds::Htlc,
        )
        .await;
    let refusal = refused(&scene, 0, Request::HashLock(Box::new(other))).await;
    assert_eq!(refusal.reason, Reason::NotOwner, "{refusal}");
    assert_is_free(&mut scene);
    assert!(scene.preimage_share(0, &PREIMAGE).is_some());
}
