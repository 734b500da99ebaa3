//! Deposit addresses and what is paid to them, in a scene.

use std::collections::BTreeMap;

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{PublicKey, SECP256K1, SecretKey};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use rand::Rng;
use tinderbox_flows::flow::{JobOutcome, Outcome};
use tinderbox_flows::package::OpenJob;
use tinderbox_flows::record::Row;
use tinderbox_flows::rows::{
    AddressProof, AddressRow, DefaultAddressRow, FlowId, KeyshareId, KeyshareRow, KeyshareStatus,
};
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_frost::{Nonces, OperatorIndex, SecretScalar, SigningPackage, feldman, tweak};
use tinderbox_protocol::tx::{TxKind, UnsignedTx, p2tr_address, verify_input};
use tinderbox_store::Store;

use super::run;
use super::scene::Scene;
use crate::chain::MemoryChain;
use crate::owner::NonceSet;

/// A transaction that waits for the operators' half of its signature.
pub struct Half {
    /// What the operators are asked for.
    pub job: OpenJob,
    tx: UnsignedTx,
    nonces: Nonces,
    key: SecretKey,
}

impl Half {
    /// The complete transaction, its signature checked.
    ///
    /// # Panics
    /// If the operators' shares do not fit.
    #[must_use]
    pub fn complete(
        self,
        address: &AddressRow,
        public_shares: &[PublicKey],
        outcome: &Outcome,
    ) -> Transaction {
        let Some(JobOutcome::Shares(shares)) = outcome.jobs.last() else {
            panic!("no shares: {outcome:?}");
        };
        let package = SigningPackage {
            verifying_key: address.verifying_key,
            message: self.tx.sighash().expect("it has one"),
            operators: self.job.operators.clone(),
            user: Some(self.job.commitment),
            adaptor: None,
            threshold: u16::try_from(self.job.operators.len()).expect("few operators"),
        };
        let prepared = package.prepare().expect("a well-formed package");
        let secret = SecretScalar::try_from_be_bytes(&self.key.secret_bytes()).expect("a key");
        let own = prepared
            .sign_user(&secret, self.nonces)
            .expect("own nonces");
        let public: BTreeMap<OperatorIndex, PublicKey> = (0u16..)
            .map(OperatorIndex)
            .zip(public_shares.iter().copied())
            .collect();
        let user = self.key.public_key(SECP256K1);
        let signature = prepared
            .aggregate(shares, Some(&own), &public, Some(&user))
            .expect("the shares fit");
        let signed = self.tx.finalize(&signature);
        verify_input(&signed, 0, &self.tx.prevouts, TxKind::Other).expect("a valid signature");
        signed
    }
}

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
        let secret = SecretScalar::random(&mut self.rng);
        let (threshold, count) = (self.cluster.site.threshold, self.cluster.site.count());
        let dealt = feldman::split(&secret, threshold, count, &mut self.rng)
            .expect("threshold and count are valid");
        let id = KeyshareId(self.rng.r#gen());
        let public_shares: Vec<PublicKey> =
            dealt.shares.iter().map(SecretScalar::public_key).collect();
        let mut first = None;
        for (machine, share) in self.cluster.machines.iter().zip(dealt.shares) {
            let row = KeyshareRow {
                id,
                coordinator: OperatorIndex(coordinator),
                status: KeyshareStatus::Available,
                generation: 0,
                group_key: secret.public_key(),
                public_shares: public_shares.clone(),
                sealed: machine.signer.import(id.0, share),
            };
            let mut rows = Snapshot::new();
            rows.insert(row.key(), None);
            let mut changes = Changes::new();
            changes.put(&rows, &row).expect("the row is new");
            let batch = changes.into_batch(&rows);
            machine.store.apply(batch).await.expect("the row is new");
            first.get_or_insert(row);
        }
        first.expect("there are operators")
    }

    /// A deposit address of a wallet, as if it had been made; the first static one is the one that
    /// the wallet is shown.
    pub async fn deposit_address(&mut self, owner: usize, is_static: bool) -> AddressRow {
        let keyshare = self.deal_keyshare(0).await;
        let owner = &self.cluster.owners[owner];
        let owner_signing = owner.deposit_key().public_key(SECP256K1);
        let verifying_key =
            tweak::add_points(&keyshare.group_key, &owner_signing).expect("random keys");
        let network = self.cluster.site.network;
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
            created: run::now(&self.cluster),
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

    /// Writes an address at every operator; its key share is used from then on.
    pub async fn put_address(&mut self, row: &AddressRow) {
        let default = DefaultAddressRow {
            owner: row.owner,
            network: row.network,
            script: row.script.clone(),
        };
        for machine in &self.cluster.machines {
            let mut rows = Snapshot::new();
            let keys = [
                row.key(),
                default.key(),
                tinderbox_flows::record::Key::new(KeyshareRow::TABLE, row.keyshare.0),
            ];
            let found = machine.store.get(&keys).await.expect("memory answers");
            for (key, stored) in keys.into_iter().zip(found) {
                rows.insert(key, stored);
            }
            let mut changes = Changes::new();
            changes.put(&rows, row).expect("it was read");
            let shown: Option<DefaultAddressRow> = rows.get(default.id()).expect("it was read");
            if row.is_default && shown.is_none() {
                changes.put(&rows, &default).expect("it was read");
            }
            let keyshare: Option<KeyshareRow> = rows.get(row.keyshare.0).expect("it was read");
            let keyshare = KeyshareRow {
                status: KeyshareStatus::Used(FlowId([0; 16])),
                ..keyshare.expect("the key share is there")
            };
            changes.put(&rows, &keyshare).expect("it was read");
            let batch = changes.into_batch(&rows);
            machine
                .store
                .apply(batch)
                .await
                .expect("nobody else writes");
        }
    }

    /// Public shares of the operators' half of an address' key.
    #[must_use]
    pub fn public_shares(&self, address: &AddressRow) -> Vec<PublicKey> {
        let row: Option<KeyshareRow> = self.row(0, &address.keyshare.0);
        row.expect("the key share is there").public_shares
    }

    /// Somebody pays an address; the payment is in the last block.
    pub fn pay(&mut self, script: &ScriptBuf, value: u64) -> OutPoint {
        let tx = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::new(Txid::from_byte_array(self.rng.r#gen()), 0),
                script_sig: ScriptBuf::new(),
                sequence: Sequence::MAX,
                witness: Witness::new(),
            }],
            output: vec![TxOut {
                value: Amount::from_sat(value),
                script_pubkey: script.clone(),
            }],
        };
        self.cluster.chain.confirm(&tx);
        OutPoint::new(tx.compute_txid(), 0)
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
        let nonces = Nonces::generate(&mut self.rng);
        let key = self.cluster.owners[owner].deposit_key();
        Half {
            job: OpenJob {
                signing_key: key.public_key(SECP256K1),
                tx: tx.serialize(),
                commitment: nonces.commitment(),
                operators,
            },
            tx,
            nonces,
            key,
        }
    }
}
