mod payouts;
mod reorgs;
mod tower;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{PublicKey, SECP256K1, SecretKey};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, FeeRate, OutPoint, ScriptBuf, Sequence, Transaction,
    TxIn, TxMerkleNode, TxOut, Txid, Witness,
};
use tinderbox_chain::{
    Accepted, BlockRef, ChainEvent, ChainSource, ChainState, ConnectedBlock, OutputView,
    PackageOutcome, TxView,
};
use tinderbox_flows::flow::{Site, Touch};
use tinderbox_flows::record::{Key, Row};
use tinderbox_flows::rows::{
    AddressProof, AddressRow, ChainRow, KeyshareId, Millis, NodeRow, NodeStatus, NodeTxs, TreeRow,
    TreeStatus, UtxoRow,
};
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::{BlockHeight, LeafId, Network, Sats, TreeId};
use tinderbox_store::Memory;

use super::{Duties, UndoRow, Watchtower};
use crate::Events;
use crate::tables::Tables;

const LEAF: LeafId = LeafId::from_bytes16([1; 16]);
const TREE: TreeId = TreeId::from_bytes16([2; 16]);

fn key(byte: u8) -> PublicKey {
    SecretKey::from_slice(&[byte; 32])
        .unwrap()
        .public_key(SECP256K1)
}

fn script(byte: u8) -> ScriptBuf {
    ScriptBuf::new_p2tr(SECP256K1, key(byte).x_only_public_key().0, None)
}

fn spend(version: i32, from: OutPoint, sequence: u32, to: ScriptBuf) -> Transaction {
    Transaction {
        version: Version::non_standard(version),
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: from,
            script_sig: ScriptBuf::new(),
            sequence: Sequence(sequence),
            witness: Witness::from_slice(&[[7u8; 64]]),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(100_000),
            script_pubkey: to,
        }],
    }
}

fn foreign(tag: u8) -> OutPoint {
    OutPoint::new(Txid::from_byte_array([tag; 32]), 0)
}

/// A deposit to the address, the root that spends it, and the root's refunds.
struct Coin {
    deposit: Transaction,
    root: Transaction,
    refund: Transaction,
    direct_from_cpfp: Transaction,
}

impl Coin {
    fn new() -> Self {
        let deposit = spend(2, foreign(9), 0xffff_ffff, script(5));
        let root = spend(3, OutPoint::new(deposit.compute_txid(), 0), 0, script(5));
        let out = OutPoint::new(root.compute_txid(), 0);
        Self {
            refund: spend(3, out, 2000, script(6)),
            direct_from_cpfp: spend(3, out, 2050, script(7)),
            deposit,
            root,
        }
    }

    fn outpoint(&self) -> OutPoint {
        OutPoint::new(self.deposit.compute_txid(), 0)
    }

    fn address(&self) -> AddressRow {
        AddressRow {
            script: script(5),
            address: "somewhere".into(),
            owner: key(1),
            owner_signing: key(2),
            keyshare: KeyshareId([3; 16]),
            verifying_key: key(4),
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
            tree: None,
        }
    }

    fn node(&self, status: NodeStatus) -> NodeRow {
        NodeRow {
            id: LEAF,
            tree: TREE,
            parent: None,
            network: Network::Regtest,
            value: Sats(100_000),
            status,
            lock: None,
            verifying_key: key(4),
            owner: key(1),
            owner_signing: key(2),
            keyshare: KeyshareId([3; 16]),
            txs: NodeTxs {
                node: serialize(&self.root),
                refund: serialize(&self.refund),
                direct_from_cpfp_refund: serialize(&self.direct_from_cpfp),
                ..NodeTxs::default()
            },
            deposits: vec![self.outpoint()],
            created: Millis(1),
            updated: Millis(1),
            node_confirmed: None,
            refund_confirmed: None,
            before_chain: None,
            renewal: None,
        }
    }

    fn tree(&self, status: TreeStatus) -> TreeRow {
        TreeRow {
            id: TREE,
            owner: key(1),
            network: Network::Regtest,
            base: self.outpoint(),
            root: LEAF,
            status,
            created: Millis(1),
        }
    }

    fn utxo(&self) -> UtxoRow {
        UtxoRow {
            outpoint: self.outpoint(),
            network: Network::Regtest,
            value: Sats(100_000),
            script: script(5),
            block: None,
            tree: Some(TREE),
            of_tree: false,
        }
    }
}

struct Bench {
    tables: Tables,
    store: Arc<Memory>,
    duties: Duties,
    events: Events,
    tip: Option<BlockRef>,
}

