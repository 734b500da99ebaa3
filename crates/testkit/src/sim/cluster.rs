//! Operators with their tables and signers, and the leaves that a run begins with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{PublicKey, SECP256K1, SecretKey};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness};
use rand::Rng;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use tinderbox_flows::flow::Site;
use tinderbox_flows::record::{Key, Row};
use tinderbox_flows::rows::{
    FlowId, KeyshareId, KeyshareRow, KeyshareStatus, Millis, NodeRow, NodeStatus, NodeTxs,
};
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_frost::{OperatorIndex, SecretScalar, feldman, tweak};
use tinderbox_operator::engine::Patience;
use tinderbox_operator::{Clock, Core, Engine, Events};
use tinderbox_protocol::refunds::{LeafTxs, RefundPurpose, expected};
use tinderbox_protocol::tx::{Utxo, p2tr, root};
use tinderbox_protocol::{LeafId, Network as Chain, Sats, TreeId};
use tinderbox_signer::Signer;
use tinderbox_store::{Memory, Store};

use super::age::Age;
use super::coins::Funded;
use super::desk::Desk;
use super::network::{FaultyStore, Network, SimPeers};
use crate::chain::MemoryChain;
use crate::faults::Faults;
use crate::owner::Owner;
use crate::signer::{MemorySigner, secret_key};

/// One operator's parts that outlive a crash.
pub(super) struct Machine {
    pub(super) store: Memory,
    pub(super) signer: Arc<MemorySigner>,
    pub(super) skew: i64,
}

/// Operators, wallets and the network between them.
pub struct Cluster {
    /// Who the operators are, seen from operator 0.
    pub(super) site: Site,
    pub(super) machines: Vec<Machine>,
    pub(super) network: Network,
    pub(super) owners: Vec<Owner>,
    pub(super) identities: Vec<SecretKey>,
    pub(super) leaves: Vec<LeafId>,
    pub(super) values: BTreeMap<LeafId, Sats>,
    /// Leaves began with used timelocks, and are renewed.
    pub(super) aged: bool,
    pub(super) chain: Arc<MemoryChain>,
    funded: Mutex<BTreeMap<OutPoint, Funded>>,
    pub(super) desk: Arc<Mutex<Desk>>,
    begun: tokio::time::Instant,
}

/// A clock that runs with the simulation, some way off.
struct SimClock {
    skew: i64,
    begun: tokio::time::Instant,
    network: Network,
}

/// Key shares that are dealt for addresses.
const POOL: u16 = 8;
/// When simulated time begins, in milliseconds since the epoch.
const EPOCH_MS: u64 = 1_750_000_000_000;

impl Clock for SimClock {
    fn now(&self) -> Millis {
        let elapsed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Millis((EPOCH_MS + elapsed).saturating_add_signed(self.skew))
    }

    fn random(&self, bytes: &mut [u8]) {
        self.network.fill(bytes);
    }
}

impl Cluster {
    /// Operators that are up, wallets, and `leaves` fresh leaves dealt among the wallets.
    pub async fn new(
        rng: &mut ChaCha20Rng,
        operators: u16,
        threshold: u16,
        owners: usize,
        leaves: usize,
        faults: Faults,
    ) -> Self {
        Self::aged(rng, operators, threshold, owners, leaves, faults, &[]).await
    }

