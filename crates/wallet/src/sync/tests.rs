//! Finding out what the wallet owns, from operators that may lie.

use tinderbox_protocol::{LeafId, Sats};

use crate::balance::Balance;
use crate::exit::ExitPath;
use crate::leaf::{LeafStatus, Node};
use crate::storage::{Kind, Records};
use crate::testing::World;

/// Alice owns the scene's leaf.
async fn world() -> World {
    let world = World::of_alice().await;
    world.tell_node(&world.scene.leaf());
    world
}

fn path(world: &World) -> Option<ExitPath> {
    let key = world.scene.leaf_id().to_string();
    Records::new(world.storage.clone())
        .get(Kind::ExitPath, &key)
        .unwrap()
}

#[tokio::test]
async fn owned_leaves_are_kept_with_their_exits() {
    let world = world().await;
    let report = world.wallet.sync().await.unwrap();
    assert_eq!(
        (report.leaves, report.unusable.len(), report.dissent.len()),
        (1, 0, 0)
    );
    assert_eq!(path(&world).unwrap().refund_timelock(), 2000);
    let balance = world.wallet.balance().await.unwrap();
    assert_eq!(
        balance,
        Balance {
            available: Sats(100_000),
            ..Balance::default()
        }
    );
}

#[tokio::test]
async fn a_deposit_that_is_not_confirmed_is_incoming() {
    let world = World::of_alice().await;
    world.tell_node(&Node {
        status: LeafStatus::Creating,
        ..world.scene.leaf()
    });
    let balance = world.wallet.balance().await.unwrap();
    assert_eq!(
        balance,
        Balance {
            incoming: Sats(100_000),
            ..Balance::default()
        }
    );
}

#[tokio::test]
async fn a_payment_that_waits_to_be_claimed_is_incoming() {
    let world = World::of_bob().await;
    world.wait_for_bob(&world.payment(world.scene.transfer_leaf()));
    let balance = world.wallet.balance().await.unwrap();
    assert_eq!(
        balance,
        Balance {
            incoming: Sats(100_000),
            ..Balance::default()
        }
    );
}

#[tokio::test]
async fn case_12_a_lying_operator_is_named_and_changes_nothing() {
    for liar in 0..3 {
        let world = world().await;
        world.lie(
            liar,
            &Node {
                status: LeafStatus::TransferLocked,
                ..world.scene.leaf()
            },
        );
        let report = world.wallet.sync().await.unwrap();
        assert_eq!(report.leaves, 1);
        assert_eq!(usize::from(report.dissent[0].operator.0), liar);
        assert_eq!(world.wallet.balance_of_leaves().available, Sats(100_000));
    }
}

#[tokio::test]
async fn case_8_a_leaf_with_a_foreign_key_is_not_counted() {
    let world = World::of_alice().await;
    world.tell_node(&Node {
        keyshare: world.scene.stranger(),
        ..world.scene.leaf()
    });
    let report = world.wallet.sync().await.unwrap();
    assert_eq!(report.leaves, 0);
    assert!(report.unusable[0].1.contains("do not add up"), "{report:?}");
    assert_eq!(world.wallet.balance_of_leaves(), Balance::default());
}

#[tokio::test]
async fn a_leaf_that_was_paid_and_waits_for_its_receiver_is_neither_ours_nor_a_fault() {
    let world = World::of_alice().await;
    world.tell_node(&Node {
        status: LeafStatus::TransferLocked,
        keyshare: world.scene.stranger(),
        ..world.scene.leaf()
    });
    let report = world.wallet.sync().await.unwrap();
    assert_eq!((report.leaves, report.unusable), (0, Vec::new()));
    assert_eq!(world.wallet.balance_of_leaves(), Balance::default());
}

#[tokio::test]
async fn case_3_a_leaf_without_a_signed_refund_is_not_counted() {
    let world = World::of_alice().await;
    let mut leaf = world.scene.leaf();
    leaf.refund_tx.as_mut().unwrap().input[0].witness.clear();
    world.tell_node(&leaf);
    assert_eq!(world.wallet.sync().await.unwrap().leaves, 0);
    assert_eq!(path(&world), None);
}

#[tokio::test]
async fn case_10_a_leaf_whose_ancestors_are_missing_is_not_counted_until_they_are_found() {
    let world = World::of_alice().await;
    let (root, leaf) = world.scene.renewed_leaf();
    world.tell_node(&leaf);
    let report = world.wallet.sync().await.unwrap();
    assert!(report.unusable[0].1.contains("is missing"), "{report:?}");
    world.tell_node(&root);
    assert_eq!(world.wallet.sync().await.unwrap().leaves, 1);
    assert_eq!(path(&world).unwrap().nodes.len(), 2);
}

