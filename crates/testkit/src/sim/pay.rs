//! Payments, some of them for invoices, and claims.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use tinderbox_flows::refunds;
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{NodeRow, NodeStatus, TransferRow, TransferStatus};
use tinderbox_protocol::invoice::{InvoiceFields, Payment};
use tinderbox_protocol::{LeafId, Sats, TransferId};

use super::cluster::Cluster;
use super::run::{nonces, now};

/// Invoices that are around: few, so that several want to pay one.
const INVOICES: u8 = 6;

/// What a wallet that pays and is paid would do.
pub(super) async fn next(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Option<Request> {
    if rng.gen_bool(0.5)
        && let Some(request) = claim(cluster, rng).await
    {
        return Some(request);
    }
    send(cluster, rng).await
}

/// A new transfer's id.
pub(super) fn transfer_id(rng: &mut ChaCha20Rng) -> TransferId {
    TransferId(uuid::Builder::from_random_bytes(rng.r#gen()).into_uuid())
}

/// The leaves that an owner can send, as one operator has them, in any order.
pub(super) fn free(
    cluster: &Cluster,
    view: usize,
    owner: usize,
    rng: &mut ChaCha20Rng,
) -> Vec<NodeRow> {
    let identity = cluster.owners[owner].identity();
    let mut nodes: Vec<NodeRow> = cluster
        .rows::<NodeRow>(view)
        .into_iter()
        .filter(|node| node.owner == identity && node.status == NodeStatus::Available)
        .filter(|node| refunds::for_send(node, identity).is_ok())
        .collect();
    nodes.shuffle(rng);
    nodes
}

/// What a wallet would send: some of the leaves that it believes to own.
pub(super) async fn send(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Option<Request> {
    let view = rng.gen_range(0..cluster.machines.len());
    let from = rng.gen_range(0..cluster.owners.len());
    let mut nodes = free(cluster, view, from, rng);
    nodes.truncate(rng.gen_range(1..=2));
    if nodes.is_empty() {
        return None;
    }
    let number = rng.gen_ratio(1, 3).then(|| rng.gen_range(0..INVOICES));
    let receivers: BTreeMap<LeafId, PublicKey> = nodes
        .iter()
        .map(|node| {
            let to = match number {
                Some(number) => usize::from(number) % cluster.owners.len(),
                None => rng.gen_range(0..cluster.owners.len()),
            };
            (node.id, cluster.owners[to].identity())
        })
        .collect();
    let nonces = nonces(cluster, rng, nodes.len() * 3).await;
    let mut request = cluster.owners[from].send(
        &cluster.site,
        transfer_id(rng),
        now(cluster),
        &nodes,
        &receivers,
        nonces,
        rng,
    );
    if let Some(number) = number {
        request.invoice = invoice(cluster, number);
    }
    Some(Request::Send(Box::new(request)))
}

/// The invoice of this number: its text is the same whenever it is asked for. Some ask for what
/// one leaf is worth.
fn invoice(cluster: &Cluster, number: u8) -> String {
    let mut rng = ChaCha20Rng::seed_from_u64(u64::from(number));
    let payee = &cluster.owners[usize::from(number) % cluster.owners.len()];
    let fields = InvoiceFields {
        id: uuid::Uuid::from_bytes([number; 16]),
        payment: Payment::Sats((number % 3 == 2).then_some(Sats(10_000))),
        memo: None,
        sender: None,
        expiry: None,
    };
    payee
        .invoice(cluster.site.network, fields, &mut rng)
        .to_string()
}

/// What a wallet would claim: its part of a transfer that waits.
pub(super) async fn claim(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Option<Request> {
    let view = rng.gen_range(0..cluster.machines.len());
    let mut waiting: Vec<TransferRow> = cluster
        .rows::<TransferRow>(view)
        .into_iter()
        .filter(|transfer| transfer.status == TransferStatus::SenderKeyTweaked)
        .collect();
    waiting.shuffle(rng);
    for transfer in waiting {
        for (place, receiver) in transfer.receivers.iter().enumerate() {
            if !receiver.phase.is_pending() {
                continue;
            }
            let owner = cluster
                .owners
                .iter()
                .find(|owner| owner.identity() == receiver.identity)?;
            let nodes: Option<Vec<NodeRow>> = transfer
                .leaves_of(place)
                .map(|leaf| cluster.row::<NodeRow>(view, &NodeRow::id_of(&leaf.leaf)))
                .collect();
            let nodes = nodes?;
            let nonces = nonces(cluster, rng, nodes.len() * 3).await;
            return owner
                .claim(&cluster.site, now(cluster), &transfer, &nodes, nonces, rng)
                .map(|request| Request::Claim(Box::new(request)));
        }
    }
    None
}
