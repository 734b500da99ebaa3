//! Deposit addresses and deposits.

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::SECP256K1;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha20Rng;
use tinderbox_flows::request::{AddressRequest, Request};
use tinderbox_flows::rows::{AddressRow, KeyshareId, KeyshareRow, KeyshareStatus};
use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::tx::Utxo;
use tinderbox_protocol::{LeafId, Sats, TreeId};

use super::cluster::Cluster;
use super::run::{Wish, nonces, now};
use super::trees;

/// What a wallet does next to get a coin in: asks for an address, or deposits to one that it has.
/// `at` is the operator that asks for addresses, if it matters to the caller.
pub(super) async fn next(
    cluster: &Cluster,
    rng: &mut ChaCha20Rng,
    at: Option<OperatorIndex>,
) -> Option<Wish> {
    if let Some(request) = trees::leave(cluster, rng).await {
        return Some((None, request));
    }
    if rng.gen_bool(0.7)
        && let Some(request) = deposit(cluster, rng).await
    {
        return Some((None, request));
    }
    address(cluster, rng, at).await
}

/// An operator, `at` if it matters, and a key share of its pool.
pub(super) fn pooled(
    cluster: &Cluster,
    rng: &mut ChaCha20Rng,
    at: Option<OperatorIndex>,
) -> Option<(OperatorIndex, KeyshareId)> {
    let any = OperatorIndex(rng.gen_range(0..cluster.site.count()));
    let coordinator = at.unwrap_or(any);
    let free: Vec<KeyshareRow> = cluster
        .rows::<KeyshareRow>(usize::from(coordinator.0))
        .into_iter()
        .filter(|row| row.coordinator == coordinator && row.status == KeyshareStatus::Available)
        .collect();
    Some((coordinator, free.choose(rng)?.id))
}

async fn address(
    cluster: &Cluster,
    rng: &mut ChaCha20Rng,
    at: Option<OperatorIndex>,
) -> Option<Wish> {
    let (coordinator, keyshare) = pooled(cluster, rng, at)?;
    let owner = &cluster.owners[rng.gen_range(0..cluster.owners.len())];
    let leaf = LeafId(uuid::Builder::from_random_bytes(rng.r#gen()).into_uuid());
    let mut nonces = nonces(cluster, rng, 2).await.into_iter();
    let request = AddressRequest {
        now: now(cluster),
        owner: owner.identity(),
        owner_signing: owner.leaf_key(&leaf).public_key(SECP256K1),
        keyshare,
        leaf: Some(leaf),
        is_static: false,
        nonces: nonces.next()?,
        nonces_legacy: nonces.next()?,
    };
    Some((Some(coordinator), Request::Address(Box::new(request))))
}

async fn deposit(cluster: &Cluster, rng: &mut ChaCha20Rng) -> Option<Request> {
    let view = rng.gen_range(0..cluster.machines.len());
    let unused: Vec<AddressRow> = cluster
        .rows::<AddressRow>(view)
        .into_iter()
        .filter(|row| row.proof.is_some() && row.tree.is_none() && row.pending.is_none())
        .filter(|row| !row.is_static)
        .collect();
    let address = unused.choose(rng)?;
    let owner = cluster
        .owners
        .iter()
        .find(|owner| owner.identity() == address.owner)?;
    let paid = pay(cluster, rng, address);
    let nonces = nonces(cluster, rng, 3).await;
    let tree = TreeId(uuid::Builder::from_random_bytes(rng.r#gen()).into_uuid());
    let request = owner.deposit(
        &cluster.site,
        now(cluster),
        address,
        tree,
        (serialize(&paid), 0),
        nonces,
        rng,
    )?;
    Some(Request::Deposit(Box::new(request)))
}

/// The confirmed transaction that pays an address: one for each address, made when it is first
/// wanted.
fn pay(cluster: &Cluster, rng: &mut ChaCha20Rng, address: &AddressRow) -> Transaction {
    let mut funded = cluster.funded();
    if let Some(deposit) = funded
        .values()
        .find(|deposit| deposit.tx.output[0].script_pubkey == address.script)
    {
        return deposit.tx.clone();
    }
    let value = Sats(rng.gen_range(2000..100_000));
    let tx = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::from_byte_array(rng.r#gen()), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(value.0),
            script_pubkey: address.script.clone(),
        }],
    };
    cluster.chain.confirm(&tx);
    cluster.chain.mine(cluster.site.deposit_confirmations);
    if let Ok(utxo) = Utxo::of(&tx, 0) {
        funded.insert(
            utxo.outpoint,
            Funded {
                tx: tx.clone(),
                value,
                owner: address.owner,
            },
        );
    }
    tx
}

/// A deposit that is on the chain.
pub(super) struct Funded {
    pub(super) tx: Transaction,
    pub(super) value: Sats,
    pub(super) owner: bitcoin::secp256k1::PublicKey,
}
