//! One run.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::Millis;
use tinderbox_frost::OperatorIndex;
use tinderbox_signer::Signer;

use super::age::Age;
use super::check::{self, Broken};
use super::cluster::Cluster;
use super::liar;
use super::plan::{Family, Plan};
use super::renew::{freshen, renew};
use super::report::{Deed, Report};
use super::{after, coins, exits, locks, older, outputs, pay, settings, steps, swaps};
use crate::owner::NonceSet;

/// A request, with the operator that must be asked, if it matters.
pub(super) type Wish = (Option<OperatorIndex>, Request);

/// Plays `seed` by `plan`.
///
/// # Errors
/// [`Broken`]: which invariant does not hold, and what happened before.
pub fn run(seed: u64, plan: Plan) -> Result<Report, Broken> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| Broken::new(seed, error.to_string(), Vec::new()))?;
    runtime.block_on(play(seed, plan))
}

async fn play(seed: u64, plan: Plan) -> Result<Report, Broken> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let ages: Vec<Age> = if plan.aged {
        (0..plan.leaves).map(|_| Age::worn(&mut rng)).collect()
    } else {
        Vec::new()
    };
    let mut cluster = Cluster::aged(
        &mut rng,
        plan.operators,
        plan.threshold,
        plan.owners,
        plan.leaves,
        plan.faults,
        &ages,
    )
    .await;
    if plan.weights.has(Family::Outputs) && rng.gen_bool(0.6) {
        cluster.deposit_address(&mut rng, 0, true).await;
    }
    let mut report = Report::default();
    let mut open = Vec::new();
    let mut evidence = Vec::new();
    let last = OperatorIndex(plan.operators.saturating_sub(1));
    for _ in 0..plan.actions {
        revive(&mut cluster, &mut report, &mut rng, false);
        let liar = plan.lie.filter(|_| rng.gen_bool(0.4));
        let wish = wish(&cluster, &plan, liar.map(|_| last), &mut rng).await;
        match (liar, wish) {
            (_, None) => {}
            (Some(lie), Some((_, request))) => {
                report.lies += 1;
                evidence.push(liar::tell(&cluster, lie, request, &mut rng).await);
            }
            (None, Some((at, request))) => {
                submit(&cluster, &mut rng, at, &request, &mut open);
                // Two coordinators, one leaf, one moment.
                if rng.gen_ratio(1, 5) {
                    cluster.desk().twice.push(request.clone());
                    submit(&cluster, &mut rng, at, &request, &mut open);
                }
                // Two wallets, or two of one: a payment and a renewal of one leaf, at once.
                if rng.gen_ratio(1, 6)
                    && let Some((at, other)) = self::wish(&cluster, &plan, None, &mut rng).await
                {
                    submit(&cluster, &mut rng, at, &other, &mut open);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.gen_range(0..plan.pause_ms))).await;
    }
    // Clients give up waiting; operators go on by themselves.
    for answer in open {
        match tokio::time::timeout(Duration::from_secs(60), answer).await {
            Ok(Ok(Ok(deed))) => *report.done.entry(deed).or_default() += 1,
            _ => report.refused += 1,
        }
    }
    after::heal(&mut cluster, &mut report, &mut rng).await;
    locks::settled(seed, &cluster).await?;
    check::settled(seed, &cluster)?;
    check::invariants(seed, &cluster, plan.lie, &evidence)?;
    // Nothing is stuck: whatever waits can be brought to an end and claimed, by a calm network.
    if rng.gen_bool(0.5) {
        after::wind_up(&cluster, &mut report, &mut rng, seed).await?;
    }
    after::drain(&cluster, &mut report, &mut rng, seed).await?;
    check::invariants(seed, &cluster, plan.lie, &evidence)?;
    if plan.aged {
        freshen(&cluster, &mut report, &mut rng, seed).await?;
        check::invariants(seed, &cluster, plan.lie, &evidence)?;
    }
    Ok(report)
}

