//! Somebody dies, time runs out, two come at once: both legs happen or none.

use bitcoin::secp256k1::SECP256K1;
use tinderbox_commit::Message;
use tinderbox_flows::refusal::Reason;
use tinderbox_flows::rows::{NodeStatus, TransferStatus};
use tinderbox_flows::swap_legacy_counter::LegacyCounterRequest;
use tinderbox_testkit::sim::{Fate, WriteFate};

use super::{OPERATORS, Swap, each, first, second};

/// Case 39 for the older swap: nobody answers. The leaf comes back with its key, nothing was signed
/// that competes with its next payment, and a late answer is refused.
#[tokio::test(start_paused = true)]
async fn case_39_unanswered_offer_comes_back_and_leaves_nothing_that_was_signed() {
    let mut swap = Swap::standing(6).await;
    let leaf = swap.same[0];
    let answer = swap.answered(leaf).await;
    let refusal = swap.refused(1, swap.give_back()).await;
    assert_eq!(refusal.reason, Reason::LockConflict, "not before its time");
    swap.assert_still_standing();
    swap.expire().await;
    swap.done(1, swap.give_back()).await;
    swap.scene.check();
    assert_eq!(swap.status(swap.offer), Some(TransferStatus::Returned));
    assert_eq!((swap.signed(swap.offer), swap.kept()), (0, 0));
    assert_eq!(swap.shares(swap.offer), 0);
    for operator in 0..OPERATORS {
        let node = swap.scene.node(operator, &swap.offered);
        assert_eq!((node.status, node.lock), (NodeStatus::Available, None));
        let own = swap.scene.owner(0).leaf_key(&node.id);
        assert_eq!(node.owner_signing, own.public_key(SECP256K1));
    }
    let late = LegacyCounterRequest {
        now: swap.scene.engine(0).core().clock.now(),
        ..answer
    };
    let refusal = swap.refused(0, second(&late)).await;
    assert_eq!(refusal.reason, Reason::InvalidState, "{refusal}");
    // It may be offered again, and is answered then.
    swap.offer = swap.scene.transfer_id();
    let offer = swap.offered().await;
    swap.done(2, first(&offer)).await;
    let answer = swap.answered(leaf).await;
    swap.done(1, second(&answer)).await;
    swap.ends_in_an_exchange(leaf).await;
}

/// Case 39 for the older swap: everybody has agreed to the answer when its coordinator dies; the
/// offer's time passes. It is not returned, and the answer happens when the coordinator is back.
#[tokio::test(start_paused = true)]
async fn case_39_answer_that_was_agreed_on_excludes_the_return() {
    let mut swap = Swap::standing(7).await;
    let leaf = swap.same[0];
    let answer = swap.answered(leaf).await;
    swap.scene.on_message(|passing| match passing.message {
        Message::Commit { .. } => Fate::CrashSender,
        _ => Fate::Carry,
    });
    let _ = swap.scene.run(0, second(&answer)).await;
    swap.scene.calm();
    swap.expire().await;
    let refusal = swap.refused(1, swap.give_back()).await;
    assert_eq!(refusal.reason, Reason::LockConflict, "{refusal}");
    swap.scene.heal().await;
    let refusal = swap.refused(1, swap.give_back()).await;
    assert_eq!(refusal.reason, Reason::InvalidState, "{refusal}");
    swap.ends_in_an_exchange(leaf).await;
}

/// Case 39, the other way round: everybody has agreed to the return.
#[tokio::test(start_paused = true)]
async fn case_39_return_that_was_agreed_on_excludes_the_answer() {
    let mut swap = Swap::standing(8).await;
    let leaf = swap.same[0];
    swap.expire().await;
    swap.scene.on_message(|passing| match passing.message {
        Message::Commit { .. } => Fate::CrashSender,
        _ => Fate::Carry,
    });
    let _ = swap.scene.run(2, swap.give_back()).await;
    swap.scene.calm();
    let answer = swap.answered(leaf).await;
    let refusal = swap.refused(1, second(&answer)).await;
    assert_eq!(refusal.reason, Reason::LockConflict, "{refusal}");
    swap.scene.heal().await;
    swap.scene.check();
    assert_eq!(swap.status(swap.offer), Some(TransferStatus::Returned));
    assert_eq!((swap.status(swap.answer), swap.kept()), (None, 0));
    assert_eq!(swap.scene.node(0, &leaf).status, NodeStatus::Available);
}

