//! The follower against real nodes.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bitcoin::hashes::Hash;
use bitcoin::{Address, Network, ScriptBuf, WScriptHash};
use tinderbox_chain::follow::WINDOW;
use tinderbox_chain::{
    BlockRef, ChainEvent, ChainState, Follower, RegtestConfig, RegtestNode, Rpc,
};
use tinderbox_protocol::BlockHeight;

/// Remembers blocks as a database would: what it stores survives the follower.
#[derive(Default)]
struct Stored {
    chain: Vec<BlockRef>,
    events: Vec<Seen>,
    fail_next: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Connected(usize),
    Disconnected(usize),
}

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Stored>>);

#[async_trait]
impl ChainState for Memory {
    async fn window(&mut self) -> Result<Vec<BlockRef>, Box<dyn std::error::Error + Send + Sync>> {
        let stored = self.0.lock().unwrap();
        let from = stored.chain.len().saturating_sub(WINDOW);
        Ok(stored.chain[from..].to_vec())
    }

    async fn apply(
        &mut self,
        event: &ChainEvent,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut stored = self.0.lock().unwrap();
        if std::mem::take(&mut stored.fail_next) {
            return Err("the database is away".into());
        }
        match event {
            ChainEvent::Connected(blocks) => {
                for block in blocks {
                    if let Some(tip) = stored.chain.last() {
                        assert_eq!(
                            block.at.height.0,
                            tip.height.0 + 1,
                            "heights follow each other"
                        );
                        assert_eq!(
                            block.block.header.prev_blockhash, tip.hash,
                            "blocks follow each other"
                        );
                    }
                    assert_eq!(block.block.block_hash(), block.at.hash);
                    stored.chain.push(block.at);
                }
                stored.events.push(Seen::Connected(blocks.len()));
            }
            ChainEvent::Disconnected { to, removed } => {
                let keep = stored.chain.len() - removed.len();
                assert_eq!(
                    &stored.chain[keep..],
                    &removed[..],
                    "what is removed was there"
                );
                stored.chain.truncate(keep);
                assert_eq!(stored.chain.last(), Some(to));
                stored.events.push(Seen::Disconnected(removed.len()));
            }
        }
        Ok(())
    }
}

async fn node() -> RegtestNode {
    RegtestNode::temporary()
        .await
        .expect("a regtest node; run scripts/bitcoind once if there is none")
}

fn follower(rpc: &Rpc, memory: &Memory) -> Follower<Rpc, Memory> {
    Follower::new(rpc.clone(), memory.clone(), BlockHeight(0))
}

/// An address of its own per `tag`, so that two branches never have equal blocks.
fn address(tag: u8) -> Address {
    let script = ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array([tag; 32]));
    Address::from_script(&script, Network::Regtest).unwrap()
}

async fn assert_agrees(rpc: &Rpc, memory: &Memory) {
    let stored = memory.0.lock().unwrap().chain.clone();
    let hashes = rpc
        .block_hashes(BlockHeight(0), u32::try_from(stored.len()).unwrap() + 1)
        .await
        .unwrap();
    assert_eq!(
        stored.iter().map(|b| b.hash).collect::<Vec<_>>(),
        hashes,
        "state and node hold the same chain"
    );
}

async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future)
        .await
        .unwrap_or_else(|_| panic!("{what} took longer than {limit:?}"))
}

#[tokio::test]
async fn reorganisations_of_depth_1_to_6_are_followed() {
    let node = node().await;
    let rpc = node.rpc();
    let memory = Memory::default();
    let mut follower = follower(rpc, &memory);
    rpc.generate_to_address(20, &address(0)).await.unwrap();
    follower.catch_up().await.unwrap();

    for depth in 1..=6u32 {
        let tip = rpc.best_block().await.unwrap();
        let first = rpc
            .block_hash(BlockHeight(tip.height.0 + 1 - depth))
            .await
            .unwrap()
            .unwrap();
        rpc.invalidate_block(&first).await.unwrap();
        rpc.generate_to_address(depth + 1, &address(u8::try_from(depth).unwrap()))
            .await
            .unwrap();
        memory.0.lock().unwrap().events.clear();
        follower.catch_up().await.unwrap();
        assert_eq!(
            memory.0.lock().unwrap().events,
            [
                Seen::Disconnected(depth as usize),
                Seen::Connected(depth as usize + 1)
            ]
        );
        assert_agrees(rpc, &memory).await;
    }
}

