//! A calm network in which a test makes one thing go wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use rand::Rng;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use tinderbox_commit::{Message, Reply};
use tinderbox_flows::flow::{Outcome, Site};
use tinderbox_flows::record::Row;
use tinderbox_flows::refusal::Refusal;
use tinderbox_flows::request::{ClaimRequest, Request, SendRequest};
use tinderbox_flows::rows::{FlowId, NodeRow, TransferRow};
use tinderbox_flows::swap_counter::SwapCounterRequest;
use tinderbox_flows::swap_primary::SwapPrimaryRequest;
use tinderbox_frost::OperatorIndex;
use tinderbox_operator::{Engine, PeerError};
use tinderbox_protocol::{LeafId, TransferId};
use tinderbox_store::Memory;

use super::check;
use super::cluster::Cluster;
use super::run;
use super::tap::{Fate, Passing, WriteFate};
use crate::faults::Faults;
use crate::owner::Owner;

/// What a wallet that waits for an answer holds.
pub type Answer = tokio::task::JoinHandle<Result<Outcome, Refusal>>;

/// Operators, wallets and leaves; nothing goes wrong but what is asked for.
pub struct Scene {
    pub(super) cluster: Cluster,
    pub(super) rng: ChaCha20Rng,
    seed: u64,
}

impl Scene {
    /// `operators` of which `threshold` sign; two wallets, 0 and 1; `leaves` leaves, dealt to them
    /// in turn.
    pub async fn new(seed: u64, operators: u16, threshold: u16, leaves: usize) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let cluster = Cluster::new(&mut rng, operators, threshold, 2, leaves, Faults::NONE).await;
        Self { cluster, rng, seed }
    }

    /// A wallet.
    pub fn owner(&mut self, owner: usize) -> &mut Owner {
        &mut self.cluster.owners[owner]
    }

    /// Who the operators are, seen from operator 0.
    #[must_use]
    pub const fn site(&self) -> &Site {
        &self.cluster.site
    }

    /// The place-th leaf that was dealt; leaf 0 belongs to wallet 0, leaf 1 to wallet 1, and so on.
    #[must_use]
    pub fn leaf(&self, place: usize) -> LeafId {
        self.cluster.leaves[place]
    }

    /// Randomness from the seed.
    pub const fn rng(&mut self) -> &mut ChaCha20Rng {
        &mut self.rng
    }

    /// A new transfer id.
    pub fn transfer_id(&mut self) -> TransferId {
        TransferId(uuid::Builder::from_random_bytes(self.rng.r#gen()).into_uuid())
    }

    /// A new flow id, made now.
    pub fn flow_id(&mut self) -> FlowId {
        FlowId::new(run::now(&self.cluster), self.rng.r#gen())
    }

    /// A payment as the sender's wallet makes it, from what operator 0 tells of the leaves.
    pub async fn payment(
        &mut self,
        id: TransferId,
        from: usize,
        to: usize,
        leaves: &[LeafId],
    ) -> SendRequest {
        let nodes: Vec<NodeRow> = leaves.iter().map(|leaf| self.node(0, leaf)).collect();
        let receiver = self.cluster.owners[to].identity();
        let receivers: BTreeMap<LeafId, PublicKey> =
            leaves.iter().map(|leaf| (*leaf, receiver)).collect();
        let nonces = run::nonces(&self.cluster, &mut self.rng, nodes.len() * 3).await;
        self.cluster.owners[from].send(
            &self.cluster.site,
            id,
            run::now(&self.cluster),
            &nodes,
            &receivers,
            nonces,
            &mut self.rng,
        )
    }

    /// A claim as the receiver's wallet makes it, from what operator 0 tells.
    pub async fn claim(&mut self, id: TransferId, owner: usize) -> ClaimRequest {
        let transfer = self.transfer(0, id).expect("the transfer is there");
        let identity = self.cluster.owners[owner].identity();
        let place = transfer.receiver(&identity).expect("it is a receiver");
        let nodes: Vec<NodeRow> = transfer
            .leaves_of(place)
            .map(|leaf| self.node(0, &leaf.leaf))
            .collect();
        let nonces = run::nonces(&self.cluster, &mut self.rng, nodes.len() * 3).await;
        self.cluster.owners[owner]
            .claim(
                &self.cluster.site,
                run::now(&self.cluster),
                &transfer,
                &nodes,
                nonces,
                &mut self.rng,
            )
            .expect("what was sent to it opens")
    }

    /// An offer of leaves to another wallet for its own, as the owner's wallet makes it.
    pub async fn offer(
        &mut self,
        id: TransferId,
        from: usize,
        to: usize,
        leaves: &[LeafId],
        adaptor: PublicKey,
    ) -> SwapPrimaryRequest {
        let nodes: Vec<NodeRow> = leaves.iter().map(|leaf| self.node(0, leaf)).collect();
        let provider = self.cluster.owners[to].identity();
        let nonces = run::nonces(&self.cluster, &mut self.rng, nodes.len()).await;
        self.cluster.owners[from].offer(
            &self.cluster.site,
            id,
            run::now(&self.cluster),
            &nodes,
            provider,
            adaptor,
            nonces,
            &mut self.rng,
        )
    }

    /// An answer to an offer, as operator 0 tells of it, with these leaves.
    pub async fn answer(
        &mut self,
        id: TransferId,
        from: usize,
        offer: TransferId,
        leaves: &[LeafId],
    ) -> SwapCounterRequest {
        let offer = self.transfer(0, offer).expect("the offer is there");
        let nodes: Vec<NodeRow> = leaves.iter().map(|leaf| self.node(0, leaf)).collect();
        let nonces = run::nonces(&self.cluster, &mut self.rng, nodes.len()).await;
        self.cluster.owners[from]
            .answer(
                &self.cluster.site,
                id,
                run::now(&self.cluster),
                &nodes,
                &offer,
                nonces,
                &mut self.rng,
            )
            .expect("it is an offer")
    }

    /// The engine of an operator that is up.
    #[must_use]
    pub fn engine(&self, operator: u16) -> Engine {
        self.cluster
            .network
            .engine(OperatorIndex(operator))
            .expect("the operator is up")
    }

    /// Hands a request to an operator, as one of its handlers does. It dies with the operator.
    #[must_use]
    pub fn begin(&self, operator: u16, request: Request) -> Answer {
        let engine = self.engine(operator);
        self.cluster.network.spawn(
            OperatorIndex(operator),
            async move { engine.run(request).await },
        )
    }

    /// The same, and waits for the answer; nothing if the operator died meanwhile.
    pub async fn run(&self, operator: u16, request: Request) -> Option<Result<Outcome, Refusal>> {
        self.begin(operator, request).await.ok()
    }

    /// Carries a message that a test made up, under the sender's identity.
    ///
    /// # Errors
    /// If it does not arrive.
    pub async fn say(&self, from: u16, to: u16, message: Message) -> Result<Reply, PeerError> {
        self.cluster
            .network
            .carry(OperatorIndex(from), OperatorIndex(to), message)
            .await
    }

    /// Decides about every message from now on.
    pub fn on_message(&self, tap: impl FnMut(&Passing<'_>) -> Fate + Send + 'static) {
        self.cluster.network.tap_messages(Some(Box::new(tap)));
    }

    /// Decides about every write from now on.
    pub fn on_write(&self, tap: impl FnMut(OperatorIndex) -> WriteFate + Send + 'static) {
        self.cluster.network.tap_writes(Some(Box::new(tap)));
    }

    /// Nothing goes wrong any more.
    pub fn calm(&self) {
        self.cluster.network.tap_messages(None);
        self.cluster.network.tap_writes(None);
    }

    /// Kills an operator.
    pub fn crash(&self, operator: u16) {
        self.cluster.network.crash(OperatorIndex(operator));
    }

    /// Starts every operator that is down.
    pub fn revive(&mut self) {
        for operator in self.cluster.network.take_crashed() {
            if self.cluster.network.engine(operator).is_none() {
                self.cluster.start(operator);
            }
        }
    }

    /// Writes a row at every operator, as if a flow had.
    ///
    /// # Panics
    /// If somebody else writes it at the same time.
    pub async fn plant<R: Row>(&self, row: &R) {
        for operator in 0..self.cluster.machines.len() {
            self.cluster.put(operator, row).await;
        }
    }

    /// Kills an operator and starts it with a clock that is `skew` milliseconds ahead.
    pub fn set_clock(&mut self, operator: u16, skew: i64) {
        self.crash(operator);
        self.cluster.network.take_crashed();
        self.cluster.machines[usize::from(operator)].skew = skew;
        self.cluster.start(OperatorIndex(operator));
    }

    /// Starts an operator anew with these providers in its configuration.
    pub fn list_providers(&mut self, operator: u16, providers: &[PublicKey]) {
        self.crash(operator);
        self.cluster.network.take_crashed();
        let all = std::mem::replace(&mut self.cluster.site.providers, providers.to_vec());
        self.cluster.start(OperatorIndex(operator));
        self.cluster.site.providers = all;
    }

    /// A copy of an operator's tables, as a backup.
    #[must_use]
    pub fn backup(&self, operator: u16) -> Memory {
        self.cluster.machines[usize::from(operator)].store.fork()
    }

    /// Kills an operator and starts it on other tables.
    pub fn restore(&mut self, operator: u16, tables: Memory) {
        self.crash(operator);
        self.cluster.network.take_crashed();
        self.cluster.machines[usize::from(operator)].store = tables;
        self.cluster.start(OperatorIndex(operator));
    }

    /// Everything that went wrong is over: whoever is down is started, and time passes until
    /// every flow has ended. Nobody does anything else.
    ///
    /// # Panics
    /// If a flow stays open.
    pub async fn heal(&mut self) {
        self.calm();
        for _ in 0..40 {
            self.revive();
            tokio::time::sleep(Duration::from_secs(5)).await;
            if check::open_flows(&self.cluster) == 0 {
                tokio::time::sleep(Duration::from_secs(10)).await;
            }
            if check::open_flows(&self.cluster) == 0 {
                break;
            }
        }
        if let Err(broken) = check::settled(self.seed, &self.cluster) {
            panic!("{broken}");
        }
    }

    /// All invariants of the simulator, with every flow at its end.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn check(&self) {
        let held = check::settled(self.seed, &self.cluster)
            .and_then(|()| check::invariants(self.seed, &self.cluster, None, &[]));
        if let Err(broken) = held {
            panic!("{broken}");
        }
    }

    /// How many flows are open, over all operators.
    #[must_use]
    pub fn open_flows(&self) -> usize {
        check::open_flows(&self.cluster)
    }

    /// A digest of everything that an operator has stored.
    #[must_use]
    pub fn digest(&self, operator: u16) -> [u8; 32] {
        self.cluster.machines[usize::from(operator)].store.digest()
    }

    /// A row as an operator has it.
    #[must_use]
    pub fn row<R: Row>(&self, operator: u16, id: &[u8]) -> Option<R> {
        self.cluster.row(usize::from(operator), id)
    }

    /// All rows of a table as an operator has them.
    #[must_use]
    pub fn rows<R: Row>(&self, operator: u16) -> Vec<R> {
        self.cluster.rows(usize::from(operator))
    }

    /// Writes a row as something else than a flow would: the chain, for one.
    ///
    /// # Panics
    /// If the operator's store does not take it.
    pub async fn put<R: Row>(&self, operator: u16, row: &R) {
        self.cluster.put(usize::from(operator), row).await;
    }

    /// A leaf as an operator has it.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn node(&self, operator: u16, leaf: &LeafId) -> NodeRow {
        self.row(operator, &NodeRow::id_of(leaf))
            .expect("the leaf is there")
    }

    /// A transfer as an operator has it.
    #[must_use]
    pub fn transfer(&self, operator: u16, id: TransferId) -> Option<TransferRow> {
        self.row(operator, &TransferRow::id_of(&id))
    }

    /// What happened, for messages of tests that fail.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        self.cluster.network.log()
    }
}
