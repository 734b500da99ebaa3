//! The faucet and its front on a real node, spoken to as SDKs do.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{Address, Amount, Network, ScriptBuf, TxOut, Txid, WScriptHash};
use serde_json::{Value, json};
use tinderbox_chain::RegtestNode;
use tinderbox_devnet::faucet::{Error, Faucet, Front, FrontConfig, SdkFaucetKeys};

struct Bench {
    node: RegtestNode,
    faucet: Faucet,
    front: Front,
    http: reqwest::Client,
}

impl Bench {
    async fn new() -> Self {
        let node = RegtestNode::temporary()
            .await
            .expect("a regtest node; run scripts/bitcoind once if there is none");
        let faucet = Faucet::new(node.rpc().clone()).await.unwrap();
        faucet.fund().await.unwrap();
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let front = Front::start(
            faucet.clone(),
            FrontConfig {
                listen,
                ..FrontConfig::default()
            },
        )
        .await
        .unwrap();
        Self {
            node,
            faucet,
            front,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    async fn post(&self, body: &Value) -> (u16, Value) {
        let response = self
            .http
            .post(format!("http://{}", self.front.address()))
            .basic_auth("testutil", Some("testutilpassword"))
            .json(body)
            .send()
            .await
            .unwrap();
        (
            response.status().as_u16(),
            response.json().await.expect("every answer is JSON"),
        )
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        self.post(&json!({"jsonrpc": "1.0", "id": "spark-js", "method": method, "params": params}))
            .await
            .1
    }

    async fn send(&self, address: &Address, btc: f64) -> Txid {
        let answer = self
            .call("sendtoaddress", json!([address.to_string(), btc]))
            .await;
        assert_eq!(answer["error"], Value::Null, "{answer}");
        assert_eq!(answer["id"], "spark-js");
        answer["result"].as_str().unwrap().parse().unwrap()
    }

    async fn paid(&self, txid: Txid, address: &Address) -> Amount {
        let tx = self
            .node
            .rpc()
            .raw_transaction(&txid)
            .await
            .unwrap()
            .expect("the node knows the payment");
        let tx: bitcoin::Transaction =
            bitcoin::consensus::encode::deserialize_hex(&tx.hex).unwrap();
        let script = address.script_pubkey();
        tx.output
            .iter()
            .filter(|out| out.script_pubkey == script)
            .map(|out| out.value)
            .sum()
    }
}

fn address(tag: u8) -> Address {
    let script = ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([tag; 32]));
    Address::from_script(&script, Network::Regtest).unwrap()
}

#[tokio::test]
async fn a_fresh_chain_is_funded_and_stays_short() {
    let bench = Bench::new().await;
    let tip = bench.node.rpc().best_block().await.unwrap();
    assert!(
        tip.height.0 < 300,
        "rewards halve every 150 blocks; the height is {}",
        tip.height.0
    );
    assert!(bench.faucet.balance().await.unwrap() >= Amount::from_int_btc(1000));

    // What the official suites look for: at least 1,001,000 sats, 100 blocks deep.
    let sdk = SdkFaucetKeys::new("local").unwrap();
    let scan = bench.node.rpc().scan_tx_out_set(&sdk.miner).await.unwrap();
    let good = scan
        .unspents
        .iter()
        .filter(|out| out.amount.to_sat() >= 1_001_000 && scan.height - out.height >= 100);
    assert!(good.count() >= 50);

    // Once more: nothing to do.
    bench.faucet.fund().await.unwrap();
    assert_eq!(bench.node.rpc().best_block().await.unwrap(), tip);
}

#[tokio::test]
async fn two_payments_without_a_block_between_both_arrive() {
    let bench = Bench::new().await;
    let first = bench.send(&address(1), 0.1).await;
    let second = bench.send(&address(2), 0.000_655_36).await;
    assert_ne!(first, second);
    assert_eq!(
        bench.paid(first, &address(1)).await,
        Amount::from_sat(10_000_000)
    );
    assert_eq!(
        bench.paid(second, &address(2)).await,
        Amount::from_sat(65_536)
    );
    bench
        .call("generatetoaddress", json!([1, address(9).to_string()]))
        .await;
    for txid in [first, second] {
        assert_eq!(
            bench
                .node
                .rpc()
                .raw_transaction(&txid)
                .await
                .unwrap()
                .unwrap()
                .confirmations,
            1
        );
    }
}

#[tokio::test]
async fn one_coin_pays_again_and_again_from_its_unconfirmed_change() {
    let bench = Bench::new().await;
    // All coins but one go into one output, which then pays fifteen times without a block.
    let all = bench.faucet.balance().await.unwrap();
    let script = bench.faucet.address().script_pubkey();
    let one = all - Amount::from_int_btc(1);
    bench
        .faucet
        .send_many(&[TxOut {
            value: one,
            script_pubkey: script,
        }])
        .await
        .unwrap();
    let mut txids = BTreeSet::new();
    for _ in 0..15 {
        txids.insert(bench.send(&address(1), 0.5).await);
    }
    assert_eq!(txids.len(), 15);
    bench.faucet.mine(1).await.unwrap();
    for txid in txids {
        assert_eq!(
            bench
                .node
                .rpc()
                .raw_transaction(&txid)
                .await
                .unwrap()
                .unwrap()
                .confirmations,
            1
        );
    }
}

#[tokio::test]
async fn twenty_payments_at_once_all_arrive() {
    let bench = Bench::new().await;
    let to = address(3);
    let sends = (1..=20).map(|i| bench.send(&to, f64::from(i) / 1000.0));
    let txids = futures::future::join_all(sends)
        .await
        .into_iter()
        .collect::<BTreeSet<_>>();
    assert_eq!(txids.len(), 20);
    bench.faucet.mine(1).await.unwrap();
    let scan = bench.node.rpc().scan_tx_out_set(&to).await.unwrap();
    let amounts = scan
        .unspents
        .iter()
        .map(|out| out.amount.to_sat())
        .collect::<BTreeSet<_>>();
    assert_eq!(amounts, (1..=20).map(|i| i * 100_000).collect());
}

#[tokio::test]
async fn other_calls_reach_the_node_and_errors_come_as_json() {
    let bench = Bench::new().await;
    let height = bench.call("getblockcount", json!([])).await;
    assert_eq!(
        height["result"].as_u64().unwrap(),
        u64::from(bench.node.rpc().best_block().await.unwrap().height.0)
    );

    let (status, unknown) = bench
        .post(&json!({"id": 1, "method": "nosuchmethod", "params": []}))
        .await;
    assert_eq!(
        (status, unknown["error"]["code"].as_i64()),
        (404, Some(-32601))
    );
    let (status, absent) = bench
        .post(&json!({"id": 1, "method": "getmempoolentry", "params": ["00".repeat(32)]}))
        .await;
    assert_eq!((status, absent["error"]["code"].as_i64()), (500, Some(-5)));

    let batch = json!([
        {"id": 1, "method": "getblockcount", "params": []},
        {"id": 2, "method": "sendtoaddress", "params": [address(4).to_string(), 0.25]},
    ]);
    let (_, answers) = bench.post(&batch).await;
    assert_eq!(answers[0]["result"], height["result"]);
    let txid = answers[1]["result"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        bench.paid(txid, &address(4)).await,
        Amount::from_sat(25_000_000)
    );
}

#[tokio::test]
async fn bad_requests_are_refused_with_what_to_do() {
    let bench = Bench::new().await;
    let good = address(1).to_string();
    for (params, code, text) in [
        (json!([good, 0]), -3, "Invalid amount"),
        (json!([good, 0.123_456_789]), -3, "at most 8 decimals"),
        (json!([good, -1]), -3, "Invalid amount"),
        (json!([good]), -8, "needs an address and an amount"),
        (
            json!(["bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", 1]),
            -5,
            "Invalid address",
        ),
        (json!([good, 1_000_000]), -6, "Mine blocks"),
        (json!([good, 0.000_000_01]), -26, "dust"),
    ] {
        let answer = bench.call("sendtoaddress", params.clone()).await;
        assert_eq!(
            answer["error"]["code"].as_i64(),
            Some(code),
            "{params}: {answer}"
        );
        assert!(
            answer["error"]["message"].as_str().unwrap().contains(text),
            "{params}: {answer}"
        );
        assert_eq!(answer["result"], Value::Null);
    }
    // None of them cost the faucet its coins.
    bench.send(&address(1), 1.0).await;
}

#[tokio::test]
async fn strangers_are_kept_out() {
    let bench = Bench::new().await;
    let url = format!("http://{}", bench.front.address());
    let body = json!({"id": 1, "method": "getblockcount", "params": []});
    for request in [
        bench.http.post(&url),
        bench.http.post(&url).basic_auth("testutil", Some("wrong")),
    ] {
        let response = request.json(&body).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 401);
        let answer: Value = response.json().await.unwrap();
        assert!(
            answer["error"]["message"]
                .as_str()
                .unwrap()
                .contains("password")
        );
    }
}