impl Bench {
    fn new() -> Self {
        let store = Arc::new(Memory::new());
        let events = Events::default();
        let site = Site {
            me: OperatorIndex(0),
            operators: vec![key(1), key(2), key(3)],
            threshold: 2,
            network: Network::Regtest,
            deposit_confirmations: 3,
            exit_confirmations: 1,
            providers: Vec::new(),
        };
        Self {
            tables: Tables::new(store.clone()),
            duties: Duties::on(store.clone(), Arc::new(site), events.clone()),
            store,
            events,
            tip: None,
        }
    }

    async fn put<R: Row>(&self, row: &R) {
        let mut rows = Snapshot::new();
        self.tables.load(&mut rows, [row.key()]).await.unwrap();
        let mut changes = Changes::new();
        changes.put(&rows, row).unwrap();
        self.tables.write(&rows, changes).await.unwrap();
    }

    async fn node(&self) -> NodeRow {
        self.tables
            .get(NodeRow::id_of(&LEAF))
            .await
            .unwrap()
            .unwrap()
    }

    async fn tree(&self) -> TreeRow {
        self.tables.get(TREE.bytes16()).await.unwrap().unwrap()
    }

    async fn utxo(&self, coin: &Coin) -> Option<UtxoRow> {
        self.tables
            .get(UtxoRow::id_of(&coin.outpoint()))
            .await
            .unwrap()
    }

    /// Blocks with these transactions on top of the tip; `fork` makes them differ.
    fn blocks(&mut self, fork: u32, contents: Vec<Vec<Transaction>>) -> ChainEvent {
        let mut connected = Vec::new();
        for txdata in contents {
            let (prev_blockhash, height) = match self.tip {
                Some(tip) => (tip.hash, tip.height.0 + 1),
                None => (BlockHash::all_zeros(), 0),
            };
            let header = Header {
                version: BlockVersion::TWO,
                prev_blockhash,
                merkle_root: TxMerkleNode::all_zeros(),
                time: height,
                bits: CompactTarget::from_consensus(0),
                nonce: fork,
            };
            let at = BlockRef {
                height: BlockHeight(height),
                hash: header.block_hash(),
            };
            self.tip = Some(at);
            connected.push(ConnectedBlock {
                at,
                block: Block { header, txdata },
            });
        }
        ChainEvent::Connected(connected)
    }

    async fn mine(&mut self, contents: Vec<Vec<Transaction>>) {
        let event = self.blocks(0, contents);
        self.duties.apply(&event).await.unwrap();
    }

    /// Takes back all blocks above `height`.
    async fn rewind(&mut self, height: u32) {
        let chain: ChainRow = self.tables.get(ChainRow::ID).await.unwrap().unwrap();
        let as_ref = |block: &tinderbox_flows::rows::KnownBlock| BlockRef {
            height: block.height,
            hash: block.hash,
        };
        let to = chain
            .blocks
            .iter()
            .find(|block| block.height.0 == height)
            .map(as_ref)
            .unwrap();
        let removed = chain
            .blocks
            .iter()
            .filter(|block| block.height.0 > height)
            .map(as_ref);
        let event = ChainEvent::Disconnected {
            to,
            removed: removed.collect(),
        };
        self.duties.apply(&event).await.unwrap();
        self.tip = Some(to);
    }
}

#[tokio::test]
async fn deposit_becomes_spendable_at_its_third_block_and_not_before() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    bench.put(&coin.address()).await;
    bench.put(&coin.node(NodeStatus::Creating)).await;
    bench.put(&coin.tree(TreeStatus::Pending)).await;
    bench.put(&coin.utxo()).await;
    let mut events = bench.events.listen();
    bench
        .mine(vec![vec![], vec![coin.deposit.clone()], vec![]])
        .await;
    assert_eq!(bench.node().await.status, NodeStatus::Creating);
    assert!(events.try_recv().is_err());
    bench.mine(vec![vec![]]).await;
    assert_eq!(bench.node().await.status, NodeStatus::Available);
    assert_eq!(bench.tree().await.status, TreeStatus::Available);
    assert_eq!(events.try_recv().unwrap(), Touch::Deposit(LEAF));
    assert!(events.try_recv().is_err(), "told once");
}

#[tokio::test]
async fn deposit_that_is_claimed_late_becomes_spendable_at_the_next_look() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    bench.put(&coin.address()).await;
    bench
        .mine(vec![vec![coin.deposit.clone()], vec![], vec![]])
        .await;
    let utxo = bench.utxo(&coin).await.unwrap();
    assert_eq!(utxo.block.map(|(height, _)| height), Some(BlockHeight(0)));
    bench.put(&coin.node(NodeStatus::Creating)).await;
    bench.put(&coin.tree(TreeStatus::Pending)).await;
    assert_eq!(bench.duties.flip().await.unwrap(), 1);
    assert_eq!(bench.node().await.status, NodeStatus::Available);
    assert_eq!(bench.duties.flip().await.unwrap(), 0);
}

