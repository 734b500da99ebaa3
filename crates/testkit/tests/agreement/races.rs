//! Two want the same thing at the same time.

use std::sync::{Arc, Mutex};

use tinderbox_commit::Message;
use tinderbox_flows::refusal::Reason;
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::TransferStatus;
use tinderbox_testkit::sim::Fate;

use super::{assert_is_claimed, claim, done, ends_well, is_paid, payment, refused, scene};

/// Attempts of a wallet that is told to try again.
const ATTEMPTS: usize = 3;

#[tokio::test(start_paused = true)]
async fn case_35_two_coordinators_of_one_leaf_one_wins_and_the_other_may_try_again() {
    for seed in 50..62 {
        let mut scene = scene(seed).await;
        let ids = [scene.transfer_id(), scene.transfer_id()];
        let mut winner = None;
        for _ in 0..ATTEMPTS {
            let first = payment(&mut scene, ids[0]).await;
            let second = payment(&mut scene, ids[1]).await;
            let (one, other) = (scene.begin(0, first), scene.begin(1, second));
            let answers = [one.await.unwrap(), other.await.unwrap()];
            for answer in &answers {
                if let Err(refusal) = answer {
                    // Wallets look at their leaves again when they read this, and try again.
                    let locked = refusal.message.contains("not available to transfer");
                    assert!(refusal.is_transient() || locked, "{refusal}");
                }
            }
            let won: Vec<usize> = (0..2).filter(|place| answers[*place].is_ok()).collect();
            assert!(won.len() < 2, "seed {seed}: one leaf was paid twice");
            scene.heal().await;
            scene.check();
            if let Some(place) = won.first() {
                winner = Some(ids[*place]);
                break;
            }
        }
        let winner = winner.unwrap_or_else(|| panic!("seed {seed}: nobody wins"));
        let loser = if winner == ids[0] { ids[1] } else { ids[0] };
        assert!(is_paid(&scene, winner));
        assert!(scene.transfer(0, loser).is_none());
        ends_well(&mut scene, winner).await;
    }
}

#[tokio::test(start_paused = true)]
async fn case_36_of_two_claims_with_different_polynomials_at_most_one_moves_keys() {
    for seed in 70..80 {
        let mut scene = scene(seed).await;
        let id = scene.transfer_id();
        let request = payment(&mut scene, id).await;
        done(&scene, 0, request).await;
        // Every claim that a wallet makes has a polynomial of its own.
        let first = claim(&mut scene, id).await;
        let second = claim(&mut scene, id).await;
        let (one, other) = (scene.begin(1, first), scene.begin(2, second));
        let answers = [one.await.unwrap(), other.await.unwrap()];
        for answer in &answers {
            if let Err(refusal) = answer {
                let retry = refusal.is_transient() || refusal.reason == Reason::DuplicateOperation;
                assert!(retry, "seed {seed}: {refusal}");
            }
        }
        scene.heal().await;
        scene.check();
        ends_well(&mut scene, id).await;
    }
}

#[tokio::test(start_paused = true)]
async fn case_36_claim_beside_an_undecided_one_is_refused_and_allowed_once_that_has_ended() {
    let mut scene = scene(81).await;
    let id = scene.transfer_id();
    let request = payment(&mut scene, id).await;
    done(&scene, 0, request).await;
    // The first claim's coordinator dies when operator 1 has said yes.
    let asked = Arc::new(Mutex::new(0));
    let count = Arc::clone(&asked);
    scene.on_message(move |passing| {
        if passing.from.0 == 0 && matches!(passing.message, Message::Prepare { .. }) {
            let mut count = count.lock().unwrap();
            *count += 1;
            if passing.to.0 == 2 {
                return Fate::LoseRequest;
            }
        }
        Fate::Carry
    });
    let first = claim(&mut scene, id).await;
    let begun = scene.begin(0, first);
    // Until operator 1 holds it.
    while scene.open_flows() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    scene.crash(0);
    assert!(begun.await.is_err(), "its coordinator died");
    scene.calm();
    let mut second = None;
    {
        // Operator 0 is down: any operator would say so first, so it is asked of the one that holds
        // the undecided claim.
        let request = claim(&mut scene, id).await;
        second.replace(refused(&scene, 1, request).await);
    }
    let refusal = second.expect("it was refused");
    assert_eq!(refusal.reason, Reason::ConcurrentClaimConflict, "{refusal}");
    assert!(refusal.is_transient());
    scene.heal().await;
    // Undecided no more, nothing was staged over: a fresh polynomial is fine.
    let transfer = scene.transfer(1, id).expect("the transfer");
    assert_eq!(transfer.status, TransferStatus::SenderKeyTweaked);
    ends_well(&mut scene, id).await;
}

/// The same request twice at once, at two operators: one transfer.
#[tokio::test(start_paused = true)]
async fn case_38_the_same_payment_at_two_operators_happens_once() {
    for seed in 90..100 {
        let mut scene = scene(seed).await;
        let id = scene.transfer_id();
        let request = payment(&mut scene, id).await;
        let one = scene.begin(0, request.clone());
        let other = scene.begin(1, request.clone());
        let answers = [one.await.unwrap(), other.await.unwrap()];
        assert!(answers.iter().filter(|answer| answer.is_ok()).count() < 2);
        scene.heal().await;
        if is_paid(&scene, id) {
            let again = refused(&scene, 2, request).await;
            assert_eq!(again.reason, Reason::DuplicateOperation);
        }
        ends_well(&mut scene, id).await;
        assert_is_claimed(&mut scene, id);
    }
}

/// Another payment under a used id, by another wallet, with another leaf.
#[tokio::test(start_paused = true)]
async fn case_38_another_payment_under_a_used_id_is_refused() {
    let mut scene = scene(101).await;
    let id = scene.transfer_id();
    let request = payment(&mut scene, id).await;
    done(&scene, 0, request).await;
    let leaf = scene.leaf(1);
    let other = Request::Send(Box::new(scene.payment(id, 1, 0, &[leaf]).await));
    let refusal = refused(&scene, 1, other).await;
    assert_eq!(refusal.reason, Reason::DuplicateOperation);
    ends_well(&mut scene, id).await;
}
