//! What reorganisations and crashes leave.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};

use tinderbox_flows::record::{Batch, Index, Stored, Table};
use tinderbox_store::{Counters, Found, Scan, Store, StoreError};

use super::*;

const CHILD: LeafId = LeafId::from_bytes16([4; 16]);

/// A node below the root, with refunds of its own.
struct Below {
    node: Transaction,
    direct: Transaction,
    refund: Transaction,
}

impl Below {
    fn new(coin: &Coin, timelock: u32) -> Self {
        let parent = OutPoint::new(coin.root.compute_txid(), 0);
        let node = spend(3, parent, timelock, script(5));
        let refund = spend(3, OutPoint::new(node.compute_txid(), 0), 2000, script(6));
        Self {
            direct: spend(3, parent, timelock + 50, script(5)),
            refund,
            node,
        }
    }

    fn row(&self, coin: &Coin, status: NodeStatus) -> NodeRow {
        NodeRow {
            id: CHILD,
            parent: Some(LEAF),
            deposits: Vec::new(),
            txs: NodeTxs {
                node: serialize(&self.node),
                direct: serialize(&self.direct),
                refund: serialize(&self.refund),
                ..NodeTxs::default()
            },
            ..coin.node(status)
        }
    }
}

type Bodies = BTreeMap<Key, Vec<u8>>;

/// Fails with the rows that differ, not with all of them.
fn assert_same(found: &Bodies, expected: &Bodies, what: &str) {
    let differ: Vec<&Key> = found
        .keys()
        .chain(expected.keys())
        .filter(|key| found.get(key) != expected.get(key))
        .collect();
    assert!(differ.is_empty(), "{what}: {differ:?}");
}

/// Everything that is stored, without the counts of writes, and without what wallets were told: that
/// is not taken back.
fn bodies(bench: &Bench) -> Bodies {
    bench
        .store
        .contents()
        .into_iter()
        .filter(|(key, _)| key.table != Table::Notice)
        .map(|(key, stored)| (key, stored.body))
        .collect()
}

async fn child(bench: &Bench) -> NodeRow {
    bench
        .tables
        .get(NodeRow::id_of(&CHILD))
        .await
        .unwrap()
        .unwrap()
}

#[tokio::test]
async fn case_55_reorganisations_of_depth_1_to_6_undo_exactly_what_the_blocks_said() {
    for depth in 1..=6u32 {
        for batched in [false, true] {
            let (mut bench, coin) = (Bench::new(), Coin::new());
            let below = Below::new(&coin, 300);
            bench.put(&coin.address()).await;
            bench.put(&coin.node(NodeStatus::SplitLocked)).await;
            bench.put(&below.row(&coin, NodeStatus::Available)).await;
            bench.put(&coin.tree(TreeStatus::Pending)).await;
            bench.put(&coin.utxo()).await;
            let blocks = vec![
                vec![coin.deposit.clone()],
                vec![],
                vec![coin.root.clone()],
                vec![below.node.clone()],
                vec![below.refund.clone()],
                vec![],
            ];
            bench.mine(vec![vec![]]).await;
            let mut states = vec![bodies(&bench)];
            for block in &blocks {
                bench.mine(vec![block.clone()]).await;
                states.push(bodies(&bench));
            }
            if batched {
                bench.rewind(0).await;
                bench.mine(blocks.clone()).await;
                assert_same(&bodies(&bench), &states[6], "in one batch as one by one");
            }
            bench.rewind(6 - depth).await;
            assert_same(
                &bodies(&bench),
                &states[6 - depth as usize],
                &format!("depth {depth}, batched {batched}"),
            );
            let rest = blocks[6 - depth as usize..].to_vec();
            let event = bench.blocks(1, rest);
            bench.duties.apply(&event).await.unwrap();
            assert_eq!(child(&bench).await.status, NodeStatus::Exited);
        }
    }
}

#[tokio::test]
async fn case_55_a_node_stays_dead_while_the_one_above_it_stands() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    let below = Below::new(&coin, 300);
    bench.put(&coin.node(NodeStatus::SplitLocked)).await;
    bench.put(&below.row(&coin, NodeStatus::Available)).await;
    bench
        .mine(vec![
            vec![],
            vec![coin.root.clone()],
            vec![below.node.clone()],
        ])
        .await;
    assert_eq!(child(&bench).await.status, NodeStatus::OnChain);
    bench.rewind(1).await;
    assert_eq!(child(&bench).await.status, NodeStatus::ParentExited);
    bench.rewind(0).await;
    assert_eq!(child(&bench).await.status, NodeStatus::Available);
}

#[tokio::test]
async fn case_55_a_deposit_that_is_not_deep_enough_any_more_waits_again() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    bench.put(&coin.address()).await;
    bench.put(&coin.node(NodeStatus::Creating)).await;
    bench.put(&coin.tree(TreeStatus::Pending)).await;
    bench.put(&coin.utxo()).await;
    bench
        .mine(vec![vec![], vec![coin.deposit.clone()], vec![], vec![]])
        .await;
    assert_eq!(bench.node().await.status, NodeStatus::Available);
    bench.rewind(2).await;
    assert_eq!(bench.node().await.status, NodeStatus::Creating);
    assert_eq!(bench.tree().await.status, TreeStatus::Pending);
    let event = bench.blocks(1, vec![vec![]]);
    bench.duties.apply(&event).await.unwrap();
    assert_eq!(bench.node().await.status, NodeStatus::Available);
    assert_eq!(bench.tree().await.status, TreeStatus::Available);
}

