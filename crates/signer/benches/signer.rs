//! How fast the signer is: execute with many callers, key generation, and opening a full vault.
//!
//! Prints figures; asserts nothing.

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::time::Instant;

use common::{Dealt, Mode, Network};
use futures::future::join_all;
use rand::Rng;
use rand::rngs::OsRng;

const CALLERS: usize = 64;
const ROUNDS: usize = 10;
const KEYS: u32 = 1000;

fn main() {
    // Cargo passes --bench; when tests are run, there is nothing to do.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        for mode in [Mode::Local, Mode::Socket] {
            execute(mode).await;
        }
        keygen().await;
        open_full_vault().await;
    });
}

/// One signer, 64 callers, each with one tweak and three signatures per call: a claim of one leaf.
async fn execute(mode: Mode) {
    let network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let operator = &network.operators[0];
    let mut batches = Vec::new();
    for _ in 0..CALLERS * ROUNDS {
        let dealt = Dealt::new(leaf.id, &leaf.owner);
        let leaves = vec![dealt.claim_leaf(0)];
        let package = common::claim_package(operator.signer(), leaves);
        let kind = tinderbox_signer::PackageKind::Claim;
        let opened = operator.signer().open(kind, package).await.expect("opens");
        let mut jobs = Vec::new();
        for _ in 0..3 {
            jobs.push(network.job(&leaf, &[0, 1]).await.sign_job(true));
        }
        let mut job = network.key_job(&leaf, 0, Some(opened[0].staged.clone()), jobs);
        job.keyshare = leaf.keyshare.id;
        batches.push(job);
    }
    let begun = Instant::now();
    let mut callers = Vec::new();
    for jobs in batches.chunks(ROUNDS) {
        let signer = operator.shared();
        let jobs = jobs.to_vec();
        callers.push(tokio::spawn(async move {
            for job in jobs {
                signer.reserve(vec![job.clone()]).await.expect("reserves");
                signer.execute(vec![job]).await.expect("executes");
            }
        }));
    }
    for caller in join_all(callers).await {
        caller.expect("a caller");
    }
    let took = begun.elapsed();
    let calls = CALLERS * ROUNDS;
    println!(
        "{mode:?}: {calls} x (reserve + execute of 1 tweak, 3 signatures), {CALLERS} callers: {took:?}, {:.0}/s",
        calls as f64 / took.as_secs_f64()
    );
}

async fn keygen() {
    let network = Network::start(Mode::Local).await;
    let run: [u8; 16] = OsRng.r#gen();
    let begun = Instant::now();
    let rounds = network.operators.iter().map(|operator| async move {
        (
            operator.index,
            operator
                .signer()
                .dkg_round1(run, KEYS)
                .await
                .expect("round 1"),
        )
    });
    let packages: BTreeMap<_, _> = join_all(rounds).await.into_iter().collect();
    let first = begun.elapsed();
    let rounds = network.operators.iter().map(|operator| {
        let packages = packages.clone();
        async move {
            let out = operator
                .signer()
                .dkg_round2(run, packages)
                .await
                .expect("round 2");
            (operator.index, out)
        }
    });
    let mut inbox: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (from, out) in join_all(rounds).await {
        for (to, shares) in out {
            inbox.entry(to).or_default().insert(from, shares);
        }
    }
    let second = begun.elapsed();
    let ids: Vec<[u8; 16]> = (0..KEYS).map(|_| OsRng.r#gen()).collect();
    let rounds = network.operators.iter().map(|operator| {
        let shares = inbox.remove(&operator.index).expect("shares");
        let ids = ids.clone();
        async move {
            operator
                .signer()
                .dkg_finish(run, ids, shares)
                .await
                .expect("finish")
        }
    });
    let keys = join_all(rounds).await;
    let took = begun.elapsed();
    assert_eq!(keys.len(), 3);
    println!(
        "key generation, {KEYS} keys x 3 operators on this machine: {took:?} (round 1 {first:?}, round 2 {:?}, finish {:?})",
        second - first,
        took - second
    );
}

/// A vault with a million nonces.
async fn open_full_vault() {
    let mut network = Network::start(Mode::Local).await;
    let begun = Instant::now();
    for _ in 0..16 {
        network.operators[0]
            .signer()
            .nonces(62_500)
            .await
            .expect("nonces");
    }
    println!("1,000,000 nonces made: {:?}", begun.elapsed());
    network.operators[0].stop().await;
    let begun = Instant::now();
    let local = network.operators[0].open_local().expect("opens");
    println!("a vault of 1,000,000 slots opened: {:?}", begun.elapsed());
    drop(local);
}