#[tokio::test]
async fn leaf_without_a_signed_refund_does_not_become_spendable() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    let mut node = coin.node(NodeStatus::Creating);
    node.txs.refund = crate::convert::node::without_witness(&node.txs.refund);
    bench.put(&coin.address()).await;
    bench.put(&node).await;
    bench.put(&coin.tree(TreeStatus::Pending)).await;
    bench
        .mine(vec![vec![coin.deposit.clone()], vec![], vec![], vec![]])
        .await;
    assert_eq!(bench.node().await.status, NodeStatus::Creating);
}

#[tokio::test]
async fn payments_to_strangers_are_not_remembered() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    bench.mine(vec![vec![coin.deposit.clone()]]).await;
    assert!(bench.utxo(&coin).await.is_none());
}

#[tokio::test]
async fn node_and_refund_on_chain_are_followed_and_taken_back() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    bench.put(&coin.address()).await;
    bench.put(&coin.node(NodeStatus::TransferLocked)).await;
    bench.put(&coin.tree(TreeStatus::Available)).await;
    bench
        .mine(vec![vec![], vec![], vec![coin.root.clone()]])
        .await;
    let node = bench.node().await;
    assert_eq!(
        (node.status, node.node_confirmed),
        (NodeStatus::OnChain, Some(BlockHeight(2)))
    );
    bench.mine(vec![vec![coin.direct_from_cpfp.clone()]]).await;
    let node = bench.node().await;
    assert_eq!(
        (node.status, node.refund_confirmed),
        (NodeStatus::Exited, Some(BlockHeight(3)))
    );
    bench.rewind(2).await;
    let node = bench.node().await;
    assert_eq!(
        (node.status, node.refund_confirmed),
        (NodeStatus::OnChain, None)
    );
    bench.rewind(1).await;
    let node = bench.node().await;
    assert_eq!(
        (node.status, node.node_confirmed),
        (NodeStatus::TransferLocked, None)
    );
    assert_eq!(node.before_chain, None);
}

#[tokio::test]
async fn foreign_refund_takes_the_leaf_out() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    bench.put(&coin.node(NodeStatus::Available)).await;
    let stale = spend(
        3,
        OutPoint::new(coin.root.compute_txid(), 0),
        1900,
        script(8),
    );
    bench.mine(vec![vec![coin.root.clone()], vec![stale]]).await;
    let node = bench.node().await;
    assert_eq!(
        (node.status, node.refund_confirmed),
        (NodeStatus::OnChain, Some(BlockHeight(1)))
    );
}

#[tokio::test]
async fn children_die_with_their_parent_and_come_back_with_it() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    let child = LeafId::from_bytes16([4; 16]);
    bench.put(&coin.node(NodeStatus::SplitLocked)).await;
    let child_tx = spend(
        3,
        OutPoint::new(coin.root.compute_txid(), 0),
        2000,
        script(9),
    );
    let row = NodeRow {
        id: child,
        parent: Some(LEAF),
        deposits: Vec::new(),
        txs: NodeTxs {
            node: serialize(&child_tx),
            ..NodeTxs::default()
        },
        ..coin.node(NodeStatus::Available)
    };
    bench.put(&row).await;
    let status = |bench: &Bench| {
        let tables = bench.tables.clone();
        async move {
            let row: NodeRow = tables.get(NodeRow::id_of(&child)).await.unwrap().unwrap();
            row.status
        }
    };
    bench.mine(vec![vec![], vec![coin.root.clone()]]).await;
    assert_eq!(status(&bench).await, NodeStatus::ParentExited);
    bench.mine(vec![vec![child_tx]]).await;
    assert_eq!(status(&bench).await, NodeStatus::OnChain);
    assert_eq!(
        bench.node().await.refund_confirmed,
        None,
        "its child is no refund"
    );
    bench.rewind(0).await;
    assert_eq!(status(&bench).await, NodeStatus::Available);
    assert_eq!(bench.node().await.status, NodeStatus::SplitLocked);
}

#[tokio::test]
async fn reorganised_deposit_waits_again_and_returns() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    bench.put(&coin.address()).await;
    bench.put(&coin.node(NodeStatus::Creating)).await;
    bench.put(&coin.tree(TreeStatus::Pending)).await;
    bench.put(&coin.utxo()).await;
    bench
        .mine(vec![vec![], vec![coin.deposit.clone()], vec![], vec![]])
        .await;
    assert_eq!(bench.node().await.status, NodeStatus::Available);
    bench.rewind(0).await;
    assert_eq!(bench.node().await.status, NodeStatus::Creating);
    assert_eq!(bench.tree().await.status, TreeStatus::Pending);
    assert_eq!(bench.utxo(&coin).await.unwrap().block, None);
    let event = bench.blocks(1, vec![vec![], vec![coin.deposit.clone()], vec![], vec![]]);
    bench.duties.apply(&event).await.unwrap();
    assert_eq!(bench.node().await.status, NodeStatus::Available);
}

