//! Deposit addresses and what is paid to them, in a scene.

use std::collections::BTreeMap;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{PublicKey, SECP256K1};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use rand::Rng;
use rand_chacha::ChaCha20Rng;
use tinderbox_flows::record::Row;
use tinderbox_flows::rows::{
    AddressProof, AddressRow, DefaultAddressRow, FlowId, KeyshareRow, KeyshareStatus,
};
use tinderbox_frost::{OperatorIndex, tweak};
use tinderbox_protocol::tx::{UnsignedTx, p2tr_address};

use super::cluster::Cluster;
use super::half::Half;
use super::run;
use super::scene::Scene;
use crate::chain::MemoryChain;
use crate::owner::NonceSet;

impl Scene {
    /// The chain that all operators see.
    #[must_use]
    pub fn chain(&self) -> &MemoryChain {
        &self.cluster.chain
    }

    /// Nonces of operators, as many sets as asked for.
    pub async fn nonces(&mut self, count: usize) -> Vec<NonceSet> {
        run::nonces(&self.cluster, &mut self.rng, count).await
    }

    /// A new key, shared by all operators, in the pool of one of them.
    pub async fn deal_keyshare(&mut self, coordinator: u16) -> KeyshareRow {
        self.cluster
            .deal_keyshare(&mut self.rng, OperatorIndex(coordinator))
            .await
    }

    /// A deposit address of a wallet, as if it had been made; the first static one is the one that
    /// the wallet is shown.
    pub async fn deposit_address(&mut self, owner: usize, is_static: bool) -> AddressRow {
        self.cluster
            .deposit_address(&mut self.rng, owner, is_static)
            .await
    }

    /// Writes an address at every operator; its key share is used from then on.
    pub async fn put_address(&mut self, row: &AddressRow) {
        self.cluster.put_address(row).await;
    }

    /// Public shares of the operators' half of an address' key.
    #[must_use]
    pub fn public_shares(&self, address: &AddressRow) -> Vec<PublicKey> {
        let row: Option<KeyshareRow> = self.row(0, &address.keyshare.0);
        row.expect("the key share is there").public_shares
    }

    /// Somebody pays an address; the payment is in the last block.
    pub fn pay(&mut self, script: &ScriptBuf, value: u64) -> OutPoint {
        self.cluster.pay(&mut self.rng, script, value)
    }

    /// The same, deep enough to be spent.
    pub fn pay_deep(&mut self, script: &ScriptBuf, value: u64) -> OutPoint {
        let outpoint = self.pay(script, value);
        self.cluster
            .chain
            .mine(self.cluster.site.deposit_confirmations);
        outpoint
    }

    /// A transaction that spends an output at a wallet's deposit address, ready for the operators'
    /// half.
    pub async fn half(&mut self, owner: usize, tx: UnsignedTx) -> Half {
        let operators = self.nonces(1).await.remove(0);
        let key = self.cluster.owners[owner].deposit_key();
        Half::new(key, tx, 0, operators, &mut self.rng)
    }
}

impl Cluster {
    /// As [`Scene::deposit_address`].
    pub(super) async fn deposit_address(
        &self,
        rng: &mut ChaCha20Rng,
        owner: usize,
        is_static: bool,
    ) -> AddressRow {
        let keyshare = self.deal_keyshare(rng, OperatorIndex(0)).await;
        let owner = &self.owners[owner];
        let owner_signing = owner.deposit_key().public_key(SECP256K1);
        let verifying_key =
            tweak::add_points(&keyshare.group_key, &owner_signing).expect("random keys");
        let network = self.site.network;
        let address = p2tr_address(&verifying_key, network);
        let row = AddressRow {
            script: address.script_pubkey(),
            address: address.to_string(),
            owner: owner.identity(),
            owner_signing,
            keyshare: keyshare.id,
            verifying_key,
            network,
            leaf: None,
            is_static,
            is_default: is_static,
            created: run::now(self),
            pending: None,
            proof: Some(AddressProof {
                possession: vec![1; 64],
                possession_legacy: vec![1; 64],
                operators: BTreeMap::new(),
            }),
            tree: None,
        };
        self.put_address(&row).await;
        row
    }

    async fn put_address(&self, row: &AddressRow) {
        let default = DefaultAddressRow {
            owner: row.owner,
            network: row.network,
            script: row.script.clone(),
        };
        for operator in 0..self.machines.len() {
            self.put(operator, row).await;
            let shown: Option<DefaultAddressRow> = self.row(operator, &default.id());
            if row.is_default && shown.is_none() {
                self.put(operator, &default).await;
            }
            let keyshare: Option<KeyshareRow> = self.row(operator, &row.keyshare.0);
            let keyshare = KeyshareRow {
                status: KeyshareStatus::Used(FlowId([0; 16])),
                ..keyshare.expect("the key share is there")
            };
            self.put(operator, &keyshare).await;
        }
    }

    /// Somebody pays an address; the payment is in the last block.
    pub(super) fn pay(&self, rng: &mut ChaCha20Rng, script: &ScriptBuf, value: u64) -> OutPoint {
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
                value: Amount::from_sat(value),
                script_pubkey: script.clone(),
            }],
        };
        self.chain.confirm(&tx);
        OutPoint::new(tx.compute_txid(), 0)
    }
}