#[tokio::test]
async fn case_55_a_leaf_that_is_given_back_while_its_deposit_is_gone_waits_for_it() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    bench.put(&coin.address()).await;
    bench.put(&coin.node(NodeStatus::TransferLocked)).await;
    bench.put(&coin.tree(TreeStatus::Available)).await;
    bench.put(&coin.utxo()).await;
    bench.mine(vec![vec![], vec![coin.deposit.clone()]]).await;
    bench.rewind(0).await;
    assert_eq!(bench.node().await.status, NodeStatus::TransferLocked);
    let mut node = bench.node().await;
    node.unlock();
    bench.put(&node).await;
    let event = bench.blocks(1, vec![vec![]]);
    bench.duties.apply(&event).await.unwrap();
    assert_eq!(bench.node().await.status, NodeStatus::Creating);
}

#[tokio::test]
async fn case_54_a_lock_that_ends_on_chain_keeps_the_status_and_is_gone_after_a_reorganisation() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    bench.put(&coin.node(NodeStatus::TransferLocked)).await;
    bench.mine(vec![vec![], vec![coin.root.clone()]]).await;
    let mut node = bench.node().await;
    assert_eq!(node.status, NodeStatus::OnChain);
    // The claim of a payment whose sender has let go.
    node.owner = key(11);
    node.unlock();
    bench.put(&node).await;
    assert_eq!(bench.node().await.status, NodeStatus::OnChain);
    bench.rewind(0).await;
    let node = bench.node().await;
    assert_eq!((node.status, node.owner), (NodeStatus::Available, key(11)));
}

#[tokio::test]
async fn a_node_that_operators_agreed_to_let_go_is_not_brought_back_by_a_reorganisation() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    bench.put(&coin.node(NodeStatus::Exited)).await;
    bench.mine(vec![vec![], vec![coin.root.clone()]]).await;
    assert_eq!(bench.node().await.status, NodeStatus::Exited);
    bench.rewind(0).await;
    assert_eq!(bench.node().await.status, NodeStatus::Exited);
}

#[tokio::test]
async fn case_55_a_reorganisation_deeper_than_any_confirmation_is_followed_too() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    bench.put(&coin.address()).await;
    bench.put(&coin.node(NodeStatus::Creating)).await;
    bench.put(&coin.tree(TreeStatus::Pending)).await;
    bench.put(&coin.utxo()).await;
    bench.mine(vec![vec![], vec![coin.deposit.clone()]]).await;
    bench.mine(vec![vec![]; 40]).await;
    assert_eq!(bench.node().await.status, NodeStatus::Available);
    bench.rewind(0).await;
    assert_eq!(bench.node().await.status, NodeStatus::Creating);
    assert_eq!(bench.utxo(&coin).await.unwrap().block, None);
}

#[tokio::test]
async fn a_deposit_that_is_taken_by_an_unknown_transaction_takes_the_tree_out() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    let below = Below::new(&coin, 300);
    bench.put(&coin.address()).await;
    bench.put(&coin.node(NodeStatus::SplitLocked)).await;
    bench.put(&below.row(&coin, NodeStatus::Available)).await;
    bench.put(&coin.tree(TreeStatus::Available)).await;
    bench.put(&coin.utxo()).await;
    let theft = spend(2, coin.outpoint(), 0xffff_ffff, script(20));
    bench
        .mine(vec![vec![], vec![coin.deposit.clone()], vec![theft]])
        .await;
    assert_eq!(bench.node().await.status, NodeStatus::OnChain);
    assert_eq!(child(&bench).await.status, NodeStatus::ParentExited);
    bench.rewind(1).await;
    assert_eq!(bench.node().await.status, NodeStatus::SplitLocked);
    assert_eq!(child(&bench).await.status, NodeStatus::Available);
}

#[tokio::test]
async fn two_processes_of_one_operator_apply_each_block_once() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    bench.put(&coin.address()).await;
    let other = Duties::on(
        bench.store.clone(),
        bench.duties.site.clone(),
        Events::default(),
    );
    let first = bench.blocks(0, vec![vec![], vec![coin.deposit.clone()]]);
    let (one, two) = (bench.duties.clone(), other.clone());
    let (a, b) = tokio::join!(one.try_apply(&first), two.try_apply(&first));
    assert!(a.is_ok() || b.is_ok());
    let after = bodies(&bench);
    other.clone().apply(&first).await.unwrap();
    assert_same(&bodies(&bench), &after, "applied twice");
    // A process whose node is on another branch does not write over what the first one knows.
    bench.rewind(0).await;
    let branch = bench.blocks(7, vec![vec![]]);
    let known = bench.tip;
    bench.duties.apply(&branch).await.unwrap();
    let before = bodies(&bench);
    bench.tip = known;
    let ChainEvent::Connected(mut blocks) = bench.blocks(0, vec![vec![]]) else {
        unreachable!("blocks are connected")
    };
    blocks[0].block.header.prev_blockhash = BlockHash::from_byte_array([9; 32]);
    assert!(matches!(
        other.try_apply(&ChainEvent::Connected(blocks)).await,
        Err(crate::tables::TableError::Conflict)
    ));
    let to = BlockRef {
        height: BlockHeight(0),
        hash: BlockHash::from_byte_array([8; 32]),
    };
    let removed = vec![known.unwrap()];
    assert!(matches!(
        other
            .try_apply(&ChainEvent::Disconnected { to, removed })
            .await,
        Err(crate::tables::TableError::Conflict)
    ));
    assert_same(&bodies(&bench), &before, "another branch");
}

