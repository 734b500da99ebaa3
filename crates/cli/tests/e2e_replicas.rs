//! Two processes of each operator on one database, behind one port: payments go on while either of
//! them is killed, events reach wallets at the other one, and in the end all tell the same.
//!
//! `TINDERBOX_STORM_SEED` repeats the choices of an earlier run.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tinderbox_devnet::DevNet;
use tinderbox_protocol::{LeafId, Sats};
use tinderbox_rpc::client::{self, TlsTrust};
use tinderbox_rpc::proto::spark::SubscribeToEventsRequest;
use tinderbox_rpc::proto::spark::subscribe_to_events_response::Event;
use tinderbox_wallet::{Error, MemorySigner, Wallet};
use tonic::Streaming;

use common::network::{self, Folder};
use common::raw::Caller;
use common::{PATIENCE, database, eventually};

const OPERATORS: u16 = 3;
const REPLICAS: u16 = 2;
const WALLETS: usize = 4;
const LEAVES: usize = 5;
const LEAF: Sats = Sats(10_000);
/// Payments of each wallet while processes are killed.
const PAYMENTS: usize = 15;
/// How long all of them may take.
const STORM: Duration = Duration::from_secs(300);
/// A person who is told to try again waits so long.
const PAUSE: Duration = Duration::from_millis(250);
/// An event crosses processes in a fraction of this.
const EVENT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_and_events_survive_the_death_of_either_process_of_an_operator() {
    let Some(database) = database::postgres() else {
        return;
    };
    let folder = Folder::new();
    let mut plan = network::plan(&folder, database, 80);
    plan.replicas = REPLICAS;
    let mut net = network::start(plan).await;
    let place = net.plan().folder.clone();
    let (wallets, signers): (Vec<Wallet>, Vec<MemorySigner>) = (0u16..)
        .take(WALLETS)
        .map(|number| network::new_wallet(&net, number % OPERATORS))
        .unzip();
    let all: Vec<&Wallet> = wallets.iter().collect();
    network::deposit(&net, &all, &[LEAF; LEAVES]).await;

    events_reach_a_wallet_at_either_process(&net, &place, &wallets, &signers).await;
    storm(&mut net, &wallets).await;

    net.ready().await.expect("all processes are up");
    settle(&wallets).await;
    network::flows_have_ended(&net).await;
    assert_all_tell_the_same(&net, &wallets, &signers[0]).await;
    net.stop().await.expect("it stops");
    assert_no_panic(&place);
    database::remove(&place, OPERATORS).await;
}

/// The wallets' ports of the processes of one operator.
fn own_ports(folder: &Path, index: u16) -> Vec<u16> {
    ["operator.toml", "operator-1.toml"]
        .iter()
        .map(|name| {
            let path = folder.join(format!("operator-{index}")).join(name);
            let text = std::fs::read_to_string(path).expect("a configuration");
            let config: toml::Table = text.parse().expect("it is TOML");
            let address = config["listen"]["public"].as_str().expect("an address");
            let (_, port) = address.rsplit_once(':').expect("a port");
            port.parse().expect("a number")
        })
        .collect()
}

type Stream = Streaming<tinderbox_rpc::proto::spark::SubscribeToEventsResponse>;

async fn subscribe(caller: &Caller, port: u16, after: Vec<u8>) -> Stream {
    let url = format!("https://localhost:{port}");
    let channel = client::connect(&url, &TlsTrust::LocalInsecure)
        .await
        .expect("the process answers");
    // The session was made at the other process, for half of them.
    let request = caller.with(SubscribeToEventsRequest {
        identity_public_key: caller.identity.clone(),
        resume_after: after,
        every_change: false,
    });
    let reply = client::spark(channel).subscribe_to_events(request).await;
    reply.expect("a stream").into_inner()
}

