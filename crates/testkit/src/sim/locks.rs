//! Hash locks in a run: deposits of preimages, some of them false, payments in both directions, and
//! preimages that are shown.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};
use std::time::Duration;
use tinderbox_flows::htlc::lock::LockMode;
use tinderbox_flows::htlc::settle::PreimageRequest;
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{
    HashLockRow, HashLockState, PreimageShareRow, TransferRow, TransferStatus,
};
use tinderbox_flows::secret::Preimage;

use super::check::Broken;
use super::cluster::Cluster;
use super::older;
use super::pay::{free, transfer_id};
use super::returns;
use super::run::{nonces, now};
use crate::hashlocks::{Lock, Refunds, invoice, preimage_of};

/// Preimages that wallets deposit.
const DEPOSITS: u8 = 6;
/// How long a lock lasts, in milliseconds: a part of a run, or longer than one.
const LASTS_MS: [u64; 3] = [500, 10_000, 24 * 3_600_000];

fn deposited(number: u8) -> Preimage {
    Preimage(Sha256::digest([b'd', number]).into())
}

/// What a wallet that deals with hash locks would do next.
pub(super) async fn next(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Option<Request> {
    // What waits comes to an end, one way or the other.
    let ended = match rng.gen_range(0..6) {
        0..=1 => returns::next(cluster, rng),
        2..=3 => show(cluster, rng),
        _ => None,
    };
    if ended.is_some() {
        return ended;
    }
    let made = match rng.gen_range(0..7) {
        0 => None,
        1..=3 => receive(cluster, rng).await,
        _ => send(cluster, rng).await,
    };
    made.or_else(|| Some(deposit(cluster, rng)))
}

/// A wallet deposits a preimage, or what is none.
pub(super) fn deposit(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Request {
    let number = rng.gen_range(0..DEPOSITS);
    let preimage = deposited(number);
    let secret = if rng.gen_ratio(1, 4) {
        Preimage([7; 32])
    } else {
        preimage.clone()
    };
    let owner = &cluster.owners[usize::from(number) % cluster.owners.len()];
    let invoice = invoice(&preimage.payment_hash(), 100);
    Request::StorePreimage(Box::new(owner.store_preimage(
        &cluster.site,
        now(cluster),
        &preimage,
        &secret.0,
        &invoice,
        rng,
    )))
}

async fn receive(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Option<Request> {
    let view = rng.gen_range(0..cluster.machines.len());
    let mut shares = cluster.rows::<PreimageShareRow>(view);
    shares.shuffle(rng);
    let share = shares.pop()?;
    let lock = Lock {
        id: transfer_id(rng),
        receiver: share.owner,
        payment_hash: share.payment_hash,
        mode: LockMode::Receive,
        refunds: *[Refunds::Plain, Refunds::Htlc].choose(rng)?,
        expiry: None,
    };
    request(cluster, rng, &lock).await
}

async fn send(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Option<Request> {
    let id = transfer_id(rng);
    let (mode, refunds) = *[
        (LockMode::Send, Refunds::Htlc),
        (LockMode::Hold, Refunds::Htlc),
        (LockMode::Hold, Refunds::Plain),
    ]
    .choose(rng)?;
    let lock = Lock {
        id,
        receiver: cluster.owners.choose(rng)?.identity(),
        payment_hash: preimage_of(&id).payment_hash(),
        mode,
        refunds,
        expiry: Some(cluster.clocks().1.plus(*LASTS_MS.choose(rng)?)),
    };
    request(cluster, rng, &lock).await
}

async fn request(cluster: &Cluster, rng: &mut ChaCha20Rng, lock: &Lock) -> Option<Request> {
    let view = rng.gen_range(0..cluster.machines.len());
    let owner = rng.gen_range(0..cluster.owners.len());
    let mut nodes = free(cluster, view, owner, rng);
    nodes.truncate(rng.gen_range(1..=2));
    if nodes.is_empty() {
        return None;
    }
    let owner = &cluster.owners[owner];
    let nonces = nonces(cluster, rng, nodes.len() * 4).await;
    let request = owner.lock(&cluster.site, now(cluster), &nodes, lock, nonces, rng);
    Some(Request::HashLock(Box::new(request)))
}

fn show(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Option<Request> {
    let view = rng.gen_range(0..cluster.machines.len());
    let mut locks = cluster.rows::<HashLockRow>(view);
    locks.retain(|lock| lock.state == HashLockState::Waiting);
    locks.shuffle(rng);
    let lock = locks.pop()?;
    show_one(cluster, &lock)
}

/// The preimage of a lock, if it is known.
pub(super) fn show_one(cluster: &Cluster, lock: &HashLockRow) -> Option<Request> {
    let preimage = preimage_of(&lock.transfer);
    (preimage.payment_hash() == lock.payment_hash).then(|| {
        Request::Preimage(Box::new(PreimageRequest {
            now: now(cluster),
            transfer: lock.transfer,
            receiver: lock.receiver,
            preimage,
        }))
    })
}

/// Operators settle by themselves what they know the preimage of.
pub(super) async fn settled(seed: u64, cluster: &Cluster) -> Result<(), Broken> {
    let revealed = || {
        (0..cluster.machines.len()).any(|operator| {
            let locks = cluster.rows::<HashLockRow>(operator);
            let known = |lock: &HashLockRow| matches!(lock.state, HashLockState::Revealed(_));
            locks.iter().any(known)
        })
    };
    // Clocks may be minutes apart, and each operator leaves the others some time.
    for _ in 0..400 {
        if !revealed() {
            // The last acknowledgements.
            tokio::time::sleep(Duration::from_secs(10)).await;
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    Err(Broken::new(
        seed,
        "a known preimage does not settle its transfer".into(),
        cluster.network.log(),
    ))
}

/// A lock and its transfer say the same, at every operator: never both returned and settled.
pub(super) fn check(cluster: &Cluster) -> Result<(), String> {
    for operator in 0..cluster.machines.len() {
        let mut locks = cluster.rows::<HashLockRow>(operator);
        locks.sort_by_key(|lock| lock.transfer);
        let mut first = cluster.rows::<HashLockRow>(0);
        first.sort_by_key(|lock| lock.transfer);
        let facts = |locks: &[HashLockRow]| -> Vec<_> {
            locks
                .iter()
                .map(|lock| (lock.transfer, lock.state.clone(), lock.jobs.len()))
                .collect()
        };
        if facts(&locks) != facts(&first) {
            return Err(format!(
                "operators 0 and {operator} differ on hash locks: {:?} / {:?}",
                facts(&first),
                facts(&locks)
            ));
        }
        for lock in locks {
            let id = TransferRow::id_of(&lock.transfer);
            let status = cluster
                .row::<TransferRow>(operator, &id)
                .map(|transfer| transfer.status);
            let fits = match (&lock.state, status) {
                (HashLockState::Waiting | HashLockState::Revealed(_), Some(status)) => {
                    status.is_staged()
                }
                (HashLockState::Shared(preimage), Some(status)) => {
                    preimage.payment_hash() == lock.payment_hash
                        && match status {
                            TransferStatus::SenderKeyTweaked | TransferStatus::Completed => true,
                            // By the older protocol the preimage is given first.
                            TransferStatus::SenderInitiated => older::waits(cluster, &lock),
                            _ => false,
                        }
                }
                (HashLockState::Returned, status) => status == Some(TransferStatus::Returned),
                (_, None) => false,
            };
            if !fits {
                return Err(format!(
                    "transfer {} is {status:?} and its hash lock {:?}",
                    lock.transfer, lock.state
                ));
            }
        }
    }
    Ok(())
}
