//! After a run: the network heals, flows end by themselves, and wallets do what is left to do.

use std::time::Duration;

use rand::Rng;
use rand_chacha::ChaCha20Rng;
use tinderbox_flows::refusal::Reason;
use tinderbox_flows::request::Request;
use tinderbox_flows::return_rule::{self, Why, is_returnable};
use tinderbox_flows::returns::ReturnRequest;
use tinderbox_flows::rows::{
    ClaimPhase, ExitRow, ExitState, HashLockRow, HashLockState, Millis, TransferKind, TransferRow,
};
use tinderbox_frost::OperatorIndex;

use super::check::{self, Broken};
use super::cluster::Cluster;
use super::exits;
use super::locks;
use super::older;
use super::pay::claim;
use super::report::Report;
use super::returns::unwanted_by;
use super::run::{now, revive};
use crate::faults::Faults;

/// The longest that is waited for something to lapse, in milliseconds, and how long now and then:
/// each second of a run costs a look of every operator at its tables.
const LONGEST_MS: u64 = 60_000;
const NOW_AND_THEN_MS: u64 = 300_000;

/// The network behaves, everybody is up, and time passes.
pub(super) async fn heal(cluster: &mut Cluster, report: &mut Report, rng: &mut ChaCha20Rng) {
    cluster.network.set_faults(Faults::NONE);
    for _ in 0..40 {
        revive(cluster, report, rng, true);
        tokio::time::sleep(Duration::from_secs(5)).await;
        if check::open_flows(cluster) == 0 {
            // Late doubles have arrived after this.
            tokio::time::sleep(Duration::from_secs(10)).await;
            if check::open_flows(cluster) == 0 {
                return;
            }
        }
    }
}

/// Does something that must succeed, in a calm network.
async fn must(
    cluster: &Cluster,
    report: &mut Report,
    seed: u64,
    what: &str,
    request: Request,
) -> Result<(), Broken> {
    let broken = |why: String| Broken::new(seed, format!("{what}: {why}"), cluster.network.log());
    let engine = cluster.network.engine(OperatorIndex(0));
    let engine = engine.ok_or_else(|| broken("the operator is down".into()))?;
    match engine.run(request).await {
        Ok(_) => {
            report.afterwards += 1;
            Ok(())
        }
        Err(refusal) => Err(broken(refusal.to_string())),
    }
}

/// Nothing is stuck: what waits for something is settled or goes back, whichever is possible.
pub(super) async fn wind_up(
    cluster: &Cluster,
    report: &mut Report,
    rng: &mut ChaCha20Rng,
    seed: u64,
) -> Result<(), Broken> {
    let longest = if rng.gen_ratio(1, 5) {
        NOW_AND_THEN_MS
    } else {
        LONGEST_MS
    };
    for exit in cluster.rows::<ExitRow>(0) {
        if exit.state != ExitState::Open {
            continue;
        }
        let confirmed = exits::is_confirmed(cluster, &exit);
        let (request, what) =
            if !confirmed && wait(cluster, exits::over(cluster, &exit), longest).await {
                let request = exits::give_back(cluster, &exit);
                (request, "an exit without a payout does not go back")
            } else {
                let all: Vec<usize> = (0..cluster.machines.len()).collect();
                exits::see(cluster, &exit, &all).await;
                let request = exits::settle(cluster, &exit);
                (request, "an exit with its payout is not settled")
            };
        must(cluster, report, seed, what, request).await?;
    }
    let waiting = cluster.rows::<TransferRow>(0);
    for transfer in waiting.iter().filter(|row| row.status.is_staged()) {
        let lock: Option<HashLockRow> = cluster.row(0, &TransferRow::id_of(&transfer.id));
        let (request, what) = match (transfer.kind, lock) {
            (_, Some(lock)) if lock.shared().is_some() => (
                older::finalize_one(cluster, 0, transfer, rng).await,
                "a package that is owed is not taken",
            ),
            (TransferKind::PreimageSwap, Some(lock)) if lock.state == HashLockState::Waiting => {
                if rng.gen_bool(0.5)
                    && let Some(request) = locks::show_one(cluster, &lock)
                {
                    (Some(request), "a preimage does not settle its lock")
                } else {
                    let why = unwanted_by(cluster, transfer, false);
                    let request = why.map(|why| give_back(cluster, transfer, why));
                    (request, "what its receiver does not want does not go back")
                }
            }
            _ if is_returnable(transfer)
                && let Some(due) = return_rule::due(transfer)
                && wait(cluster, due, longest).await =>
            {
                let request = give_back(cluster, transfer, Why::Expired);
                (Some(request), "what lapsed does not go back")
            }
            _ => continue,
        };
        if let Some(request) = request {
            must(cluster, report, seed, what, request).await?;
        }
    }
    Ok(())
}

fn give_back(cluster: &Cluster, transfer: &TransferRow, why: Why) -> Request {
    Request::Return(Box::new(ReturnRequest {
        now: now(cluster),
        transfer: transfer.id,
        why,
    }))
}

/// Waits until a time is over by every clock. False if that takes too long.
async fn wait(cluster: &Cluster, until: Millis, longest: u64) -> bool {
    let left = until.plus(1).0.saturating_sub(cluster.clocks().0.0);
    if left > longest {
        return false;
    }
    tokio::time::sleep(Duration::from_millis(left)).await;
    true
}

/// Claims everything that waits.
pub(super) async fn drain(
    cluster: &Cluster,
    report: &mut Report,
    rng: &mut ChaCha20Rng,
    seed: u64,
) -> Result<(), Broken> {
    for _ in 0..64 {
        let waits = |cluster: &Cluster| {
            cluster.rows::<TransferRow>(0).iter().any(|transfer| {
                transfer
                    .receivers
                    .iter()
                    .any(|receiver| receiver.phase.is_pending())
            })
        };
        if !waits(cluster) {
            return Ok(());
        }
        let Some(request) = claim(cluster, rng).await else {
            continue;
        };
        let Some(engine) = cluster.network.engine(OperatorIndex(0)) else {
            continue;
        };
        match engine.run(request).await {
            Ok(_) => report.afterwards += 1,
            Err(refusal) if refusal.reason == Reason::ConcurrentClaimConflict => {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
            Err(refusal) => {
                return Err(Broken::new(
                    seed,
                    format!("a waiting transfer cannot be claimed: {refusal}"),
                    cluster.network.log(),
                ));
            }
        }
    }
    Err(Broken::new(
        seed,
        format!(
            "transfers still wait: {:?}",
            cluster
                .rows::<TransferRow>(0)
                .iter()
                .flat_map(|transfer| &transfer.receivers)
                .filter(|receiver| receiver.phase != ClaimPhase::Completed)
                .map(|receiver| receiver.phase)
                .collect::<Vec<_>>()
        ),
        cluster.network.log(),
    ))
}