/// The next payment on a stream, and the cursor behind it.
async fn next_received(stream: &mut Stream) -> (String, Vec<u8>) {
    let search = async {
        loop {
            let message = stream.message().await.expect("no error").expect("an event");
            if let Some(Event::ReceiverTransfer(event)) = message.event {
                return (event.transfer.expect("a transfer").id, message.cursor);
            }
        }
    };
    tokio::time::timeout(EVENT, search)
        .await
        .expect("the event comes")
}

async fn events_reach_a_wallet_at_either_process(
    net: &DevNet,
    folder: &Path,
    wallets: &[Wallet],
    signers: &[MemorySigner],
) {
    let receiver = Caller::log_in(net, 0, &signers[1]).await;
    let ports = own_ports(folder, 0);
    assert_eq!(ports.len(), usize::from(REPLICAS));
    let mut streams = Vec::new();
    for port in &ports {
        let mut stream = subscribe(&receiver, *port, Vec::new()).await;
        let first = stream
            .message()
            .await
            .expect("no error")
            .expect("a message");
        assert!(matches!(first.event, Some(Event::Connected(_))));
        assert!(!first.resumed, "nothing was asked for");
        streams.push((stream, first.cursor));
    }
    let payment = wallets[0]
        .pay_many(&[(wallets[1].address(), LEAF)])
        .await
        .expect("paid");
    let mut cursors = Vec::new();
    for (stream, _) in &mut streams {
        let (id, cursor) = next_received(stream).await;
        assert_eq!(id, payment.id.to_string());
        cursors.push(cursor);
    }
    assert_eq!(cursors[0], cursors[1], "one log for all processes");
    // Who comes back at the other process is told what it missed there, once.
    let before = streams[0].1.clone();
    drop(streams);
    let mut again = subscribe(&receiver, ports[1], before).await;
    let first = again.message().await.expect("no error").expect("a message");
    assert!(matches!(first.event, Some(Event::Connected(_))) && first.resumed);
    assert_eq!(next_received(&mut again).await.0, payment.id.to_string());
    let mut late = subscribe(&receiver, ports[0], cursors[0].clone()).await;
    let first = late.message().await.expect("no error").expect("a message");
    assert!(first.resumed);
    let second = wallets[2]
        .pay_many(&[(wallets[1].address(), LEAF)])
        .await
        .expect("paid");
    assert_eq!(
        next_received(&mut late).await.0,
        second.id.to_string(),
        "nothing that was seen before"
    );
}

fn seed() -> u64 {
    match std::env::var("TINDERBOX_STORM_SEED") {
        Ok(text) => text.parse().expect("TINDERBOX_STORM_SEED is a number"),
        Err(_) => rand::random(),
    }
}

/// All payments, while one process of an operator after the other is killed.
async fn storm(net: &mut DevNet, wallets: &[Wallet]) {
    let seed = seed();
    println!("TINDERBOX_STORM_SEED={seed}");
    let done = AtomicUsize::new(0);
    let _claims: Vec<_> = wallets.iter().map(Wallet::run_auto_claim).collect();
    let payments = async {
        join_all((0..wallets.len()).map(|from| {
            let done = &done;
            async move {
                let mut rng = StdRng::seed_from_u64(seed.wrapping_add(1 + from as u64));
                for _ in 0..PAYMENTS {
                    pay(wallets, from, &mut rng).await;
                    done.fetch_add(1, Ordering::SeqCst);
                }
            }
        }))
        .await;
    };
    let kills = async {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut kills = 0;
        while done.load(Ordering::SeqCst) < wallets.len() * PAYMENTS {
            let mut victims: Vec<u16> = (0..OPERATORS).collect();
            victims.shuffle(&mut rng);
            victims.truncate(rng.gen_range(1..=2));
            for victim in &victims {
                // The other process of the operator lives.
                net.kill_replica(*victim, rng.gen_range(0..REPLICAS)).await;
                kills += 1;
            }
            // Payments go on with one process; when each process dies is the storm's choice.
            let pause = Duration::from_millis(rng.gen_range(0..1500));
            tokio::time::sleep(pause).await;
            for victim in victims {
                net.restart(victim).expect("it starts");
            }
            net.ready().await.expect("processes come back");
        }
        kills
    };
    let (_, kills) = tokio::time::timeout(STORM, async { tokio::join!(payments, kills) })
        .await
        .expect("the storm is over in time");
    println!(
        "{} payments, {kills} processes killed",
        wallets.len() * PAYMENTS
    );
    assert!(kills > 0);
}

