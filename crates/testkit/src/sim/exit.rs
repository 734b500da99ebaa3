//! Cooperative exits, as a wallet and its provider make them.

use std::collections::BTreeMap;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{PublicKey, SECP256K1};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};
use rand::Rng;
use rand_chacha::ChaCha20Rng;
use tinderbox_flows::refunds;
use tinderbox_flows::request::ExitRequest;
use tinderbox_flows::rows::{ChainRow, ExitRow, KnownBlock, Millis, NodeRow};
use tinderbox_protocol::refunds::RefundPurpose;
use tinderbox_protocol::tx::{Utxo, p2tr};
use tinderbox_protocol::{BlockHeight, LeafId, TransferId};

use super::cluster::Cluster;
use super::run;
use super::scene::Scene;
use crate::signer::secret_key;

/// Where blocks begin that tests make up.
const HEIGHT: u32 = 100;

/// A transaction that spends `from` and has outputs of these values.
fn spend(version: Version, from: OutPoint, values: &[u64], script: &ScriptBuf) -> Transaction {
    Transaction {
        version,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: from,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: values
            .iter()
            .map(|value| TxOut {
                value: Amount::from_sat(*value),
                script_pubkey: script.clone(),
            })
            .collect(),
    }
}

/// What an exit is to be.
pub(super) struct Exit {
    /// The transfer.
    pub(super) id: TransferId,
    /// The provider.
    pub(super) receiver: PublicKey,
    /// When it lapses.
    pub(super) expiry: Millis,
}

/// An exit of leaves of wallet `from`, and the transaction that pays out. None if a leaf cannot be
/// sent.
pub(super) async fn exit_of(
    cluster: &Cluster,
    rng: &mut ChaCha20Rng,
    from: usize,
    nodes: &[NodeRow],
    exit: &Exit,
) -> Option<(ExitRequest, Transaction)> {
    let (owner, receiver) = (&cluster.owners[from], exit.receiver);
    let script = p2tr(&secret_key(rng).public_key(SECP256K1));
    let coin = OutPoint::new(Txid::from_byte_array(rng.r#gen()), 0);
    let payout = spend(Version::TWO, coin, &[50_000, 3540], &script);
    let funds = OutPoint::new(payout.compute_txid(), 1);
    let connectors = spend(
        Version::non_standard(3),
        funds,
        &vec![354; nodes.len() + 1],
        &script,
    );
    let mut sets = BTreeMap::new();
    for (vout, node) in (0u32..).zip(nodes) {
        let purpose = RefundPurpose::CoopExit {
            current: refunds::current_sequence(node).ok()?,
            receiver,
            connector: Utxo::of(&connectors, vout).ok()?,
        };
        sets.insert(node.id, refunds::made(node, &purpose).ok()?);
    }
    let receivers: BTreeMap<LeafId, PublicKey> =
        nodes.iter().map(|node| (node.id, receiver)).collect();
    let nonces = run::nonces(cluster, rng, nodes.len() * 3).await;
    let now = run::now(cluster);
    let send = owner.send_with(
        &cluster.site,
        exit.id,
        now,
        nodes,
        &receivers,
        nonces,
        rng,
        &|node| sets[&node.id].clone(),
    );
    let request = ExitRequest {
        now: send.now,
        transfer: exit.id,
        sender: send.sender,
        receiver,
        receivers,
        package: send.package,
        expiry: exit.expiry,
        exit: rng.r#gen(),
        exit_txid: payout.compute_txid().to_byte_array(),
        connector_tx: serialize(&connectors),
    };
    Some((request, payout))
}

impl Scene {
    /// An exit of leaves of wallet `from`, with wallet `to` as the provider, and the transaction
    /// that pays out.
    ///
    /// # Panics
    /// If a leaf cannot be sent.
    pub async fn exit(
        &mut self,
        id: TransferId,
        from: usize,
        to: usize,
        leaves: &[LeafId],
        expiry: Millis,
    ) -> (ExitRequest, Transaction) {
        let nodes: Vec<NodeRow> = leaves.iter().map(|leaf| self.node(0, leaf)).collect();
        let receiver = self.cluster.owners[to].identity();
        let exit = Exit {
            id,
            receiver,
            expiry,
        };
        exit_of(&self.cluster, &mut self.rng, from, &nodes, &exit)
            .await
            .expect("leaves that can be sent")
    }

    /// Now, by the clock of operators.
    #[must_use]
    pub fn now(&self) -> Millis {
        run::now(&self.cluster)
    }

    /// An operator follows the chain to a tip at which the payout of an exit has `depth` blocks.
    ///
    /// # Panics
    /// If it does not know the exit.
    pub async fn see_payout(&self, operator: u16, exit: &[u8; 16], depth: u32) {
        let hash = BlockHash::all_zeros();
        let mut row: ExitRow = self
            .row(operator, &ExitRow::id_of(exit))
            .expect("the exit is known");
        row.seen = (depth > 0).then_some((BlockHeight(HEIGHT), hash));
        self.put(operator, &row).await;
        let tip = KnownBlock {
            height: BlockHeight(HEIGHT + depth.saturating_sub(1)),
            hash,
        };
        self.put(operator, &ChainRow { blocks: vec![tip] }).await;
    }

    /// Every operator's node has this transaction.
    pub fn broadcast(&self, tx: &Transaction) {
        self.cluster.chain.confirm(tx);
    }
}
