//! Payouts of cooperative exits.

use tinderbox_flows::rows::{ExitRow, ExitState};
use tinderbox_protocol::TransferId;

use super::*;

fn exit(tag: u8, payout: &Transaction, state: ExitState) -> ExitRow {
    ExitRow {
        exit: [tag; 16],
        transfer: TransferId::from_bytes16([tag; 16]),
        txid: payout.compute_txid(),
        funds: OutPoint::new(payout.compute_txid(), 1),
        expiry: Millis(1),
        state,
        seen: None,
    }
}

fn payout() -> Transaction {
    // Whatever the provider has, of any version and script.
    let mut tx = spend(2, foreign(40), 0xffff_ffff, script(41));
    tx.input[0].witness = Witness::from_slice(&[vec![1; 71], vec![2; 33]]);
    tx
}

async fn seen(bench: &Bench, tag: u8) -> Option<u32> {
    let row: ExitRow = bench
        .tables
        .get(ExitRow::id_of(&[tag; 16]))
        .await
        .unwrap()
        .unwrap();
    row.seen.map(|(height, _)| height.0)
}

#[tokio::test]
async fn case_55_a_payout_counts_from_its_block_and_is_forgotten_with_it() {
    for depth in 1..=6u32 {
        let mut bench = Bench::new();
        bench.put(&exit(1, &payout(), ExitState::Open)).await;
        bench.put(&exit(2, &payout(), ExitState::Open)).await;
        bench.mine(vec![vec![]; 3]).await;
        assert_eq!(seen(&bench, 1).await, None);
        let mut blocks = vec![vec![payout()]];
        blocks.resize(depth as usize, vec![]);
        bench.mine(blocks.clone()).await;
        // One transaction may pay for many.
        assert_eq!(seen(&bench, 1).await, Some(3));
        assert_eq!(seen(&bench, 2).await, Some(3));
        bench.rewind(2).await;
        assert_eq!(seen(&bench, 1).await, None);
        let event = bench.blocks(1, vec![vec![], vec![payout()]]);
        bench.duties.apply(&event).await.unwrap();
        assert_eq!(seen(&bench, 1).await, Some(4), "another branch has it too");
    }
}

#[tokio::test]
async fn case_50_a_payout_that_comes_after_the_return_is_noticed() {
    let mut bench = Bench::new();
    bench.put(&exit(1, &payout(), ExitState::Returned)).await;
    bench.put(&exit(2, &payout(), ExitState::Settled)).await;
    bench.mine(vec![vec![], vec![payout()]]).await;
    assert_eq!(seen(&bench, 1).await, Some(1));
    assert_eq!(seen(&bench, 2).await, None, "a settled exit is over");
}

#[test]
fn case_50_depth_counts_the_payouts_own_block() {
    let mut row = exit(1, &payout(), ExitState::Open);
    assert_eq!(row.depth(BlockHeight(100)), 0);
    row.seen = Some((BlockHeight(100), BlockHash::all_zeros()));
    assert_eq!(row.depth(BlockHeight(99)), 0);
    assert_eq!(row.depth(BlockHeight(100)), 1);
    assert_eq!(row.depth(BlockHeight(105)), 6);
}
