//! Cooperative exits in runs: leaves for a payout that confirms, or does not, or is reorganised
//! away; and operators that see blocks at different times.

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, OutPoint};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use tinderbox_flows::exit_return::margin;
use tinderbox_flows::request::{ExitReturnRequest, ExitSettleRequest, Request};
use tinderbox_flows::rows::{ChainRow, ExitRow, ExitState, KnownBlock, Millis};
use tinderbox_protocol::BlockHeight;

use super::cluster::Cluster;
use super::exit::{Exit, exit_of};
use super::pay::{free, transfer_id};
use super::run::now;

/// How long an exit waits for its payout, in milliseconds: a part of a run, or longer than one.
const LASTS_MS: [u64; 3] = [500, 500, 24 * 3_600_000];

/// What wallets, the chain and operators do next about exits.
pub(super) async fn next(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Option<Request> {
    let view = rng.gen_range(0..cluster.machines.len());
    let mut open = cluster.rows::<ExitRow>(view);
    open.retain(|exit| exit.state == ExitState::Open);
    open.shuffle(rng);
    match open.pop() {
        Some(exit) if rng.gen_bool(0.75) => go_on(cluster, &exit, rng).await,
        _ => start(cluster, view, rng).await,
    }
}

async fn start(cluster: &Cluster, view: usize, rng: &mut ChaCha20Rng) -> Option<Request> {
    let from = rng.gen_range(0..cluster.owners.len());
    let provider = rng.gen_range(0..cluster.owners.len());
    let mut nodes = free(cluster, view, from, rng);
    nodes.truncate(rng.gen_range(1..=2));
    if nodes.is_empty() || from == provider {
        return None;
    }
    let exit = Exit {
        id: transfer_id(rng),
        receiver: cluster.owners[provider].identity(),
        expiry: cluster.clocks().1.plus(*LASTS_MS.choose(rng)?),
    };
    let (request, payout) = exit_of(cluster, rng, from, &nodes, &exit).await?;
    cluster.desk().payouts.insert(request.exit, (payout, None));
    Some(Request::Exit(Box::new(request)))
}

async fn go_on(cluster: &Cluster, exit: &ExitRow, rng: &mut ChaCha20Rng) -> Option<Request> {
    let confirmed = is_confirmed(cluster, exit);
    if confirmed && rng.gen_ratio(1, 6) {
        reorganise(cluster, exit).await;
        return Some(give_back(cluster, exit));
    }
    // Some providers never pay: an exit knows from the start whether its own does.
    let pays = confirmed || !exit.exit[0].is_multiple_of(3);
    if !pays || rng.gen_ratio(1, 12) {
        if is_due(cluster, exit) || rng.gen_ratio(1, 8) {
            return Some(give_back(cluster, exit));
        }
        let view = rng.gen_range(0..cluster.machines.len());
        return start(cluster, view, rng).await;
    }
    // Mostly all operators have the block by now.
    let all = rng.gen_ratio(5, 6);
    let count = cluster.machines.len();
    let seers: Vec<usize> = (0..count).filter(|_| all || rng.gen_bool(0.7)).collect();
    see(cluster, exit, &seers).await;
    Some(settle(cluster, exit))
}

/// True if its payout is in a block.
pub(super) fn is_confirmed(cluster: &Cluster, exit: &ExitRow) -> bool {
    let desk = cluster.desk();
    let payout = desk.payouts.get(&exit.exit);
    payout.is_some_and(|(_, height)| height.is_some())
}

/// True if every clock says that it may go back.
pub(super) fn is_due(cluster: &Cluster, exit: &ExitRow) -> bool {
    over(cluster, exit) < cluster.clocks().0
}

/// The time after which an exit may go back.
pub(super) fn over(cluster: &Cluster, exit: &ExitRow) -> Millis {
    exit.expiry.plus(margin(cluster.site.network))
}

pub(super) fn settle(cluster: &Cluster, exit: &ExitRow) -> Request {
    Request::ExitSettle(Box::new(ExitSettleRequest {
        now: now(cluster),
        exit: exit.exit,
        transfer: exit.transfer,
    }))
}

pub(super) fn give_back(cluster: &Cluster, exit: &ExitRow) -> Request {
    Request::ExitReturn(Box::new(ExitReturnRequest {
        now: now(cluster),
        exit: exit.exit,
        transfer: exit.transfer,
        funds: exit.funds,
    }))
}

/// The payout is in a block, which these operators have applied.
pub(super) async fn see(cluster: &Cluster, exit: &ExitRow, operators: &[usize]) {
    let height = {
        let mut desk = cluster.desk();
        let next = desk.height + 1;
        match desk.payouts.get_mut(&exit.exit) {
            Some((_, Some(height))) => *height,
            Some((payout, height)) => {
                *height = Some(next);
                cluster.chain.confirm(payout);
                desk.height = next;
                next
            }
            None => return,
        }
    };
    for operator in operators {
        let id = ExitRow::id_of(&exit.exit);
        let Some(mut row) = cluster.row::<ExitRow>(*operator, &id) else {
            continue;
        };
        row.seen = Some((BlockHeight(height), BlockHash::all_zeros()));
        cluster.put(*operator, &row).await;
        let tip = cluster
            .row::<ChainRow>(*operator, ChainRow::ID)
            .and_then(|chain| chain.tip())
            .map_or(0, |tip| tip.height.0);
        let block = KnownBlock {
            height: BlockHeight(height.max(tip)),
            hash: BlockHash::all_zeros(),
        };
        let chain = ChainRow {
            blocks: vec![block],
        };
        cluster.put(*operator, &chain).await;
    }
}

/// The block that has the payout is replaced by one that has another spend of the same coin.
async fn reorganise(cluster: &Cluster, exit: &ExitRow) {
    {
        let mut desk = cluster.desk();
        let Some((payout, height)) = desk.payouts.get_mut(&exit.exit) else {
            return;
        };
        *height = None;
        let txid = payout.compute_txid();
        for (vout, _) in (0u32..).zip(&payout.output) {
            cluster.chain.forget(&OutPoint { txid, vout });
        }
    }
    for operator in 0..cluster.machines.len() {
        let id = ExitRow::id_of(&exit.exit);
        if let Some(mut row) = cluster.row::<ExitRow>(operator, &id) {
            row.seen = None;
            cluster.put(operator, &row).await;
        }
    }
}