async fn pay(wallets: &[Wallet], from: usize, rng: &mut StdRng) {
    let to = loop {
        let to = rng.gen_range(0..wallets.len());
        if to != from {
            break to;
        }
    };
    loop {
        match wallets[from]
            .pay_many(&[(wallets[to].address(), LEAF)])
            .await
        {
            Ok(_) => return,
            // It is known later; the wallet holds the leaves until then.
            Err(Error::OutcomeUnknown { .. }) => return,
            Err(error) => {
                assert!(
                    error.is_temporary()
                        || matches!(
                            error,
                            Error::Insufficient { .. } | Error::NoExactAmount { .. }
                        ),
                    "no outage explains: {error}"
                );
                let _ = wallets[from].claim_pending().await;
                let _ = wallets[from].sync().await;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Nothing is lost, doubled or on its way.
async fn settle(wallets: &[Wallet]) {
    let expected = wallets.len() as u64 * LEAVES as u64 * LEAF.0;
    eventually("all that was paid is claimed", PATIENCE, || async {
        let mut total = 0;
        for (number, wallet) in wallets.iter().enumerate() {
            let text = |error: Error| format!("wallet {number}: {error}");
            let report = wallet.claim_pending().await.map_err(text)?;
            if let Some((id, why)) = report.refused.first() {
                return Err(format!("wallet {number}: transfer {id}: {why}"));
            }
            let report = wallet.sync().await.map_err(text)?;
            if !report.unusable.is_empty() || !report.dissent.is_empty() {
                return Err(format!("wallet {number}: {report:?}"));
            }
            let balance = wallet.balance().await.map_err(text)?;
            let moving = balance.incoming.0 + balance.outgoing.0 + balance.exiting.0;
            if moving > 0 {
                return Err(format!("wallet {number}: {moving} sats are moving"));
            }
            total += balance.available.0 + balance.to_be_renewed.0;
        }
        (total == expected)
            .then_some(())
            .ok_or_else(|| format!("{total} of {expected} sats"))
    })
    .await;
}

async fn assert_all_tell_the_same(net: &DevNet, wallets: &[Wallet], signer: &MemorySigner) {
    let ids: Vec<LeafId> = wallets
        .iter()
        .flat_map(|wallet| wallet.leaves().into_iter().map(|leaf| leaf.id))
        .collect();
    assert_eq!(ids.len(), wallets.len() * LEAVES);
    let mut known: Option<BTreeMap<String, _>> = None;
    for operator in 0..OPERATORS {
        // Two connections: one to each process.
        for _ in 0..REPLICAS {
            let mut caller = Caller::log_in(net, operator, signer).await;
            let nodes = caller.nodes(ids.clone()).await.expect("nodes");
            assert_eq!(nodes.len(), ids.len());
            let seen: BTreeMap<_, _> = nodes
                .into_iter()
                .map(|(id, node)| {
                    let owner = node.owner_identity_public_key;
                    let keyshare = node.signing_keyshare.map(|keyshare| keyshare.public_key);
                    (
                        id,
                        (owner, node.status, node.node_tx, node.refund_tx, keyshare),
                    )
                })
                .collect();
            match &known {
                None => known = Some(seen),
                Some(known) => assert_eq!(known, &seen, "operator {operator}"),
            }
        }
    }
}

fn assert_no_panic(folder: &Path) {
    network::assert_no_panic(folder, OPERATORS);
    for index in 0..OPERATORS {
        for name in ["log-1", "signer-log"] {
            let path = folder.join(format!("operator-{index}")).join(name);
            let log = std::fs::read_to_string(&path).expect("a log");
            assert!(!log.contains("panicked"), "{}", path.display());
        }
    }
}
