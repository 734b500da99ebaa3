//! Leaf swaps in runs: wallets offer leaves to each other and answer; both legs happen or none.

use std::collections::BTreeMap;

use bitcoin::secp256k1::{PublicKey, SECP256K1};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use tinderbox_flows::form::Adaptors;
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{Millis, NodeRow, TransferKind, TransferRow, TransferStatus};
use tinderbox_protocol::TransferId;

use super::cluster::Cluster;
use super::pay::{free, transfer_id};
use super::run::nonces;
use crate::signer::secret_key;

/// What a wallet would do about swaps: answer an offer to it that waits, or make one.
pub(super) async fn swap(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Option<Request> {
    let view = rng.gen_range(0..cluster.machines.len());
    if rng.gen_bool(0.7)
        && let Some(request) = answer(cluster, view, rng).await
    {
        return Some(request);
    }
    offer(cluster, view, rng).await
}

/// The latest of all clocks: operators do not follow a coordinator whose clock is behind.
fn latest(cluster: &Cluster) -> Millis {
    cluster.clocks().1
}

const fn is_offer(kind: TransferKind) -> bool {
    matches!(kind, TransferKind::PrimarySwap | TransferKind::LegacySwap)
}

/// A point of which nobody keeps the secret: the other leg's signatures are not completed here.
fn point(rng: &mut ChaCha20Rng) -> PublicKey {
    secret_key(rng).public_key(SECP256K1)
}

async fn offer(cluster: &Cluster, view: usize, rng: &mut ChaCha20Rng) -> Option<Request> {
    let owner = rng.gen_range(0..cluster.owners.len());
    let mut nodes = free(cluster, view, owner, rng);
    nodes.truncate(if rng.gen_ratio(1, 4) { 2 } else { 1 });
    let total = nodes.iter().map(|node| node.value.0).sum();
    // Mostly a provider that can answer.
    let mut providers: Vec<usize> = (0..cluster.owners.len()).collect();
    providers.retain(|provider| *provider != owner);
    providers.shuffle(rng);
    let able = providers.iter().find(|provider| {
        let leaves = free(cluster, view, **provider, rng);
        subset(&leaves, total, false).is_some()
    });
    let provider = *able.or(providers.first())?;
    if nodes.is_empty() {
        return None;
    }
    let id = transfer_id(rng);
    if id.bytes16()[0].is_multiple_of(3) {
        let nonces = nonces(cluster, rng, nodes.len() * 3).await;
        let to = cluster.owners[provider].identity();
        let request = cluster.owners[owner].legacy_offer(
            &cluster.site,
            id,
            latest(cluster),
            &nodes,
            to,
            nonces,
            rng,
        );
        return Some(Request::LegacySwap(Box::new(request)));
    }
    let nonces = nonces(cluster, rng, nodes.len()).await;
    let request = cluster.owners[owner].offer(
        &cluster.site,
        id,
        latest(cluster),
        &nodes,
        cluster.owners[provider].identity(),
        point(rng),
        nonces,
        rng,
    );
    Some(Request::SwapPrimary(Box::new(request)))
}

async fn answer(cluster: &Cluster, view: usize, rng: &mut ChaCha20Rng) -> Option<Request> {
    let mut offers: Vec<TransferRow> = cluster
        .rows::<TransferRow>(view)
        .into_iter()
        .filter(|row| is_offer(row.kind) && row.status.is_staged())
        .collect();
    offers.shuffle(rng);
    for offer in offers {
        let provider = cluster
            .owners
            .iter()
            .position(|owner| offer.receiver(&owner.identity()).is_some())?;
        let free = free(cluster, view, provider, rng);
        // Now and then of another total: which is refused.
        let wrong = rng.gen_ratio(1, 16);
        let Some(nodes) = subset(&free, offer.total().0, wrong) else {
            continue;
        };
        let id = transfer_id(rng);
        if offer.kind == TransferKind::LegacySwap {
            let nonces = nonces(cluster, rng, nodes.len() * 3).await;
            let adaptors = Adaptors {
                cpfp: point(rng),
                direct: Some(point(rng)),
                direct_from_cpfp: Some(point(rng)),
            };
            let request = cluster.owners[provider].legacy_answer(
                &cluster.site,
                id,
                latest(cluster),
                &nodes,
                &offer,
                adaptors,
                nonces,
                rng,
            );
            return Some(Request::LegacyCounter(Box::new(request)));
        }
        let nonces = nonces(cluster, rng, nodes.len()).await;
        let request = cluster.owners[provider].answer(
            &cluster.site,
            id,
            latest(cluster),
            &nodes,
            &offer,
            nonces,
            rng,
        )?;
        return Some(Request::SwapCounter(Box::new(request)));
    }
    None
}

/// Some of the few leaves that add up to `total`, or to something else.
fn subset(free: &[NodeRow], total: u64, wrong: bool) -> Option<Vec<NodeRow>> {
    (1u32..1 << free.len().min(16))
        .map(|mask| {
            let chosen = free.iter().enumerate();
            let chosen = chosen.filter(|(place, _)| mask & (1 << place) != 0);
            chosen.map(|(_, node)| node.clone()).collect::<Vec<_>>()
        })
        .find(|chosen| (chosen.iter().map(|node| node.value.0).sum::<u64>() == total) != wrong)
}

/// What is wrong with the swaps among settled transfers: a leg that happened alone, or for another
/// total, or with the wrong parties. Nothing is held, so no leg may show that it is.
pub(super) fn check<'a>(transfers: impl Iterator<Item = &'a TransferRow>) -> Option<String> {
    let transfers: BTreeMap<TransferId, &TransferRow> =
        transfers.map(|row| (row.id, row)).collect();
    transfers.values().find_map(|row| {
        let id = row.id;
        let (is_offer, pair) = match row.kind {
            TransferKind::PrimarySwap => (true, TransferKind::CounterSwap),
            TransferKind::LegacySwap => (true, TransferKind::LegacyCounterSwap),
            TransferKind::CounterSwap => (false, TransferKind::PrimarySwap),
            TransferKind::LegacyCounterSwap => (false, TransferKind::LegacySwap),
            _ => return None,
        };
        let other = row.details.other_leg();
        let happened = matches!(
            row.status,
            TransferStatus::SenderKeyTweaked | TransferStatus::Completed
        );
        if row.held.is_some() || row.status == TransferStatus::ApplyingSenderKeyTweak {
            return Some(format!("leg {id} is held by nothing"));
        }
        if is_offer && !happened {
            return other.map(|_| format!("offer {id} names an answer and has not happened"));
        }
        if !happened {
            return Some(format!("answer {id} has not happened and is there"));
        }
        let Some(other) = other.and_then(|other| transfers.get(&other)) else {
            return Some(format!("leg {id} happened alone"));
        };
        let fits = other.details == row.details.clone().with_other_leg(Some(id))
            && other.kind == pair
            && other.total() == row.total()
            && other.receiver(&row.sender).is_some()
            && row.receiver(&other.sender).is_some()
            && !other.status.is_staged()
            && other.status != TransferStatus::Returned;
        (!fits).then(|| format!("legs {id} and {} do not fit: {row:?} / {other:?}", other.id))
    })
}
