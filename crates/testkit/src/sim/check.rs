//! The invariants.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use bitcoin::secp256k1::{PublicKey, SECP256K1};
use futures::FutureExt;
use tinderbox_commit::{Certificate, SignedVote};
use tinderbox_flows::record::Index;
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{
    ClaimPhase, FlowRow, FlowState, KeyshareRow, NodeRow, NodeStatus, TransferRow, TransferStatus,
};
use tinderbox_frost::tweak;
use tinderbox_protocol::tx::p2tr;
use tinderbox_protocol::{LeafId, Sats};
use tinderbox_store::{Scan, Store};

use super::cluster::{Cluster, Machine};
use super::liar::{Evidence, Lie};
use super::path;
use super::report::Deed;
use super::swaps;

/// An invariant does not hold.
#[derive(Clone, Debug, thiserror::Error)]
#[error("seed {seed}: {what}\n{}", log.join("\n"))]
pub struct Broken {
    /// The seed to play again.
    pub seed: u64,
    /// Which invariant, and how.
    pub what: String,
    /// What happened.
    pub log: Vec<String>,
}

impl Broken {
    pub(super) fn new(seed: u64, what: String, log: Vec<String>) -> Self {
        Self { seed, what, log }
    }
}

/// Flows that are not finished, over all operators.
pub(super) fn open_flows(cluster: &Cluster) -> usize {
    let count = |machine: &Machine| {
        let list = machine.store.scan(Scan::prefix(Index::FlowOpen, &[]));
        let list = list.now_or_never().expect("memory answers at once");
        list.expect("memory answers").len()
    };
    cluster.machines.iter().map(count).sum()
}

/// (I6) Every flow has ended by itself.
pub(super) fn settled(seed: u64, cluster: &Cluster) -> Result<(), Broken> {
    let open: Vec<String> = (0..cluster.machines.len())
        .flat_map(|operator| {
            cluster
                .rows::<FlowRow>(operator)
                .into_iter()
                .filter(FlowRow::is_open)
                .map(move |row| {
                    let request = Request::decode(&row.request);
                    let what = request.map_or("", |request| Deed::of(&request).name());
                    let (id, state) = (row.id, row.state);
                    format!("flow {id} ({what}) is {state:?} at operator {operator}")
                })
        })
        .collect();
    if open.is_empty() {
        Ok(())
    } else {
        Err(Broken::new(seed, open.join("; "), cluster.network.log()))
    }
}

