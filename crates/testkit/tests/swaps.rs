//! Leaf swaps on a calm network in which one thing goes wrong: both legs happen or none, and no
//! answer fits but the right one.

use std::time::Duration;

use bitcoin::secp256k1::{PublicKey, SECP256K1, SecretKey};
use tinderbox_commit::Message;
use tinderbox_flows::flow::{JobOutcome, Outcome};
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::Request;
use tinderbox_flows::return_rule::Why;
use tinderbox_flows::returns::ReturnRequest;
use tinderbox_flows::rows::{
    ClaimPhase, Details, FlowRow, NodeStatus, TransferKind, TransferStatus,
};
use tinderbox_flows::swap_counter::{MARGIN_MS, SwapCounterRequest};
use tinderbox_flows::swap_primary::{AHEAD_MS, BEHIND_MS, OFFER_MS, SwapPrimaryRequest};
use tinderbox_frost::{SecretScalar, adaptor};
use tinderbox_protocol::{LeafId, TransferId};
use tinderbox_testkit::sim::{Fate, Scene, WriteFate};

const OPERATORS: u16 = 3;
const LEAVES: usize = 12;

fn key(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).expect("a key")
}

fn point(byte: u8) -> PublicKey {
    key(byte).public_key(SECP256K1)
}

/// Wallet 0 offers to wallet 1, a provider.
struct Swap {
    scene: Scene,
    /// The leaf that is offered.
    offered: LeafId,
    /// Leaves of the provider: of the same value, of the same value again, of another.
    same: [LeafId; 2],
    other: LeafId,
    offer: TransferId,
    answer: TransferId,
}

impl Swap {
    async fn new(seed: u64) -> Self {
        let mut scene = Scene::new(seed, OPERATORS, 2, LEAVES).await;
        let value = |scene: &Scene, place| scene.node(0, &scene.leaf(place)).value;
        let find = |scene: &Scene| {
            (0..LEAVES).step_by(2).find_map(|own| {
                let theirs = || (1..LEAVES).step_by(2);
                let fits = |place: &usize| value(scene, *place) == value(scene, own);
                let same: Vec<usize> = theirs().filter(fits).take(2).collect();
                let other = theirs().find(|place| !fits(place))?;
                let [first, second] = same.as_slice() else {
                    return None;
                };
                Some((own, [*first, *second], other))
            })
        };
        let (own, same, other) = find(&scene).expect("among twelve leaves of two values");
        Self {
            offered: scene.leaf(own),
            same: same.map(|place| scene.leaf(place)),
            other: scene.leaf(other),
            offer: scene.transfer_id(),
            answer: scene.transfer_id(),
            scene,
        }
    }

    async fn offered(&mut self) -> SwapPrimaryRequest {
        let (id, leaf) = (self.offer, self.offered);
        self.scene.offer(id, 0, 1, &[leaf], point(7)).await
    }

    async fn answered(&mut self, leaf: LeafId) -> SwapCounterRequest {
        let (id, offer) = (self.answer, self.offer);
        self.scene.answer(id, 1, offer, &[leaf]).await
    }

    /// The offer stands.
    async fn standing(seed: u64) -> Self {
        let mut swap = Self::new(seed).await;
        let offer = swap.offered().await;
        swap.done(0, primary(&offer)).await;
        swap
    }

    async fn done(&self, operator: u16, request: Request) -> Outcome {
        let answer = self.scene.run(operator, request).await;
        answer
            .expect("the operator stays up")
            .unwrap_or_else(|refusal| panic!("{refusal}\n{}", self.scene.log().join("\n")))
    }

    async fn refused(&self, operator: u16, request: Request) -> Refusal {
        match self
            .scene
            .run(operator, request)
            .await
            .expect("it stays up")
        {
            Ok(_) => panic!("it was not refused"),
            Err(refusal) => refusal,
        }
    }

    /// The same at all operators.
    fn status(&self, id: TransferId) -> Option<TransferStatus> {
        let status = |operator| self.scene.transfer(operator, id).map(|row| row.status);
        let first = status(0);
        assert!((1..OPERATORS).all(|operator| status(operator) == first));
        first
    }

