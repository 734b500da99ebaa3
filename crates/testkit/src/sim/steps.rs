//! Claims in three steps: tweaks for each operator by itself, shares from operators, signatures
//! from the wallet.

use std::collections::BTreeMap;

use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use tinderbox_flows::flow::Outcome;
use tinderbox_flows::refunds;
use tinderbox_flows::request::{ClaimFinishRequest, ClaimSignRequest, OpenRefunds, Request};
use tinderbox_flows::rows::{ClaimPhase, KeyshareRow, NodeRow, Part, TransferRow, TransferStatus};
use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::{LeafId, TransferId};
use tinderbox_signer::{PlainTweak, Signer};

use super::cluster::Cluster;
use super::half::Half;
use super::pay;
use super::run::{nonces, now};
use crate::owner::Owner;

/// Refunds of a claim that wait for operators' shares.
pub(super) struct Signing {
    transfer: TransferId,
    /// In the order of the operators' jobs.
    halves: Vec<(LeafId, Part, Half)>,
    pub(super) answer: Option<Outcome>,
}

impl Signing {
    /// True if `request` asked for these shares.
    pub(super) fn is_of(&self, request: &ClaimSignRequest) -> bool {
        let first = self.halves.first();
        self.transfer == request.transfer
            && first.is_some_and(|(leaf, _, half)| {
                let asked = request.jobs.get(leaf);
                asked.is_some_and(|asked| asked.cpfp.commitment == half.job.commitment)
            })
    }
}

