//! Chain duties and the watchtower on a real Bitcoin Core node.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::consensus::serialize;
use bitcoin::key::{Keypair, TapTweak};
use bitcoin::secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use bitcoin::{Address, Transaction};
use serde_json::{Value, json};
use tinderbox_chain::{BlockRef, Follower, RegtestNode, Rpc};
use tinderbox_flows::flow::Site;
use tinderbox_flows::record::Row;
use tinderbox_flows::rows::{
    AddressProof, AddressRow, KeyshareId, Millis, NodeRow, NodeStatus, NodeTxs, TreeRow,
    TreeStatus, UtxoRow,
};
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_frost::OperatorIndex;
use tinderbox_operator::Events;
use tinderbox_operator::chain::{Duties, Watchtower};
use tinderbox_operator::tables::Tables;
use tinderbox_protocol::refunds::{LeafTxs, RefundPurpose, RefundSet, expected};
use tinderbox_protocol::tx::{UnsignedTx, Utxo, p2tr, root};
use tinderbox_protocol::{BlockHeight, LeafId, LeafSequence, Network, Sats, TreeId};
use tinderbox_store::{Sqlite, Store};
use tokio_util::sync::CancellationToken;

const LEAF: LeafId = LeafId::from_bytes16([1; 16]);
const TREE: TreeId = TreeId::from_bytes16([2; 16]);

fn key(byte: u8) -> Keypair {
    SecretKey::from_slice(&[byte; 32])
        .unwrap()
        .keypair(SECP256K1)
}

fn public(byte: u8) -> PublicKey {
    key(byte).public_key()
}

/// A node, an operator's database, and a leaf whose whole key the test has.
struct World {
    node: RegtestNode,
    store: Arc<dyn Store>,
    tables: Tables,
    root: Transaction,
    /// Alice's refunds: she has paid since.
    stale: RefundSet,
    /// Bob's refunds: the leaf is his now.
    present: RefundSet,
    _folder: tempfile::TempDir,
}

fn sign(tx: &UnsignedTx) -> Transaction {
    let key = key(7).tap_tweak(SECP256K1, None).to_keypair();
    let message = Message::from_digest(tx.sighash().unwrap());
    let signature = SECP256K1.sign_schnorr_no_aux_rand(&message, &key);
    tx.finalize(&signature.serialize())
}

async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future)
        .await
        .unwrap_or_else(|_| panic!("{what} took longer than {limit:?}"))
}

impl World {
    async fn new() -> Self {
        let node = RegtestNode::temporary()
            .await
            .expect("a regtest node; run scripts/bitcoind once if there is none");
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(Sqlite::open(folder.path().join("rows.db")).await.unwrap());
        let script = p2tr(&public(7));
        let address = Address::from_script(&script, bitcoin::Network::Regtest).unwrap();
        // The reward of a block is the deposit.
        let hashes = node.rpc().generate_to_address(1, &address).await.unwrap();
        node.mine(100).await.unwrap();
        let coinbase = node.rpc().blocks(&hashes).await.unwrap()[0].txdata[0].clone();
        let deposit = Utxo::of(&coinbase, 0).unwrap();
        let root = sign(&root::build(std::slice::from_ref(&deposit)).unwrap());
        let txs = LeafTxs {
            node_tx: root.clone(),
            direct_tx: None,
        };
        let stale = expected(
            &txs,
            &RefundPurpose::Initial {
                owner_signing_key: public(8),
            },
        )
        .unwrap();
        let present = expected(
            &txs,
            &RefundPurpose::Send {
                current: LeafSequence::INITIAL,
                receiver: public(9),
            },
        )
        .unwrap();
        let world = Self {
            tables: Tables::new(store.clone()),
            node,
            store,
            root,
            stale,
            present,
            _folder: folder,
        };
        world.store_rows(&deposit).await;
        world
    }

    async fn put<R: Row>(&self, row: &R) {
        let mut rows = Snapshot::new();
        self.tables.load(&mut rows, [row.key()]).await.unwrap();
        let mut changes = Changes::new();
        changes.put(&rows, row).unwrap();
        self.tables.write(&rows, changes).await.unwrap();
    }

