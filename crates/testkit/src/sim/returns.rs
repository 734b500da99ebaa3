//! Transfers that go back to their sender: because their time is over, or because their receiver
//! does not want them.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use tinderbox_flows::request::Request;
use tinderbox_flows::return_rule::{self, Why, is_returnable};
use tinderbox_flows::returns::ReturnRequest;
use tinderbox_flows::rows::{TransferKind, TransferRow};

use super::cluster::Cluster;
use super::run::now;

/// A return that operators or a receiver would try; now and then one that must be refused.
pub(super) fn next(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Option<Request> {
    let view = rng.gen_range(0..cluster.machines.len());
    let mut waiting: Vec<TransferRow> = cluster
        .rows::<TransferRow>(view)
        .into_iter()
        .filter(is_returnable)
        .collect();
    waiting.shuffle(rng);
    let early = rng.gen_ratio(1, 8);
    let (slowest, _) = cluster.clocks();
    waiting.into_iter().find_map(|transfer| {
        let due = return_rule::due(&transfer).is_some_and(|due| due <= slowest);
        let unwanted = transfer.kind == TransferKind::PreimageSwap && rng.gen_bool(0.6);
        let why = if unwanted {
            unwanted_by(cluster, &transfer, rng.gen_ratio(1, 8))?
        } else if due || early {
            Why::Expired
        } else {
            return None;
        };
        Some(Request::Return(Box::new(ReturnRequest {
            now: now(cluster),
            transfer: transfer.id,
            why,
        })))
    })
}

/// A receiver's wish; with `forged`, of somebody else.
pub(super) fn unwanted_by(cluster: &Cluster, transfer: &TransferRow, forged: bool) -> Option<Why> {
    let receiver = transfer.receivers.first()?.identity;
    let owner = cluster
        .owners
        .iter()
        .find(|owner| (owner.identity() == receiver) != forged)?;
    Some(Why::Unwanted {
        signature: owner.unwanted(&transfer.id),
    })
}
