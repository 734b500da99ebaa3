//! Receives by the older protocol: the preimage is given for leaves whose tweaks follow.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use tinderbox_flows::finalize::FinalizeRequest;
use tinderbox_flows::htlc::legacy::LegacyReceiveRequest;
use tinderbox_flows::package::TweakPackage;
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{HashLockRow, NodeRow, PreimageShareRow, TransferRow, TransferStatus};
use tinderbox_protocol::LeafId;

use super::cluster::Cluster;
use super::locks;
use super::pay::{free, transfer_id};
use super::run::{nonces, now};

/// What wallets would do next: deposit a preimage, give leaves for one, send the tweaks.
pub(super) async fn next(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Option<Request> {
    let view = rng.gen_range(0..cluster.machines.len());
    if rng.gen_bool(0.7)
        && let Some(request) = finalize(cluster, view, rng).await
    {
        return Some(request);
    }
    if rng.gen_bool(0.7)
        && let Some(request) = receive(cluster, view, rng).await
    {
        return Some(request);
    }
    Some(locks::deposit(cluster, rng))
}

async fn receive(cluster: &Cluster, view: usize, rng: &mut ChaCha20Rng) -> Option<Request> {
    let mut shares = cluster.rows::<PreimageShareRow>(view);
    shares.shuffle(rng);
    let share = shares.into_iter().find(|share| share.held.is_none())?;
    let from = rng.gen_range(0..cluster.owners.len());
    let mut nodes = free(cluster, view, from, rng);
    nodes.truncate(rng.gen_range(1..=2));
    if nodes.is_empty() {
        return None;
    }
    let id = transfer_id(rng);
    let receivers: BTreeMap<LeafId, PublicKey> =
        nodes.iter().map(|node| (node.id, share.owner)).collect();
    let nonces = nonces(cluster, rng, nodes.len() * 3).await;
    let owner = &cluster.owners[from];
    let package = owner.package(&cluster.site, &id, &nodes, &receivers, None, nonces, rng);
    Some(Request::LegacyReceive(Box::new(LegacyReceiveRequest {
        now: now(cluster),
        transfer: id,
        sender: owner.identity(),
        receiver: share.owner,
        payment_hash: share.payment_hash,
        refunds: TweakPackage {
            tweaks: BTreeMap::new(),
            user_signature: Vec::new(),
            ..package
        },
    })))
}

async fn finalize(cluster: &Cluster, view: usize, rng: &mut ChaCha20Rng) -> Option<Request> {
    let mut waiting = cluster.rows::<TransferRow>(view);
    waiting.retain(|transfer| transfer.status == TransferStatus::SenderInitiated);
    waiting.shuffle(rng);
    finalize_one(cluster, view, &waiting.pop()?, rng).await
}

/// The sender's package for a transfer that waits for it.
pub(super) async fn finalize_one(
    cluster: &Cluster,
    view: usize,
    transfer: &TransferRow,
    rng: &mut ChaCha20Rng,
) -> Option<Request> {
    let mut owners = cluster.owners.iter();
    let owner = owners.find(|owner| owner.identity() == transfer.sender)?;
    let receiver = transfer.receivers.first()?.identity;
    let nodes: Option<Vec<NodeRow>> = transfer
        .leaves
        .iter()
        .map(|leaf| cluster.row(view, &NodeRow::id_of(&leaf.leaf)))
        .collect();
    let nodes = nodes?;
    let receivers: BTreeMap<LeafId, PublicKey> =
        nodes.iter().map(|node| (node.id, receiver)).collect();
    let nonces = nonces(cluster, rng, nodes.len() * 3).await;
    let id = transfer.id;
    Some(Request::Finalize(Box::new(FinalizeRequest {
        now: now(cluster),
        transfer: id,
        sender: owner.identity(),
        package: owner.package(&cluster.site, &id, &nodes, &receivers, None, nonces, rng),
    })))
}

/// True if the sender of a lock has the preimage for a package that it owes. Only a receive by the
/// older protocol may come to this, and it was never staged.
pub(super) fn waits(cluster: &Cluster, lock: &HashLockRow) -> bool {
    let id = TransferRow::id_of(&lock.transfer);
    cluster.row::<TransferRow>(0, &id).is_some_and(|transfer| {
        transfer.expiry.is_none()
            && transfer
                .leaves
                .iter()
                .all(|leaf| leaf.send_tweak.is_none() && leaf.send_proofs.is_empty())
    })
}
