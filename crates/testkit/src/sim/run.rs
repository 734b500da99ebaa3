//! One run.

use std::collections::BTreeMap;
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use tinderbox_flows::refunds;
use tinderbox_flows::refusal::Reason;
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{ClaimPhase, Millis, NodeRow, NodeStatus, TransferRow, TransferStatus};
use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::{LeafId, TransferId};
use tinderbox_signer::Signer;

use super::age::Age;
use super::check::{self, Broken};
use super::cluster::Cluster;
use super::coins;
use super::liar::{self, Lie};
use super::locks;
use super::renew::{freshen, renew};
use super::swaps;
use crate::faults::Faults;
use crate::owner::NonceSet;

/// What a run is made of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many operators.
    pub operators: u16,
    /// How many sign.
    pub threshold: u16,
    /// Wallets.
    pub owners: usize,
    /// Leaves in all.
    pub leaves: usize,
    /// Payments and claims that are tried.
    pub actions: usize,
    /// What goes wrong.
    pub faults: Faults,
    /// What the last operator does, if it lies.
    pub lie: Option<Lie>,
    /// Leaves begin with used timelocks, and wallets renew them.
    pub aged: bool,
}

impl Plan {
    /// The plan that belongs to a seed: sizes, faults and lies vary with it.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed ^ 0x5eed);
        let (operators, threshold) = *[(3, 2), (3, 2), (3, 3), (5, 3)]
            .choose(&mut rng)
            .unwrap_or(&(3, 2));
        Self {
            operators,
            threshold,
            owners: rng.gen_range(2..4),
            leaves: rng.gen_range(2..5),
            actions: rng.gen_range(4..9),
            faults: if rng.gen_ratio(1, 8) {
                Faults::NONE
            } else {
                Faults::MANY
            },
            lie: rng
                .gen_bool(0.3)
                .then(|| Lie::ALL[rng.gen_range(0..Lie::ALL.len())]),
            aged: rng.gen_ratio(1, 3),
        }
    }
}

/// What a run did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Deposit addresses that were acknowledged.
    pub addresses: usize,
    /// Deposits that were acknowledged.
    pub deposits: usize,
    /// Payments that were acknowledged.
    pub sent: usize,
    /// Claims that were acknowledged.
    pub claimed: usize,
    /// Renewals that were acknowledged.
    pub renewed: usize,
    /// Deposits of preimages, hash locks and settlements that were acknowledged.
    pub locks: usize,
    /// Offers of leaf swaps that were acknowledged.
    pub offered: usize,
    /// Leaf swaps that were acknowledged.
    pub swapped: usize,
    /// Anything else that was acknowledged.
    pub others: usize,
    /// Requests that were refused or lost.
    pub refused: usize,
    /// Crashes.
    pub crashes: usize,
    /// Lies that were told.
    pub lies: usize,
}

impl Report {
    /// Adds another run's figures.
    pub fn add(&mut self, other: &Self) {
        self.addresses += other.addresses;
        self.deposits += other.deposits;
        self.others += other.others;
        self.sent += other.sent;
        self.claimed += other.claimed;
        self.renewed += other.renewed;
        self.locks += other.locks;
        self.offered += other.offered;
        self.swapped += other.swapped;
        self.refused += other.refused;
        self.crashes += other.crashes;
        self.lies += other.lies;
    }
}