    async fn store_rows(&self, deposit: &Utxo) {
        let script = deposit.output.script_pubkey.clone();
        let value = Sats(deposit.output.value.to_sat());
        self.put(&AddressRow {
            script: script.clone(),
            address: "somewhere".into(),
            owner: public(1),
            owner_signing: public(2),
            keyshare: KeyshareId([3; 16]),
            verifying_key: public(7),
            network: Network::Regtest,
            leaf: Some(LEAF),
            is_static: false,
            is_default: false,
            created: Millis(1),
            pending: None,
            proof: Some(AddressProof {
                possession: Vec::new(),
                possession_legacy: Vec::new(),
                operators: BTreeMap::new(),
            }),
            tree: Some(TREE),
        })
        .await;
        self.put(&UtxoRow {
            outpoint: deposit.outpoint,
            network: Network::Regtest,
            value,
            script,
            block: None,
            tree: Some(TREE),
            of_tree: false,
        })
        .await;
        self.put(&TreeRow {
            id: TREE,
            owner: public(1),
            network: Network::Regtest,
            base: deposit.outpoint,
            root: LEAF,
            status: TreeStatus::Pending,
            created: Millis(1),
        })
        .await;
        self.put(&NodeRow {
            id: LEAF,
            tree: TREE,
            parent: None,
            network: Network::Regtest,
            value,
            status: NodeStatus::Creating,
            lock: None,
            verifying_key: public(7),
            owner: public(1),
            owner_signing: public(2),
            keyshare: KeyshareId([3; 16]),
            txs: NodeTxs {
                node: serialize(&self.root),
                refund: serialize(&sign(&self.present.cpfp)),
                direct_from_cpfp_refund: serialize(&sign(&self.present.direct_from_cpfp)),
                ..NodeTxs::default()
            },
            deposits: vec![deposit.outpoint],
            created: Millis(1),
            updated: Millis(1),
            node_confirmed: None,
            refund_confirmed: None,
            before_chain: None,
            renewal: None,
        })
        .await;
    }

    fn rpc(&self) -> &Rpc {
        self.node.rpc()
    }

    /// Begins to follow and to watch.
    fn run(&self) -> Running {
        let site = Site {
            me: OperatorIndex(0),
            operators: vec![public(1), public(2), public(3)],
            threshold: 2,
            network: Network::Regtest,
            deposit_confirmations: 3,
            providers: Vec::new(),
            exit_confirmations: 1,
        };
        let duties = Duties::on(self.store.clone(), Arc::new(site), Events::default());
        let mut follower = Follower::new(self.rpc().clone(), duties, BlockHeight(0));
        let tip = follower.tip();
        let stop = CancellationToken::new();
        let (one, two) = (stop.clone(), stop.clone());
        let watchtower = Watchtower::on(self.store.clone(), Arc::new(self.rpc().clone()));
        let tips = tip.clone();
        tokio::spawn(async move { follower.run(one.cancelled_owned()).await.unwrap() });
        tokio::spawn(async move { watchtower.run(tips, two.cancelled_owned()).await });
        Running { tip, stop }
    }

    /// A block with this transaction in it, whatever fee it pays.
    async fn confirm(&self, tx: &Transaction) -> BlockRef {
        let address = Address::from_script(&p2tr(&public(30)), bitcoin::Network::Regtest).unwrap();
        let _: Value = self
            .rpc()
            .call(
                "generateblock",
                json!([address.to_string(), [serialize_hex(tx)]]),
            )
            .await
            .unwrap();
        self.rpc().best_block().await.unwrap()
    }

    async fn leaf(&self) -> NodeRow {
        self.tables
            .get(NodeRow::id_of(&LEAF))
            .await
            .unwrap()
            .unwrap()
    }

