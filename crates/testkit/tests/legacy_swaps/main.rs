//! Leaf swaps by the older protocol on a calm network in which one thing goes wrong: both legs happen
//! or none, nothing is signed for an offer that comes back, and no answer fits but the right one.

mod faults;

use std::time::Duration;

use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use bitcoin::secp256k1::{PublicKey, SECP256K1, SecretKey};
use tinderbox_flows::flow::{JobOutcome, Outcome};
use tinderbox_flows::form::Adaptors;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::Request;
use tinderbox_flows::return_rule::Why;
use tinderbox_flows::returns::ReturnRequest;
use tinderbox_flows::rows::{
    ClaimPhase, Details, FlowRow, NodeStatus, Part, SwapOfferRow, TransferKind, TransferStatus,
};
use tinderbox_flows::swap_counter::{MARGIN_MS, SwapCounterRequest};
use tinderbox_flows::swap_legacy::LegacySwapRequest;
use tinderbox_flows::swap_legacy_counter::LegacyCounterRequest;
use tinderbox_flows::swap_primary::{BEHIND_MS, OFFER_MS};
use tinderbox_frost::{OperatorIndex, SecretScalar, adaptor};
use tinderbox_protocol::{LeafId, TransferId};
use tinderbox_testkit::sim::Scene;

const OPERATORS: u16 = 3;
const LEAVES: usize = 12;

fn point(byte: u8) -> PublicKey {
    let key = SecretKey::from_slice(&[byte; 32]).expect("a key");
    key.public_key(SECP256K1)
}