#[tokio::test]
async fn a_chain_that_only_became_shorter_is_followed() {
    let node = node().await;
    let rpc = node.rpc();
    let memory = Memory::default();
    let mut follower = follower(rpc, &memory);
    rpc.generate_to_address(5, &address(0)).await.unwrap();
    follower.catch_up().await.unwrap();
    let third = rpc.block_hash(BlockHeight(3)).await.unwrap().unwrap();
    rpc.invalidate_block(&third).await.unwrap();
    follower.catch_up().await.unwrap();
    assert_eq!(memory.0.lock().unwrap().chain.len(), 3);
    assert_agrees(rpc, &memory).await;
}

#[tokio::test]
async fn two_thousand_and_fifty_blocks_at_once_are_followed_within_seconds() {
    let node = node().await;
    let rpc = node.rpc();
    let memory = Memory::default();
    let mut follower = follower(rpc, &memory);
    follower.catch_up().await.unwrap();
    rpc.generate_to_address(2050, &address(0)).await.unwrap();
    let started = Instant::now();
    within(
        Duration::from_secs(20),
        "following 2050 blocks",
        follower.catch_up(),
    )
    .await
    .unwrap();
    println!("2050 blocks followed in {:?}", started.elapsed());
    assert_eq!(memory.0.lock().unwrap().chain.len(), 2051);
    assert_agrees(rpc, &memory).await;
}

#[tokio::test]
async fn a_new_follower_goes_on_where_the_old_one_was() {
    let node = node().await;
    let rpc = node.rpc();
    let memory = Memory::default();
    rpc.generate_to_address(200, &address(0)).await.unwrap();
    follower(rpc, &memory).catch_up().await.unwrap();
    memory.0.lock().unwrap().events.clear();

    // While nobody follows, three blocks leave the chain and five come.
    let left = rpc.block_hash(BlockHeight(198)).await.unwrap().unwrap();
    rpc.invalidate_block(&left).await.unwrap();
    rpc.generate_to_address(5, &address(1)).await.unwrap();
    follower(rpc, &memory).catch_up().await.unwrap();
    assert_eq!(
        memory.0.lock().unwrap().events,
        [Seen::Disconnected(3), Seen::Connected(5)]
    );
    assert_agrees(rpc, &memory).await;
}

#[tokio::test]
async fn a_failed_event_comes_again_and_counts_once() {
    let node = node().await;
    let rpc = node.rpc();
    let memory = Memory::default();
    let mut follower = follower(rpc, &memory);
    follower.catch_up().await.unwrap();
    rpc.generate_to_address(3, &address(0)).await.unwrap();
    memory.0.lock().unwrap().fail_next = true;
    follower
        .catch_up()
        .await
        .expect_err("the state refuses once");
    follower.catch_up().await.unwrap();
    assert_agrees(rpc, &memory).await;
}

#[tokio::test]
async fn a_running_follower_sees_blocks_as_they_come_and_survives_a_restart_of_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let config = RegtestConfig {
        datadir: Some(folder.path().join("node")),
        ..RegtestConfig::default()
    };
    let node = RegtestNode::start(config.clone()).await.unwrap();
    let port = node.port();
    let memory = Memory::default();
    let mut follower = follower(node.rpc(), &memory);
    let mut tip = follower.tip();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let task = tokio::spawn(async move {
        follower
            .run(async {
                let _ = stopped.await;
            })
            .await
    });
    let mut reaches = async |height: u32| {
        within(
            Duration::from_secs(30),
            "the follower",
            tip.wait_for(|tip| tip.is_some_and(|tip| tip.height.0 == height)),
        )
        .await
        .unwrap();
    };
    node.rpc()
        .generate_to_address(2, &address(0))
        .await
        .unwrap();
    reaches(2).await;
    node.rpc()
        .generate_to_address(1, &address(0))
        .await
        .unwrap();
    reaches(3).await;

    node.stop().await.unwrap();
    let node = RegtestNode::start(RegtestConfig {
        rpc_port: Some(port),
        ..config
    })
    .await
    .unwrap();
    node.rpc()
        .generate_to_address(4, &address(1))
        .await
        .unwrap();
    reaches(7).await;
    stop.send(()).unwrap();
    within(Duration::from_secs(5), "stopping", task)
        .await
        .unwrap()
        .unwrap();
    assert_agrees(node.rpc(), &memory).await;
}

#[tokio::test]
async fn another_chain_is_refused_with_what_to_do() {
    let first = node().await;
    first
        .rpc()
        .generate_to_address(150, &address(0))
        .await
        .unwrap();
    let memory = Memory::default();
    follower(first.rpc(), &memory).catch_up().await.unwrap();

    let second = node().await;
    second
        .rpc()
        .generate_to_address(150, &address(1))
        .await
        .unwrap();
    let error = follower(second.rpc(), &memory)
        .catch_up()
        .await
        .expect_err("no block is common");
    assert!(error.to_string().contains("start anew"), "{error}");
    assert!(!error.is_temporary());
}