/// How a write dies.
const SOUND: u8 = 0;
const BEFORE: u8 = 1;
const AFTER: u8 = 2;

/// A store whose process is killed at a write: before it, or before its acknowledgement.
struct Killed {
    store: Arc<Memory>,
    next: AtomicU8,
}

#[async_trait]
impl Store for Killed {
    async fn get(&self, keys: &[Key]) -> Result<Vec<Option<Stored>>, StoreError> {
        self.store.get(keys).await
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<Found>, StoreError> {
        self.store.scan(scan).await
    }

    async fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        let gone = || Err(StoreError::Database("the process was killed".into()));
        match self.next.swap(SOUND, Ordering::SeqCst) {
            BEFORE => gone(),
            AFTER => {
                self.store.apply(batch).await?;
                gone()
            }
            _ => self.store.apply(batch).await,
        }
    }

    fn counters(&self) -> Counters {
        self.store.counters()
    }
}

#[tokio::test]
async fn case_60_a_crash_between_a_chain_event_and_its_write_leaves_the_replay_the_same_effect() {
    for death in [BEFORE, AFTER] {
        let (mut bench, coin) = (Bench::new(), Coin::new());
        let below = Below::new(&coin, 300);
        bench.put(&coin.address()).await;
        bench.put(&coin.node(NodeStatus::Creating)).await;
        bench.put(&below.row(&coin, NodeStatus::Creating)).await;
        bench.put(&coin.tree(TreeStatus::Pending)).await;
        bench.put(&coin.utxo()).await;
        let killed = Arc::new(Killed {
            store: bench.store.clone(),
            next: AtomicU8::new(SOUND),
        });
        let site = bench.duties.site.clone();
        let duties = || Duties::on(killed.clone(), site.clone(), Events::default());
        let contents = vec![
            vec![],
            vec![coin.deposit.clone()],
            vec![],
            vec![coin.root.clone()],
            vec![below.node.clone(), below.refund.clone()],
        ];
        let event = bench.blocks(0, contents);
        killed.next.store(death, Ordering::SeqCst);
        assert!(duties().apply(&event).await.is_err());
        // The next process does not know whether it got through.
        duties().apply(&event).await.unwrap();
        let once = bodies(&bench);
        assert_eq!(child(&bench).await.status, NodeStatus::Exited);
        duties().apply(&event).await.unwrap();
        assert_same(&bodies(&bench), &once, "connected again");
        // The same for blocks that are taken back.
        let ChainEvent::Connected(blocks) = &event else {
            unreachable!("blocks are connected")
        };
        let back = ChainEvent::Disconnected {
            to: blocks[1].at,
            removed: blocks[2..].iter().map(|block| block.at).collect(),
        };
        killed.next.store(death, Ordering::SeqCst);
        assert!(duties().apply(&back).await.is_err());
        duties().apply(&back).await.unwrap();
        let undone = bodies(&bench);
        duties().apply(&back).await.unwrap();
        assert_same(&bodies(&bench), &undone, "taken back again");
        assert_eq!(bench.node().await.status, NodeStatus::Creating);
        assert_eq!(bench.utxo(&coin).await.unwrap().block.unwrap().0.0, 1);
    }
}

#[tokio::test]
async fn a_node_whose_child_is_on_chain_leaves_the_watchtowers_list() {
    let (mut bench, coin) = (Bench::new(), Coin::new());
    let below = Below::new(&coin, 300);
    bench.put(&coin.node(NodeStatus::SplitLocked)).await;
    bench.put(&below.row(&coin, NodeStatus::Available)).await;
    bench.mine(vec![vec![], vec![coin.root.clone()]]).await;
    let listed = |bench: &Bench| {
        let store = bench.store.clone();
        async move {
            let scan = Scan::all(Index::WatchFrom);
            store.scan(scan).await.unwrap().len()
        }
    };
    assert_eq!(listed(&bench).await, 1);
    bench.mine(vec![vec![below.node.clone()]]).await;
    assert_eq!(listed(&bench).await, 1, "only the child");
    bench.mine(vec![vec![below.refund.clone()]]).await;
    assert_eq!(listed(&bench).await, 0);
    bench.rewind(1).await;
    assert_eq!(listed(&bench).await, 1);
}