/// Case 27 and 28 for the older swap: whoever dies at whichever write, both legs happen or none.
#[tokio::test(start_paused = true)]
async fn case_27_crash_at_any_write_leaves_both_legs_or_none() {
    let (mut happened, mut not) = (0, 0);
    for victim in 0..OPERATORS {
        for place in 0..3 {
            for fate in [WriteFate::CrashBefore, WriteFate::CrashAfter] {
                let mut swap = Swap::standing(9).await;
                let leaf = swap.same[0];
                let answer = swap.answered(leaf).await;
                let mut writes = 0;
                swap.scene.on_write(move |operator| {
                    if operator.0 != victim {
                        return WriteFate::Write;
                    }
                    writes += 1;
                    if writes == place + 1 {
                        fate
                    } else {
                        WriteFate::Write
                    }
                });
                let _ = swap.scene.run(0, second(&answer)).await;
                swap.scene.heal().await;
                if swap.status(swap.answer).is_some() {
                    happened += 1;
                    swap.ends_in_an_exchange(leaf).await;
                } else {
                    not += 1;
                    swap.assert_still_standing();
                }
            }
        }
    }
    assert!(
        happened > 0 && not > 0,
        "{happened} happened, {not} did not"
    );
}

/// The start of an offer, too: it stands everywhere, or nothing is left of it.
#[tokio::test(start_paused = true)]
async fn case_28_crash_while_an_offer_is_made_leaves_it_everywhere_or_nowhere() {
    let (mut stands, mut not) = (0, 0);
    for victim in 0..OPERATORS {
        for place in 0..3 {
            let mut swap = Swap::new(10).await;
            let offer = swap.offered().await;
            let mut writes = 0;
            swap.scene.on_write(move |operator| {
                if operator.0 != victim {
                    return WriteFate::Write;
                }
                writes += 1;
                if writes == place + 1 {
                    WriteFate::CrashBefore
                } else {
                    WriteFate::Write
                }
            });
            let _ = swap.scene.run(0, first(&offer)).await;
            swap.scene.heal().await;
            if swap.status(swap.offer).is_some() {
                stands += 1;
                swap.assert_still_standing();
            } else {
                not += 1;
                assert_eq!(swap.kept(), 0);
                swap.scene.check();
                let node = swap.scene.node(1, &swap.offered);
                assert_eq!(node.status, NodeStatus::Available);
            }
        }
    }
    assert!(stands > 0 && not > 0, "{stands} stand, {not} do not");
}

/// One operator does not vote: everybody has the offer back as it was, at once.
#[tokio::test(start_paused = true)]
async fn refused_answer_leaves_the_offer_as_it_was() {
    let mut swap = Swap::standing(11).await;
    let before: Vec<_> = (0..OPERATORS)
        .map(|operator| swap.scene.transfer(operator, swap.offer))
        .collect();
    let leaf = swap.same[0];
    let answer = swap.answered(leaf).await;
    swap.scene.on_message(|passing| {
        let prepare = matches!(passing.message, Message::Prepare { .. });
        if prepare && passing.to.0 == 2 {
            Fate::LoseRequest
        } else {
            Fate::Carry
        }
    });
    let refusal = swap.refused(0, second(&answer)).await;
    assert!(refusal.is_transient(), "{refusal}");
    swap.scene.heal().await;
    swap.assert_still_standing();
    for (operator, before) in (0..OPERATORS).zip(before) {
        assert_eq!(swap.scene.transfer(operator, swap.offer), before);
    }
    // The provider tries again, elsewhere.
    swap.done(1, second(&answer)).await;
    swap.ends_in_an_exchange(leaf).await;
}

/// Two answers with different leaves at two coordinators at one moment: at most one happens.
#[tokio::test(start_paused = true)]
async fn of_two_answers_at_two_coordinators_one_happens() {
    let mut exchanges = 0;
    for seed in 20..26 {
        let mut swap = Swap::standing(seed).await;
        let [one, two] = swap.same;
        let first = swap.answered(one).await;
        let (id, offer) = (swap.scene.transfer_id(), swap.offer);
        let other = swap.scene.legacy_answer(id, 1, offer, &[two], each()).await;
        let answers = [
            swap.scene.begin(0, second(&first)),
            swap.scene.begin(1, second(&other)),
        ];
        let mut happened = 0;
        for answer in answers {
            match answer.await.expect("operators stay up") {
                Ok(_) => happened += 1,
                Err(refusal) => assert!(
                    refusal.is_transient() || refusal.reason == Reason::InvalidState,
                    "{refusal}"
                ),
            }
        }
        assert!(happened <= 1, "both answers happened");
        swap.scene.heal().await;
        if happened == 0 {
            swap.assert_still_standing();
            continue;
        }
        exchanges += 1;
        if swap.status(swap.answer).is_none() {
            swap.answer = id;
        }
        let answered = swap.scene.transfer(0, swap.answer).expect("it happened");
        swap.ends_in_an_exchange(answered.leaves[0].leaf).await;
    }
    assert!(exchanges > 0, "nobody ever wins");
}