/// Each refund under a point of its own.
fn each() -> Adaptors {
    Adaptors {
        cpfp: point(7),
        direct: Some(point(8)),
        direct_from_cpfp: Some(point(9)),
    }
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
        let value = |place: usize| scene.node(0, &scene.leaf(place)).value;
        let found = (0..LEAVES).step_by(2).find_map(|own| {
            let theirs = || (1..LEAVES).step_by(2);
            let fits = |place: &usize| value(*place) == value(own);
            let same: Vec<usize> = theirs().filter(fits).take(2).collect();
            let other = theirs().find(|place| !fits(place))?;
            let [first, second] = same.as_slice() else {
                return None;
            };
            Some((own, [*first, *second], other))
        });
        let (own, same, other) = found.expect("among twelve leaves of two values");
        Self {
            offered: scene.leaf(own),
            same: same.map(|place| scene.leaf(place)),
            other: scene.leaf(other),
            offer: scene.transfer_id(),
            answer: scene.transfer_id(),
            scene,
        }
    }

    async fn offered(&mut self) -> LegacySwapRequest {
        let (id, leaf) = (self.offer, self.offered);
        self.scene.legacy_offer(id, 0, 1, &[leaf]).await
    }

    async fn answered(&mut self, leaf: LeafId) -> LegacyCounterRequest {
        self.answered_with(&[leaf], each()).await
    }

    async fn answered_with(
        &mut self,
        leaves: &[LeafId],
        adaptors: Adaptors,
    ) -> LegacyCounterRequest {
        let (id, offer) = (self.answer, self.offer);
        let scene = &mut self.scene;
        scene.legacy_answer(id, 1, offer, leaves, adaptors).await
    }

    /// The offer stands.
    async fn standing(seed: u64) -> Self {
        let mut swap = Self::new(seed).await;
        let offer = swap.offered().await;
        swap.done(0, first(&offer)).await;
        swap
    }

    async fn done(&self, operator: u16, request: Request) -> Outcome {
        let answer = self.scene.run(operator, request).await;
        answer
            .expect("the operator stays up")
            .unwrap_or_else(|refusal| panic!("{refusal}\n{}", self.scene.log().join("\n")))
    }

    async fn refused(&self, operator: u16, request: Request) -> Refusal {
        let answer = self.scene.run(operator, request).await;
        match answer.expect("it stays up") {
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

    /// How many refunds of a leg are signed, the same at all operators.
    fn signed(&self, id: TransferId) -> usize {
        let count = |operator| {
            let row = self.scene.transfer(operator, id).expect("the leg");
            let leaves = row.leaves.iter();
            let refunds = leaves.flat_map(|leaf| {
                let made = &leaf.intermediate;
                [&made.cpfp, &made.direct, &made.direct_from_cpfp]
            });
            refunds
                .filter(|raw| !raw.is_empty())
                .filter(|raw| {
                    let tx: Transaction = deserialize(raw).expect("a refund");
                    !tx.input[0].witness.is_empty()
                })
                .count()
        };
        let first = count(0);
        assert!((1..OPERATORS).all(|operator| count(operator) == first));
        first
    }

    /// At how many operators the half signatures of the offer are kept.
    fn kept(&self) -> usize {
        let id = SwapOfferRow::id_of(&self.offer);
        let kept = |operator: &u16| self.scene.row::<SwapOfferRow>(*operator, &id).is_some();
        (0..OPERATORS).filter(kept).count()
    }

    /// How many signature shares operators have given in the flow that made a leg.
    fn shares(&self, id: TransferId) -> usize {
        let row = self.scene.transfer(0, id).expect("the leg");
        let flows = (0..OPERATORS).filter_map(|operator| {
            let flow: Option<FlowRow> = self.scene.row(operator, &row.started_by.0);
            flow
        });
        flows
            .filter_map(|flow| postcard::from_bytes::<Outcome>(&flow.outcome).ok())
            .map(|outcome| outcome.jobs.len())
            .sum()
    }

    /// The offer waits, nothing has moved or been signed, nothing is left of any answer.
    fn assert_still_standing(&self) {
        self.scene.check();
        let offer = self.scene.transfer(0, self.offer).expect("the offer");
        assert_eq!(offer.status, TransferStatus::SenderKeyTweakPending);
        assert_eq!((offer.held, offer.details.other_leg()), (None, None));
        assert_eq!(self.status(self.answer), None);
        assert_eq!(
            (self.signed(self.offer), self.kept()),
            (0, usize::from(OPERATORS))
        );
        for leaf in self.same.iter().chain([&self.other]) {
            assert_eq!(self.scene.node(0, leaf).status, NodeStatus::Available);
        }
    }

    /// Both legs happened; both parties claim; each has the other's leaf.
    async fn ends_in_an_exchange(&mut self, answered: LeafId) {
        self.scene.check();
        assert_eq!(self.kept(), 0);
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

    fn give_back(&self) -> Request {
        Request::Return(Box::new(ReturnRequest {
            now: self.scene.engine(1).core().clock.now(),
            transfer: self.offer,
            why: Why::Expired,
        }))
    }

    async fn expire(&self) {
        tokio::time::sleep(Duration::from_millis(OFFER_MS + 60_000)).await;
    }
}

fn first(request: &LegacySwapRequest) -> Request {
    Request::LegacySwap(Box::new(request.clone()))
}

fn second(request: &LegacyCounterRequest) -> Request {
    Request::LegacyCounter(Box::new(request.clone()))
}

#[tokio::test(start_paused = true)]
async fn both_legs_happen_and_both_parties_claim() {
    let mut swap = Swap::standing(1).await;
    let row = swap.scene.transfer(2, swap.offer).expect("the offer");
    assert_eq!(row.kind, TransferKind::LegacySwap);
    assert_eq!(row.expiry, Some(row.created.plus(OFFER_MS)));
    assert_eq!(row.receivers[0].phase, ClaimPhase::Initiated);
    swap.assert_still_standing();
    assert_eq!(
        swap.shares(swap.offer),
        0,
        "no share for what may come back"
    );
    // Nothing has moved: the key is still the owner's.
    let node = swap.scene.node(0, &swap.offered);
    assert_eq!((node.status, node.lock), (NodeStatus::TransferLocked, None));
    let own = swap.scene.owner(0).leaf_key(&node.id);
    assert_eq!(node.owner_signing, own.public_key(SECP256K1));

    let leaf = swap.same[0];
    let answer = swap.answered(leaf).await;
    swap.done(1, second(&answer)).await;
    assert!(swap.shares(swap.answer) > 0);
    let row = swap.scene.transfer(2, swap.answer).expect("the answer");
    assert_eq!(row.kind, TransferKind::LegacyCounterSwap);
    let other = Some(swap.offer);
    assert_eq!(row.details, Details::LegacySwap { other });
    let row = swap.scene.transfer(2, swap.offer).expect("the offer");
    assert_eq!(row.details.other_leg(), Some(swap.answer));
    // The provider could go on chain with what it got: a root has two refunds. What it gave is
    // incomplete without the points' secrets.
    assert_eq!((swap.signed(swap.offer), swap.signed(swap.answer)), (2, 0));
    swap.ends_in_an_exchange(leaf).await;
}

/// What operators hand out for the answer: shares that make adaptor signatures with the provider's
/// halves, each under its own point.
#[tokio::test(start_paused = true)]
async fn each_refund_of_the_answer_completes_with_the_secret_of_its_point() {
    let mut swap = Swap::standing(2).await;
    let answer = swap.answered(swap.same[0]).await;
    let outcome = swap.done(0, second(&answer)).await;
    let row = swap.scene.transfer(1, swap.answer).expect("the answer");
    let flow: FlowRow = swap.scene.row(1, &row.started_by.0).expect("its flow");
    let mut parts = Vec::new();
    for (job, made) in flow.jobs.iter().zip(&outcome.jobs) {
        let prepared = job.package.prepare().expect("a package");
        let (key, message) = (prepared.output_key(), job.package.message);
        let shares = match made {
            JobOutcome::Shares(shares) => shares,
            // The offer's refunds, plain.
            JobOutcome::Signed(_) if job.leaf == Some(swap.offered) => continue,
            other => panic!("{other:?}"),
        };
        assert_eq!(job.leaf, Some(swap.same[0]));
        let byte = match job.part {
            Part::Cpfp => 7,
            Part::DirectFromCpfp => 9,
            other => panic!("{other:?}"),
        };
        parts.push(job.part);
        let public_shares = (0..).map(OperatorIndex);
        let public_shares = public_shares.zip(job.public_shares.iter().copied());
        let signature = prepared
            .aggregate(
                shares,
                job.user_share.as_ref(),
                &public_shares.collect(),
                job.user_key.as_ref(),
            )
            .expect("an adaptor signature");
        let valid = |signature: &[u8; 64]| {
            tinderbox_frost::verify_signature(&job.package.verifying_key, &message, signature)
        };
        assert!(valid(&signature).is_err());
        let secret = SecretScalar::try_from_be_bytes(&[byte; 32]).expect("a scalar");
        let whole = adaptor::complete(&key, &message, &signature, &secret).expect("it completes");
        assert_eq!(valid(&whole), Ok(()));
        let wrong = SecretScalar::try_from_be_bytes(&[6; 32]).expect("a scalar");
        assert!(adaptor::complete(&key, &message, &signature, &wrong).is_err());
    }
    assert_eq!(parts, [Part::Cpfp, Part::DirectFromCpfp]);
}

/// A refund whose point is not named is signed plainly: its leg is settled already.
#[tokio::test(start_paused = true)]
async fn refund_without_a_point_is_signed_plainly() {
    let mut swap = Swap::standing(3).await;
    let leaf = swap.same[0];
    let adaptors = Adaptors {
        direct: None,
        direct_from_cpfp: None,
        ..each()
    };
    let answer = swap.answered_with(&[leaf], adaptors).await;
    swap.done(0, second(&answer)).await;
    assert_eq!((swap.signed(swap.offer), swap.signed(swap.answer)), (2, 1));
    swap.ends_in_an_exchange(leaf).await;
}

/// A half signature under another point is refused before anybody votes.
#[tokio::test(start_paused = true)]
async fn half_signature_must_be_under_its_point() {
    let mut swap = Swap::standing(4).await;
    let leaf = swap.same[0];
    let good = swap.answered(leaf).await;
    for adaptors in [
        Adaptors {
            cpfp: point(6),
            ..each()
        },
        Adaptors {
            direct_from_cpfp: None,
            ..each()
        },
    ] {
        let wrong = LegacyCounterRequest {
            adaptors,
            ..good.clone()
        };
        let refusal = swap.refused(1, second(&wrong)).await;
        assert_eq!(refusal.reason, Reason::BadSignature, "{refusal}");
        swap.assert_still_standing();
    }
    swap.done(1, second(&good)).await;
    swap.ends_in_an_exchange(leaf).await;
}

/// The offer needs all refunds that a payment needs, half-signed without an adaptor.
#[tokio::test(start_paused = true)]
async fn offer_without_fee_paying_refunds_is_refused() {
    let mut swap = Swap::new(5).await;
    let mut wrong = swap.offered().await;
    wrong.package.direct_from_cpfp.clear();
    let refusal = swap.refused(0, first(&wrong)).await;
    assert_eq!(refusal.reason, Reason::MissingField, "{refusal}");
    assert_eq!((swap.status(swap.offer), swap.kept()), (None, 0));
    swap.scene.check();
}

#[tokio::test(start_paused = true)]
async fn answer_of_another_total_or_to_another_offer_is_refused() {
    let mut swap = Swap::standing(12).await;
    for leaves in [vec![swap.other], swap.same.to_vec()] {
        let wrong = swap.answered_with(&leaves, each()).await;
        let refusal = swap.refused(1, second(&wrong)).await;
        assert_eq!(refusal.reason, Reason::MalformedField, "{refusal}");
        assert!(refusal.message.contains("same total"), "{refusal}");
        swap.assert_still_standing();
    }
    let good = swap.answered(swap.same[0]).await;
    let unknown = LegacyCounterRequest {
        offer: swap.scene.transfer_id(),
        ..good.clone()
    };
    let refusal = swap.refused(0, second(&unknown)).await;
    assert_eq!(refusal.reason, Reason::MissingEntity, "{refusal}");
    assert!(refusal.message.contains("swap_id"), "{refusal}");
    let elsewhere = LegacyCounterRequest {
        receiver: point(9),
        ..good.clone()
    };
    let refusal = swap.refused(0, second(&elsewhere)).await;
    assert_eq!(refusal.reason, Reason::NotOwner, "{refusal}");
    swap.assert_still_standing();
    swap.done(0, second(&good)).await;
    // Answered once.
    let (id, offer, leaf) = (swap.scene.transfer_id(), swap.offer, swap.same[1]);
    let again = swap
        .scene
        .legacy_answer(id, 1, offer, &[leaf], each())
        .await;
    let refusal = swap.refused(2, second(&again)).await;
    assert_eq!(refusal.reason, Reason::InvalidState, "{refusal}");
    swap.ends_in_an_exchange(swap.same[0]).await;
}

/// An offer of one protocol is not answered by the other: its refunds would be of another form.
#[tokio::test(start_paused = true)]
async fn protocols_do_not_mix() {
    let mut swap = Swap::standing(13).await;
    let good = swap.answered(swap.same[0]).await;
    let present = SwapCounterRequest {
        now: good.now,
        transfer: good.transfer,
        sender: good.sender,
        receiver: good.receiver,
        package: good.package.clone(),
        adaptor: point(7),
        primary: swap.offer,
    };
    let present = Request::SwapCounter(Box::new(present));
    let refusal = swap.refused(0, present).await;
    assert_eq!(refusal.reason, Reason::MalformedField, "{refusal}");
    swap.assert_still_standing();

    let mut swap = Swap::new(13).await;
    let (id, leaf) = (swap.offer, swap.offered);
    let offer = swap.scene.offer(id, 0, 1, &[leaf], point(7)).await;
    swap.done(0, Request::SwapPrimary(Box::new(offer))).await;
    let older = swap.answered(swap.same[0]).await;
    let refusal = swap.refused(0, second(&older)).await;
    assert_eq!(refusal.reason, Reason::MalformedField, "{refusal}");
    swap.scene.check();
    assert_eq!(swap.status(swap.answer), None);
}

#[tokio::test(start_paused = true)]
async fn late_answer_and_made_up_times_are_refused() {
    let mut swap = Swap::standing(14).await;
    let early = swap.answered(swap.same[0]).await;
    tokio::time::sleep(Duration::from_millis(BEHIND_MS + 10_000)).await;
    let refusal = swap.refused(0, second(&early)).await;
    assert_eq!(refusal.reason, Reason::Disagreement, "{refusal}");
    tokio::time::sleep(Duration::from_millis(
        OFFER_MS - MARGIN_MS - BEHIND_MS - 9_999,
    ))
    .await;
    let late = swap.answered(swap.same[0]).await;
    let refusal = swap.refused(0, second(&late)).await;
    assert_eq!(refusal.reason, Reason::Expired, "{refusal}");
    swap.assert_still_standing();
}

/// Every operator has a list of its own, for offers and for answers.
#[tokio::test(start_paused = true)]
async fn provider_that_one_operator_does_not_list_is_refused() {
    let mut swap = Swap::new(15).await;
    let leaf = swap.same[0];
    let provider = swap.scene.owner(1).identity();
    let offer = swap.offered().await;
    swap.scene.list_providers(2, &[]);
    let refusal = swap.refused(0, first(&offer)).await;
    assert_eq!(refusal.reason, Reason::Disagreement, "{refusal}");
    swap.scene.heal().await;
    assert_eq!((swap.status(swap.offer), swap.kept()), (None, 0));
    swap.scene.list_providers(2, &[provider]);
    swap.done(0, first(&offer)).await;
    let answer = swap.answered(leaf).await;
    swap.scene.list_providers(2, &[]);
    let refusal = swap.refused(0, second(&answer)).await;
    assert_eq!(refusal.reason, Reason::Disagreement, "{refusal}");
    swap.scene.heal().await;
    swap.assert_still_standing();
    swap.scene.list_providers(2, &[provider]);
    swap.done(0, second(&answer)).await;
    swap.ends_in_an_exchange(leaf).await;
}

/// A leaf that is on its way to the chain is not taken in exchange.
#[tokio::test(start_paused = true)]
async fn offer_of_a_leaf_that_is_leaving_is_not_answered() {
    let mut swap = Swap::standing(16).await;
    let answer = swap.answered(swap.same[0]).await;
    let mut node = swap.scene.node(0, &swap.offered);
    node.status = NodeStatus::OnChain;
    swap.scene.plant(&node).await;
    let refusal = swap.refused(0, second(&answer)).await;
    assert_eq!(refusal.reason, Reason::InvalidState, "{refusal}");
    assert_eq!(swap.status(swap.answer), None);
    let waits = TransferStatus::SenderKeyTweakPending;
    assert_eq!(swap.status(swap.offer), Some(waits));
    assert_eq!(swap.signed(swap.offer), 0);
}
