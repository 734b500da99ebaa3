//! Which refund is published when.

use tinderbox_flows::rows::{
    ClaimPhase, Details, FlowId, LeafRefunds, ReceiverRow, TransferKind, TransferLeafRow,
    TransferRow, TransferStatus,
};
use tinderbox_protocol::tx::p2tr;
use tinderbox_protocol::{LeafSequence, TransferId};

use super::*;

const CHILD: LeafId = LeafId::from_bytes16([4; 16]);

/// Confirmed here in all tests.
const AT: u32 = 1;

struct Tower {
    sent: Arc<Sent>,
    tower: Watchtower,
}

impl Tower {
    fn on(bench: &Bench) -> Self {
        let sent = Arc::new(Sent::default());
        Self {
            tower: Watchtower::on(bench.store.clone(), sent.clone()),
            sent,
        }
    }

    /// What is sent at `tip`.
    async fn at(&self, tip: u32) -> Vec<Txid> {
        self.sent.0.lock().unwrap().clear();
        self.tower.pass(BlockHeight(tip)).await.unwrap();
        self.sent.0.lock().unwrap().clone()
    }
}

/// A leaf whose refunds have timelock `timelock`, and its deposit's root.
fn coin(timelock: u32) -> Coin {
    let mut coin = Coin::new();
    let out = OutPoint::new(coin.root.compute_txid(), 0);
    coin.refund = spend(3, out, timelock, script(6));
    coin.direct_from_cpfp = spend(3, out, timelock + 50, script(7));
    coin
}

fn transfer(kind_of_lock: u8, phase: ClaimPhase, intermediate: LeafRefunds) -> TransferRow {
    TransferRow {
        id: TransferId::from_bytes16([kind_of_lock; 16]),
        kind: TransferKind::Transfer,
        status: if phase.is_pending() {
            TransferStatus::SenderKeyTweaked
        } else {
            TransferStatus::SenderKeyTweakPending
        },
        network: Network::Regtest,
        sender: key(1),
        receivers: vec![ReceiverRow {
            identity: key(30),
            phase,
            before: phase,
            completed: None,
        }],
        leaves: vec![TransferLeafRow {
            leaf: LEAF,
            receiver: 0,
            secret_cipher: Vec::new(),
            signature: Vec::new(),
            send_tweak: None,
            send_proofs: Vec::new(),
            claim_tweak: None,
            claim_proofs: Vec::new(),
            previous_sequence: LeafSequence::INITIAL,
            intermediate,
            claim_refunds: None,
        }],
        values: vec![Sats(100_000)],
        expiry: None,
        invoice: String::new(),
        fingerprint: [0; 32],
        details: Details::None,
        started_by: FlowId([0; 16]),
        held: None,
        created: Millis(5),
        updated: Millis(5),
    }
}

fn intermediate(coin: &Coin, timelock: u32, to: &ScriptBuf) -> LeafRefunds {
    let out = OutPoint::new(coin.root.compute_txid(), 0);
    LeafRefunds {
        cpfp: serialize(&spend(3, out, timelock, to.clone())),
        direct: Vec::new(),
        direct_from_cpfp: serialize(&spend(3, out, timelock + 50, to.clone())),
    }
}

fn id_of(raw: &[u8]) -> Txid {
    bitcoin::consensus::deserialize::<Transaction>(raw)
        .unwrap()
        .compute_txid()
}

#[tokio::test]
async fn case_52_the_owners_refund_is_out_before_any_former_owners_could_be() {
    for timelock in (100..=2000).step_by(100) {
        let (mut bench, coin) = (Bench::new(), coin(timelock));
        bench.put(&coin.node(NodeStatus::Available)).await;
        bench.mine(vec![vec![], vec![coin.root.clone()]]).await;
        let tower = Tower::on(&bench);
        let due = AT + timelock + 50 - 1;
        assert!(tower.at(due - 1).await.is_empty(), "not before it is valid");
        // The next block may hold it; the best refund of a former owner comes 50 blocks later.
        assert_eq!(tower.at(due).await, [coin.direct_from_cpfp.compute_txid()]);
        assert!(due + 1 + 50 <= AT + timelock + 100);
    }
}

