//! Renewals as an action of the simulated wallets.

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{NodeRow, NodeStatus};
use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::renewal::RenewalKind;

use super::age::Age;
use super::check::Broken;
use super::cluster::Cluster;
use super::report::Report;
use super::run::{nonces, now};
use crate::renewing::MAX_JOBS;

/// What a wallet would renew: a leaf that it believes to own, in a way that its timelocks allow.
pub(super) async fn renew(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Option<Request> {
    let view = rng.gen_range(0..cluster.machines.len());
    let mut nodes = worn(cluster, view);
    nodes.shuffle(rng);
    let (node, kinds) = nodes.into_iter().next()?;
    let kind = *kinds.choose(rng)?;
    renewal_of(cluster, view, &node, kind, rng).await
}

/// Leaves that can be renewed, with the ways in which they can, as one operator has them.
fn worn(cluster: &Cluster, view: usize) -> Vec<(NodeRow, Vec<RenewalKind>)> {
    cluster
        .leaves
        .iter()
        .filter_map(|leaf| cluster.row::<NodeRow>(view, &NodeRow::id_of(leaf)))
        .filter(|node| node.status == NodeStatus::Available)
        .map(|node| {
            let kinds = match node.renewal {
                Some(begun) => vec![begun],
                None => Age::of_leaf(&node).permitted(),
            };
            (node, kinds)
        })
        .filter(|(_, kinds)| !kinds.is_empty())
        .collect()
}

/// The request that renews `node` in this way.
pub(super) async fn renewal_of(
    cluster: &Cluster,
    view: usize,
    node: &NodeRow,
    kind: RenewalKind,
    rng: &mut ChaCha20Rng,
) -> Option<Request> {
    let owner = cluster
        .owners
        .iter()
        .find(|owner| owner.identity() == node.owner)?;
    let parent = match &node.parent {
        Some(parent) => Some(cluster.row::<NodeRow>(view, &NodeRow::id_of(parent))?),
        None => None,
    };
    let nonces = nonces(cluster, rng, MAX_JOBS).await;
    let request = owner.renew(
        &cluster.site,
        now(cluster),
        kind,
        node,
        parent.as_ref(),
        nonces,
        rng,
    );
    Some(Request::Renew(Box::new(request)))
}

/// Nothing is stuck: by a calm network every leaf that has run down can be renewed, with what it is
/// and as often as it takes.
pub(super) async fn freshen(
    cluster: &Cluster,
    report: &mut Report,
    rng: &mut ChaCha20Rng,
    seed: u64,
) -> Result<(), Broken> {
    for (node, kinds) in worn(cluster, 0) {
        let kind = *kinds.first().unwrap_or(&RenewalKind::Zero);
        let broken = |what: String| {
            let what = format!("leaf {} cannot be renewed: {what}", node.id);
            Broken::new(seed, what, cluster.network.log())
        };
        let request = renewal_of(cluster, 0, &node, kind, rng)
            .await
            .ok_or_else(|| broken("its owner or parent is unknown".into()))?;
        let engine = cluster
            .network
            .engine(OperatorIndex(0))
            .ok_or_else(|| broken("the operator is down".into()))?;
        engine
            .run(request)
            .await
            .map_err(|refusal| broken(refusal.to_string()))?;
        report.afterwards += 1;
        let after = cluster
            .row::<NodeRow>(0, &NodeRow::id_of(&node.id))
            .ok_or_else(|| broken("it is gone".into()))?;
        if Age::of_leaf(&after).refund != 2000 || after.renewal.is_some() {
            return Err(broken(format!("it stayed as it was: {after:?}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