/// What a receiver that claims in steps would do next.
pub(super) async fn next(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Option<Request> {
    let view = rng.gen_range(0..cluster.machines.len());
    let mut waiting: Vec<TransferRow> = cluster
        .rows::<TransferRow>(view)
        .into_iter()
        .filter(|transfer| transfer.status == TransferStatus::SenderKeyTweaked)
        .filter(|transfer| transfer.receivers.len() == 1)
        .collect();
    waiting.shuffle(rng);
    // What was begun goes on first.
    waiting.sort_by_key(|transfer| {
        let phase = transfer.receivers.first().map(|receiver| receiver.phase);
        match phase {
            Some(ClaimPhase::RefundSigned) => 2,
            Some(ClaimPhase::KeyTweakApplied) => 1,
            _ => 0,
        }
    });
    let Some(transfer) = waiting.pop() else {
        return pay::send(cluster, rng).await;
    };
    let receiver = transfer.receivers.first()?;
    let mut owners = cluster.owners.iter();
    let owner = owners.find(|owner| owner.identity() == receiver.identity)?;
    match receiver.phase {
        ClaimPhase::RefundSigned => {
            finish(cluster, view, &transfer);
            if rng.gen_bool(0.9)
                && let Some(request) = cluster.desk().finishing.get_mut(&transfer.id)
            {
                request.now = now(cluster);
                return Some(Request::ClaimFinish(Box::new(request.clone())));
            }
        }
        ClaimPhase::KeyTweaked if rng.gen_bool(0.5) => {}
        ClaimPhase::KeyTweaked | ClaimPhase::Pending => {
            stage(cluster, &transfer, owner, rng).await?
        }
        _ => {}
    }
    sign(cluster, view, &transfer, owner, rng).await
}

/// The first step. Most wallets reach every operator; others try again later, with other tweaks.
async fn stage(
    cluster: &Cluster,
    transfer: &TransferRow,
    owner: &Owner,
    rng: &mut ChaCha20Rng,
) -> Option<()> {
    let all = rng.gen_ratio(9, 10);
    let mut parts: BTreeMap<OperatorIndex, Vec<PlainTweak>> = BTreeMap::new();
    for row in &transfer.leaves {
        let secret = owner.claim_secret(row)?;
        for (operator, (share, public)) in owner.deal(&cluster.site, &secret, rng) {
            parts.entry(operator).or_default().push(PlainTweak {
                leaf: row.leaf,
                share: share.secret_share.clone().into(),
                proofs: share.proofs.iter().filter_map(|raw| key(raw)).collect(),
                public_shares: public
                    .iter()
                    .filter_map(|(operator, point)| {
                        let operator = OperatorIndex::from_identifier(operator).ok()?;
                        Some((operator, key(point)?))
                    })
                    .collect(),
            });
        }
    }
    for (operator, tweaks) in parts {
        if cluster.network.engine(operator).is_none() || !(all || rng.gen_bool(0.5)) {
            continue;
        }
        put_aside(cluster, operator, transfer.id, tweaks).await;
    }
    Some(())
}

fn key(raw: &[u8]) -> Option<bitcoin::secp256k1::PublicKey> {
    bitcoin::secp256k1::PublicKey::from_slice(raw).ok()
}

/// As an operator's handler of `claim_transfer_tweak_keys` does it.
async fn put_aside(
    cluster: &Cluster,
    operator: OperatorIndex,
    id: TransferId,
    tweaks: Vec<PlainTweak>,
) {
    let place = usize::from(operator.0);
    let machine = &cluster.machines[place];
    let Ok(opened) = machine.signer.stage(tweaks).await else {
        return;
    };
    let Some(mut row) = cluster.row::<TransferRow>(place, &TransferRow::id_of(&id)) else {
        return;
    };
    let Some(receiver) = row.receivers.first_mut() else {
        return;
    };
    let open = matches!(receiver.phase, ClaimPhase::Pending | ClaimPhase::KeyTweaked);
    if row.status != TransferStatus::SenderKeyTweaked || !open {
        return;
    }
    receiver.phase = ClaimPhase::KeyTweaked;
    for tweak in opened {
        if let Some(leaf) = row.leaves.iter_mut().find(|leaf| leaf.leaf == tweak.leaf) {
            leaf.claim_tweak = Some(tweak.staged);
            leaf.claim_proofs = tweak.proofs;
        }
    }
    cluster.put(place, &row).await;
}

/// The second step.
async fn sign(
    cluster: &Cluster,
    view: usize,
    transfer: &TransferRow,
    owner: &Owner,
    rng: &mut ChaCha20Rng,
) -> Option<Request> {
    let mut nonces = nonces(cluster, rng, transfer.leaves.len() * 3)
        .await
        .into_iter();
    let mut halves = Vec::new();
    let mut jobs = BTreeMap::new();
    let mut rows: Vec<_> = transfer.leaves.iter().collect();
    rows.sort_by_key(|row| row.leaf);
    for row in rows {
        let node: NodeRow = cluster.row(view, &NodeRow::id_of(&row.leaf))?;
        let own = owner.leaf_key(&row.leaf);
        let public = own.public_key(bitcoin::secp256k1::SECP256K1);
        let set = refunds::for_claim(&node, public, row.previous_sequence).ok()?;
        let mut asked = BTreeMap::new();
        for (part, tx) in refunds::parts(&set) {
            let half = Half::new(own, tx.clone(), 0, nonces.next()?, rng);
            asked.insert(place(part), half.job.clone());
            halves.push((row.leaf, part, half));
        }
        let open = OpenRefunds {
            cpfp: asked.remove(&0)?,
            direct: asked.remove(&1),
            direct_from_cpfp: asked.remove(&2)?,
        };
        jobs.insert(row.leaf, open);
    }
    cluster.desk().signing.push(Signing {
        transfer: transfer.id,
        halves,
        answer: None,
    });
    Some(Request::ClaimSign(Box::new(ClaimSignRequest {
        now: now(cluster),
        transfer: transfer.id,
        receiver: owner.identity(),
        jobs,
    })))
}

/// The place of a refund among the three of a leaf.
const fn place(part: Part) -> usize {
    match part {
        Part::Direct => 1,
        Part::DirectFromCpfp => 2,
        _ => 0,
    }
}

/// Completes the refunds for which an answer came.
fn finish(cluster: &Cluster, view: usize, transfer: &TransferRow) {
    let mut desk = cluster.desk();
    let found = desk
        .signing
        .iter()
        .position(|signing| signing.transfer == transfer.id && signing.answer.is_some());
    let Some(signing) = found.map(|found| desk.signing.remove(found)) else {
        return;
    };
    let (Some(receiver), Some(answer)) = (transfer.receivers.first(), signing.answer) else {
        return;
    };
    let mut signatures: BTreeMap<LeafId, [Vec<u8>; 3]> = BTreeMap::new();
    for ((leaf, part, half), job) in signing.halves.into_iter().zip(&answer.jobs) {
        let node = cluster.row::<NodeRow>(view, &NodeRow::id_of(&leaf));
        let keyshare = node
            .as_ref()
            .and_then(|node| cluster.row::<KeyshareRow>(view, &node.keyshare.0));
        let (Some(node), Some(keyshare)) = (node, keyshare) else {
            return;
        };
        match half.sign(node.verifying_key, &keyshare.public_shares, job) {
            Ok(signature) => {
                signatures.entry(leaf).or_default()[place(part)] = signature.to_vec();
            }
            Err(why) => {
                let what = format!("refund of leaf {leaf} in {}: {why}", transfer.id);
                desk.worthless.push(what);
                return;
            }
        }
    }
    let request = ClaimFinishRequest {
        now: now(cluster),
        transfer: transfer.id,
        receiver: receiver.identity,
        signatures,
    };
    desk.finishing.insert(transfer.id, request);
}