#[tokio::test]
async fn case_52_a_stale_branch_loses_to_the_present_node_for_every_timelock() {
    // What the renewals leave: a node of any timelock, and one of none under the old node.
    for timelock in std::iter::once(0).chain((100..=2000).step_by(100)) {
        let (mut bench, coin) = (Bench::new(), coin(2000));
        let parent = OutPoint::new(coin.root.compute_txid(), 0);
        let node = spend(3, parent, timelock, script(5));
        let direct = spend(3, parent, timelock + 50, script(5));
        let out = OutPoint::new(direct.compute_txid(), 0);
        let direct_refund = spend(3, out, 2050, script(7));
        let mut above = coin.node(NodeStatus::SplitLocked);
        above.txs.refund = Vec::new();
        above.txs.direct_from_cpfp_refund = Vec::new();
        bench.put(&above).await;
        let row = NodeRow {
            id: CHILD,
            parent: Some(LEAF),
            deposits: Vec::new(),
            txs: NodeTxs {
                node: serialize(&node),
                direct: serialize(&direct),
                direct_refund: serialize(&direct_refund),
                ..NodeTxs::default()
            },
            ..coin.node(NodeStatus::Available)
        };
        bench.put(&row).await;
        bench.mine(vec![vec![], vec![coin.root.clone()]]).await;
        let tower = Tower::on(&bench);
        let due = AT + timelock + 50 - 1;
        assert!(tower.at(due - 1).await.is_empty());
        assert_eq!(tower.at(due).await, [direct.compute_txid()]);
        // A former node, or a refund of the old node, waits for at least 100 blocks more.
        assert!(due + 1 < AT + timelock + 100);
        // Its own refund follows, from where the direct node confirmed.
        bench.mine(vec![vec![direct.clone()]]).await;
        let due = AT + 1 + 2050 - 1;
        assert!(tower.at(due - 1).await.is_empty());
        assert_eq!(tower.at(due).await, [direct_refund.compute_txid()]);
        bench.mine(vec![vec![direct_refund]]).await;
        assert!(tower.at(due + 100).await.is_empty(), "done");
    }
}

#[tokio::test]
async fn case_52_what_is_due_is_sent_at_every_block_until_it_is_confirmed() {
    let (mut bench, coin) = (Bench::new(), coin(300));
    bench.put(&coin.node(NodeStatus::Available)).await;
    bench.mine(vec![vec![], vec![coin.root.clone()]]).await;
    let tower = Tower::on(&bench);
    for tip in 350..360 {
        assert_eq!(tower.at(tip).await.len(), 1);
    }
    bench.mine(vec![vec![coin.direct_from_cpfp.clone()]]).await;
    assert!(tower.at(360).await.is_empty());
    bench.rewind(1).await;
    assert_eq!(
        tower.at(360).await.len(),
        1,
        "a reorganisation took it back"
    );
}

#[tokio::test]
async fn case_53_a_stale_refund_that_confirms_ends_the_watch_and_is_named() {
    let (mut bench, coin) = (Bench::new(), coin(300));
    bench.put(&coin.node(NodeStatus::Available)).await;
    bench.mine(vec![vec![], vec![coin.root.clone()]]).await;
    let tower = Tower::on(&bench);
    assert_eq!(tower.at(350).await.len(), 1);
    let out = OutPoint::new(coin.root.compute_txid(), 0);
    bench.mine(vec![vec![spend(3, out, 400, script(8))]]).await;
    assert!(tower.at(401).await.is_empty());
    let node = bench.node().await;
    assert_eq!(node.status, NodeStatus::OnChain);
    assert_eq!(node.refund_confirmed, Some(BlockHeight(2)));
    let mark: super::super::MarkRow = bench
        .tables
        .get(super::super::MarkRow::id_of(&LEAF))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        mark.spent,
        Some((BlockHeight(2), super::super::SpentBy::Unknown))
    );
}

#[tokio::test]
async fn unclaimed_payment_is_answered_with_the_receivers_refund_and_never_the_senders() {
    let (mut bench, coin) = (Bench::new(), coin(1000));
    bench.put(&coin.node(NodeStatus::TransferLocked)).await;
    let refunds = intermediate(&coin, 900, &p2tr(&key(30)));
    bench
        .put(&transfer(1, ClaimPhase::Pending, refunds.clone()))
        .await;
    bench.mine(vec![vec![], vec![coin.root.clone()]]).await;
    let tower = Tower::on(&bench);
    assert!(tower.at(AT + 948).await.is_empty());
    assert_eq!(tower.at(AT + 949).await, [id_of(&refunds.direct_from_cpfp)]);
    assert_eq!(
        tower.at(AT + 3000).await,
        [id_of(&refunds.direct_from_cpfp)],
        "the sender's is never sent"
    );
    let tx: Transaction = bitcoin::consensus::deserialize(&refunds.direct_from_cpfp).unwrap();
    bench.mine(vec![vec![tx]]).await;
    let node = bench.node().await;
    assert_eq!(
        (node.status, node.refund_confirmed),
        (NodeStatus::OnChain, Some(BlockHeight(2)))
    );
    assert!(tower.at(AT + 3001).await.is_empty());
}

