//! The sender's package that comes after the start.

use tinderbox_flows::finalize::FinalizeRequest;
use tinderbox_flows::refusal::Reason;
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{TransferKind, TransferStatus};
use tinderbox_protocol::TransferId;
use tinderbox_testkit::sim::{Fate, Scene};

use super::staged::initiated;
use super::{done, refused, scene};

/// Wallet 0's package for a transfer of leaf 0.
pub(crate) async fn finalize(scene: &mut Scene, id: TransferId) -> Request {
    let leaf = scene.leaf(0);
    let send = scene.payment(id, 0, 1, &[leaf]).await;
    Request::Finalize(Box::new(FinalizeRequest {
        now: send.now,
        transfer: id,
        sender: send.sender,
        package: send.package,
    }))
}

fn status(scene: &Scene, id: TransferId) -> TransferStatus {
    let of = |operator| scene.transfer(operator, id).unwrap().status;
    assert!((1..3).all(|other| of(other) == of(0)));
    of(0)
}

#[tokio::test(start_paused = true)]
async fn transfer_that_waited_for_its_package_only_can_be_claimed_after_it() {
    let mut scene = scene(41, 2).await;
    let id = initiated(&mut scene, TransferKind::Transfer, None).await;
    let request = finalize(&mut scene, id).await;
    done(&scene, 1, request).await;
    assert_eq!(status(&scene, id), TransferStatus::SenderKeyTweaked);
    scene.check();
    let claim = Request::Claim(Box::new(scene.claim(id, 1).await));
    done(&scene, 2, claim).await;
    scene.check();
    assert_eq!(
        scene.node(0, &scene.leaf(0)).owner,
        scene.owner(1).identity()
    );
}

#[tokio::test(start_paused = true)]
async fn transfer_that_waits_for_more_keeps_its_tweaks_staged() {
    let mut scene = scene(42, 2).await;
    let id = initiated(&mut scene, TransferKind::PreimageSwap, None).await;
    let before = scene.node(0, &scene.leaf(0));
    let request = finalize(&mut scene, id).await;
    done(&scene, 1, request).await;
    assert_eq!(status(&scene, id), TransferStatus::SenderKeyTweakPending);
    let row = scene.transfer(2, id).unwrap();
    let sent = &row.leaves[0];
    assert!(sent.send_tweak.is_some() && !sent.secret_cipher.is_empty());
    assert!(!sent.intermediate.cpfp.is_empty());
    let after = scene.node(0, &scene.leaf(0));
    assert_eq!(before.owner_signing, after.owner_signing, "no key moved");
    let again = finalize(&mut scene, id).await;
    assert_eq!(refused(&scene, 0, again).await.reason, Reason::InvalidState);
}

#[tokio::test(start_paused = true)]
async fn package_that_comes_to_nothing_may_be_sent_again() {
    let mut scene = scene(43, 2).await;
    let id = initiated(&mut scene, TransferKind::Transfer, None).await;
    scene.on_message(|passing| match passing.to.0 {
        2 => Fate::LoseRequest,
        _ => Fate::Carry,
    });
    let lost = finalize(&mut scene, id).await;
    refused(&scene, 0, lost).await;
    scene.heal().await;
    scene.check();
    assert_eq!(status(&scene, id), TransferStatus::SenderInitiated);
    assert!(
        scene.transfer(1, id).unwrap().leaves[0]
            .send_tweak
            .is_none()
    );
    let again = finalize(&mut scene, id).await;
    done(&scene, 1, again).await;
    assert_eq!(status(&scene, id), TransferStatus::SenderKeyTweaked);
}

#[tokio::test(start_paused = true)]
async fn package_of_somebody_else_or_for_other_leaves_is_refused() {
    let mut scene = scene(44, 3).await;
    let id = initiated(&mut scene, TransferKind::Transfer, None).await;
    let leaf = scene.leaf(2);
    let other = scene.payment(id, 0, 1, &[leaf]).await;
    let request = |sender, package| {
        Request::Finalize(Box::new(FinalizeRequest {
            now: other.now,
            transfer: id,
            sender,
            package,
        }))
    };
    let leaves = request(other.sender, other.package.clone());
    assert_eq!(
        refused(&scene, 0, leaves).await.reason,
        Reason::MalformedField
    );
    let stranger = request(scene.owner(1).identity(), other.package.clone());
    assert_eq!(refused(&scene, 0, stranger).await.reason, Reason::NotOwner);
    scene.check();
}
