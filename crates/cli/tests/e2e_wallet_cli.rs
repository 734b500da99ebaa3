//! `tinderbox wallet`, as a person and as a script use it, on a running network: from new words to
//! an exit without operators.

mod common;

use serde_json::Value;
use tinderbox_chain::ChainSource;
use tinderbox_devnet::DevNet;
use tinderbox_protocol::Sats;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use common::cli::CliWallet;
use common::network::{self, DEPTH, Folder, coin};
use common::{PATIENCE, database, eventually};

/// Two deposits: 70,000 and 30,000 sats.
const COINS: [u64; 2] = [70_000, 30_000];
/// What pays for exits' packages.
const FUNDING: Sats = Sats(60_000);
/// An exit is over after so many blocks and looks, or never.
const MAX_STEPS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallet_lives_its_whole_life_on_the_command_line() {
    let folder = Folder::new();
    let mut net = network::start(network::plan(&folder, database::any(), 24)).await;
    let place = net.plan().folder.clone();
    let alice = CliWallet::new(&net, folder.path(), "alice");
    let bob = CliWallet::new(&net, folder.path(), "bob");

    let words = new_wallets(&alice, &bob).await;
    deposits(&net, &alice).await;
    pays(&alice, &bob).await;
    is_told_what_cannot_be_paid(&alice, &bob).await;
    is_paid_while_watching(&alice, &bob).await;
    let again = restores(&net, folder.path(), &alice, &words).await;
    network::flows_have_ended(&net).await;
    exits(&mut net, &bob, &again).await;

    net.stop().await.expect("it stops");
    network::assert_no_panic(&place, 3);
    database::remove(&place, 3).await;
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field}: {value}"))
}

fn sats(value: &Value, field: &str) -> u64 {
    value[field]
        .as_u64()
        .unwrap_or_else(|| panic!("{field}: {value}"))
}

fn list<'a>(value: &'a Value, field: &str) -> &'a Vec<Value> {
    value[field]
        .as_array()
        .unwrap_or_else(|| panic!("{field}: {value}"))
}

/// Makes two wallets; the words of the first.
async fn new_wallets(alice: &CliWallet, bob: &CliWallet) -> String {
    let made = alice.json(&["create"]).await;
    bob.json(&["create"]).await;
    let address = alice.json(&["address"]).await;
    assert_eq!(address["address"], made["address"]);
    assert!(text(&made, "address").starts_with("sparkl1"), "{made}");
    let empty = alice.json(&["balance"]).await;
    assert_eq!(sats(&empty, "available"), 0);
    assert!(list(&alice.json(&["history"]).await, "entries").is_empty());
    let error = alice.run(&["create"]).await.bad();
    assert!(error.contains("there is a wallet"), "{error}");
    text(&made, "words").to_owned()
}

/// Two coins come in. Before they are buried they are on their way, after that they can be spent.
async fn deposits(net: &DevNet, alice: &CliWallet) {
    let mut outputs = Vec::new();
    for value in COINS {
        let address = alice.json(&["deposit-address"]).await;
        outputs.push(coin(text(&address, "address"), Sats(value)));
    }
    let unused = alice.json(&["deposit-address", "--list"]).await;
    assert_eq!(list(&unused, "unused").len(), COINS.len());
    let tx = net.faucet().send_many(&outputs).await.expect("coins");
    let txid = tx.compute_txid().to_string();
    let claimed = alice.json(&["claim-deposit", &txid]).await;
    assert_eq!(list(&claimed, "leaves").len(), COINS.len());
    let before = alice.json(&["balance"]).await;
    let total: u64 = COINS.iter().sum();
    assert_eq!(
        (sats(&before, "available"), sats(&before, "incoming")),
        (0, total)
    );
    let error = alice
        .run(&["send", &address_of(alice).await, "70000"])
        .await
        .bad();
    assert!(error.contains("only 0 sats are spendable"), "{error}");

    net.faucet().mine(DEPTH).await.expect("blocks");
    eventually("the deposits can be spent", PATIENCE, || async move {
        let balance = alice.json(&["balance"]).await;
        (sats(&balance, "available") == total)
            .then_some(())
            .ok_or_else(|| balance.to_string())
    })
    .await;
    let error = alice.run(&["claim-deposit", &txid]).await.bad();
    assert!(error.contains("claimed already"), "{error}");
    let leaves = alice.json(&["leaves"]).await;
    let mut values: Vec<u64> = list(&leaves, "leaves")
        .iter()
        .map(|leaf| sats(leaf, "value"))
        .collect();
    values.sort_unstable();
    assert_eq!(values, [30_000, 70_000]);
    assert!(list(&leaves, "unusable").is_empty(), "{leaves}");
}

