//! Receiving, from what operators say to what the wallet believes.

use tinderbox_protocol::{LeafId, Sats, TransferId};

use crate::events::WalletEvent;
use crate::exit::{ExitPath, RefundKey};
use crate::leaf::LeafStatus;
use crate::storage::{Kind, Records};
use crate::testing::{World, transfer_message};
use crate::transfer::{Transfer, TransferKind};

/// Bob is offered a payment that `spoil` has changed, and must not claim it.
async fn is_not_believed(spoil: impl FnOnce(&World, &mut Transfer)) -> String {
    let world = World::of_bob().await;
    let mut payment = world.payment(world.scene.transfer_leaf());
    world.wait_for_bob(&payment);
    spoil(&world, &mut payment);
    world.operators[0].with(|script| script.pending = vec![transfer_message(&payment)]);
    let mut events = world.wallet.events();
    let report = world.wallet.claim_pending().await.unwrap();
    assert_eq!(report.claimed, []);
    assert_eq!(
        world.operators[0].with(|script| script.claims.len()),
        0,
        "nothing was claimed"
    );
    assert!(world.wallet.leaves().is_empty());
    let event = events.try_recv().unwrap();
    assert!(
        matches!(event, WalletEvent::NotBelieved { .. }),
        "{event:?}"
    );
    // It stays claimable: an honest answer later is taken.
    assert_eq!(report.refused.len(), 1);
    report.refused[0].1.clone()
}

#[tokio::test]
async fn an_honest_payment_is_claimed_and_its_exit_is_kept() {
    let world = World::of_bob().await;
    let payment = world.payment(world.scene.transfer_leaf());
    world.wait_for_bob(&payment);
    let mut events = world.wallet.events();
    let report = world.wallet.claim_pending().await.unwrap();
    assert_eq!(report.refused, []);
    assert_eq!(report.claimed[0].amount, Sats(100_000));
    assert!(matches!(
        events.try_recv().unwrap(),
        WalletEvent::Received {
            amount: Sats(100_000),
            ..
        }
    ));
    assert_eq!(world.wallet.balance_of_leaves().available, Sats(100_000));
    let key = world.scene.leaf_id().to_string();
    let path = Records::new(world.storage.clone())
        .get::<ExitPath>(Kind::ExitPath, &key)
        .unwrap()
        .unwrap();
    assert_eq!(
        (path.refund_key, path.refund_timelock()),
        (RefundKey::Leaf, 1900)
    );
}

#[tokio::test]
async fn a_payment_that_is_being_claimed_is_not_claimed_a_second_time() {
    let world = World::of_bob().await;
    let payment = world.payment(world.scene.transfer_leaf());
    world.wait_for_bob(&payment);
    let (first, second) = tokio::join!(world.wallet.claim_pending(), world.wallet.claim_pending());
    let claimed = first.unwrap().claimed.len() + second.unwrap().claimed.len();
    assert_eq!(claimed, 1);
    assert_eq!(world.operators[0].with(|script| script.claims.len()), 1);
    let marked = world.wallet.inner().claims().running.len();
    assert_eq!(marked, 0, "the mark goes with the claim");
}

#[tokio::test]
async fn a_claim_covers_every_operator_and_is_signed() {
    let world = World::of_bob().await;
    let payment = world.payment(world.scene.transfer_leaf());
    world.wait_for_bob(&payment);
    world.wallet.claim_pending().await.unwrap();
    let claim = world.operators[0].with(|script| script.claims[0].clone());
    let package = claim.claim_package.unwrap();
    assert_eq!(package.key_tweak_package.len(), 3);
    assert_eq!(package.hash_variant, 1);
    assert_eq!(
        (
            package.leaves_to_claim.len(),
            package.direct_leaves_to_claim.len()
        ),
        (1, 0)
    );
    assert_eq!(package.direct_from_cpfp_leaves_to_claim.len(), 1);
    let digest = tinderbox_protocol::hash::claim_payload(&payment.id, &package.key_tweak_package);
    let bob = world.wallet.address().identity;
    tinderbox_protocol::signature::verify_der(&bob, &digest, &package.user_signature, "claim")
        .unwrap();
}

#[tokio::test]
async fn case_1_a_payment_whose_refund_is_not_one_step_lower_is_not_claimed() {
    let why = is_not_believed(|world, payment| {
        let mut refund = payment.leaves[0].refund.clone();
        refund.input[0].sequence = bitcoin::Sequence(2000);
        payment.leaves[0].refund = world
            .scene
            .sign(refund, &payment.leaves[0].node.node_tx.output[..1]);
    })
    .await;
    assert!(why.contains("2000"), "{why}");
}

