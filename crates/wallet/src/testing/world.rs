//! A wallet among three fake operators, on a fake chain that holds the deposit of a [`Scene`].

use std::sync::Arc;

use tinderbox_protocol::Network;

use super::{FakeChain, FakeOperator, node_message, transfer_message};
use crate::config::Config;
use crate::leaf::Node;
use crate::signer::{MemorySigner, WalletSigner};
use crate::storage::{MemoryStorage, Storage};
use crate::transfer::{Transfer, TransferKind, TransferLeaf, TransferStatus};
use crate::verify::fixture::Scene;
use crate::wallet::Wallet;

pub(crate) struct World {
    pub(crate) scene: Scene,
    pub(crate) chain: Arc<FakeChain>,
    pub(crate) operators: Vec<FakeOperator>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) wallet: Wallet,
    config: Config,
    seed: u8,
}

impl World {
    /// Alice's wallet: she owns the scene's leaf.
    pub(crate) async fn of_alice() -> Self {
        Self::with_seed(1).await
    }

    /// Bob's wallet: Alice pays him.
    pub(crate) async fn of_bob() -> Self {
        Self::with_seed(2).await
    }

    async fn with_seed(seed: u8) -> Self {
        let scene = Scene::new();
        let chain = Arc::new(FakeChain::new());
        chain.confirm_foreign(scene.deposit_tx().clone());
        chain.mine(5);
        let mut config = Config::local(3).unwrap();
        let mut operators = Vec::new();
        for operator in &mut config.operators {
            let fake = FakeOperator::start().await;
            operator.url = fake.url();
            operators.push(fake);
        }
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let wallet = open(&config, seed, storage.clone(), chain.clone());
        Self {
            scene,
            chain,
            operators,
            storage,
            wallet,
            config,
            seed,
        }
    }

    /// The wallet as after a restart: only the storage is left.
    pub(crate) fn reopen(&mut self) {
        self.wallet = open(
            &self.config,
            self.seed,
            self.storage.clone(),
            self.chain.clone(),
        );
    }

    /// What all operators tell about a node.
    pub(crate) fn tell_node(&self, node: &Node) {
        for operator in &self.operators {
            operator.with(|script| script.nodes.insert(node.id.to_string(), node_message(node)));
        }
    }

    /// What one operator tells about a node.
    pub(crate) fn lie(&self, operator: usize, node: &Node) {
        self.operators[operator]
            .with(|script| script.nodes.insert(node.id.to_string(), node_message(node)));
    }

    /// Alice's payment of one leaf to Bob.
    pub(crate) fn payment(&self, leaf: TransferLeaf) -> Transfer {
        Transfer {
            id: self.scene.transfer_id(),
            sender: self.scene.sender().identity(),
            receiver: self.scene.receiver().identity(),
            status: TransferStatus::Claimable,
            kind: TransferKind::Payment,
            total: leaf.node.value,
            leaves: vec![leaf],
            receivers: Vec::new(),
            created: None,
            updated: None,
            invoice: None,
        }
    }

    /// The payment waits for Bob, and the operators will give him what honest ones give.
    pub(crate) fn wait_for_bob(&self, payment: &Transfer) {
        let mut done = payment.clone();
        done.status = TransferStatus::Completed;
        for leaf in &mut done.leaves {
            self.tell_node(&leaf.node);
            leaf.node = self.scene.claimed(leaf);
        }
        self.operators[0].with(|script| {
            script.pending = vec![transfer_message(payment)];
            script.claimed = Some(transfer_message(&done));
        });
    }
}

fn open(config: &Config, seed: u8, storage: Arc<dyn Storage>, chain: Arc<FakeChain>) -> Wallet {
    let signer = Arc::new(MemorySigner::from_seed(&[seed; 32], Network::Local, None).unwrap());
    Wallet::open_with(config.clone(), signer, storage, chain).unwrap()
}