/// All operators together hide the leaf: the wallet keeps what lets it leave.
#[tokio::test]
async fn operators_that_hide_a_leaf_do_not_take_its_exit_away() {
    let world = world().await;
    world.wallet.sync().await.unwrap();
    for operator in &world.operators {
        operator.with(|script| script.nodes.clear());
    }
    assert_eq!(world.wallet.sync().await.unwrap().leaves, 0);
    assert!(path(&world).is_some());
}

/// They even say that somebody else owns it, but cannot show a refund that this wallet's key signed.
#[tokio::test]
async fn operators_that_name_another_owner_do_not_take_its_exit_away() {
    let world = world().await;
    world.wallet.sync().await.unwrap();
    let mut stolen = world.scene.leaf();
    stolen.owner = world.scene.stranger();
    world.tell_node(&stolen);
    world.wallet.sync().await.unwrap();
    assert!(path(&world).is_some());
    // Nor does an unsigned refund with a lower timelock prove anything.
    stolen.refund_tx = Some(world.scene.payment_refund());
    world.tell_node(&stolen);
    world.wallet.sync().await.unwrap();
    assert!(path(&world).is_some());
}

/// The same wallet paid from another device: a signed refund to somebody else, one step lower, proves it.
#[tokio::test]
async fn the_exit_of_a_leaf_that_another_device_spent_is_dropped() {
    let world = world().await;
    world.wallet.sync().await.unwrap();
    let mut spent = world.scene.transfer_leaf().node;
    spent.owner = world.scene.receiver_key();
    spent.refund_tx = Some(world.scene.transfer_leaf().refund);
    world.tell_node(&spent);
    world.wallet.sync().await.unwrap();
    assert_eq!(path(&world), None);
}

#[tokio::test]
async fn a_leaf_that_is_used_up_can_only_be_exited() {
    let world = World::of_alice().await;
    let mut leaf = world.scene.leaf();
    let mut refund = leaf.refund_tx.take().unwrap();
    refund.input[0].sequence = bitcoin::Sequence(100);
    leaf.refund_tx = Some(world.scene.sign(refund, &leaf.node_tx.output[..1]));
    world.tell_node(&leaf);
    let balance = world.wallet.balance().await.unwrap();
    assert_eq!(
        balance,
        Balance {
            to_be_renewed: Sats(100_000),
            ..Balance::default()
        }
    );
    assert!(path(&world).is_some());
}

#[tokio::test]
async fn a_storage_of_another_wallet_is_refused() {
    let world = world().await;
    let other =
        crate::signer::MemorySigner::from_seed(&[9; 32], tinderbox_protocol::Network::Local, None)
            .unwrap();
    let result = crate::wallet::Wallet::open_with(
        world.wallet.config().clone(),
        std::sync::Arc::new(other),
        world.storage.clone(),
        world.chain.clone(),
    );
    assert!(matches!(
        result.err(),
        Some(crate::error::Error::WrongOwner { .. })
    ));
}

#[tokio::test]
async fn a_node_that_cannot_be_read_does_not_hide_the_others() {
    let world = world().await;
    for operator in &world.operators {
        operator.with(|script| {
            let mut broken = script.nodes.values().next().unwrap().clone();
            broken.node_tx = vec![1, 2, 3];
            script
                .nodes
                .insert(LeafId::from_bytes16([4; 16]).to_string(), broken)
        });
    }
    assert_eq!(world.wallet.sync().await.unwrap().leaves, 1);
}

/// The leaf was Alice's before and is hers again: the state of then is signed, but stale.
#[tokio::test]
async fn operators_that_show_an_earlier_state_do_not_replace_the_later_exit() {
    let world = world().await;
    let mut later = world.scene.leaf();
    let mut refund = later.refund_tx.take().unwrap();
    refund.input[0].sequence = bitcoin::Sequence(1800);
    later.refund_tx = Some(world.scene.sign(refund, &later.node_tx.output[..1]));
    world.tell_node(&later);
    world.wallet.sync().await.unwrap();
    assert_eq!(path(&world).unwrap().refund_timelock(), 1800);
    world.tell_node(&world.scene.leaf());
    let report = world.wallet.sync().await.unwrap();
    assert!(report.unusable[0].1.contains("earlier state"), "{report:?}");
    assert_eq!(path(&world).unwrap().refund_timelock(), 1800);
    // A renewal starts anew, on another node.
    let (root, renewed) = world.scene.renewed_leaf();
    world.tell_node(&root);
    world.tell_node(&renewed);
    assert_eq!(world.wallet.sync().await.unwrap().leaves, 1);
    assert_eq!(path(&world).unwrap().refund_timelock(), 2000);
}
