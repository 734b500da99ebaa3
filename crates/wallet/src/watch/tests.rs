//! A watchtower that somebody else runs, on a chain that is as strict as a node.

use std::path::PathBuf;
use std::sync::Arc;

use tinderbox_chain::{Error as ChainError, Rejection};
use tinderbox_protocol::{Network, tx};

use super::{WatchEvent, WatchState, Watchtower, check};
use crate::adopt::exit_path;
use crate::error::Error;
use crate::exit::{Bundle, ExitPath, RefundKey};
use crate::signer::WalletSigner;
use crate::testing::FakeChain;
use crate::verify::fixture::Scene;

/// Alice has paid Bob, and Bob is away.
struct World {
    scene: Scene,
    chain: Arc<FakeChain>,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let scene = Scene::new();
        let chain = Arc::new(FakeChain::new());
        chain.confirm_foreign(scene.deposit_tx().clone());
        Self {
            scene,
            chain,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("watch.json")
    }

    fn bundle(&self, path: ExitPath) -> Bundle {
        Bundle {
            version: Bundle::VERSION,
            network: Network::Local,
            identity: self.scene.receiver().identity(),
            paths: vec![path],
            exit: None,
        }
    }

    /// What Bob exported after he had claimed the payment.
    fn bobs(&self) -> Bundle {
        let leaf = self.scene.claimed(&self.scene.transfer_leaf());
        self.bundle(exit_path(&leaf, &[&leaf], RefundKey::Leaf).unwrap())
    }

    /// The same of a leaf that was renewed and that nobody has paid with since.
    fn renewed(&self) -> Bundle {
        let (root, leaf) = self.scene.renewed_leaf();
        self.bundle(exit_path(&leaf, &[&root, &leaf], RefundKey::Leaf).unwrap())
    }

    fn open(&self, bundle: &Bundle) -> Watchtower {
        Watchtower::open(self.chain.clone(), bundle, self.file()).unwrap()
    }
}

fn is_published(events: &[WatchEvent]) -> bool {
    events
        .iter()
        .any(|event| matches!(event, WatchEvent::Published { .. }))
}

#[tokio::test]
async fn case_52_stale_branch_loses_to_the_watchtower_while_the_owner_is_away() {
    let world = World::new();
    let bundle = world.bobs();
    let alice = world.scene.leaf();
    let mut tower = world.open(&bundle);
    assert!(tower.step().await.unwrap().events.is_empty());
    // Alice publishes the node, as if the leaf were still hers.
    world.chain.confirm_foreign(alice.node_tx.clone());
    let report = tower.step().await.unwrap();
    assert_eq!(report.contested, 1);
    assert!(matches!(
        report.events[..],
        [WatchEvent::OnChain { leaf, .. }] if leaf == alice.id
    ));
    // 1950 blocks after the node: the first that may hold Bob's refund.
    world.chain.mine_empty(1948);
    assert!(tower.step().await.unwrap().events.is_empty());
    world.chain.mine_empty(1);
    assert!(is_published(&tower.step().await.unwrap().events));
    let stale = alice.refund_tx.clone().unwrap();
    assert!(
        matches!(
            world.chain.watchtower(&stale),
            Err(ChainError::Rejected {
                rejection: Rejection::TimelockNotReached,
                ..
            })
        ),
        "Alice has to wait for 50 blocks more"
    );
    world.chain.mine(1);
    let report = tower.step().await.unwrap();
    assert!(matches!(report.events[..], [WatchEvent::Refunded { .. }]));
    assert_eq!(report.contested, 0);
    world.chain.mine_empty(100);
    assert!(world.chain.watchtower(&stale).is_err());
}

#[tokio::test]
async fn case_53_a_stale_refund_with_any_fee_comes_too_late() {
    let world = World::new();
    let alice = world.scene.leaf();
    let mut tower = world.open(&world.bobs());
    world.chain.confirm_foreign(alice.node_tx.clone());
    world.chain.mine_empty(1949);
    assert!(is_published(&tower.step().await.unwrap().events));
    // Blocks are full for a while; the mempool even forgets it. It is sent again at each.
    for _ in 0..49 {
        world.chain.forget_mempool();
        world.chain.mine_empty(1);
        tower.step().await.unwrap();
        assert_eq!(world.chain.mempool().len(), 1);
        let stale = alice.direct_from_cpfp_refund_tx.clone().unwrap();
        assert!(world.chain.watchtower(&stale).is_err());
    }
    world.chain.mine(1);
    assert_eq!(tower.step().await.unwrap().contested, 0);
}