    /// The same with leaves that have the timelocks of `ages` in turn.
    pub async fn aged(
        rng: &mut ChaCha20Rng,
        operators: u16,
        threshold: u16,
        owners: usize,
        leaves: usize,
        faults: Faults,
        ages: &[Age],
    ) -> Self {
        let identities: Vec<SecretKey> = (0..operators).map(|_| secret_key(rng)).collect();
        let site = Site {
            me: OperatorIndex(0),
            operators: identities
                .iter()
                .map(|key| key.public_key(SECP256K1))
                .collect(),
            threshold,
            network: Chain::Regtest,
            deposit_confirmations: 3,
            exit_confirmations: 1,
            providers: Vec::new(),
        };
        let network = Network::new(ChaCha20Rng::from_seed(rng.r#gen()), Faults::NONE, operators);
        let machines = (0..operators)
            .map(|index| Machine {
                store: Memory::new(),
                signer: MemorySigner::new(
                    OperatorIndex(index),
                    identities[usize::from(index)],
                    operators,
                    threshold,
                    ChaCha20Rng::from_seed(rng.r#gen()),
                ),
                skew: if faults.skew_ms == 0 {
                    0
                } else {
                    let most = i64::try_from(faults.skew_ms).unwrap_or(0);
                    rng.gen_range(-most..=most)
                },
            })
            .collect();
        let owners: Vec<Owner> = (0..owners).map(|_| Owner::new(rng)).collect();
        let mut cluster = Self {
            site: Site {
                providers: owners.iter().map(Owner::identity).collect(),
                ..site
            },
            machines,
            network,
            owners,
            identities,
            leaves: Vec::new(),
            values: BTreeMap::new(),
            aged: !ages.is_empty(),
            chain: Arc::default(),
            funded: Mutex::default(),
            desk: Arc::default(),
            begun: tokio::time::Instant::now(),
        };
        for place in 0..leaves {
            let age = ages.get(place % ages.len().max(1)).copied();
            cluster.deal_leaf(rng, place, age).await;
        }
        for place in 0..POOL {
            cluster
                .deal_keyshare(rng, OperatorIndex(place % operators))
                .await;
        }
        for index in 0..operators {
            cluster.start(OperatorIndex(index));
        }
        cluster.network.set_faults(faults);
        cluster
    }

    /// Starts an operator on the tables that it left.
    pub(super) fn start(&mut self, operator: OperatorIndex) {
        let network = self.network.clone();
        let machine = &mut self.machines[usize::from(operator.0)];
        machine.store = machine.store.reopen();
        let core = Core {
            site: Arc::new(Site {
                me: operator,
                ..self.site.clone()
            }),
            store: Arc::new(FaultyStore {
                me: operator,
                inner: machine.store.clone(),
                network: network.clone(),
            }),
            signer: Arc::clone(&machine.signer) as Arc<dyn Signer>,
            chain: Arc::clone(&self.chain) as _,
            clock: Arc::new(SimClock {
                skew: machine.skew,
                begun: self.begun,
                network: network.clone(),
            }),
            peers: Arc::new(SimPeers {
                me: operator,
                network: network.clone(),
            }),
            events: Events::default(),
        };
        network.start(operator, Engine::new(core, Patience::default()));
    }

    /// Deposits that wallets have made since.
    pub(super) fn funded(&self) -> MutexGuard<'_, BTreeMap<OutPoint, Funded>> {
        self.funded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A key share of a coordinator's pool, as if it had been generated.
    pub(super) async fn deal_keyshare(
        &self,
        rng: &mut ChaCha20Rng,
        coordinator: OperatorIndex,
    ) -> KeyshareRow {
        let secret = SecretScalar::random(rng);
        let dealt = feldman::split(&secret, self.site.threshold, self.site.count(), rng)
            .expect("threshold and count are valid");
        let id = KeyshareId(rng.r#gen());
        let public_shares: Vec<PublicKey> =
            dealt.shares.iter().map(SecretScalar::public_key).collect();
        let mut first = None;
        for (operator, share) in dealt.shares.into_iter().enumerate() {
            let keyshare = KeyshareRow {
                id,
                coordinator,
                status: KeyshareStatus::Available,
                generation: 0,
                group_key: secret.public_key(),
                public_shares: public_shares.clone(),
                sealed: self.machines[operator].signer.import(id.0, share),
            };
            self.put(operator, &keyshare).await;
            first.get_or_insert(keyshare);
        }
        first.expect("there are operators")
    }

    /// A confirmed deposit of one leaf, as if it had been made.
    async fn deal_leaf(&mut self, rng: &mut ChaCha20Rng, place: usize, age: Option<Age>) {
        let owner = &self.owners[place % self.owners.len()];
        let leaf = LeafId(uuid::Builder::from_random_bytes(rng.r#gen()).into_uuid());
        let tree = TreeId(uuid::Builder::from_random_bytes(rng.r#gen()).into_uuid());
        // Few different values, so that leaves can be swapped for others of the same total.
        let value = Sats(10_000 << rng.gen_range(0..2));
        let secret = SecretScalar::random(rng);
        let dealt = feldman::split(&secret, self.site.threshold, self.site.count(), rng)
            .expect("threshold and count are valid");
        let group_key = secret.public_key();
        let owner_signing = owner.leaf_key(&leaf).public_key(SECP256K1);
        let verifying_key =
            tweak::add_points(&group_key, &owner_signing).expect("random keys do not cancel");
        let deposit = Transaction {
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
                script_pubkey: p2tr(&verifying_key),
            }],
        };
        self.chain.confirm(&deposit);
        let utxo = Utxo::of(&deposit, 0).expect("it has an output");
        let root = root::build(std::slice::from_ref(&utxo)).expect("a deposit makes a root");
        let refunds = expected(
            &LeafTxs {
                node_tx: root.tx.clone(),
                direct_tx: None,
            },
            &RefundPurpose::Initial {
                owner_signing_key: owner_signing,
            },
        )
        .expect("a root has refunds");
        // As whole keys are at hand here, the owner's and the operators', sign at once.
        let key = {
            let user = SecretScalar::try_from_be_bytes(&owner.leaf_key(&leaf).secret_bytes())
                .expect("a key is a scalar");
            user.add(&secret).expect("random keys do not cancel")
        };
        let sign = |tx: &tinderbox_protocol::tx::UnsignedTx| {
            use bitcoin::key::{Keypair, TapTweak};
            let pair = Keypair::from_seckey_slice(SECP256K1, &*key.to_be_bytes())
                .expect("a scalar is a key")
                .tap_tweak(SECP256K1, None)
                .to_keypair();
            let message =
                bitcoin::secp256k1::Message::from_digest(tx.sighash().expect("it has a sighash"));
            let signature = SECP256K1.sign_schnorr_no_aux_rand(&message, &pair);
            serialize(&tx.finalize(&signature.serialize()))
        };
        let id = KeyshareId(rng.r#gen());
        let public_shares: Vec<PublicKey> =
            dealt.shares.iter().map(SecretScalar::public_key).collect();
        let node = NodeRow {
            id: leaf,
            tree,
            parent: None,
            network: Chain::Regtest,
            value,
            status: NodeStatus::Available,
            lock: None,
            verifying_key,
            owner: owner.identity(),
            owner_signing,
            keyshare: id,
            txs: NodeTxs {
                node: sign(&root),
                direct: Vec::new(),
                refund: sign(&refunds.cpfp),
                direct_refund: Vec::new(),
                direct_from_cpfp_refund: sign(&refunds.direct_from_cpfp),
            },
            deposits: vec![utxo.outpoint],
            created: Millis(EPOCH_MS),
            updated: Millis(EPOCH_MS),
            node_confirmed: None,
            refund_confirmed: None,
            before_chain: None,
            renewal: None,
        };
        let nodes = match age {
            Some(age) => age.of(node, &root, sign),
            None => vec![node],
        };
        for (machine, share) in self.machines.iter().zip(dealt.shares) {
            let keyshare = KeyshareRow {
                id,
                coordinator: OperatorIndex(0),
                status: KeyshareStatus::Used(FlowId([0; 16])),
                generation: 0,
                group_key,
                public_shares: public_shares.clone(),
                sealed: machine.signer.import(id.0, share),
            };
            let mut snapshot = Snapshot::new();
            snapshot.insert(keyshare.key(), None);
            let mut changes = Changes::new();
            for node in &nodes {
                snapshot.insert(node.key(), None);
                changes.put(&snapshot, node).expect("row is new");
            }
            changes.put(&snapshot, &keyshare).expect("row is new");
            machine
                .store
                .apply(changes.into_batch(&snapshot))
                .await
                .expect("tables are empty");
        }
        self.leaves.push(leaf);
        self.values.insert(leaf, value);
    }

    /// A row as an operator has it.
    pub(super) fn row<R: Row>(&self, operator: usize, id: &[u8]) -> Option<R> {
        let stored = self.machines[operator]
            .store
            .stored(&Key::new(R::TABLE, id))?;
        R::decode(id, &stored.body).ok()
    }

    /// All rows of one kind as an operator has them; some tables hold several.
    pub(super) fn rows<R: Row>(&self, operator: usize) -> Vec<R> {
        self.machines[operator]
            .store
            .table(R::TABLE)
            .into_iter()
            .filter_map(|(key, stored)| {
                let row = R::decode(&key.id, &stored.body).ok()?;
                (row.id() == key.id).then_some(row)
            })
            .collect()
    }

    /// Writes a row at one operator as something else than a flow would: the chain, or a wallet
    /// that tells each operator something of its own. Flows that looked at it look again.
    pub(super) async fn put<R: Row>(&self, operator: usize, row: &R) {
        let store = &self.machines[operator].store;
        let key = row.key();
        let mut snapshot = Snapshot::new();
        snapshot.insert(key.clone(), store.stored(&key));
        let mut changes = Changes::new();
        changes.put(&snapshot, row).expect("the row was read");
        store
            .apply(changes.into_batch(&snapshot))
            .await
            .expect("nobody else writes meanwhile");
    }

    /// The wallets' desk.
    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The clocks of operators that are up, of the slowest and of the fastest.
    pub(super) fn clocks(&self) -> (Millis, Millis) {
        let engines = self.site.everyone();
        let clocks = engines
            .filter_map(|operator| self.network.engine(operator))
            .map(|engine| engine.core().clock.now());
        let all: Vec<Millis> = clocks.collect();
        let own = Millis(1);
        (
            all.iter().copied().min().unwrap_or(own),
            all.iter().copied().max().unwrap_or(own),
        )
    }
}