#[tokio::test]
async fn payments_survive_a_reorganisation_and_a_restart_of_the_faucet() {
    let bench = Bench::new().await;
    bench.send(&address(1), 10.0).await;
    let block = bench.faucet.mine(1).await.unwrap()[0];
    bench.node.rpc().invalidate_block(&block).await.unwrap();
    bench.send(&address(1), 2.0).await;

    // A new faucet knows no unconfirmed change, but takes nothing that is spent.
    let again = Faucet::new(bench.node.rpc().clone()).await.unwrap();
    let txid = again
        .send(address(2).script_pubkey(), Amount::from_int_btc(3))
        .await
        .unwrap();
    bench.faucet.mine(1).await.unwrap();
    assert_eq!(
        bench
            .node
            .rpc()
            .raw_transaction(&txid)
            .await
            .unwrap()
            .unwrap()
            .confirmations,
        1
    );
}

#[tokio::test]
async fn blocks_come_on_demand_and_on_a_timer() {
    let bench = Bench::new().await;
    let rpc = bench.node.rpc();
    let before = rpc.best_block().await.unwrap();
    let answer = bench.call("generate", json!([3])).await;
    assert_eq!(answer["result"].as_array().unwrap().len(), 3);
    let tip = rpc.best_block().await.unwrap();
    assert_eq!(tip.height.0, before.height.0 + 3);

    let timer = bench.faucet.mine_every(Duration::from_millis(20));
    let later = rpc
        .wait_for_tip_change(&tip, Duration::from_secs(20))
        .await
        .unwrap();
    assert!(later.height.0 > tip.height.0);
    drop(timer);
}

#[tokio::test]
async fn a_busy_port_is_refused_with_what_to_do() {
    let bench = Bench::new().await;
    let config = FrontConfig {
        listen: bench.front.address(),
        ..FrontConfig::default()
    };
    let error = Front::start(bench.faucet.clone(), config)
        .await
        .err()
        .expect("the port is taken");
    assert!(matches!(error, Error::Listen { .. }));
    assert!(error.to_string().contains("choose another port"), "{error}");
}
