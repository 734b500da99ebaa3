//! Whole trees that leave in a transaction of their owner's making.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{Amount, BlockHash, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use tinderbox_flows::exit_trees::{ExitTreesRequest, LeavingTree};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{NodeRow, TreeRow, UtxoRow};
use tinderbox_frost::Nonces;
use tinderbox_protocol::BlockHeight;
use tinderbox_protocol::tx::p2tr;

use super::cluster::Cluster;
use super::run::{nonces, now};

/// What the owner pays for its transaction.
const FEE: u64 = 300;

/// One or two trees of one owner leave. Now and then a tree that somebody else has by now, or that
/// is on its way: which is refused.
pub(super) async fn leave(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Option<Request> {
    if cluster.rows::<TreeRow>(0).is_empty() || rng.gen_bool(0.5) {
        return None;
    }
    let view = rng.gen_range(0..cluster.machines.len());
    let mut roots: Vec<NodeRow> = cluster
        .rows::<TreeRow>(view)
        .into_iter()
        .filter_map(|tree| cluster.row::<NodeRow>(view, &NodeRow::id_of(&tree.root)))
        .collect();
    roots.shuffle(rng);
    let owner = roots.first()?.owner;
    if rng.gen_bool(0.9) {
        roots.retain(|root| root.owner == owner);
    }
    roots.truncate(rng.gen_range(1..=2));
    for root in &roots {
        bury(cluster, root).await;
    }
    let prevouts: Vec<TxOut> = roots
        .iter()
        .map(|root| TxOut {
            value: Amount::from_sat(root.value.0),
            script_pubkey: p2tr(&root.verifying_key),
        })
        .collect();
    let total: u64 = roots.iter().map(|root| root.value.0).sum();
    let mut input = Vec::new();
    for root in &roots {
        input.push(TxIn {
            previous_output: *root.deposits.first()?,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        });
    }
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input,
        output: vec![TxOut {
            value: Amount::from_sat(total.saturating_sub(FEE)),
            script_pubkey: ScriptBuf::from_bytes(
                [vec![0x51, 0x20], rng.r#gen::<[u8; 32]>().to_vec()].concat(),
            ),
        }],
    };
    let wanted = roots.iter().map(|root| (owner, root.tree));
    cluster.desk().leaving.extend(wanted);
    let sets = nonces(cluster, rng, roots.len()).await;
    let trees = (0u32..)
        .zip(&roots)
        .zip(sets)
        .map(|((input, root), operators)| LeavingTree {
            tree: root.tree,
            input,
            commitment: Nonces::generate(rng).commitment(),
            operators,
        })
        .collect();
    Some(Request::ExitTrees(Box::new(ExitTreesRequest {
        now: now(cluster),
        owner,
        trees,
        tx: serialize(&tx),
        prevouts: prevouts
            .iter()
            .map(|prevout| (prevout.value.to_sat(), prevout.script_pubkey.to_bytes()))
            .collect(),
    })))
}

/// Every operator has seen the block with the deposit of a tree.
async fn bury(cluster: &Cluster, root: &NodeRow) {
    for operator in 0..cluster.machines.len() {
        for deposit in &root.deposits {
            let row = cluster.row::<UtxoRow>(operator, &UtxoRow::id_of(deposit));
            if let Some(utxo) = row.filter(|utxo| utxo.block.is_none()) {
                let block = Some((BlockHeight(100), BlockHash::all_zeros()));
                cluster.put(operator, &UtxoRow { block, ..utxo }).await;
            }
        }
    }
}