/// Everything else.
pub(super) fn invariants(
    seed: u64,
    cluster: &Cluster,
    lie: Option<Lie>,
    evidence: &[Evidence],
) -> Result<(), Broken> {
    let broken = |what: String| Err(Broken::new(seed, what, cluster.network.log()));
    let operators = cluster.machines.len();
    let transfers: Vec<BTreeMap<Vec<u8>, TransferRow>> = (0..operators)
        .map(|operator| {
            cluster
                .rows::<TransferRow>(operator)
                .into_iter()
                .map(|row| (TransferRow::id_of(&row.id), row))
                .collect()
        })
        .collect();
    for operator in 1..operators {
        let (one, other) = (public(&transfers[0]), public(&transfers[operator]));
        let ids: BTreeSet<&Vec<u8>> = one.keys().chain(other.keys()).collect();
        if let Some(id) = ids.into_iter().find(|id| one.get(*id) != other.get(*id)) {
            return broken(format!(
                "operators 0 and {operator} differ on a transfer: {:?} / {:?}",
                one.get(id),
                other.get(id)
            ));
        }
    }
    if let Some(why) = swaps::check(transfers[0].values()) {
        return broken(why);
    }
    let identities: BTreeSet<PublicKey> = cluster.owners.iter().map(|o| o.identity()).collect();
    let mut leaves: BTreeSet<LeafId> = cluster.leaves.iter().copied().collect();
    let mut spent = BTreeSet::new();
    for node in (0..operators).flat_map(|operator| cluster.rows::<NodeRow>(operator)) {
        // (I1) One deposit makes one tree. Nodes that a renewal put in are no leaves.
        let is_new = !cluster.aged && node.parent.is_none() && leaves.insert(node.id);
        if is_new && !node.deposits.iter().all(|outpoint| spent.insert(*outpoint)) {
            return broken(format!("leaf {} doubles a deposit", node.id));
        }
    }
    for leaf in &leaves {
        let id = NodeRow::id_of(leaf);
        let nodes: Vec<NodeRow> = (0..operators)
            .filter_map(|operator| cluster.row::<NodeRow>(operator, &id))
            .collect();
        if nodes.len() != operators {
            return broken(format!("leaf {leaf} is gone somewhere"));
        }
        let node = &nodes[0];
        // All operators agree on every leaf.
        if let Some(other) = nodes.iter().position(|other| other != node) {
            return broken(format!(
                "operators 0 and {other} differ on leaf {leaf}: {node:?} / {:?}",
                nodes[other]
            ));
        }
        // (I1) No leaf is lost, doubled, or changes its value.
        let Some((value, first)) = origin(cluster, node) else {
            return broken(format!("leaf {leaf} comes from nowhere"));
        };
        if value != node.value {
            return broken(format!("leaf {leaf} changed its value"));
        }
        // (I2) Shares fit the public ones, which fit the group key; both halves make the whole.
        let mut shares = Vec::new();
        for (operator, machine) in cluster.machines.iter().enumerate() {
            let Some(keyshare) = cluster.row::<KeyshareRow>(operator, &node.keyshare.0) else {
                return broken(format!("operator {operator} lost the key of leaf {leaf}"));
            };
            let own = machine.signer.public_share(&keyshare.sealed);
            if own != keyshare.public_shares.get(operator).copied() {
                return broken(format!(
                    "operator {operator} holds another share of leaf {leaf}"
                ));
            }
            shares.push(keyshare);
        }
        if shares.iter().any(|other| {
            other.group_key != shares[0].group_key
                || other.public_shares != shares[0].public_shares
                || other.generation != shares[0].generation
        }) {
            return broken(format!("operators differ on the key of leaf {leaf}"));
        }
        if interpolate(&shares[0], cluster.site.threshold) != Some(shares[0].group_key) {
            return broken(format!("shares of leaf {leaf} do not make its key"));
        }
        if tweak::add_points(&shares[0].group_key, &node.owner_signing).ok()
            != Some(node.verifying_key)
        {
            return broken(format!("halves of leaf {leaf} do not make the whole"));
        }
        // (I3) One owner, whose exit is signed and lowest.
        if !identities.contains(&node.owner) {
            return broken(format!("leaf {leaf} belongs to a stranger"));
        }
        match node.status {
            // Gone with its tree: what its owner held alone stays good.
            NodeStatus::Exited if !cluster.desk().leaving.contains(&(node.owner, node.tree)) => {
                return broken(format!("leaf {leaf} left without its owner"));
            }
            NodeStatus::Available | NodeStatus::Exited => {
                let owner = cluster.owners.iter().find(|o| o.identity() == node.owner);
                let key = owner.map(|o| o.leaf_key(leaf).public_key(SECP256K1));
                if key != Some(node.owner_signing) {
                    return broken(format!("the owner of leaf {leaf} does not hold its key"));
                }
                if let Err(why) = check_refund(node) {
                    return broken(format!("refund of leaf {leaf}: {why}"));
                }
                if let Err(why) = path::check(cluster, node) {
                    return broken(format!("path of leaf {leaf}: {why}"));
                }
            }
            NodeStatus::TransferLocked => {
                let held = transfers[0].values().any(|transfer| {
                    (transfer.status == TransferStatus::SenderKeyTweaked
                        || transfer.status.is_staged() && transfer.held.is_none())
                        && transfer.leaves.iter().any(|row| row.leaf == *leaf)
                });
                if !held {
                    return broken(format!("leaf {leaf} is locked by nothing"));
                }
            }
            other => return broken(format!("leaf {leaf} is {other:?}")),
        }
        // (I5) It is where its owners' signatures brought it.
        let mut hops: Vec<&TransferRow> = transfers[0]
            .values()
            .filter(|transfer| transfer.leaves.iter().any(|row| row.leaf == *leaf))
            // Returned: it never left.
            .filter(|transfer| transfer.status != TransferStatus::Returned)
            .collect();
        hops.sort_by_key(|transfer| std::cmp::Reverse(sequence(transfer, leaf)));
        let mut at = first;
        if cluster.aged {
            if !path::leads_to_owner(at, &node.owner, leaf, &hops) {
                return broken(format!("leaf {leaf} moved without its owner"));
            }
            continue;
        }
        for transfer in hops {
            if transfer.sender != at {
                return broken(format!("leaf {leaf} moved without its owner"));
            }
            let row = transfer.leaves.iter().find(|row| row.leaf == *leaf);
            let receiver = row.and_then(|row| {
                transfer
                    .receivers
                    .get(usize::try_from(row.receiver).unwrap_or(usize::MAX))
            });
            if let Some(receiver) = receiver
                && receiver.completed.is_some()
            {
                at = receiver.identity;
            }
        }
        if node.owner != at {
            return broken(format!("leaf {leaf} is not where its owners sent it"));
        }
    }
    for held in [
        super::locks::check(cluster),
        super::holds::check(cluster),
        super::acks::check(cluster),
    ] {
        if let Err(what) = held {
            return broken(what);
        }
    }
    // (I4)
    for (operator, machine) in cluster.machines.iter().enumerate() {
        if machine.signer.nonces_used_twice() > 0 {
            return broken(format!("operator {operator} used a nonce twice"));
        }
    }
    // No power left an honest operator without everyone's yes.
    for found in evidence {
        for (flow, certificate) in &found.powers {
            let Some(digest) = certificate.votes.first().map(|vote| vote.vote.digest) else {
                return broken(format!("flow {flow}: shares without votes"));
            };
            if certificate.check(&cluster.site, *flow, &digest).is_err() {
                return broken(format!("flow {flow}: shares without a certificate"));
            }
        }
    }
    for operator in 0..operators {
        for row in cluster.rows::<FlowRow>(operator) {
            if matches!(row.state, FlowState::Committed | FlowState::Done) {
                let votes: Result<Vec<SignedVote>, _> = row
                    .votes
                    .values()
                    .map(|vote| postcard::from_bytes(vote))
                    .collect();
                let Ok(votes) = votes else {
                    return broken("votes are unreadable".to_owned());
                };
                if (Certificate { votes })
                    .check(&cluster.site, row.id, &row.digest)
                    .is_err()
                {
                    return broken(format!(
                        "operator {operator} committed {} without a certificate",
                        row.id
                    ));
                }
            }
        }
    }
    // Whoever voted twice, and was seen to, is named, and nobody else.
    let last = cluster.site.count().saturating_sub(1);
    for operator in 0..cluster.site.count() {
        if let Some(engine) = cluster
            .network
            .engine(tinderbox_frost::OperatorIndex(operator))
        {
            for (flow, culprit) in engine.equivocations() {
                if lie.is_none() || culprit.0 != last {
                    return broken(format!("operator {} was accused over {flow}", culprit.0));
                }
            }
        }
    }
    Ok(())
}