impl Report {
    const fn of(&mut self, deed: Deed) -> &mut usize {
        match deed {
            Deed::Address => &mut self.addresses,
            Deed::Deposit => &mut self.deposits,
            Deed::Send => &mut self.sent,
            Deed::Claim => &mut self.claimed,
            Deed::Renew => &mut self.renewed,
            Deed::Lock => &mut self.locks,
            Deed::Offer => &mut self.offered,
            Deed::Swap => &mut self.swapped,
            Deed::Other => &mut self.others,
        }
    }
}

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
    let mut report = Report::default();
    let mut open = Vec::new();
    let mut evidence = Vec::new();
    for _ in 0..plan.actions {
        revive(&mut cluster, &mut report, &mut rng, false);
        let liar = plan.lie.filter(|_| rng.gen_bool(0.5));
        if let Some(lie) = liar {
            let request = match rng.gen_range(0..3) {
                0 => swaps::swap(&cluster, &mut rng).await,
                1 if !plan.aged => locks::next(&cluster, &mut rng).await,
                _ => send(&cluster, &mut rng).await,
            };
            if let Some(request) = request {
                report.lies += 1;
                evidence.push(liar::tell(&cluster, lie, request, &mut rng).await);
            }
        } else {
            let request = match rng.gen_range(0..100) {
                0..40 if plan.aged => renew(&cluster, &mut rng).await.map(anywhere),
                0..25 => claim(&cluster, &mut rng).await.map(anywhere),
                25..40 => locks::next(&cluster, &mut rng).await.map(anywhere),
                40..55 if !plan.aged => coins::next(&cluster, &mut rng).await,
                40..65 => swaps::swap(&cluster, &mut rng).await.map(anywhere),
                65..80 => claim(&cluster, &mut rng).await.map(anywhere),
                _ => send(&cluster, &mut rng).await.map(anywhere),
            };
            if let Some((at, request)) = request {
                submit(&cluster, &mut rng, at, &request, &mut open);
                // Two coordinators, one leaf, one moment.
                if rng.gen_ratio(1, 4) {
                    submit(&cluster, &mut rng, at, &request, &mut open);
                }
                // A payment and a renewal of one leaf, at once.
                if plan.aged
                    && rng.gen_ratio(1, 3)
                    && let Some(other) = send(&cluster, &mut rng).await
                {
                    submit(&cluster, &mut rng, None, &other, &mut open);
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(rng.gen_range(0..1500))).await;
    }
    // Clients give up waiting; operators go on by themselves.
    for answer in open {
        match tokio::time::timeout(Duration::from_secs(60), answer).await {
            Ok(Ok(Ok(done))) => *report.of(done) += 1,
            _ => report.refused += 1,
        }
    }
    heal(&mut cluster, &mut report, &mut rng).await;
    locks::settled(seed, &cluster).await?;
    check::settled(seed, &cluster)?;
    check::invariants(seed, &cluster, plan.lie, &evidence)?;
    // Nothing is stuck: whatever waits can be claimed, by a calm network.
    drain(&mut cluster, &mut report, &mut rng, seed).await?;
    check::invariants(seed, &cluster, plan.lie, &evidence)?;
    if plan.aged {
        freshen(&cluster, &mut report, &mut rng, seed).await?;
        check::invariants(seed, &cluster, plan.lie, &evidence)?;
    }
    Ok(report)
}

/// Restarts what has crashed, now and then or all of it.
fn revive(cluster: &mut Cluster, report: &mut Report, rng: &mut ChaCha20Rng, all: bool) {
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

/// The network behaves, everybody is up, and time passes.
async fn heal(cluster: &mut Cluster, report: &mut Report, rng: &mut ChaCha20Rng) {
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

type Answer = tokio::task::JoinHandle<Result<Deed, tinderbox_flows::refusal::Refusal>>;

/// What a request was for.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Address,
    Deposit,
    Send,
    Claim,
    Renew,
    Lock,
    Offer,
    Swap,
    Other,
}

impl Deed {
    const fn of(request: &Request) -> Self {
        match request {
            Request::Address(_) => Self::Address,
            Request::Deposit(_) => Self::Deposit,
            Request::Send(_) => Self::Send,
            Request::Claim(_) => Self::Claim,
            Request::Renew(_) => Self::Renew,
            Request::StorePreimage(_) | Request::HashLock(_) | Request::Preimage(_) => Self::Lock,
            Request::SwapPrimary(_) => Self::Offer,
            Request::SwapCounter(_) => Self::Swap,
            _ => Self::Other,
        }
    }
}

/// A request that any operator may coordinate.
fn anywhere(request: Request) -> (Option<OperatorIndex>, Request) {
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
    open.push(cluster.network.spawn(operator, async move {
        let result = engine.run(request).await;
        network.note(|| match &result {
            Ok(_) => format!("operator {} finished a flow", operator.0),
            Err(refusal) => format!("operator {} refused: {refusal}", operator.0),
        });
        result.map(|_| deed)
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

/// What a wallet would send: some of the leaves that it believes to own.
pub(super) async fn send(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Option<Request> {
    let view = rng.gen_range(0..cluster.machines.len());
    let owner = &cluster.owners[rng.gen_range(0..cluster.owners.len())];
    let mut nodes: Vec<NodeRow> = cluster
        .rows::<NodeRow>(view)
        .into_iter()
        .filter(|node| node.owner == owner.identity() && node.status == NodeStatus::Available)
        .filter(|node| refunds::for_send(node, owner.identity()).is_ok())
        .collect();
    nodes.shuffle(rng);
    nodes.truncate(rng.gen_range(1..=2));
    if nodes.is_empty() {
        return None;
    }
    let receivers: BTreeMap<LeafId, PublicKey> = nodes
        .iter()
        .map(|node| {
            let to = &cluster.owners[rng.gen_range(0..cluster.owners.len())];
            (node.id, to.identity())
        })
        .collect();
    let id = TransferId(uuid::Builder::from_random_bytes(rng.r#gen()).into_uuid());
    let nonces = nonces(cluster, rng, nodes.len() * 3).await;
    let request = owner.send(
        &cluster.site,
        id,
        now(cluster),
        &nodes,
        &receivers,
        nonces,
        rng,
    );
    Some(Request::Send(Box::new(request)))
}

/// What a wallet would claim: its part of a transfer that waits.
async fn claim(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Option<Request> {
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

/// Claims everything that waits.
async fn drain(
    cluster: &mut Cluster,
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
            Ok(_) => report.claimed += 1,
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
