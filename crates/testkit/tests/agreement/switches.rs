//! Something that would refuse a flow is switched after operators have voted for it, and before they
//! hear the decision. A yes cannot be taken back: the flow ends as it was decided, everywhere, and the
//! switch counts from the next flow on.

use std::time::Duration;

use bitcoin::secp256k1::SECP256K1;
use tinderbox_commit::Message;
use tinderbox_flows::refusal::Reason;
use tinderbox_flows::request::{Request, SettingRequest};
use tinderbox_flows::rows::{FlowRow, FlowState, NodeStatus, SettingRow, TransferStatus};
use tinderbox_testkit::sim::{Fate, Scene};

use super::{OPERATORS, THRESHOLD, done, ends_well, is_paid, payment, refused, scene};

/// True if these operators have voted yes on something whose end they have not heard.
fn waits(scene: &Scene, operators: &[u16]) -> bool {
    operators.iter().all(|operator| {
        let flows = scene.rows::<FlowRow>(*operator);
        flows.iter().any(|flow| flow.state == FlowState::Prepared)
    })
}

/// The coordinator has decided, and dies before it tells anybody.
async fn decided_and_not_told(scene: &Scene, request: Request) {
    scene.on_message(|passing| match passing.message {
        Message::Commit { .. } => Fate::CrashSender,
        _ => Fate::Carry,
    });
    let answer = scene.run(0, request).await;
    assert!(answer.is_none(), "its coordinator dies");
    scene.calm();
    assert!(waits(scene, &[1, 2]));
}

#[tokio::test(start_paused = true)]
async fn case_41_wallet_that_becomes_private_between_vote_and_commit_is_paid() {
    let mut scene = scene(70).await;
    let id = scene.transfer_id();
    let send = payment(&mut scene, id).await;
    scene.on_message(|passing| match passing.message {
        Message::Commit { .. } => Fate::Late(Duration::from_secs(2)),
        _ => Fate::Carry,
    });
    let paying = scene.begin(0, send);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(waits(&scene, &[1, 2]));
    scene.calm();
    let (receiver, now) = (scene.owner(1).identity(), scene.flow_id().made());
    let private = SettingRequest {
        now,
        owner: receiver,
        private: Some(true),
        master: None,
    };
    done(&scene, 1, Request::Setting(Box::new(private))).await;
    assert!(!is_paid(&scene, id), "the payment is still under way");
    paying.await.expect("it stays up").expect("it was decided");
    scene.heal().await;
    scene.check();
    assert!(is_paid(&scene, id));
    for operator in 0..OPERATORS {
        let setting: Option<SettingRow> = scene.row(operator, &receiver.serialize());
        assert!(setting.is_some_and(|row| row.pending.is_none() && row.current.private));
    }
    ends_well(&mut scene, id).await;
}

#[tokio::test(start_paused = true)]
async fn case_41_provider_struck_off_between_vote_and_commit_completes_what_was_decided() {
    // Two leaves of one value, one of each wallet.
    let mut seed = 71;
    let mut scene = loop {
        let scene = Scene::new(seed, OPERATORS, THRESHOLD, 4).await;
        let value = |place| scene.node(0, &scene.leaf(place)).value;
        if value(0) == value(1) {
            break scene;
        }
        seed += 1;
    };
    let point = scene.owner(0).deposit_key().public_key(SECP256K1);
    let [mine, theirs, more] = [0, 1, 2].map(|place| scene.leaf(place));
    let (offer, answer) = (scene.transfer_id(), scene.transfer_id());
    let request = scene.offer(offer, 0, 1, &[mine], point).await;
    done(&scene, 0, Request::SwapPrimary(Box::new(request))).await;
    let request = scene.answer(answer, 1, offer, &[theirs]).await;
    decided_and_not_told(&scene, Request::SwapCounter(Box::new(request))).await;
    for operator in 0..OPERATORS {
        scene.list_providers(operator, &[]);
    }
    scene.heal().await;
    scene.check();
    for id in [offer, answer] {
        for operator in 0..OPERATORS {
            let status = scene.transfer(operator, id).map(|row| row.status);
            assert_eq!(status, Some(TransferStatus::SenderKeyTweaked));
        }
    }
    // From now on it is none.
    let next = scene.transfer_id();
    let request = scene.offer(next, 0, 1, &[more], point).await;
    let refusal = refused(&scene, 0, Request::SwapPrimary(Box::new(request))).await;
    assert_eq!(refusal.reason, Reason::Disagreement, "{refusal}");
}

#[tokio::test(start_paused = true)]
async fn case_41_leaf_that_the_chain_takes_between_vote_and_commit_changes_hands_all_the_same() {
    let mut scene = scene(80).await;
    let id = scene.transfer_id();
    let (send, leaf) = (payment(&mut scene, id).await, scene.leaf(0));
    decided_and_not_told(&scene, send).await;
    for operator in 0..OPERATORS {
        let mut node = scene.node(operator, &leaf);
        node.status = NodeStatus::OnChain;
        scene.put(operator, &node).await;
    }
    scene.heal().await;
    assert!(is_paid(&scene, id));
    let keys: Vec<_> = (0..OPERATORS)
        .map(|operator| scene.node(operator, &leaf))
        .map(|node| (node.status, node.lock, node.owner_signing))
        .collect();
    let own = scene.owner(0).leaf_key(&leaf).public_key(SECP256K1);
    for (status, lock, signing) in &keys {
        assert_eq!((*status, *lock), (NodeStatus::OnChain, None));
        assert_eq!(*signing, keys[0].2);
        assert_ne!(*signing, own, "the sender's key is worth nothing any more");
    }
    // And nothing new begins with it.
    let again = scene.transfer_id();
    let again = payment(&mut scene, again).await;
    let refusal = refused(&scene, 1, again).await;
    assert_eq!(refusal.reason, Reason::InvalidState, "{refusal}");
}