async fn address_of(wallet: &CliWallet) -> String {
    text(&wallet.json(&["address"]).await, "address").to_owned()
}

/// A payment, its claim, and what both see of it.
async fn pays(alice: &CliWallet, bob: &CliWallet) {
    let payment = alice.json(&["send", &address_of(bob).await, "70000"]).await;
    assert_eq!(sats(&payment, "amount"), 70_000);
    let id = text(&payment, "id");
    let waiting = bob.json(&["balance"]).await;
    assert_eq!(
        (sats(&waiting, "available"), sats(&waiting, "incoming")),
        (0, 70_000)
    );
    let shown = alice.json(&["outcome", id]).await;
    assert_eq!(shown["outcome"], "paid");
    let never = "01890000-0000-7000-8000-000000000000";
    let shown = alice.json(&["outcome", never]).await;
    assert_eq!(shown["outcome"], "not_made");
    let shown = alice.json(&["transfer", id]).await;
    assert_eq!(text(&shown, "status"), "claimable", "{shown}");
    // What waits for its receiver is the sender's no more, and no fault either.
    let leaves = alice.json(&["leaves"]).await;
    assert_eq!(list(&leaves, "leaves").len(), 1, "{leaves}");
    assert!(list(&leaves, "unusable").is_empty(), "{leaves}");

    let report = bob.json(&["receive"]).await;
    assert!(list(&report, "refused").is_empty(), "{report}");
    let claimed = &list(&report, "claimed")[0];
    assert_eq!((text(claimed, "id"), sats(claimed, "amount")), (id, 70_000));
    assert!(
        list(&bob.json(&["receive"]).await, "claimed").is_empty(),
        "nothing comes twice"
    );
    assert_eq!(sats(&bob.json(&["balance"]).await, "available"), 70_000);
    assert_eq!(sats(&alice.json(&["balance"]).await, "available"), 30_000);
    for (wallet, direction) in [(alice, "out"), (bob, "in")] {
        let history = wallet.json(&["history"]).await;
        let [entry] = list(&history, "entries").as_slice() else {
            panic!("{history}")
        };
        assert_eq!(
            (text(entry, "id"), text(entry, "direction")),
            (id, direction)
        );
        assert_eq!(
            (text(entry, "status"), sats(entry, "amount")),
            ("completed", 70_000)
        );
        let shown = wallet.run(&["history"]).await.good();
        assert!(shown.contains(id) && shown.contains("completed"), "{shown}");
    }
}

/// Wrong payments are refused in words that say what to do, and change nothing.
async fn is_told_what_cannot_be_paid(alice: &CliWallet, bob: &CliWallet) {
    let to = address_of(bob).await;
    for (amount, expected) in [
        ("30001", "only 30000 sats are spendable"),
        ("29999", "Possible nearest amounts: 30000 sats"),
        ("0", "at least 1 sat"),
        ("-5", "unexpected argument"),
        ("18446744073709551616", "invalid value"),
    ] {
        let error = alice.run(&["send", &to, amount]).await.bad();
        assert!(error.contains(expected), "{amount}: {error}");
    }
    let error = alice
        .run(&["transfer", "01890000-0000-7000-8000-000000000000"])
        .await
        .bad();
    assert!(error.contains("Check the id"), "{error}");
    assert_eq!(sats(&alice.json(&["balance"]).await, "available"), 30_000);
    assert_eq!(list(&alice.json(&["history"]).await, "entries").len(), 1);
}