/// What was deposited for a leaf, and by whom.
fn origin(cluster: &Cluster, node: &NodeRow) -> Option<(Sats, PublicKey)> {
    if let Some(place) = cluster.leaves.iter().position(|other| *other == node.id) {
        let owner = cluster.owners.get(place % cluster.owners.len())?;
        return Some((*cluster.values.get(&node.id)?, owner.identity()));
    }
    let funded = cluster.funded();
    let deposit = funded.get(node.deposits.first()?)?;
    Some((deposit.value, deposit.owner))
}

fn sequence(transfer: &TransferRow, leaf: &tinderbox_protocol::LeafId) -> u16 {
    transfer
        .leaves
        .iter()
        .find(|row| row.leaf == *leaf)
        .map_or(0, |row| row.previous_sequence.timelock().0)
}

/// What operators must agree on, without what is each one's own.
fn public(rows: &BTreeMap<Vec<u8>, TransferRow>) -> BTreeMap<Vec<u8>, TransferRow> {
    rows.iter()
        .map(|(id, row)| {
            let mut row = row.clone();
            for receiver in &mut row.receivers {
                // In a claim of three steps the first is between the wallet and each operator.
                for phase in [&mut receiver.phase, &mut receiver.before] {
                    if *phase == ClaimPhase::KeyTweaked {
                        *phase = ClaimPhase::Pending;
                    }
                }
            }
            for leaf in &mut row.leaves {
                leaf.send_tweak = None;
                leaf.claim_tweak = None;
                let place = usize::try_from(leaf.receiver).unwrap_or(usize::MAX);
                let receiver = row.receivers.get(place);
                if receiver.is_some_and(|receiver| receiver.phase == ClaimPhase::Pending) {
                    leaf.claim_proofs.clear();
                }
            }
            (id.clone(), row)
        })
        .collect()
}

/// Σ λᵢ·Sᵢ over the first `threshold` operators.
fn interpolate(keyshare: &KeyshareRow, threshold: u16) -> Option<PublicKey> {
    use tinderbox_frost::{OperatorIndex, feldman};
    let points: BTreeMap<OperatorIndex, PublicKey> = (0..threshold)
        .map(OperatorIndex)
        .zip(keyshare.public_shares.iter().copied())
        .collect();
    feldman::recover_public(&points).ok()
}

/// The refund pays the owner's key and its signature is valid.
fn check_refund(node: &NodeRow) -> Result<(), String> {
    let parse = |raw: &[u8]| deserialize::<Transaction>(raw).map_err(|error| error.to_string());
    let parent = parse(&node.txs.node)?;
    let refund = parse(&node.txs.refund)?;
    let output = refund.output.first().ok_or("no output")?;
    if output.script_pubkey != p2tr(&node.owner_signing) {
        return Err("pays somebody else".into());
    }
    let spent = parent.output.first().ok_or("no parent output")?;
    let signature: &[u8; 64] = refund
        .input
        .first()
        .and_then(|input| input.witness.nth(0))
        .and_then(|witness| witness.try_into().ok())
        .ok_or("no signature")?;
    let message = tinderbox_protocol::tx::sighash(&refund, 0, std::slice::from_ref(spent))
        .map_err(|error| error.to_string())?;
    tinderbox_frost::verify_signature(&node.verifying_key, &message, signature)
        .map_err(|error| error.to_string())
}