#[tokio::test]
async fn payment_that_is_not_settled_is_answered_with_the_senders_refund() {
    let (mut bench, coin) = (Bench::new(), coin(1000));
    bench.put(&coin.node(NodeStatus::TransferLocked)).await;
    let refunds = intermediate(&coin, 900, &p2tr(&key(30)));
    bench
        .put(&transfer(1, ClaimPhase::Initiated, refunds))
        .await;
    bench.mine(vec![vec![], vec![coin.root.clone()]]).await;
    let tower = Tower::on(&bench);
    assert!(tower.at(AT + 1048).await.is_empty());
    assert_eq!(
        tower.at(AT + 1049).await,
        [coin.direct_from_cpfp.compute_txid()]
    );
}

#[tokio::test]
async fn hash_locked_refund_is_published_while_its_payment_is_open() {
    let (mut bench, coin) = (Bench::new(), coin(1000));
    bench.put(&coin.node(NodeStatus::TransferLocked)).await;
    // To a hash lock: 30 and 15 blocks before the sender's own fee-less refund.
    let out = OutPoint::new(coin.root.compute_txid(), 0);
    let locked = spend(3, out, 985, script(40));
    let refunds = LeafRefunds {
        cpfp: serialize(&spend(3, out, 970, script(40))),
        direct: Vec::new(),
        direct_from_cpfp: serialize(&locked),
    };
    bench
        .put(&transfer(1, ClaimPhase::Initiated, refunds))
        .await;
    bench.mine(vec![vec![], vec![coin.root.clone()]]).await;
    let tower = Tower::on(&bench);
    assert!(tower.at(AT + 983).await.is_empty());
    assert_eq!(tower.at(AT + 984).await, [locked.compute_txid()]);
    assert_eq!(tower.at(AT + 2000).await, [locked.compute_txid()]);
}

/// Refunds to a hash lock are signed when it is settled: until then the sender's own protect it.
#[tokio::test]
async fn unsettled_hash_lock_is_answered_with_the_senders_refund() {
    let (mut bench, coin) = (Bench::new(), coin(1000));
    bench.put(&coin.node(NodeStatus::TransferLocked)).await;
    let mut refunds = intermediate(&coin, 970, &script(40));
    for raw in [&mut refunds.cpfp, &mut refunds.direct_from_cpfp] {
        *raw = crate::convert::node::without_witness(raw);
    }
    bench
        .put(&transfer(1, ClaimPhase::Initiated, refunds))
        .await;
    bench.mine(vec![vec![], vec![coin.root.clone()]]).await;
    let tower = Tower::on(&bench);
    assert_eq!(
        tower.at(AT + 1100).await,
        [coin.direct_from_cpfp.compute_txid()]
    );
}

#[tokio::test]
async fn returned_payment_is_answered_with_the_senders_refund() {
    let (mut bench, coin) = (Bench::new(), coin(1000));
    bench.put(&coin.node(NodeStatus::Available)).await;
    let mut row = transfer(
        1,
        ClaimPhase::Cancelled,
        intermediate(&coin, 900, &p2tr(&key(30))),
    );
    row.status = TransferStatus::Returned;
    bench.put(&row).await;
    bench.mine(vec![vec![], vec![coin.root.clone()]]).await;
    let tower = Tower::on(&bench);
    assert_eq!(
        tower.at(AT + 1100).await,
        [coin.direct_from_cpfp.compute_txid()]
    );
}

#[tokio::test]
async fn refund_without_its_signature_is_not_sent() {
    let (mut bench, coin) = (Bench::new(), coin(1000));
    let mut node = coin.node(NodeStatus::Available);
    node.txs.direct_from_cpfp_refund =
        crate::convert::node::without_witness(&node.txs.direct_from_cpfp_refund);
    bench.put(&node).await;
    bench.mine(vec![vec![], vec![coin.root.clone()]]).await;
    assert!(Tower::on(&bench).at(AT + 3000).await.is_empty());
}

#[tokio::test]
async fn leaves_whose_time_has_not_come_are_not_even_read() {
    let (mut bench, coin) = (Bench::new(), coin(2000));
    bench.put(&coin.node(NodeStatus::Available)).await;
    bench.mine(vec![vec![], vec![coin.root.clone()]]).await;
    let scan = |tip: u32| {
        tinderbox_store::Scan::range(
            tinderbox_flows::record::Index::WatchFrom,
            Vec::new(),
            (tip + 2).to_be_bytes(),
        )
    };
    use tinderbox_store::Store;
    assert!(bench.store.scan(scan(1700)).await.unwrap().is_empty());
    assert_eq!(bench.store.scan(scan(1801)).await.unwrap().len(), 1);
}
