//! Operators die, and databases lose acknowledgements, at every write and every message there is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use tinderbox_frost::OperatorIndex;
use tinderbox_testkit::sim::{Fate, Scene, WriteFate};

use super::{OPERATORS, assert_is_claimed, claim, done, ends_well, is_paid, payment, scene};

/// What is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Payment,
    Claim,
}

const COORDINATOR: u16 = 0;

/// Writes that each operator makes when nothing goes wrong.
async fn writes_of(part: Part) -> BTreeMap<OperatorIndex, usize> {
    let mut scene = scene(1).await;
    let id = scene.transfer_id();
    let payment = payment(&mut scene, id).await;
    let counts: Arc<Mutex<BTreeMap<OperatorIndex, usize>>> = Arc::default();
    let counting = |scene: &Scene| {
        let counts = Arc::clone(&counts);
        scene.on_write(move |operator| {
            *counts.lock().unwrap().entry(operator).or_default() += 1;
            WriteFate::Write
        });
    };
    if part == Part::Payment {
        counting(&scene);
    }
    done(&scene, COORDINATOR, payment).await;
    if part == Part::Claim {
        let claim = claim(&mut scene, id).await;
        counting(&scene);
        done(&scene, COORDINATOR, claim).await;
    }
    scene.calm();
    counts.lock().unwrap().clone()
}

/// Plays a payment and its claim with one write of one operator going wrong.
async fn with_fault(part: Part, victim: OperatorIndex, place: usize, fate: WriteFate) {
    let mut scene = scene(1).await;
    let id = scene.transfer_id();
    let mut request = payment(&mut scene, id).await;
    if part == Part::Claim {
        done(&scene, COORDINATOR, request).await;
        request = claim(&mut scene, id).await;
    }
    let mut writes = 0;
    let met = Arc::new(Mutex::new(false));
    let hit = Arc::clone(&met);
    scene.on_write(move |operator| {
        if operator == victim {
            writes += 1;
            if writes == place {
                *hit.lock().unwrap() = true;
                return fate;
            }
        }
        WriteFate::Write
    });
    let answer = scene.run(COORDINATOR, request).await;
    let met = *met.lock().unwrap();
    assert!(met, "{part:?}: operator {} has no write {place}", victim.0);
    scene.heal().await;
    // What a wallet was told is true.
    if let Some(Ok(_)) = answer {
        match part {
            Part::Payment => assert!(is_paid(&scene, id)),
            Part::Claim => assert_is_claimed(&mut scene, id),
        }
    }
    ends_well(&mut scene, id).await;
}

async fn every_write(of: impl Fn(OperatorIndex) -> bool, fates: &[WriteFate]) {
    for part in [Part::Payment, Part::Claim] {
        let writes = writes_of(part).await;
        assert_eq!(writes.len(), usize::from(OPERATORS), "{writes:?}");
        for (operator, count) in writes {
            if !of(operator) {
                continue;
            }
            // A vote, a commit, an outcome.
            assert!(
                count >= 3,
                "{part:?}: operator {} wrote {count}",
                operator.0
            );
            for place in 1..=count {
                for fate in fates {
                    with_fault(part, operator, place, *fate).await;
                }
            }
        }
    }
}

const KILLS: [WriteFate; 2] = [WriteFate::CrashBefore, WriteFate::CrashAfter];

#[tokio::test(start_paused = true)]
async fn case_27_coordinator_killed_at_every_write_leaves_nothing_half_done() {
    every_write(|operator| operator.0 == COORDINATOR, &KILLS).await;
}

#[tokio::test(start_paused = true)]
async fn case_28_participant_killed_at_every_write_leaves_nothing_half_done() {
    every_write(|operator| operator.0 != COORDINATOR, &KILLS).await;
}

#[tokio::test(start_paused = true)]
async fn case_33_lost_acknowledgement_of_any_write_is_read_back_and_never_taken_for_an_abort() {
    every_write(|_| true, &[WriteFate::LoseAcknowledgement]).await;
}

/// Between prepares, after the last prepare, after the decision, in the middle of telling it.
#[tokio::test(start_paused = true)]
async fn case_27_coordinator_killed_at_every_message_leaves_nothing_half_done() {
    for part in [Part::Payment, Part::Claim] {
        let mut place = 0;
        loop {
            let mut scene = scene(2).await;
            let id = scene.transfer_id();
            let mut request = payment(&mut scene, id).await;
            if part == Part::Claim {
                done(&scene, COORDINATOR, request).await;
                request = claim(&mut scene, id).await;
            }
            let met = Arc::new(Mutex::new(false));
            let hit = Arc::clone(&met);
            scene.on_message(move |passing| {
                if passing.place == place && passing.from.0 == COORDINATOR {
                    *hit.lock().unwrap() = true;
                    return Fate::CrashSender;
                }
                Fate::Carry
            });
            let answer = scene.run(COORDINATOR, request).await;
            if !*met.lock().unwrap() {
                assert!(matches!(answer, Some(Ok(_))));
                break;
            }
            scene.heal().await;
            ends_well(&mut scene, id).await;
            place += 1;
        }
        // Prepare, commit and finish, to two peers each.
        assert!(place >= 6, "{part:?}: only {place} messages");
    }
}
