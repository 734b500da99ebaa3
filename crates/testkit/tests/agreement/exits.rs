//! Cooperative exits: leaves for a payout on chain.

use std::time::Duration;

use tinderbox_flows::exit_return::margin;
use tinderbox_flows::refusal::Reason;
use tinderbox_flows::request::{ExitRequest, ExitReturnRequest, ExitSettleRequest, Request};
use tinderbox_flows::rows::{ExitRow, ExitState, NodeStatus, TransferStatus};
use tinderbox_protocol::TransferId;
use tinderbox_testkit::sim::Scene;

use super::{OPERATORS, claim, done, refused, scene};

const LAPSE: Duration = Duration::from_secs(60);

async fn start(scene: &mut Scene, id: TransferId) -> ExitRequest {
    let leaf = scene.leaf(0);
    let expiry = scene.now().plus(60_000);
    let (request, _) = scene.exit(id, 0, 1, &[leaf], expiry).await;
    done(scene, 0, Request::Exit(Box::new(request.clone()))).await;
    request
}

fn settle(scene: &Scene, exit: &ExitRequest) -> Request {
    Request::ExitSettle(Box::new(ExitSettleRequest {
        now: scene.now(),
        exit: exit.exit,
        transfer: exit.transfer,
    }))
}

fn give_back(scene: &Scene, exit: &ExitRequest) -> Request {
    let row: ExitRow = scene
        .row(0, &ExitRow::id_of(&exit.exit))
        .expect("the exit is known");
    Request::ExitReturn(Box::new(ExitReturnRequest {
        now: scene.now(),
        exit: exit.exit,
        transfer: exit.transfer,
        funds: row.funds,
    }))
}

fn assert_waits(scene: &Scene, exit: &ExitRequest) {
    for operator in 0..OPERATORS {
        let transfer = scene
            .transfer(operator, exit.transfer)
            .expect("it is there");
        assert_eq!(transfer.status, TransferStatus::SenderKeyTweakPending);
        assert_eq!(transfer.held, None);
        let node = scene.node(operator, &scene.leaf(0));
        assert_eq!(node.status, NodeStatus::TransferLocked);
    }
}

#[tokio::test(start_paused = true)]
async fn case_50_leaves_are_the_providers_when_every_operator_has_seen_the_payout_itself() {
    let mut scene = scene(500).await;
    let id = scene.transfer_id();
    let exit = start(&mut scene, id).await;
    assert_waits(&scene, &exit);
    let early = claim(&mut scene, id).await;
    let refusal = refused(&scene, 1, early).await;
    assert_eq!(refusal.reason, Reason::InsufficientConfirmations);
    // Two of three have the block. The third is not talked into anything.
    for operator in [0, 1] {
        scene.see_payout(operator, &exit.exit, 1).await;
    }
    scene.see_payout(2, &exit.exit, 0).await;
    let refusal = refused(&scene, 0, settle(&scene, &exit)).await;
    assert_eq!(refusal.reason, Reason::InsufficientConfirmations);
    scene.heal().await;
    assert_waits(&scene, &exit);
    scene.see_payout(2, &exit.exit, 1).await;
    done(&scene, 2, settle(&scene, &exit)).await;
    let request = claim(&mut scene, id).await;
    done(&scene, 1, request).await;
    scene.check();
    let provider = scene.owner(1).identity();
    for operator in 0..OPERATORS {
        assert_eq!(scene.node(operator, &scene.leaf(0)).owner, provider);
        let row: ExitRow = scene.row(operator, &ExitRow::id_of(&exit.exit)).unwrap();
        assert_eq!(row.state, ExitState::Settled);
    }
}

#[tokio::test(start_paused = true)]
async fn case_55_a_payout_that_is_reorganised_away_before_it_is_deep_settles_nothing() {
    let mut scene = scene(501).await;
    let id = scene.transfer_id();
    let exit = start(&mut scene, id).await;
    for operator in 0..OPERATORS {
        scene.see_payout(operator, &exit.exit, 1).await;
    }
    for operator in 0..OPERATORS {
        scene.see_payout(operator, &exit.exit, 0).await;
    }
    let refusal = refused(&scene, 0, settle(&scene, &exit)).await;
    assert_eq!(refusal.reason, Reason::InsufficientConfirmations);
    scene.heal().await;
    assert_waits(&scene, &exit);
}

