//! Hash locks between operators: what must hold, claim by claim. Cases are numbered in
//! `docs/cases.md`.

mod receive;
mod returns;
mod send;
mod store;

use bitcoin::consensus::deserialize;
use tinderbox_flows::flow::Outcome;
use tinderbox_flows::htlc::lock::LockMode;
use tinderbox_flows::refusal::Refusal;
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{HashLockState, NodeStatus, TransferStatus};
use tinderbox_flows::secret::Preimage;
use tinderbox_protocol::TransferId;
use tinderbox_testkit::hashlocks::Refunds;
use tinderbox_testkit::sim::Scene;

const OPERATORS: u16 = 3;
const PREIMAGE: Preimage = Preimage([0x2d; 32]);

async fn scene(seed: u64) -> Scene {
    Scene::new(seed, OPERATORS, 2, 2).await
}

async fn done(scene: &Scene, operator: u16, request: Request) -> Outcome {
    let answer = scene.run(operator, request).await;
    answer
        .expect("the operator stays up")
        .unwrap_or_else(|refusal| panic!("{refusal}\n{}", scene.log().join("\n")))
}

async fn refused(scene: &Scene, operator: u16, request: Request) -> Refusal {
    match scene.run(operator, request).await {
        Some(Err(refusal)) => refusal,
        Some(Ok(_)) => panic!("it was not refused"),
        None => panic!("the operator stays up"),
    }
}

/// Leaf 0 of wallet 0, locked for wallet 1.
async fn lock(scene: &mut Scene, id: TransferId, mode: LockMode, refunds: Refunds) -> Request {
    let leaf = scene.leaf(0);
    let request = scene
        .hash_lock(id, (0, 1), &[leaf], &PREIMAGE, mode, refunds)
        .await;
    Request::HashLock(Box::new(request))
}

fn show(scene: &Scene, id: TransferId, preimage: &Preimage) -> Request {
    Request::Preimage(Box::new(scene.show(id, 1, preimage)))
}

/// At every operator the transfer has this status, and the lock this state.
fn assert_is(scene: &Scene, id: TransferId, status: TransferStatus, state: &HashLockState) {
    for operator in 0..OPERATORS {
        let transfer = scene.transfer(operator, id).expect("the transfer");
        assert_eq!((transfer.status, transfer.held), (status, None));
        let lock = scene.lock(operator, id).expect("the lock");
        assert_eq!(&lock.state, state, "operator {operator}");
    }
}

/// How many of the transfer's refunds are signed, at an operator.
fn signed(scene: &Scene, operator: u16, id: TransferId) -> usize {
    let transfer = scene.transfer(operator, id).expect("the transfer");
    let raw = transfer.leaves.iter().flat_map(|leaf| {
        let refunds = &leaf.intermediate;
        [&refunds.cpfp, &refunds.direct, &refunds.direct_from_cpfp]
    });
    raw.filter(|raw| !raw.is_empty())
        .filter(|raw| {
            let tx: bitcoin::Transaction = deserialize(raw).expect("a refund");
            !tx.input[0].witness.is_empty()
        })
        .count()
}

/// Wallet 1 claims, and has the leaf at every operator.
async fn claim(scene: &mut Scene, id: TransferId) {
    let claim = Request::Claim(Box::new(scene.claim(id, 1).await));
    done(scene, 2, claim).await;
    let receiver = scene.owner(1).identity();
    for operator in 0..OPERATORS {
        let node = scene.node(operator, &scene.leaf(0));
        assert_eq!((node.owner, node.status), (receiver, NodeStatus::Available));
    }
    scene.check();
}

/// The leaf is the sender's to spend, as if nothing had been.
fn assert_is_free(scene: &mut Scene) {
    let sender = scene.owner(0).identity();
    for operator in 0..OPERATORS {
        let node = scene.node(operator, &scene.leaf(0));
        assert_eq!(
            (node.owner, node.status, node.lock),
            (sender, NodeStatus::Available, None)
        );
    }
}