#[tokio::test]
async fn case_3_a_payment_whose_refund_is_signed_for_something_else_is_not_claimed() {
    let why = is_not_believed(|_, payment| {
        let mut witness = payment.leaves[0].refund.input[0]
            .witness
            .nth(0)
            .unwrap()
            .to_vec();
        witness.push(0x81);
        payment.leaves[0].refund.input[0].witness = bitcoin::Witness::from_slice(&[witness]);
    })
    .await;
    assert!(why.contains("does not bind"), "{why}");
}

#[tokio::test]
async fn case_7_a_payment_whose_refund_pays_somebody_else_is_not_claimed() {
    let why = is_not_believed(|world, payment| {
        let mut refund = payment.leaves[0].refund.clone();
        refund.output[0].script_pubkey = tinderbox_protocol::tx::p2tr(&world.scene.stranger());
        payment.leaves[0].refund = world
            .scene
            .sign(refund, &payment.leaves[0].node.node_tx.output[..1]);
    })
    .await;
    assert!(why.contains("own key"), "{why}");
}

#[tokio::test]
async fn case_8_a_leaf_whose_keys_do_not_add_up_is_not_claimed() {
    let why = is_not_believed(|world, payment| {
        let mut node = payment.leaves[0].node.clone();
        node.keyshare = world.scene.stranger();
        world.tell_node(&node);
    })
    .await;
    assert!(why.contains("does not open leaf"), "{why}");
}

#[tokio::test]
async fn case_9_a_payment_from_a_tree_without_a_confirmed_deposit_is_not_claimed() {
    let why = is_not_believed(|world, _| world.chain.reorganise(6)).await;
    assert!(why.contains("is not on chain"), "{why}");
}

#[tokio::test]
async fn case_9_a_payment_from_a_tree_whose_deposit_is_spent_is_not_claimed() {
    let why = is_not_believed(|world, payment| {
        world
            .chain
            .confirm_foreign(payment.leaves[0].node.node_tx.clone());
    })
    .await;
    assert!(why.contains("already spent"), "{why}");
}

#[tokio::test]
async fn case_10_ancestors_that_the_answer_left_out_are_asked_for_by_id() {
    let world = World::of_bob().await;
    let (root, leaf) = world.scene.renewed_leaf();
    let payment = world.payment(world.scene.transfer_leaf_of(leaf));
    world.wait_for_bob(&payment);
    // Known to the operators, but not part of the answer about the leaf.
    world.tell_node(&root);
    let report = world.wallet.claim_pending().await.unwrap();
    assert_eq!(report.refused, []);
    assert_eq!(report.claimed.len(), 1);
    let key = world.scene.leaf_id().to_string();
    let path = Records::new(world.storage.clone())
        .get::<ExitPath>(Kind::ExitPath, &key)
        .unwrap()
        .unwrap();
    assert_eq!(path.nodes.len(), 2);
}

#[tokio::test]
async fn case_10_a_payment_whose_ancestors_nobody_knows_is_not_claimed() {
    let world = World::of_bob().await;
    let (_, leaf) = world.scene.renewed_leaf();
    let payment = world.payment(world.scene.transfer_leaf_of(leaf));
    world.wait_for_bob(&payment);
    let report = world.wallet.claim_pending().await.unwrap();
    assert!(report.refused[0].1.contains("is missing"), "{report:?}");
    assert_eq!(world.operators[0].with(|script| script.claims.len()), 0);
}

#[tokio::test]
async fn case_11_a_hand_over_taken_from_another_transfer_is_not_claimed() {
    let why = is_not_believed(|_, payment| payment.id = TransferId::from_bytes16([4; 16])).await;
    assert!(why.contains("does not cover leaf"), "{why}");
    let why = is_not_believed(|_, payment| payment.leaves[0].signature.clear()).await;
    assert!(why.contains("does not cover leaf"), "{why}");
}

#[tokio::test]
async fn case_12_one_lying_operator_does_not_stop_a_payment() {
    for liar in 0..3 {
        let world = World::of_bob().await;
        let payment = world.payment(world.scene.transfer_leaf());
        world.wait_for_bob(&payment);
        let mut lie = payment.leaves[0].node.clone();
        lie.status = LeafStatus::OnChain;
        lie.owner = world.scene.stranger();
        world.lie(liar, &lie);
        assert_eq!(
            world.wallet.claim_pending().await.unwrap().claimed.len(),
            1,
            "liar {liar}"
        );
    }
}

#[tokio::test]
async fn case_12_a_payment_that_only_the_coordinator_knows_is_not_claimed() {
    let why = is_not_believed(|world, _| {
        for operator in &world.operators[1..] {
            operator.with(|script| script.nodes.clear());
        }
    })
    .await;
    assert!(why.contains("do not agree"), "{why}");
}