#[tokio::test(start_paused = true)]
async fn case_50_exit_whose_payout_nobody_saw_is_returned_after_its_expiry_and_not_before() {
    let mut scene = scene(502).await;
    let id = scene.transfer_id();
    let exit = start(&mut scene, id).await;
    refused(&scene, 0, give_back(&scene, &exit)).await;
    tokio::time::sleep(LAPSE).await;
    refused(&scene, 0, give_back(&scene, &exit)).await;
    tokio::time::sleep(Duration::from_millis(margin(scene.site().network) + 1)).await;
    // One operator has seen it in a block.
    scene.see_payout(1, &exit.exit, 1).await;
    refused(&scene, 0, give_back(&scene, &exit)).await;
    scene.heal().await;
    assert_waits(&scene, &exit);
    scene.see_payout(1, &exit.exit, 0).await;
    done(&scene, 2, give_back(&scene, &exit)).await;
    scene.check();
    let owner = scene.owner(0).identity();
    for operator in 0..OPERATORS {
        let node = scene.node(operator, &scene.leaf(0));
        assert_eq!((node.status, node.owner), (NodeStatus::Available, owner));
        let transfer = scene.transfer(operator, id).unwrap();
        assert_eq!(transfer.status, TransferStatus::Returned);
    }
    // What comes after that changes nothing any more.
    for operator in 0..OPERATORS {
        scene.see_payout(operator, &exit.exit, 6).await;
    }
    refused(&scene, 0, settle(&scene, &exit)).await;
    let refusal = refused(&scene, 1, give_back(&scene, &exit)).await;
    assert_eq!(refusal.reason, Reason::InvalidState);
}

#[tokio::test(start_paused = true)]
async fn case_50_exit_whose_payout_is_in_a_mempool_is_not_returned() {
    let mut scene = scene(503).await;
    let id = scene.transfer_id();
    let leaf = scene.leaf(0);
    let expiry = scene.now().plus(60_000);
    let (exit, payout) = scene.exit(id, 0, 1, &[leaf], expiry).await;
    done(&scene, 0, Request::Exit(Box::new(exit.clone()))).await;
    tokio::time::sleep(LAPSE + Duration::from_secs(60)).await;
    scene.broadcast(&payout);
    let refusal = refused(&scene, 0, give_back(&scene, &exit)).await;
    assert!(refusal.message.contains("has been seen"), "{refusal}");
    assert_waits(&scene, &exit);
}

#[tokio::test(start_paused = true)]
async fn case_50_exit_with_a_wrong_or_missing_connector_is_refused() {
    let mut scene = scene(504).await;
    let leaf = scene.leaf(0);
    let expiry = scene.now().plus(60_000);
    let id = scene.transfer_id();
    let (good, _) = scene.exit(id, 0, 1, &[leaf], expiry).await;
    let (other, _) = scene.exit(id, 0, 1, &[leaf], expiry).await;
    let plain = scene.payment(id, 0, 1, &[leaf]).await;
    type Change<'a> = Box<dyn Fn(&mut ExitRequest) + 'a>;
    let changes: [(&str, Change<'_>); 6] = [
        (
            "no connector",
            Box::new(|exit| exit.package = plain.package.clone()),
        ),
        (
            "another connector",
            Box::new(|exit| exit.connector_tx.clone_from(&other.connector_tx)),
        ),
        (
            "another payout",
            Box::new(|exit| exit.exit_txid = other.exit_txid),
        ),
        ("no payout", Box::new(|exit| exit.connector_tx.clear())),
        (
            "another's refund without fee",
            Box::new(|exit| exit.package.cpfp.clone_from(&other.package.cpfp)),
        ),
        (
            "another's refund with a fee",
            Box::new(|exit| {
                exit.package
                    .direct_from_cpfp
                    .clone_from(&other.package.direct_from_cpfp);
            }),
        ),
    ];
    for (what, change) in changes {
        let mut bad = good.clone();
        change(&mut bad);
        let refusal = refused(&scene, 0, Request::Exit(Box::new(bad))).await;
        assert_eq!(refusal.reason, Reason::MalformedField, "{what}: {refusal}");
    }
    let mut late = good.clone();
    late.expiry = scene.now();
    let refusal = refused(&scene, 0, Request::Exit(Box::new(late))).await;
    assert_eq!(refusal.reason, Reason::Expired);
    scene.heal().await;
    assert_eq!(scene.node(0, &leaf).status, NodeStatus::Available);
    // Wallets differ in the order of the bytes.
    let mut reversed = good;
    reversed.exit_txid.reverse();
    done(&scene, 0, Request::Exit(Box::new(reversed.clone()))).await;
    assert_waits(&scene, &reversed);
}

#[tokio::test(start_paused = true)]
async fn case_50_two_leaves_do_not_share_a_connector_and_an_exit_id_is_used_once() {
    let mut scene = Scene::new(505, OPERATORS, super::THRESHOLD, 4).await;
    let leaves = [scene.leaf(0), scene.leaf(2)];
    let expiry = scene.now().plus(60_000);
    let id = scene.transfer_id();
    let (good, _) = scene.exit(id, 0, 1, &leaves, expiry).await;
    // The second leaf's refund with the first leaf's connector.
    let first = scene.exit(id, 0, 1, &leaves[..1], expiry).await.0;
    let mut bad = good.clone();
    bad.package.cpfp[1] = first.package.cpfp[0].clone();
    refused(&scene, 0, Request::Exit(Box::new(bad))).await;
    scene.heal().await;
    done(&scene, 0, Request::Exit(Box::new(good.clone()))).await;
    let other = scene.transfer_id();
    let leaf = scene.leaf(1);
    let (mut again, _) = scene.exit(other, 1, 0, &[leaf], expiry).await;
    again.exit = good.exit;
    let refusal = refused(&scene, 0, Request::Exit(Box::new(again))).await;
    assert_eq!(refusal.reason, Reason::DuplicateOperation);
}
