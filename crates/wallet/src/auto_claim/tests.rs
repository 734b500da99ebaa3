//! Receiving from the event stream.

use std::time::Duration;

use tinderbox_protocol::Sats;
use tinderbox_rpc::proto::spark;
use tinderbox_rpc::proto::spark::subscribe_to_events_response::Event;
use tokio::sync::broadcast::Receiver;

use crate::events::WalletEvent;
use crate::leaf::{LeafStatus, Node};
use crate::testing::{World, node_message, transfer_message};

/// The next event that `wanted` takes; fails if it does not come.
async fn wait_for<T>(
    events: &mut Receiver<WalletEvent>,
    wanted: impl Fn(&WalletEvent) -> Option<T>,
) -> T {
    let search = async {
        loop {
            let event = events.recv().await.unwrap();
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), search)
        .await
        .expect("the event comes")
}

fn received(event: &WalletEvent) -> Option<Sats> {
    match event {
        WalletEvent::Received { amount, .. } => Some(*amount),
        _ => None,
    }
}

fn connected(event: &WalletEvent) -> Option<()> {
    (*event == WalletEvent::Connected).then_some(())
}

/// A payment is there for Bob, but nobody has told his wallet: not among what waits.
fn unannounced(world: &World) -> spark::Transfer {
    let payment = world.payment(world.scene.transfer_leaf());
    world.wait_for_bob(&payment);
    world.operators[0].with(|script| script.pending.clear());
    transfer_message(&payment)
}

#[tokio::test]
async fn what_waited_before_the_stream_stood_is_claimed() {
    let world = World::of_bob().await;
    world.wait_for_bob(&world.payment(world.scene.transfer_leaf()));
    let mut events = world.wallet.events();
    let _running = world.wallet.run_auto_claim();
    assert_eq!(wait_for(&mut events, received).await, Sats(100_000));
}

#[tokio::test]
async fn a_payment_is_claimed_when_the_stream_tells_of_it() {
    let world = World::of_bob().await;
    let payment = unannounced(&world);
    let mut events = world.wallet.events();
    let _running = world.wallet.run_auto_claim();
    wait_for(&mut events, connected).await;
    let event = spark::TransferEvent {
        transfer: Some(payment),
        trace_id: String::new(),
    };
    world.operators[0].emit(Event::ReceiverTransfer(event));
    assert_eq!(wait_for(&mut events, received).await, Sats(100_000));
    assert_eq!(world.wallet.balance_of_leaves().available, Sats(100_000));
}

#[tokio::test]
async fn a_payment_that_is_told_twice_is_claimed_once() {
    let world = World::of_bob().await;
    let payment = unannounced(&world);
    let mut events = world.wallet.events();
    let _running = world.wallet.run_auto_claim();
    wait_for(&mut events, connected).await;
    for _ in 0..3 {
        let event = spark::TransferEvent {
            transfer: Some(payment.clone()),
            trace_id: String::new(),
        };
        world.operators[0].emit(Event::ReceiverTransfer(event));
    }
    wait_for(&mut events, received).await;
    // A last event shows that those before it were dealt with.
    let event = spark::TransferEvent {
        transfer: Some(payment),
        trace_id: String::new(),
    };
    world.operators[0].emit(Event::SenderTransfer(event));
    let mut more = 0;
    loop {
        match events.recv().await.unwrap() {
            WalletEvent::Received { .. } => more += 1,
            WalletEvent::SentChanged { .. } => break,
            _ => {}
        }
    }
    assert_eq!(
        (more, world.operators[0].with(|script| script.claims.len())),
        (0, 1)
    );
}

#[tokio::test]
async fn a_broken_stream_is_opened_again_and_nothing_is_missed() {
    let world = World::of_bob().await;
    let mut events = world.wallet.events();
    let _running = world.wallet.run_auto_claim();
    wait_for(&mut events, connected).await;
    world.operators[0].end_streams();
    let disconnected =
        |event: &WalletEvent| matches!(event, WalletEvent::Disconnected { .. }).then_some(());
    wait_for(&mut events, disconnected).await;
    // It arrives while nobody listens.
    world.wait_for_bob(&world.payment(world.scene.transfer_leaf()));
    assert_eq!(wait_for(&mut events, received).await, Sats(100_000));
    assert_eq!(world.operators[0].with(|script| script.subscriptions), 2);
}

