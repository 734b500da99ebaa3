//! Agreement between operators, case by case: one thing goes wrong at a chosen place, and what must
//! hold does hold, without any help. Cases are numbered in `docs/cases.md`; the simulator mixes all
//! of this at random.

mod backup;
mod crashes;
mod exits;
mod liars;
mod messages;
mod partition;
mod races;
mod requests;
mod switches;

use tinderbox_flows::flow::Outcome;
use tinderbox_flows::refusal::Refusal;
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{NodeStatus, TransferStatus};
use tinderbox_protocol::TransferId;
use tinderbox_testkit::sim::Scene;

/// Operators, and how many of them sign.
const OPERATORS: u16 = 3;
const THRESHOLD: u16 = 2;

async fn scene(seed: u64) -> Scene {
    Scene::new(seed, OPERATORS, THRESHOLD, 2).await
}

/// A payment of leaf 0 from wallet 0 to wallet 1.
async fn payment(scene: &mut Scene, id: TransferId) -> Request {
    let leaf = scene.leaf(0);
    Request::Send(Box::new(scene.payment(id, 0, 1, &[leaf]).await))
}

/// Wallet 1's claim of a payment to it.
async fn claim(scene: &mut Scene, id: TransferId) -> Request {
    Request::Claim(Box::new(scene.claim(id, 1).await))
}

/// Runs a request at an operator that stays up, to a good end.
async fn done(scene: &Scene, operator: u16, request: Request) -> Outcome {
    let answer = scene.run(operator, request).await;
    answer
        .expect("the operator stays up")
        .unwrap_or_else(|refusal| panic!("{refusal}\n{}", scene.log().join("\n")))
}

/// Runs a request that must be refused.
async fn refused(scene: &Scene, operator: u16, request: Request) -> Refusal {
    let answer = scene.run(operator, request).await;
    match answer.expect("the operator stays up") {
        Ok(_) => panic!("it was not refused"),
        Err(refusal) => refusal,
    }
}

/// Every operator knows the payment as made and waiting for its receiver.
fn is_paid(scene: &Scene, id: TransferId) -> bool {
    let status = |operator| scene.transfer(operator, id).map(|transfer| transfer.status);
    let first = status(0);
    assert!((1..OPERATORS).all(|other| status(other) == first));
    first == Some(TransferStatus::SenderKeyTweaked)
}

/// Nobody has heard of the payment, and its leaf is the sender's to spend.
fn assert_never_happened(scene: &Scene, id: TransferId) {
    for operator in 0..OPERATORS {
        let transfer = scene.transfer(operator, id);
        assert!(transfer.is_none(), "operator {operator}: {transfer:?}");
        let node = scene.node(operator, &scene.leaf(0));
        assert_eq!((node.status, node.lock), (NodeStatus::Available, None));
        assert_eq!(node.updated, scene.node(0, &scene.leaf(0)).updated);
    }
}

/// Whatever has become of the payment, the wallets go on by doing it again under the same id; then
/// it has happened exactly once, and is claimed exactly once.
async fn ends_well(scene: &mut Scene, id: TransferId) {
    scene.check();
    if is_paid(scene, id) {
        // The sender's wallet asks, and is told.
    } else if scene.transfer(0, id).is_none() {
        assert_never_happened(scene, id);
        let again = payment(scene, id).await;
        done(scene, 1, again).await;
        assert!(is_paid(scene, id));
    }
    scene.check();
    let transfer = scene.transfer(0, id).expect("it was paid");
    if transfer.status == TransferStatus::SenderKeyTweaked {
        let claim = claim(scene, id).await;
        done(scene, 2, claim).await;
    }
    scene.check();
    assert_is_claimed(scene, id);
}

/// The leaf is the receiver's at every operator.
fn assert_is_claimed(scene: &mut Scene, id: TransferId) {
    let receiver = scene.owner(1).identity();
    for operator in 0..OPERATORS {
        let transfer = scene.transfer(operator, id).expect("the transfer");
        assert_eq!(transfer.status, TransferStatus::Completed);
        let node = scene.node(operator, &scene.leaf(0));
        assert_eq!((node.owner, node.status), (receiver, NodeStatus::Available));
    }
}