#[tokio::test]
async fn a_payment_that_claims_to_be_worth_more_is_not_claimed() {
    let why = is_not_believed(|_, payment| payment.total = Sats(200_000)).await;
    assert!(why.contains("claims 200000"), "{why}");
}

#[tokio::test]
async fn a_leaf_that_is_in_a_payment_twice_does_not_count_twice() {
    let why = is_not_believed(|_, payment| {
        payment.leaves.push(payment.leaves[0].clone());
        payment.total = Sats(200_000);
    })
    .await;
    assert!(why.contains("twice"), "{why}");
}

#[tokio::test]
async fn a_payment_to_somebody_else_is_not_claimed() {
    let why = is_not_believed(|world, payment| payment.receiver = world.scene.stranger()).await;
    assert!(why.contains("another receiver"), "{why}");
}

#[tokio::test]
async fn a_kind_of_transfer_that_cannot_be_judged_is_left_alone() {
    let why = is_not_believed(|_, payment| payment.kind = TransferKind::CooperativeExit).await;
    assert!(why.contains("newer version"), "{why}");
}

/// The operators turn hostile between the claim and its answer.
async fn claim_answered_with(
    spoil: impl FnOnce(&World, &mut crate::leaf::Node),
) -> (World, String) {
    let world = World::of_bob().await;
    let payment = world.payment(world.scene.transfer_leaf());
    world.wait_for_bob(&payment);
    let mut done = payment.clone();
    done.leaves[0].node = world.scene.claimed(&payment.leaves[0]);
    spoil(&world, &mut done.leaves[0].node);
    world.operators[0].with(|script| script.claimed = Some(transfer_message(&done)));
    let report = world.wallet.claim_pending().await.unwrap();
    assert_eq!(report.claimed, []);
    assert!(world.wallet.leaves().is_empty());
    let why = report.refused[0].1.clone();
    (world, why)
}

#[tokio::test]
async fn case_7_a_claimed_leaf_whose_refund_pays_somebody_else_does_not_count() {
    let (_, why) = claim_answered_with(|world, node| {
        let mut refund = node.refund_tx.take().unwrap();
        refund.output[0].script_pubkey = tinderbox_protocol::tx::p2tr(&world.scene.stranger());
        node.refund_tx = Some(world.scene.sign(refund, &node.node_tx.output[..1]));
    })
    .await;
    assert!(why.contains("own key"), "{why}");
}

#[tokio::test]
async fn case_3_a_claimed_leaf_whose_refund_is_not_signed_does_not_count() {
    let (_, why) = claim_answered_with(|_, node| {
        node.refund_tx.as_mut().unwrap().input[0].witness.clear();
    })
    .await;
    assert!(why.contains("not signed"), "{why}");
}

#[tokio::test]
async fn case_8_a_claimed_leaf_with_another_key_does_not_count() {
    let (_, why) = claim_answered_with(|world, node| node.keyshare = world.scene.stranger()).await;
    assert!(why.contains("do not add up"), "{why}");
    let (_, why) =
        claim_answered_with(|world, node| node.verifying_key = world.scene.stranger()).await;
    assert!(why.contains("do not add up"), "{why}");
}

#[tokio::test]
async fn a_claim_that_leaves_a_leaf_out_does_not_count() {
    let (_, why) = claim_answered_with(|_, node| node.id = LeafId::from_bytes16([6; 16])).await;
    assert!(why.contains("not in it"), "{why}");
}

#[tokio::test]
async fn a_payment_that_was_claimed_on_another_device_is_taken_over() {
    let world = World::of_bob().await;
    let payment = world.payment(world.scene.transfer_leaf());
    world.wait_for_bob(&payment);
    world.operators[0].with(|script| {
        let mut done = script.claimed.take().unwrap();
        done.status = tinderbox_rpc::proto::spark::TransferStatus::Completed.into();
        script.history = vec![done];
    });
    // The fake refuses a claim that has no answer; operators say that it exists already.
    world.operators[0].with(|script| script.refuse_claim = Some(tonic::Code::AlreadyExists));
    assert_eq!(world.wallet.claim_pending().await.unwrap().claimed.len(), 1);
}

#[tokio::test]
async fn one_bad_payment_does_not_stop_the_others() {
    let world = World::of_bob().await;
    let good = world.payment(world.scene.transfer_leaf());
    world.wait_for_bob(&good);
    let mut bad = good.clone();
    bad.id = TransferId::from_bytes16([4; 16]);
    let mut unreadable = transfer_message(&good);
    unreadable.id = "no id".into();
    let messages = vec![unreadable, transfer_message(&bad), transfer_message(&good)];
    world.operators[0].with(|script| script.pending = messages);
    let report = world.wallet.claim_pending().await.unwrap();
    assert_eq!((report.claimed.len(), report.refused.len()), (1, 1));
}