#[tokio::test]
async fn a_stream_goes_on_where_the_last_one_ended() {
    let world = World::of_bob().await;
    world.operators[0].with(|script| script.resumes = true);
    let payment = unannounced(&world);
    let mut events = world.wallet.events();
    let _running = world.wallet.run_auto_claim();
    wait_for(&mut events, connected).await;
    let tell = |transfer: &spark::Transfer| {
        world.operators[0].emit(Event::SenderTransfer(spark::TransferEvent {
            transfer: Some(transfer.clone()),
            trace_id: String::new(),
        }));
    };
    tell(&payment);
    let changed =
        |event: &WalletEvent| matches!(event, WalletEvent::SentChanged { .. }).then_some(());
    wait_for(&mut events, changed).await;
    world.operators[0].end_streams();
    // It waits, but a stream that goes on needs no look around: the operator tells of it.
    world.operators[0].with(|script| script.pending = vec![payment.clone()]);
    wait_for(&mut events, connected).await;
    assert_eq!(
        world.operators[0].with(|script| script.resumed_after.clone()),
        [1],
        "the cursor of the event that was seen last"
    );
    world.operators[0].emit(Event::ReceiverTransfer(spark::TransferEvent {
        transfer: Some(payment),
        trace_id: String::new(),
    }));
    assert_eq!(wait_for(&mut events, received).await, Sats(100_000));
    assert_eq!(world.operators[0].with(|script| script.claims.len()), 1);
}

#[tokio::test]
async fn a_payment_that_is_not_believed_is_told_and_does_not_end_the_task() {
    let world = World::of_bob().await;
    let good = unannounced(&world);
    let mut events = world.wallet.events();
    let running = world.wallet.run_auto_claim();
    wait_for(&mut events, connected).await;
    let bad = spark::Transfer {
        total_value: 1,
        ..good.clone()
    };
    let tell = |transfer| {
        let event = spark::TransferEvent {
            transfer: Some(transfer),
            trace_id: String::new(),
        };
        world.operators[0].emit(Event::ReceiverTransfer(event));
    };
    tell(bad);
    let doubted =
        |event: &WalletEvent| matches!(event, WalletEvent::NotBelieved { .. }).then_some(());
    wait_for(&mut events, doubted).await;
    tell(good);
    assert_eq!(wait_for(&mut events, received).await, Sats(100_000));
    assert!(running.is_running());
}

#[tokio::test]
async fn a_deposit_counts_when_the_operators_agree_that_it_is_confirmed() {
    let world = World::of_alice().await;
    world.tell_node(&Node {
        status: LeafStatus::Creating,
        ..world.scene.leaf()
    });
    let mut events = world.wallet.events();
    let _running = world.wallet.run_auto_claim();
    wait_for(&mut events, connected).await;
    // The look around that follows the connection must have seen the deposit waiting.
    let waits = async {
        while world.wallet.balance_of_leaves().incoming != Sats(100_000) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waits)
        .await
        .expect("the deposit is seen");
    world.tell_node(&world.scene.leaf());
    let deposit = Some(node_message(&world.scene.leaf()));
    world.operators[0].emit(Event::Deposit(spark::DepositEvent {
        deposit,
        trace_id: String::new(),
    }));
    let confirmed = |event: &WalletEvent| match event {
        WalletEvent::DepositConfirmed { amount, .. } => Some(*amount),
        _ => None,
    };
    assert_eq!(wait_for(&mut events, confirmed).await, Sats(100_000));
}

#[tokio::test]
async fn a_wallet_that_is_told_to_stop_stops() {
    let world = World::of_bob().await;
    let mut events = world.wallet.events();
    let running = world.wallet.run_auto_claim();
    wait_for(&mut events, connected).await;
    running.stop();
    // The only other holder of the wallet was the task: its sender of events goes with it.
    drop(world.wallet);
    let closed = async { while events.recv().await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), closed)
        .await
        .expect("the task ends");
}
