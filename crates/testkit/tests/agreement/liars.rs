//! Operators and senders that break the protocol. Lying coordinators are the simulator's.

use std::sync::{Arc, Mutex};

use tinderbox_commit::{Message, Reply};
use tinderbox_flows::flow::JobOutcome;
use tinderbox_flows::refusal::Reason;
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{ClaimPhase, KeyshareRow};
use tinderbox_frost::OperatorIndex;
use tinderbox_testkit::owner::Dealing;
use tinderbox_testkit::sim::{Fate, Scene};

use super::{assert_is_claimed, assert_never_happened, claim, done, ends_well, payment, scene};

const LIAR: u16 = 2;

/// From now on operator [`LIAR`] gives each share for the wrong transaction. Tells how often.
fn wrong_shares(scene: &Scene) -> Arc<Mutex<usize>> {
    let told = Arc::new(Mutex::new(0));
    let count = Arc::clone(&told);
    scene.on_message(move |passing| {
        if passing.to.0 != LIAR || !matches!(passing.message, Message::Commit { .. }) {
            return Fate::Carry;
        }
        let count = Arc::clone(&count);
        Fate::Alter(Box::new(move |reply| {
            let Reply::Committed {
                certificate,
                mut output,
                outcome,
            } = reply
            else {
                return reply;
            };
            let shares: Vec<_> = output.shares.values().copied().collect();
            for (share, wrong) in output
                .shares
                .values_mut()
                .zip(shares.iter().cycle().skip(1))
            {
                *share = *wrong;
                *count.lock().unwrap() += 1;
            }
            Reply::Committed {
                certificate,
                output,
                outcome,
            }
        }))
    });
    told
}

