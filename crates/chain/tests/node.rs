//! The client and the private node.

use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Txid};
use serde_json::json;
use tinderbox_chain::{Auth, ChainSource, Error, RegtestConfig, RegtestNode, Rpc, RpcConfig};

async fn node() -> RegtestNode {
    RegtestNode::temporary()
        .await
        .expect("a regtest node; run scripts/bitcoind once if there is none")
}

#[tokio::test]
async fn a_node_starts_answers_and_stops() {
    let node = node().await;
    node.rpc()
        .check(Some(bitcoin::Network::Regtest))
        .await
        .unwrap();
    assert_eq!(node.rpc().best_block().await.unwrap().height.0, 0);
    node.mine(3).await.unwrap();
    assert_eq!(node.rpc().tip().await.unwrap().height.0, 3);
    let datadir = node.datadir().to_owned();
    node.stop().await.unwrap();
    assert!(!datadir.exists(), "temporary data is removed");
}

#[tokio::test]
async fn a_dropped_node_is_gone() {
    let node = node().await;
    let rpc = node.rpc().clone();
    drop(node);
    let error = rpc.best_block().await.expect_err("nobody answers");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.is_temporary());
}

#[tokio::test]
async fn data_survives_a_restart_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let config = RegtestConfig {
        datadir: Some(folder.path().join("node")),
        ..RegtestConfig::default()
    };
    let node = RegtestNode::start(config.clone()).await.unwrap();
    node.mine(7).await.unwrap();
    let tip = node.rpc().best_block().await.unwrap();
    node.stop().await.unwrap();
    let node = RegtestNode::start(config).await.unwrap();
    assert_eq!(node.rpc().best_block().await.unwrap(), tip);
}

#[tokio::test]
async fn a_second_node_in_the_same_folder_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let config = RegtestConfig {
        datadir: Some(folder.path().join("node")),
        ..RegtestConfig::default()
    };
    let _first = RegtestNode::start(config.clone()).await.unwrap();
    let error = RegtestNode::start(config)
        .await
        .err()
        .expect("the folder is in use")
        .to_string();
    assert!(
        error.contains("Another bitcoind uses this folder"),
        "{error}"
    );
}

#[tokio::test]
async fn a_busy_port_is_refused_with_what_to_do() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = RegtestConfig {
        rpc_port: Some(port),
        ..RegtestConfig::default()
    };
    let error = RegtestNode::start(config)
        .await
        .err()
        .expect("the port is taken")
        .to_string();
    assert!(
        error.contains(&port.to_string()) && error.contains("choose another port"),
        "{error}"
    );
}

#[tokio::test]
async fn a_missing_or_useless_bitcoind_is_refused_with_what_to_do() {
    let missing = RegtestConfig {
        bitcoind: Some("/nowhere/bitcoind".into()),
        ..RegtestConfig::default()
    };
    let error = RegtestNode::start(missing)
        .await
        .err()
        .expect("there is no such file")
        .to_string();
    assert!(error.contains("/nowhere/bitcoind"), "{error}");
    let useless = RegtestConfig {
        bitcoind: Some("/bin/false".into()),
        ..RegtestConfig::default()
    };
    let error = RegtestNode::start(useless)
        .await
        .err()
        .expect("it ends at once")
        .to_string();
    assert!(error.contains("ended at once"), "{error}");
}

#[tokio::test]
async fn wrong_credentials_are_told_apart() {
    let node = node().await;
    let rpc = Rpc::new(RpcConfig::with_password(node.url(), "tinderbox", "wrong")).unwrap();
    let error = rpc.best_block().await.expect_err("the password is wrong");
    assert!(matches!(error, Error::Unauthorized { .. }), "{error}");
    assert!(!error.is_temporary());
}

#[tokio::test]
async fn a_cookie_is_read_again_when_it_has_changed() {
    let node = node().await;
    let cookie = node.datadir().join("cookie");
    std::fs::write(&cookie, "tinderbox:old").unwrap();
    let config = RpcConfig {
        url: node.url(),
        auth: Auth::CookieFile(cookie.clone()),
        timeout: Duration::from_secs(10),
    };
    let rpc = Rpc::new(config).unwrap();
    assert!(matches!(
        rpc.best_block().await,
        Err(Error::Unauthorized { .. })
    ));
    std::fs::write(&cookie, "tinderbox:tinderbox\n").unwrap();
    rpc.best_block().await.unwrap();
    // Known now; a file that cannot be read any more does no harm.
    std::fs::remove_file(&cookie).unwrap();
    rpc.best_block().await.unwrap();
}

#[tokio::test]
async fn another_network_is_refused() {
    let node = node().await;
    let error = node
        .rpc()
        .check(Some(bitcoin::Network::Bitcoin))
        .await
        .expect_err("it is regtest");
    assert!(error.to_string().contains("regtest"), "{error}");
}

#[tokio::test]
async fn calls_of_a_batch_fail_one_by_one() {
    let node = node().await;
    node.mine(2).await.unwrap();
    let answers = node
        .rpc()
        .batch::<String>("getblockhash", [json!([0]), json!([99]), json!([2])])
        .await
        .unwrap();
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert_eq!(
        answers[1].as_ref().expect_err("above the tip").code(),
        Some(-8)
    );
}

#[tokio::test]
async fn what_is_not_there_is_none() {
    let node = node().await;
    let txid = Txid::all_zeros();
    let rpc = node.rpc();
    assert_eq!(rpc.tx(&txid).await.unwrap(), None);
    assert_eq!(
        rpc.confirmations_of(&OutPoint { txid, vout: 0 })
            .await
            .unwrap(),
        None
    );
    assert!(rpc.mempool_entry(&txid).await.unwrap().is_none());
    assert_eq!(
        rpc.mempool_spender(&OutPoint { txid, vout: 0 })
            .await
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn a_long_poll_ends_with_the_next_block() {
    let node = node().await;
    let rpc = node.rpc().clone();
    let known = rpc.best_block().await.unwrap();
    let unchanged = rpc
        .wait_for_tip_change(&known, Duration::from_millis(50))
        .await
        .unwrap();
    assert_eq!(unchanged, known);
    let waiting = tokio::spawn({
        let rpc = rpc.clone();
        async move {
            rpc.wait_for_tip_change(&known, Duration::from_secs(60))
                .await
        }
    });
    node.mine(1).await.unwrap();
    let tip = tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(tip.height.0, 1);
    // Already past what we know: no wait at all.
    let tip = rpc
        .wait_for_tip_change(&known, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(tip.height.0, 1);
}

#[tokio::test]
async fn without_estimates_the_fee_rate_is_the_fallback() {
    let node = node().await;
    let rate = node.rpc().fee_rate(6).await.unwrap();
    assert_eq!(rate, bitcoin::FeeRate::from_sat_per_vb_u32(2));
}
