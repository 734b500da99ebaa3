//! `tinderbox watchtower`, run for somebody who is away, against a former owner and a real node.

mod common;

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Address, Network as BitcoinNetwork, OutPoint, ScriptBuf};
use serde_json::Value;
use tinderbox_devnet::DevNet;
use tinderbox_protocol::Sats;
use tinderbox_wallet::{
    Bundle, ExitDriver, ExitOptions, MemoryStorage, Rate, Wallet, Wanted, new_words,
};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use common::network::{self, Folder, coin};
use common::{PATIENCE, database, program};

const OPERATORS: u16 = 3;
const LEAF: Sats = Sats(100_000);
/// What the former owner spends to get what is no longer hers.
const FUNDS: Sats = Sats(60_000);

/// Between two looks of the watchtower.
const POLL: Duration = Duration::from_secs(1);

/// The watchtower, as a process with nothing but a bundle and a node.
struct Tower {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tower {
    fn start(net: &DevNet, bundle: &std::path::Path) -> Self {
        let node = net.wallet_config(0).expect("a configuration").bitcoind;
        let mut process = Command::new(program())
            .args(["watchtower", "--json", "--poll"])
            .arg(POLL.as_secs().to_string())
            .arg("--bundle")
            .arg(bundle)
            .args(["--bitcoin", &node.url])
            .args(["--user", node.user.as_deref().expect("a user")])
            .env("BITCOIN_RPC_PASSWORD", node.password.expect("a password"))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program runs");
        let lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        Self { process, lines }
    }

    /// Reads what it tells until an event of this kind.
    async fn tells(&mut self, kind: &str) {
        let look = async {
            loop {
                let line = self.lines.next_line().await.expect("readable");
                let line = line.unwrap_or_else(|| panic!("the watchtower ended before {kind}"));
                let report: Value = serde_json::from_str(&line).expect("JSON");
                let events = report["events"].as_array().expect("events");
                if events.iter().any(|event| event.to_string().contains(kind)) {
                    return;
                }
            }
        };
        let told = tokio::time::timeout(PATIENCE, look).await;
        told.unwrap_or_else(|_| panic!("the watchtower does not tell {kind}"));
    }
}

/// One step of the thief's exit, as far as it goes.
async fn step(thief: &mut ExitDriver) -> Option<Wanted> {
    thief.step().await.ok().map(|report| report.wanted)
}

/// Case 52: somebody exits with an old state of a leaf while its owner is away and the operators
/// are gone. The owner's watchtower holds no key, and gets the coin to the owner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_52_a_watchtower_answers_an_old_exit_without_operators() {
    let folder = Folder::new();
    let mut net = network::start(network::plan(&folder, database::any(), 20)).await;
    let words = new_words().expect("words");
    let open = || {
        let config = net.wallet_config(0).expect("a configuration");
        Wallet::open(config, &words, Arc::new(MemoryStorage::new())).expect("a wallet")
    };
    let alice = open();
    let thief = open();
    let (bob, _) = network::new_wallet(&net, 1);
    network::deposit(&net, &[&alice], &[LEAF]).await;
    // What Alice could do before she paid, she keeps.
    let old = alice.export_bundle().expect("a bundle");
    thief.import_bundle(&old).expect("her own leaf");
    let outputs = [coin(&thief.funding_address().to_string(), FUNDS)];
    net.faucet().send_many(&outputs).await.expect("coins");
    net.faucet().mine(1).await.expect("a block");

    alice.send(&bob.address(), LEAF).await.expect("paid");
    bob.claim_pending().await.expect("claimed");
    assert_eq!(bob.balance().await.expect("a balance").available, LEAF);
    let bundle: Bundle = bob.export_bundle().expect("a bundle");
    let file = folder.path().join("bundle.json");
    std::fs::write(&file, bundle.to_json().expect("JSON")).expect("written");
    let node = bundle.paths[0].nodes.last().expect("a node").tx.clone();
    let spends_node = OutPoint::new(node.compute_txid(), 0);
    drop(bob);
    for index in 0..OPERATORS {
        net.kill(index).await;
    }

    let mut tower = Tower::start(&net, &file);
    let destination = Address::p2wsh(&ScriptBuf::from_bytes(vec![0x51]), BitcoinNetwork::Regtest);
    let mut theft = thief
        .exit(ExitOptions {
            destination,
            leaves: None,
            fee_rate: Some(Rate(20)),
            uneconomic_too: true,
            sweep_funding: false,
        })
        .await
        .expect("nobody is asked");
    assert!(matches!(step(&mut theft).await, Some(Wanted::Block { .. })));
    net.faucet().mine(1).await.expect("a block");
    tower.tells("on_chain").await;
    let begun = net.rpc().best_block().await.expect("a tip").height.0;
    let Some(Wanted::Block { at_least }) = step(&mut theft).await else {
        panic!("the old refund has a timelock");
    };
    // Bob's refund may come 50 blocks before the thief's: the watchtower must use that time.
    net.faucet()
        .mine(at_least.0 - 60 - begun)
        .await
        .expect("blocks");
    let answer = loop {
        let tip = net.rpc().best_block().await.expect("a tip").height.0;
        assert!(
            tip + 1 < at_least.0,
            "the thief's refund may be in the next block, and the watchtower has done nothing"
        );
        let spender = net.rpc().mempool_spender_of(&spends_node).await;
        if let Some(answer) = spender.expect("the mempool") {
            break answer;
        }
        net.faucet().mine(4).await.expect("blocks");
        tokio::time::sleep(2 * POLL).await;
    };
    net.faucet().mine(1).await.expect("a block");
    tower.tells("refunded").await;
    let ours = [
        &bundle.paths[0].direct_from_cpfp_refund,
        &bundle.paths[0].direct_refund,
    ];
    assert!(
        ours.into_iter()
            .flatten()
            .any(|tx| tx.0.compute_txid() == answer),
        "Bob's refund and nobody else's"
    );
    // The thief is too late, for ever.
    net.faucet().mine(100).await.expect("blocks");
    let _ = step(&mut theft).await;
    net.faucet().mine(1).await.expect("a block");
    let refund = OutPoint::new(answer, 0);
    let held = net.rpc().tx_out(&refund, true).await.expect("the chain");
    assert!(held.is_some(), "Bob's refund waits for him");
    tower.process.kill().await.expect("it was running");
    net.stop().await.expect("it stops");
}