    /// Waits until the leaf has this status.
    async fn becomes(&self, status: NodeStatus) {
        within(
            Duration::from_secs(60),
            &format!("the leaf's way to {status:?}"),
            async {
                while self.leaf().await.status != status {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
        )
        .await;
    }
}

struct Running {
    tip: tokio::sync::watch::Receiver<Option<BlockRef>>,
    stop: CancellationToken,
}

impl Running {
    /// Waits until the node's tip is applied.
    async fn caught_up(&mut self, rpc: &Rpc) {
        let wanted = rpc.best_block().await.unwrap();
        within(Duration::from_secs(60), "catching up", async {
            let reached = |tip: &Option<BlockRef>| *tip == Some(wanted);
            self.tip.wait_for(reached).await.unwrap();
        })
        .await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_52_stale_branch_loses_to_the_watchtower_on_a_real_node() {
    let world = World::new().await;
    let mut running = world.run();
    world.becomes(NodeStatus::Available).await;
    // Alice publishes the node that she has paid with; Bob is away.
    let at = world.confirm(&world.root).await;
    world.becomes(NodeStatus::OnChain).await;
    world.node.mine(1949).await.unwrap();
    let began = Instant::now();
    let answer = sign(&world.present.direct_from_cpfp);
    let txid = answer.compute_txid();
    within(Duration::from_secs(60), "the answer", async {
        while world.rpc().mempool_entry(&txid).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    println!(
        "1949 blocks, and the answer in the mempool: {:?} after the last",
        began.elapsed()
    );
    let stale = sign(&world.stale.direct_from_cpfp);
    assert!(
        world.rpc().send_raw_transaction(&stale).await.is_err(),
        "Alice has to wait"
    );
    world.node.mine(1).await.unwrap();
    world.becomes(NodeStatus::Exited).await;
    running.caught_up(world.rpc()).await;
    let leaf = world.leaf().await;
    assert_eq!(leaf.node_confirmed, Some(at.height));
    assert_eq!(
        leaf.refund_confirmed,
        Some(BlockHeight(at.height.0 + 1950)),
        "50 blocks before Alice's could be there"
    );
    world.node.mine(200).await.unwrap();
    assert!(world.rpc().send_raw_transaction(&stale).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn case_55_reorganisations_of_depth_1_to_6_of_a_real_node_are_undone() {
    let world = World::new().await;
    let mut running = world.run();
    world.becomes(NodeStatus::Available).await;
    for depth in 1..=6 {
        let at = world.confirm(&world.root).await;
        if depth > 1 {
            world.node.mine(depth - 1).await.unwrap();
        }
        world.becomes(NodeStatus::OnChain).await;
        world.rpc().invalidate_block(&at.hash).await.unwrap();
        let address = Address::from_script(
            &p2tr(&public(30 + u8::try_from(depth).unwrap())),
            bitcoin::Network::Regtest,
        )
        .unwrap();
        world
            .rpc()
            .generate_to_address(depth + 1, &address)
            .await
            .unwrap();
        running.caught_up(world.rpc()).await;
        let leaf = world.leaf().await;
        assert_eq!(
            (leaf.status, leaf.node_confirmed, leaf.before_chain),
            (NodeStatus::Available, None, None),
            "depth {depth}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_55_a_deposit_below_a_reorganisation_is_not_available() {
    let world = World::new().await;
    let mut running = world.run();
    world.becomes(NodeStatus::Available).await;
    // 99 blocks deep: everything but the deposit's own block and one more.
    let first = world
        .rpc()
        .block_hash(BlockHeight(3))
        .await
        .unwrap()
        .unwrap();
    world.rpc().invalidate_block(&first).await.unwrap();
    running.caught_up(world.rpc()).await;
    assert_eq!(
        world.leaf().await.status,
        NodeStatus::Creating,
        "two confirmations are not three"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_and_fifty_blocks_at_once_are_followed_in_seconds() {
    let world = World::new().await;
    let mut running = world.run();
    running.caught_up(world.rpc()).await;
    world.node.mine(2050).await.unwrap();
    let began = Instant::now();
    running.caught_up(world.rpc()).await;
    let took = began.elapsed();
    println!("2050 blocks: {took:?} after the last was mined");
    assert!(took < Duration::from_secs(20), "{took:?}");
    drop(running);
    // From nothing, with all of them there.
    let began = Instant::now();
    let again = World {
        store: Arc::new(tinderbox_store::Memory::new()),
        ..world
    };
    let mut running = again.run();
    running.caught_up(again.rpc()).await;
    println!("from the first block on: {:?}", began.elapsed());
}