#[tokio::test]
async fn case_52_stale_node_loses_to_the_present_one() {
    let world = World::new();
    let bundle = world.renewed();
    let mut tower = world.open(&bundle);
    let path = &bundle.paths[0];
    world.chain.confirm_foreign(path.nodes[0].tx.clone());
    world.chain.mine_empty(2048);
    assert!(!is_published(&tower.step().await.unwrap().events));
    world.chain.mine_empty(1);
    assert!(is_published(&tower.step().await.unwrap().events));
    world.chain.mine(1);
    assert!(matches!(
        tower.step().await.unwrap().events[..],
        [WatchEvent::OnChain { .. }]
    ));
    // The refund of the fee-paying node follows.
    world.chain.mine_empty(2048);
    assert!(tower.step().await.unwrap().events.is_empty());
    world.chain.mine_empty(1);
    assert!(is_published(&tower.step().await.unwrap().events));
    world.chain.mine(1);
    let report = tower.step().await.unwrap();
    let refund = path.direct_refund.as_ref().unwrap().0.compute_txid();
    assert!(matches!(
        report.events[..],
        [WatchEvent::Refunded { txid, .. }] if txid == refund
    ));
}

#[tokio::test]
async fn it_goes_on_after_a_restart_at_every_step() {
    let world = World::new();
    let bundle = world.bobs();
    world.open(&bundle).step().await.unwrap();
    world
        .chain
        .confirm_foreign(world.scene.leaf().node_tx.clone());
    world.open(&bundle).step().await.unwrap();
    world.chain.mine_empty(1949);
    assert!(is_published(
        &world.open(&bundle).step().await.unwrap().events
    ));
    // Known already: not told a second time.
    assert!(world.open(&bundle).step().await.unwrap().events.is_empty());
    world.chain.mine(1);
    world.open(&bundle).step().await.unwrap();
    let state = WatchState::load(&world.file()).unwrap();
    assert!(state.leaves.values().all(|leaf| leaf.refunded.is_some()));
}

#[tokio::test]
async fn case_55_a_refund_that_a_reorganisation_takes_back_is_sent_again() {
    let world = World::new();
    let mut tower = world.open(&world.bobs());
    world
        .chain
        .confirm_foreign(world.scene.leaf().node_tx.clone());
    world.chain.mine_empty(1949);
    tower.step().await.unwrap();
    world.chain.mine(1);
    tower.step().await.unwrap();
    world.chain.reorganise(1);
    world.chain.mine_empty(1);
    tower.step().await.unwrap();
    assert_eq!(world.chain.mempool().len(), 1, "it is there again");
}

#[tokio::test]
async fn a_leaf_without_signed_answers_is_named() {
    let world = World::new();
    let mut bundle = world.bobs();
    if let Some(tx) = &mut bundle.paths[0].direct_from_cpfp_refund {
        tx.0.input[0].witness.clear();
    }
    let mut tower = world.open(&bundle);
    let report = tower.step().await.unwrap();
    assert!(matches!(
        report.events[..],
        [WatchEvent::Unprotected { .. }]
    ));
    world
        .chain
        .confirm_foreign(world.scene.leaf().node_tx.clone());
    let report = tower.step().await.unwrap();
    assert!(
        report
            .events
            .iter()
            .any(|event| matches!(event, WatchEvent::Lost { .. }))
    );
    assert!(tower.step().await.unwrap().events.is_empty(), "told once");
}

#[test]
fn a_damaged_bundle_is_refused() {
    let world = World::new();
    let good = world.renewed();
    check(&good).unwrap();
    let refused = |damage: &dyn Fn(&mut ExitPath)| {
        let mut bundle = good.clone();
        damage(&mut bundle.paths[0]);
        assert!(matches!(check(&bundle), Err(Error::Bundle { .. })));
    };
    refused(&|path| path.nodes.clear());
    refused(&|path| {
        path.nodes.pop();
    });
    refused(&|path| path.nodes.reverse());
    refused(&|path| path.refund.input[0].sequence = bitcoin::Sequence(7));
    refused(&|path| path.refund.input[0].previous_output.vout = 1);
    refused(&|path| path.verifying_key = world.scene.stranger());
    refused(&|path| {
        if let Some(tx) = &mut path.direct_from_cpfp_refund {
            tx.0.output[0].value = bitcoin::Amount::from_sat(1);
        }
    });
    refused(&|path| {
        if let Some(tx) = &mut path.direct_refund {
            tx.0.output[0].script_pubkey = tx::p2tr(&world.scene.stranger());
        }
    });
    refused(&|path| {
        if let Some(tx) = &mut path.nodes[1].direct {
            tx.0.input[0].sequence = bitcoin::Sequence(3);
        }
    });
    assert!(Bundle::from_json("{").is_err());
    assert!(Bundle::from_json("{\"version\": 99}").is_err());
}