/// `receive --watch` tells of a payment when it comes.
async fn is_paid_while_watching(alice: &CliWallet, bob: &CliWallet) {
    let mut watch = alice
        .command(&["receive", "--watch", "--json"])
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(watch.stdout.take().expect("a pipe")).lines();
    let mut next = async || {
        let line = tokio::time::timeout(PATIENCE, lines.next_line())
            .await
            .expect("an event");
        let line = line.expect("it can be read").expect("it goes on");
        serde_json::from_str::<Value>(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    assert_eq!(next().await["event"], "connected");
    let payment = bob.json(&["send", &address_of(alice).await, "70000"]).await;
    let event = next().await;
    assert_eq!(text(&event, "event"), "received", "{event}");
    assert_eq!(
        (&event["id"], sats(&event, "amount")),
        (&payment["id"], 70_000)
    );
    watch.kill().await.expect("it ends");
    assert_eq!(sats(&alice.json(&["balance"]).await, "available"), 100_000);
}

/// The words alone bring everything back, on another device.
async fn restores(
    net: &DevNet,
    place: &std::path::Path,
    alice: &CliWallet,
    words: &str,
) -> CliWallet {
    let again = CliWallet::new(net, place, "alice-again");
    let restored = again.json_of(&["restore"], words).await;
    assert_eq!(text(&restored, "address"), address_of(alice).await);
    assert_eq!(sats(&again.json(&["balance"]).await, "available"), 100_000);
    let ids = async |wallet: &CliWallet| {
        let leaves = wallet.json(&["leaves"]).await;
        let leaves = list(&leaves, "leaves")
            .iter()
            .map(|leaf| text(leaf, "id").to_owned());
        leaves.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(ids(&again).await, ids(alice).await);
    assert_eq!(list(&again.json(&["history"]).await, "entries").len(), 2);
    again
}

/// All operators are killed; the wallet leaves alone, each step by a new process.
async fn exits(net: &mut DevNet, bob: &CliWallet, alice: &CliWallet) {
    for index in 0..net.plan().operators {
        net.kill(index).await;
    }
    let error = alice.run(&["balance"]).await.bad();
    assert!(error.contains("0 of 3 operators answered"), "{error}");
    let error = bob.run(&["exit", "status"]).await.bad();
    assert!(error.contains("no exit is under way"), "{error}");
    let estimate = alice.json(&["exit", "estimate", "--fee-rate", "2"]).await;
    assert_eq!(
        (sats(&estimate, "leaves"), sats(&estimate, "value")),
        (2, 100_000)
    );
    let destination = net.faucet().address().clone();
    let to = destination.to_string();
    let foreign = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq";
    let error = alice
        .run(&["exit", "start", "--to", foreign, "--once"])
        .await
        .bad();
    assert!(error.contains("another network"), "{error}");

    let start = [
        "exit",
        "start",
        "--to",
        &to,
        "--fee-rate",
        "2",
        "--keep-funding",
        "--once",
    ];
    let mut report = alice.json(&start).await;
    let error = alice.run(&start).await.bad();
    assert!(error.contains("an exit is under way already"), "{error}");
    let mut funded = false;
    for _ in 0..MAX_STEPS {
        match text(&report["wanted"], "wanted") {
            "nothing" => break,
            "funding" => {
                assert!(!funded, "it was paid: {report}");
                funded = true;
                let address = text(&report["wanted"], "address");
                net.faucet()
                    .send_many(&[coin(address, FUNDING)])
                    .await
                    .expect("funding");
                net.faucet().mine(1).await.expect("a block");
            }
            "block" => {
                let wanted = sats(&report["wanted"], "at_least");
                let blocks = wanted.saturating_sub(sats(&report, "tip")).max(1);
                net.faucet()
                    .mine(u32::try_from(blocks).expect("few"))
                    .await
                    .expect("blocks");
            }
            other => panic!("{other}: {report}"),
        }
        report = alice.json(&["exit", "resume", "--once"]).await;
    }
    assert_eq!(report["done"], true, "{report}");
    assert!(funded, "packages must be paid for: {report}");
    let status = alice.json(&["exit", "status"]).await;
    assert_eq!(status["done"], true, "{status}");
    let sweep = text(&report, "sweep").parse().expect("a transaction id");
    let sweep = net
        .rpc()
        .tx(&sweep)
        .await
        .expect("the node answers")
        .expect("it is there")
        .tx;
    let out: u64 = sweep
        .output
        .iter()
        .filter(|output| output.script_pubkey == destination.script_pubkey())
        .map(|output| output.value.to_sat())
        .sum();
    assert!(
        out > 99_000 && out < 100_000,
        "leaves of 100000 sats gave {out}"
    );
}