#[tokio::test]
async fn reorganised_deposit_of_a_transferred_leaf_leaves_its_owner_alone() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    bench.put(&coin.address()).await;
    bench.put(&coin.utxo()).await;
    bench.put(&coin.tree(TreeStatus::Available)).await;
    bench.mine(vec![vec![], vec![coin.deposit.clone()]]).await;
    let mut node = coin.node(NodeStatus::Available);
    node.owner = key(11);
    bench.put(&node).await;
    bench.rewind(0).await;
    assert_eq!(bench.node().await.status, NodeStatus::Available);
}

#[tokio::test]
async fn block_that_comes_twice_changes_nothing() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    bench.put(&coin.address()).await;
    bench.put(&coin.node(NodeStatus::Available)).await;
    let event = bench.blocks(0, vec![vec![coin.deposit.clone()], vec![coin.root.clone()]]);
    bench.duties.apply(&event).await.unwrap();
    let before = bench.store.contents();
    bench.duties.apply(&event).await.unwrap();
    assert!(bench.store.contents() == before);
}

#[tokio::test]
async fn thousands_of_blocks_leave_a_bounded_log() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    bench.put(&coin.address()).await;
    bench.mine(vec![vec![coin.deposit.clone()]]).await;
    let undo = Key::new(
        tinderbox_flows::record::Table::Chain,
        UndoRow::id_of(BlockHeight(0)),
    );
    assert!(bench.store.contents().contains_key(&undo));
    bench.mine(vec![Vec::new(); 2050]).await;
    let chain: ChainRow = bench.tables.get(ChainRow::ID).await.unwrap().unwrap();
    assert_eq!(chain.blocks.len(), tinderbox_chain::follow::WINDOW);
    assert_eq!(chain.tip().unwrap().height, BlockHeight(2050));
    assert!(
        !bench.store.contents().contains_key(&undo),
        "old log entries are kept"
    );
}

/// A node that notes what it is sent.
#[derive(Default)]
struct Sent(Mutex<Vec<Txid>>);

#[async_trait]
impl ChainSource for Sent {
    async fn tip(&self) -> tinderbox_chain::Result<BlockRef> {
        unreachable!("the watchtower is told")
    }

    async fn confirmations_of(&self, _: &OutPoint) -> tinderbox_chain::Result<Option<OutputView>> {
        Ok(None)
    }

    async fn tx(&self, _: &Txid) -> tinderbox_chain::Result<Option<TxView>> {
        Ok(None)
    }

    async fn mempool_spender(&self, _: &OutPoint) -> tinderbox_chain::Result<Option<Txid>> {
        Ok(None)
    }

    async fn broadcast(&self, tx: &Transaction) -> tinderbox_chain::Result<Accepted> {
        self.0.lock().unwrap().push(tx.compute_txid());
        Ok(Accepted::InMempool)
    }

    async fn submit_package(&self, _: &[Transaction]) -> tinderbox_chain::Result<PackageOutcome> {
        unreachable!("the watchtower sends single transactions")
    }

    async fn fee_rate(&self, _: u16) -> tinderbox_chain::Result<FeeRate> {
        Ok(FeeRate::BROADCAST_MIN)
    }
}

#[tokio::test]
async fn watchtower_sends_the_refund_when_its_timelock_is_over_and_not_before() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    bench.put(&coin.node(NodeStatus::Available)).await;
    bench.mine(vec![vec![], vec![coin.root.clone()]]).await;
    let sent = Arc::new(Sent::default());
    let tower = Watchtower::on(bench.store.clone(), sent.clone());
    // Confirmed at height 1: the first block that may hold it is 2051.
    assert_eq!(tower.pass(BlockHeight(2049)).await.unwrap(), 0);
    assert_eq!(tower.pass(BlockHeight(2050)).await.unwrap(), 1);
    assert_eq!(
        *sent.0.lock().unwrap(),
        [coin.direct_from_cpfp.compute_txid()]
    );
    bench.mine(vec![vec![coin.direct_from_cpfp.clone()]]).await;
    assert_eq!(
        tower.pass(BlockHeight(2052)).await.unwrap(),
        0,
        "it is confirmed"
    );
}

#[tokio::test]
async fn watchtower_leaves_quiet_leaves_alone() {
    let (bench, coin) = (Bench::new(), Coin::new());
    bench.put(&coin.node(NodeStatus::Available)).await;
    let sent = Arc::new(Sent::default());
    let tower = Watchtower::on(bench.store.clone(), sent.clone());
    assert_eq!(tower.pass(BlockHeight(1_000_000)).await.unwrap(), 0);
    assert!(sent.0.lock().unwrap().is_empty());
}