    /// The offer waits, nothing has moved, nothing is left of any answer.
    fn assert_still_standing(&self) {
        self.scene.check();
        let offer = self.scene.transfer(0, self.offer).expect("the offer");
        assert_eq!(offer.status, TransferStatus::SenderKeyTweakPending);
        assert_eq!(offer.held, None);
        assert_eq!(self.status(self.answer), None);
        for leaf in self.same.iter().chain([&self.other]) {
            assert_eq!(self.scene.node(0, leaf).status, NodeStatus::Available);
        }
    }

    /// Both legs happened; both parties claim; each has the other's leaf.
    async fn ends_in_an_exchange(&mut self, answered: LeafId) {
        self.scene.check();
        for id in [self.offer, self.answer] {
            assert_eq!(self.status(id), Some(TransferStatus::SenderKeyTweaked));
        }
        for (id, owner) in [(self.answer, 0), (self.offer, 1)] {
            let claim = self.scene.claim(id, owner).await;
            self.done(2, Request::Claim(Box::new(claim))).await;
            assert_eq!(self.status(id), Some(TransferStatus::Completed));
        }
        self.scene.check();
        let user = self.scene.owner(0).identity();
        let provider = self.scene.owner(1).identity();
        assert_eq!(self.scene.node(1, &answered).owner, user);
        assert_eq!(self.scene.node(1, &self.offered).owner, provider);
    }
}

fn primary(request: &SwapPrimaryRequest) -> Request {
    Request::SwapPrimary(Box::new(request.clone()))
}

fn counter(request: &SwapCounterRequest) -> Request {
    Request::SwapCounter(Box::new(request.clone()))
}

#[tokio::test(start_paused = true)]
async fn both_legs_happen_and_both_parties_claim() {
    let mut swap = Swap::standing(1).await;
    let row = swap.scene.transfer(2, swap.offer).expect("the offer");
    assert_eq!(row.kind, TransferKind::PrimarySwap);
    assert_eq!(row.expiry, Some(row.created.plus(OFFER_MS)));
    assert_eq!(row.receivers[0].phase, ClaimPhase::Initiated);
    let node = swap.scene.node(0, &swap.offered);
    assert_eq!((node.status, node.lock), (NodeStatus::TransferLocked, None));
    // Nothing has moved: the key is still the owner's.
    let own = swap.scene.owner(0).leaf_key(&node.id);
    assert_eq!(node.owner_signing, own.public_key(SECP256K1));

    let leaf = swap.same[0];
    let answer = swap.answered(leaf).await;
    swap.done(1, counter(&answer)).await;
    let row = swap.scene.transfer(2, swap.answer).expect("the answer");
    assert_eq!(row.kind, TransferKind::CounterSwap);
    let link = |id| {
        Some(Details::Swap {
            adaptor: point(7),
            other: Some(id),
        })
    };
    assert_eq!(Some(row.details), link(swap.offer));
    let row = swap.scene.transfer(2, swap.offer).expect("the offer");
    assert_eq!(Some(row.details), link(swap.answer));
    swap.ends_in_an_exchange(leaf).await;
}