/// What somebody would do next; addresses are asked for at operator `at`, if it matters.
async fn wish(
    cluster: &Cluster,
    plan: &Plan,
    at: Option<OperatorIndex>,
    rng: &mut ChaCha20Rng,
) -> Option<Wish> {
    let made = match plan.weights.pick(rng) {
        Family::Coins => coins::next(cluster, rng, at).await,
        Family::Outputs => outputs::next(cluster, rng, at).await,
        Family::Payments => pay::next(cluster, rng).await.map(anywhere),
        Family::Steps => steps::next(cluster, rng).await.map(anywhere),
        Family::Renewals => renew(cluster, rng).await.map(anywhere),
        Family::Locks => locks::next(cluster, rng).await.map(anywhere),
        Family::Older => older::next(cluster, rng).await.map(anywhere),
        Family::Swaps => swaps::swap(cluster, rng).await.map(anywhere),
        Family::Exits => exits::next(cluster, rng).await.map(anywhere),
        Family::Settings => Some(anywhere(settings::next(cluster, rng))),
    };
    match made {
        Some(made) => Some(made),
        // Leaves that are on their way can be claimed.
        None => pay::next(cluster, rng).await.map(anywhere),
    }
}

/// Restarts what has crashed, now and then or all of it.
pub(super) fn revive(cluster: &mut Cluster, report: &mut Report, rng: &mut ChaCha20Rng, all: bool) {
    for operator in cluster.network.take_crashed() {
        report.crashes += 1;
        if all || rng.gen_bool(0.8) {
            cluster.start(operator);
        } else {
            // Later.
            cluster.network.crash(operator);
            report.crashes -= 1;
        }
    }
}

type Answer = tokio::task::JoinHandle<Result<Deed, tinderbox_flows::refusal::Refusal>>;

/// A request that any operator may coordinate.
const fn anywhere(request: Request) -> Wish {
    (None, request)
}

/// Hands a request to an operator that is up: any, if it does not matter.
fn submit(
    cluster: &Cluster,
    rng: &mut ChaCha20Rng,
    at: Option<OperatorIndex>,
    request: &Request,
    open: &mut Vec<Answer>,
) {
    let count = cluster.site.count();
    let operator = at.unwrap_or_else(|| OperatorIndex(rng.gen_range(0..count)));
    let Some(engine) = cluster.network.engine(operator) else {
        return;
    };
    let request = request.clone();
    let deed = Deed::of(&request);
    let network = cluster.network.clone();
    let desk = Arc::clone(&cluster.desk);
    let chain = Arc::clone(&cluster.chain);
    open.push(cluster.network.spawn(operator, async move {
        let result = engine.run(request.clone()).await;
        let what = deed.name();
        network.note(|| match &result {
            Ok(_) => format!("operator {} finished a flow: {what}", operator.0),
            Err(refusal) => format!("operator {} refused: {what}: {refusal}", operator.0),
        });
        let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
        desk.answered(request, result?, &chain);
        Ok(deed)
    }));
}

pub(super) async fn nonces(
    cluster: &Cluster,
    rng: &mut ChaCha20Rng,
    count: usize,
) -> Vec<NonceSet> {
    let mut operators: Vec<u16> = (0..cluster.site.count()).collect();
    operators.shuffle(rng);
    operators.truncate(usize::from(cluster.site.threshold));
    let mut sets = vec![NonceSet::new(); count];
    for operator in operators {
        let made = cluster.machines[usize::from(operator)]
            .signer
            .nonces(u32::try_from(count).unwrap_or(u32::MAX))
            .await
            .unwrap_or_default();
        for (set, commitment) in sets.iter_mut().zip(made) {
            set.insert(OperatorIndex(operator), commitment);
        }
    }
    sets
}

pub(super) fn now(cluster: &Cluster) -> Millis {
    cluster
        .network
        .engine(OperatorIndex(0))
        .map_or(Millis(1), |engine| engine.core().clock.now())
}