/// The operators that an outcome blames.
fn blamed(outcome: &tinderbox_flows::flow::Outcome) -> Vec<OperatorIndex> {
    let mut all: Vec<_> = outcome
        .jobs
        .iter()
        .filter_map(|job| match job {
            JobOutcome::Failed(culprits) => Some(culprits.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    all.sort();
    all.dedup();
    all
}

/// Which operators sign is the wallet's choice: seeds until the liar is among them.
async fn claimed_by_liars(seed: u64) -> Option<(Scene, tinderbox_protocol::TransferId)> {
    let mut scene = scene(seed).await;
    let id = scene.transfer_id();
    let request = payment(&mut scene, id).await;
    done(&scene, 0, request).await;
    let told = wrong_shares(&scene);
    let request = claim(&mut scene, id).await;
    let outcome = done(&scene, 0, request).await;
    scene.calm();
    if *told.lock().unwrap() == 0 {
        return None;
    }
    assert_eq!(blamed(&outcome), [OperatorIndex(LIAR)]);
    Some((scene, id))
}

/// Cases 17 and 41c: it is named, and with fresh nonces others sign.
#[tokio::test(start_paused = true)]
async fn case_41c_wrong_share_after_the_certificate_is_named_and_a_retry_completes_the_claim() {
    let mut met = 0;
    for seed in 20..30 {
        let Some((mut scene, id)) = claimed_by_liars(seed).await else {
            continue;
        };
        met += 1;
        // The keys have moved; only signatures are missing.
        let transfer = scene.transfer(0, id).expect("the transfer");
        assert_eq!(transfer.receivers[0].phase, ClaimPhase::KeyTweakApplied);
        let again = claim(&mut scene, id).await;
        let outcome = done(&scene, 1, again).await;
        assert!(blamed(&outcome).is_empty());
        assert_is_claimed(&mut scene, id);
        scene.check();
    }
    assert!(met > 0, "the liar never signed");
}

/// The sender's refunds to the receiver may be missing then: the receiver claims all the same.
#[tokio::test(start_paused = true)]
async fn case_41c_wrong_share_in_a_payment_is_named_and_the_receiver_still_claims() {
    let mut met = 0;
    for seed in 30..40 {
        let mut scene = scene(seed).await;
        let id = scene.transfer_id();
        let request = payment(&mut scene, id).await;
        let told = wrong_shares(&scene);
        let outcome = done(&scene, 0, request).await;
        scene.calm();
        if *told.lock().unwrap() == 0 {
            continue;
        }
        met += 1;
        assert_eq!(blamed(&outcome), [OperatorIndex(LIAR)]);
        ends_well(&mut scene, id).await;
    }
    assert!(met > 0, "the liar never signed");
}

/// A complete signature that is not one, from a coordinator that hides who gave the wrong share.
#[tokio::test(start_paused = true)]
async fn case_19_outcome_with_a_wrong_signature_never_reaches_storage() {
    let mut scene = scene(41).await;
    let id = scene.transfer_id();
    let request = payment(&mut scene, id).await;
    let kept: Arc<Mutex<Option<Message>>> = Arc::default();
    let place = Arc::clone(&kept);
    // Nobody hears the true outcome.
    scene.on_message(move |passing| {
        if matches!(passing.message, Message::Finish { .. }) {
            *place.lock().unwrap() = Some(passing.message.clone());
            return Fate::LoseRequest;
        }
        Fate::Carry
    });
    done(&scene, 0, request).await;
    scene.calm();
    let Some(Message::Finish {
        flow,
        certificate,
        outcome,
    }) = kept.lock().unwrap().clone()
    else {
        panic!("no outcome was told");
    };
    let before = scene.digest(1);
    for place in 0..outcome.jobs.len() {
        let mut wrong = outcome.clone();
        if let JobOutcome::Signed(signature) = &mut wrong.jobs[place] {
            signature[40] ^= 1;
        }
        assert_ne!(wrong, outcome);
        let mut short = outcome.clone();
        short.jobs.remove(place);
        for outcome in [wrong, short] {
            let message = Message::Finish {
                flow,
                certificate: certificate.clone(),
                outcome,
            };
            match scene.say(0, 1, message).await {
                Ok(Reply::Later(refusal)) => assert_eq!(refusal.reason, Reason::BadSignature),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(scene.digest(1), before, "something was written");
    scene.heal().await;
    ends_well(&mut scene, id).await;
}

#[tokio::test(start_paused = true)]
async fn case_22_another_polynomial_for_each_operator_is_refused_before_anything_is_applied() {
    let mut scene = scene(42).await;
    let id = scene.transfer_id();
    scene.owner(0).dealing = Dealing::PolynomialEach;
    let request = payment(&mut scene, id).await;
    scene.owner(0).dealing = Dealing::Honest;
    let keyshare = scene.node(0, &scene.leaf(0)).keyshare;
    let generation = |scene: &Scene, operator| {
        let row: KeyshareRow = scene.row(operator, &keyshare.0).expect("a key share");
        row.generation
    };
    let refusal = super::refused(&scene, 0, request).await;
    assert_eq!(refusal.reason, Reason::Disagreement, "{refusal}");
    scene.heal().await;
    assert_never_happened(&scene, id);
    for operator in 0..super::OPERATORS {
        assert_eq!(generation(&scene, operator), 0, "a tweak was applied");
    }
    ends_well(&mut scene, id).await;
}

/// The same by a receiver.
#[tokio::test(start_paused = true)]
async fn case_22_receivers_other_polynomials_are_refused_and_an_honest_claim_follows() {
    let mut scene = scene(43).await;
    let id = scene.transfer_id();
    let request = payment(&mut scene, id).await;
    done(&scene, 0, request).await;
    scene.owner(1).dealing = Dealing::PolynomialEach;
    let request = Request::Claim(Box::new(scene.claim(id, 1).await));
    scene.owner(1).dealing = Dealing::Honest;
    let refusal = super::refused(&scene, 0, request).await;
    assert_eq!(refusal.reason, Reason::Disagreement, "{refusal}");
    scene.heal().await;
    ends_well(&mut scene, id).await;
}