/// What an operator hands out for a leg: shares that make an adaptor signature with the user's
/// half, which the secret completes, and which is worth nothing without.
#[tokio::test(start_paused = true)]
async fn shares_make_adaptor_signatures_that_the_secret_completes() {
    let mut swap = Swap::new(2).await;
    let offer = swap.offered().await;
    let outcome = swap.done(0, primary(&offer)).await;
    let answer = swap.answered(swap.same[0]).await;
    let answered = swap.done(2, counter(&answer)).await;
    for (id, outcome) in [(swap.offer, outcome), (swap.answer, answered)] {
        let row = swap.scene.transfer(1, id).expect("the leg");
        let flow: FlowRow = swap.scene.row(1, &row.started_by.0).expect("its flow");
        let (job, [JobOutcome::Shares(shares)]) = (&flow.jobs[0], outcome.jobs.as_slice()) else {
            panic!("{outcome:?}");
        };
        let prepared = job.package.prepare().expect("a package");
        let public_shares = (0..).map(tinderbox_frost::OperatorIndex);
        let public_shares = public_shares
            .zip(job.public_shares.iter().copied())
            .collect();
        let signature = prepared
            .aggregate(
                shares,
                job.user_share.as_ref(),
                &public_shares,
                job.user_key.as_ref(),
            )
            .expect("an adaptor signature");
        let key = prepared.output_key();
        let message = job.package.message;
        assert_eq!(
            adaptor::verify(&key, &message, &signature, &point(7)),
            Ok(())
        );
        assert!(adaptor::verify(&key, &message, &signature, &point(8)).is_err());
        let valid = |signature: &[u8; 64]| {
            tinderbox_frost::verify_signature(&job.package.verifying_key, &message, signature)
        };
        assert!(valid(&signature).is_err());
        let secret = SecretScalar::try_from_be_bytes(&[7; 32]).expect("a scalar");
        let whole = adaptor::complete(&key, &message, &signature, &secret).expect("it completes");
        assert_eq!(valid(&whole), Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn answer_under_another_adaptor_is_refused() {
    let mut swap = Swap::standing(3).await;
    let good = swap.answered(swap.same[0]).await;
    // Another point in the request: neither the offer's, nor the one that was signed under.
    let wrong = SwapCounterRequest {
        adaptor: point(8),
        ..good.clone()
    };
    let refusal = swap.refused(0, counter(&wrong)).await;
    assert_eq!(refusal.reason, Reason::MalformedField, "{refusal}");
    assert!(refusal.message.contains("adaptor_public_key"), "{refusal}");
    swap.assert_still_standing();
    swap.done(0, counter(&good)).await;
    swap.scene.check();
}

/// A half signature without the adaptor, or under another one, is refused before anybody votes.
#[tokio::test(start_paused = true)]
async fn half_signature_must_be_under_the_adaptor() {
    let mut swap = Swap::new(4).await;
    let good = swap.offered().await;
    let wrong = SwapPrimaryRequest {
        adaptor: point(8),
        ..good.clone()
    };
    for operator in 0..OPERATORS {
        let refusal = swap.refused(operator, primary(&wrong)).await;
        assert_eq!(refusal.reason, Reason::BadSignature, "{refusal}");
    }
    assert_eq!(swap.status(swap.offer), None);
    swap.done(1, primary(&good)).await;
    swap.scene.check();
}

#[tokio::test(start_paused = true)]
async fn answer_of_another_total_is_refused() {
    let mut swap = Swap::standing(5).await;
    for leaves in [vec![swap.other], swap.same.to_vec()] {
        let (id, offer) = (swap.answer, swap.offer);
        let wrong = swap.scene.answer(id, 1, offer, &leaves).await;
        let refusal = swap.refused(1, counter(&wrong)).await;
        assert_eq!(refusal.reason, Reason::MalformedField, "{refusal}");
        assert!(refusal.message.contains("same total"), "{refusal}");
        swap.assert_still_standing();
    }
}

#[tokio::test(start_paused = true)]
async fn only_the_one_who_was_asked_answers_and_only_the_one_who_asked() {
    let mut swap = Swap::standing(6).await;
    // The user answers itself, with another leaf of its own.
    let user = swap.scene.owner(0).identity();
    let own = (0..LEAVES)
        .map(|place| swap.scene.leaf(place))
        .find(|leaf| {
            let node = swap.scene.node(0, leaf);
            node.status == NodeStatus::Available && node.owner == user
        })
        .expect("a leaf of the user's");
    let (id, offer) = (swap.answer, swap.offer);
    let wrong = swap.scene.answer(id, 0, offer, &[own]).await;
    let refusal = swap.refused(0, counter(&wrong)).await;
    assert_eq!(refusal.reason, Reason::NotOwner, "{refusal}");
    // The provider sends its leaves elsewhere.
    let good = swap.answered(swap.same[0]).await;
    let wrong = SwapCounterRequest {
        receiver: point(9),
        ..good
    };
    let refusal = swap.refused(0, counter(&wrong)).await;
    assert_eq!(refusal.reason, Reason::NotOwner, "{refusal}");
    swap.assert_still_standing();
}

/// Every operator has a list of its own, so that no coordinator makes up a provider.
#[tokio::test(start_paused = true)]
async fn provider_that_one_operator_does_not_list_is_refused() {
    let mut swap = Swap::standing(15).await;
    let leaf = swap.same[0];
    let answer = swap.answered(leaf).await;
    swap.scene.list_providers(2, &[]);
    let refusal = swap.refused(0, counter(&answer)).await;
    assert_eq!(refusal.reason, Reason::Disagreement, "{refusal}");
    assert!(
        refusal.message.contains("all operators must list it"),
        "{refusal}"
    );
    swap.scene.heal().await;
    swap.assert_still_standing();
    let provider = swap.scene.owner(1).identity();
    swap.scene.list_providers(2, &[provider]);
    swap.done(0, counter(&answer)).await;
    swap.ends_in_an_exchange(leaf).await;
}

/// Whoever knows the adaptor's secret can complete the refund, also after a return: it must not pay
/// somebody of the sender's choice, who would race the leaf's next owner.
#[tokio::test(start_paused = true)]
async fn offer_to_whom_an_operator_does_not_list_is_refused() {
    let mut swap = Swap::new(16).await;
    let provider = swap.scene.owner(1).identity();
    let offer = swap.offered().await;
    swap.scene.list_providers(2, &[]);
    let refusal = swap.refused(0, primary(&offer)).await;
    assert_eq!(refusal.reason, Reason::Disagreement, "{refusal}");
    swap.scene.heal().await;
    assert_eq!(swap.status(swap.offer), None);
    swap.scene.list_providers(2, &[provider]);
    swap.done(0, primary(&offer)).await;
    swap.scene.check();
}

#[tokio::test(start_paused = true)]
async fn what_is_no_offer_is_not_answered() {
    let mut swap = Swap::standing(7).await;
    let good = swap.answered(swap.same[0]).await;
    let unknown = SwapCounterRequest {
        primary: swap.scene.transfer_id(),
        ..good.clone()
    };
    let refusal = swap.refused(0, counter(&unknown)).await;
    assert_eq!(refusal.reason, Reason::MissingEntity, "{refusal}");
    // A payment that waits for its receiver, and the answer to another swap.
    let payment = swap.scene.transfer_id();
    let leaf = swap.scene.leaf(
        (0..LEAVES)
            .step_by(2)
            .find(|place| swap.scene.leaf(*place) != swap.offered)
            .expect("another leaf"),
    );
    let sent = swap.scene.payment(payment, 0, 1, &[leaf]).await;
    swap.done(0, Request::Send(Box::new(sent))).await;
    let wrong = SwapCounterRequest {
        primary: payment,
        ..good
    };
    let refusal = swap.refused(0, counter(&wrong)).await;
    assert_eq!(refusal.reason, Reason::MalformedField, "{refusal}");
    swap.assert_still_standing();
}

#[tokio::test(start_paused = true)]
async fn fee_paying_refunds_are_refused_in_a_swap() {
    let mut swap = Swap::new(8).await;
    let good = swap.offered().await;
    for direct in [true, false] {
        let mut wrong = good.clone();
        let job = wrong.package.cpfp[0].clone();
        if direct {
            wrong.package.direct.push(job);
        } else {
            wrong.package.direct_from_cpfp.push(job);
        }
        let refusal = swap.refused(0, primary(&wrong)).await;
        assert_eq!(refusal.reason, Reason::MalformedField, "{refusal}");
        assert!(
            refusal.message.contains("must be empty in a swap"),
            "{refusal}"
        );
    }
    assert_eq!(swap.status(swap.offer), None);
    let offer = swap.offered().await;
    swap.done(0, primary(&offer)).await;
    let mut wrong = swap.answered(swap.same[0]).await;
    wrong.package.direct_from_cpfp = wrong.package.cpfp.clone();
    let refusal = swap.refused(0, counter(&wrong)).await;
    assert_eq!(refusal.reason, Reason::MalformedField, "{refusal}");
    swap.assert_still_standing();
}

/// An offer can be answered as long as two of its four minutes are left.
#[tokio::test(start_paused = true)]
async fn late_answer_is_refused() {
    let mut swap = Swap::standing(9).await;
    tokio::time::sleep(Duration::from_millis(OFFER_MS - MARGIN_MS + 1)).await;
    let late = swap.answered(swap.same[0]).await;
    let refusal = swap.refused(0, counter(&late)).await;
    assert_eq!(refusal.reason, Reason::Expired, "{refusal}");
    swap.assert_still_standing();

    let mut swap = Swap::standing(9).await;
    tokio::time::sleep(Duration::from_millis(OFFER_MS - MARGIN_MS - 1000)).await;
    let leaf = swap.same[0];
    let in_time = swap.answered(leaf).await;
    swap.done(0, counter(&in_time)).await;
    swap.ends_in_an_exchange(leaf).await;
}

/// A coordinator that says that it is earlier than it is, or later, is not believed further than
/// clocks may differ.
#[tokio::test(start_paused = true)]
async fn coordinator_cannot_choose_the_time() {
    let mut swap = Swap::new(10).await;
    let mut offer = swap.offered().await;
    offer.now = offer.now.plus(AHEAD_MS + 60_000);
    let refusal = swap.refused(0, primary(&offer)).await;
    assert_eq!(refusal.reason, Reason::Disagreement, "{refusal}");
    let mut swap = Swap::standing(10).await;
    let early = swap.answered(swap.same[0]).await;
    tokio::time::sleep(Duration::from_millis(BEHIND_MS + 10_000)).await;
    let refusal = swap.refused(0, counter(&early)).await;
    assert_eq!(refusal.reason, Reason::Disagreement, "{refusal}");
    swap.assert_still_standing();
}

#[tokio::test(start_paused = true)]
async fn offer_is_answered_once() {
    let mut swap = Swap::standing(11).await;
    let [first, second] = swap.same;
    let answer = swap.answered(first).await;
    let (id, offer) = (swap.scene.transfer_id(), swap.offer);
    let again = swap.scene.answer(id, 1, offer, &[second]).await;
    swap.done(0, counter(&answer)).await;
    for operator in 0..OPERATORS {
        let refusal = swap.refused(operator, counter(&again)).await;
        assert_eq!(refusal.reason, Reason::InvalidState, "{refusal}");
        let refusal = swap.refused(operator, counter(&answer)).await;
        assert!(
            matches!(
                refusal.reason,
                Reason::InvalidState | Reason::DuplicateOperation
            ),
            "{refusal}"
        );
    }
    assert_eq!(swap.scene.node(0, &second).status, NodeStatus::Available);
    swap.ends_in_an_exchange(first).await;
}

/// Two answers with different leaves at two coordinators at one moment: at most one happens, and
/// whoever lost may try again.
#[tokio::test(start_paused = true)]
async fn of_two_answers_at_two_coordinators_one_happens() {
    for seed in 20..28 {
        let mut swap = Swap::standing(seed).await;
        let [first, second] = swap.same;
        let one = swap.answered(first).await;
        let (id, offer) = (swap.scene.transfer_id(), swap.offer);
        let two = swap.scene.answer(id, 1, offer, &[second]).await;
        let answers = [
            swap.scene.begin(0, counter(&one)),
            swap.scene.begin(1, counter(&two)),
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
        swap.scene.check();
        if happened == 0 {
            swap.done(0, counter(&one)).await;
        } else if swap.status(swap.answer).is_none() {
            swap.answer = id;
        }
        let answered = swap.scene.transfer(0, swap.answer).expect("it happened");
        swap.ends_in_an_exchange(answered.leaves[0].leaf).await;
    }
}

/// One operator refuses the answer: everybody has the offer back as it was, at once, and nothing of
/// the answer is left.
#[tokio::test(start_paused = true)]
async fn refused_answer_leaves_the_offer_as_it_was() {
    let mut swap = Swap::standing(12).await;
    let before: Vec<_> = (0..OPERATORS)
        .map(|operator| swap.scene.transfer(operator, swap.offer))
        .collect();
    let leaf = swap.same[0];
    let answer = swap.answered(leaf).await;
    // Operator 2 does not hear of it in time.
    swap.scene.on_message(|passing| {
        let prepare = matches!(passing.message, Message::Prepare { .. });
        if prepare && passing.to.0 == 2 {
            Fate::LoseRequest
        } else {
            Fate::Carry
        }
    });
    let refusal = swap.refused(0, counter(&answer)).await;
    assert!(refusal.is_transient(), "{refusal}");
    swap.scene.heal().await;
    swap.assert_still_standing();
    for (operator, before) in (0..OPERATORS).zip(before) {
        assert_eq!(swap.scene.transfer(operator, swap.offer), before);
    }
    // The provider tries again, elsewhere.
    swap.done(1, counter(&answer)).await;
    swap.ends_in_an_exchange(leaf).await;
}

/// Case 27 and 28 for swaps: whoever dies at whichever write, both legs happen or none.
#[tokio::test(start_paused = true)]
async fn a_crash_at_any_write_leaves_both_legs_or_none() {
    let mut happened = 0;
    let mut not = 0;
    for victim in 0..OPERATORS {
        for place in 0..3 {
            for fate in [WriteFate::CrashBefore, WriteFate::CrashAfter] {
                let mut swap = Swap::standing(13).await;
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
                let _ = swap.scene.run(0, counter(&answer)).await;
                swap.scene.heal().await;
                swap.scene.check();
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

/// A leaf that is on its way to the chain is not taken in exchange.
#[tokio::test(start_paused = true)]
async fn offer_of_a_leaf_that_is_leaving_is_not_answered() {
    let mut swap = Swap::standing(14).await;
    let answer = swap.answered(swap.same[0]).await;
    let mut node = swap.scene.node(0, &swap.offered);
    node.status = NodeStatus::OnChain;
    swap.scene.plant(&node).await;
    let refusal = swap.refused(0, counter(&answer)).await;
    assert_eq!(refusal.reason, Reason::InvalidState, "{refusal}");
    assert_eq!(swap.status(swap.answer), None);
    assert_eq!(
        swap.status(swap.offer),
        Some(TransferStatus::SenderKeyTweakPending)
    );
}

fn give_back(scene: &Scene, transfer: TransferId) -> Request {
    Request::Return(Box::new(ReturnRequest {
        now: scene.engine(1).core().clock.now(),
        transfer,
        why: Why::Expired,
    }))
}

/// Case 39 for swaps: everybody has agreed to the answer when its coordinator dies; the offer's
/// time passes. It is not returned, and the answer happens when the coordinator is back.
#[tokio::test(start_paused = true)]
async fn answer_that_was_agreed_on_excludes_the_return() {
    let mut swap = Swap::standing(32).await;
    let leaf = swap.same[0];
    let answer = swap.answered(leaf).await;
    swap.scene.on_message(|passing| match passing.message {
        Message::Commit { .. } => Fate::CrashSender,
        _ => Fate::Carry,
    });
    let _ = swap.scene.run(0, counter(&answer)).await;
    swap.scene.calm();
    tokio::time::sleep(Duration::from_millis(OFFER_MS + 60_000)).await;
    let refusal = swap.refused(1, give_back(&swap.scene, swap.offer)).await;
    assert_eq!(refusal.reason, Reason::LockConflict, "{refusal}");
    swap.scene.heal().await;
    let refusal = swap.refused(1, give_back(&swap.scene, swap.offer)).await;
    assert_eq!(refusal.reason, Reason::InvalidState, "{refusal}");
    swap.ends_in_an_exchange(leaf).await;
}

/// Case 39, the other way round: everybody has agreed to the return.
#[tokio::test(start_paused = true)]
async fn return_that_was_agreed_on_excludes_the_answer() {
    let mut swap = Swap::standing(31).await;
    let leaf = swap.same[0];
    // Not before its time.
    let refusal = swap.refused(1, give_back(&swap.scene, swap.offer)).await;
    assert_eq!(refusal.reason, Reason::LockConflict, "{refusal}");
    swap.assert_still_standing();
    tokio::time::sleep(Duration::from_millis(OFFER_MS + 60_000)).await;
    swap.scene.on_message(|passing| match passing.message {
        Message::Commit { .. } => Fate::CrashSender,
        _ => Fate::Carry,
    });
    let _ = swap.scene.run(2, give_back(&swap.scene, swap.offer)).await;
    swap.scene.calm();
    let answer = swap.answered(leaf).await;
    let refusal = swap.refused(1, counter(&answer)).await;
    assert_eq!(refusal.reason, Reason::LockConflict, "{refusal}");
    swap.scene.heal().await;
    swap.scene.check();
    assert_eq!(swap.status(swap.offer), Some(TransferStatus::Returned));
    assert_eq!(swap.status(swap.answer), None);
    let answer = swap.answered(leaf).await;
    let refusal = swap.refused(1, counter(&answer)).await;
    assert_eq!(refusal.reason, Reason::InvalidState, "{refusal}");
    // The leaf is the user's again, under the same key, and may be offered again.
    for operator in 0..OPERATORS {
        let node = swap.scene.node(operator, &swap.offered);
        assert_eq!(node.status, NodeStatus::Available);
        let own = swap.scene.owner(0).leaf_key(&node.id);
        assert_eq!(node.owner_signing, own.public_key(SECP256K1));
    }
    swap.offer = swap.scene.transfer_id();
    let offer = swap.offered().await;
    swap.done(2, primary(&offer)).await;
    let answer = swap.answered(leaf).await;
    swap.done(1, counter(&answer)).await;
    swap.ends_in_an_exchange(leaf).await;
}
