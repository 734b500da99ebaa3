//! Callers that mean no good, at operators that listen on real sockets.
#![allow(dead_code, reason = "the common part has what other tests use")]

mod common;

use std::time::{Duration, Instant};

use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::{Message, SECP256K1, SecretKey};
use common::{Network, PATIENCE, Wallet, public, secret};
use prost::Message as _;
use tinderbox_operator::serve::Running;
use tinderbox_rpc::client::{self, TlsTrust};
use tinderbox_rpc::proto::spark::query_nodes_request::Source;
use tinderbox_rpc::proto::spark::{
    GenerateDepositAddressRequest, QueryNodesRequest, StartTransferRequest, TransferPackage,
    TreeNodeIds, UserSignedTxSigningJob,
};
use tinderbox_rpc::proto::spark_authn::{GetChallengeRequest, VerifyChallengeRequest};
use tonic::Code;

const REGTEST: i32 = 2;
/// Key shares that each operator keeps ready.
const POOL: u32 = 20;
/// A wallet that is told to try again waits so long.
const PAUSE: Duration = Duration::from_millis(100);
/// Unused addresses that one identity may have.
const QUOTA: u32 = 6;

fn address_request(identity: &SecretKey) -> GenerateDepositAddressRequest {
    GenerateDepositAddressRequest {
        signing_public_key: public(78).serialize().to_vec(),
        identity_public_key: identity.public_key(SECP256K1).serialize().to_vec(),
        network: REGTEST,
        leaf_id: None,
        is_static: Some(false),
        hash_variant: 1,
    }
}

/// Asks for addresses until the identity's quota is used up. Returns how often the pool was empty.
async fn use_up_quota(operator: &Running, identity: &SecretKey) -> usize {
    let wallet = Wallet::connect(operator, identity).await;
    let mut spark = wallet.spark();
    let (mut made, mut empty) = (0, 0);
    let begun = Instant::now();
    loop {
        assert!(
            begun.elapsed() < PATIENCE,
            "the pool is not refilled: {made} made, {empty} times empty"
        );
        let request = wallet.with(address_request(identity));
        let Err(status) = spark.generate_deposit_address(request).await else {
            made += 1;
            assert!(made <= QUOTA, "there is no quota");
            continue;
        };
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        if status.message().contains("unused") {
            assert_eq!(made, QUOTA, "{status:?}");
            return empty;
        }
        // The pool is being refilled, which takes a moment and no staff.
        assert!(status.message().contains("try again"), "{status:?}");
        empty += 1;
        // As a wallet does that is told so; faster ones meet their rate limit.
        tokio::time::sleep(PAUSE).await;
    }
}

/// Many identities, each of which takes all that it may and deposits nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_24_pool_that_identities_drain_has_a_quota_for_each_and_refills() {
    let mut network = Network::plan().await;
    for file in &mut network.files {
        file.pool.keyshares = POOL;
        file.limits.unused_addresses = QUOTA;
    }
    let running = network.start().await;
    // Three times what the pool holds.
    let identities = 3 * POOL / QUOTA;
    for number in 0..identities {
        let identity = secret(100 + u8::try_from(number).unwrap());
        use_up_quota(&running[0], &identity).await;
    }
    // The quota is the identity's, whichever operator is asked.
    let wallet = Wallet::connect(&running[1], &secret(100)).await;
    let request = wallet.with(address_request(&secret(100)));
    let refused = wallet
        .spark()
        .generate_deposit_address(request)
        .await
        .unwrap_err();
    assert!(refused.message().contains("unused"), "{refused:?}");
    // And afterwards the pool is full again. It may lack a tenth, for which no run is begun.
    let begun = Instant::now();
    let full = usize::try_from(POOL - POOL / 10).unwrap();
    while running[0].api().keyshares.count(full).await.unwrap() < full {
        assert!(begun.elapsed() < PATIENCE, "the pool is not refilled");
        tokio::time::sleep(PAUSE).await;
    }
    for operator in running {
        operator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_64_sessions_and_challenges_serve_one_operator_one_identity_and_once() {
    let network = Network::plan().await;
    let running = network.start().await;
    let identity = secret(90);
    let here = Wallet::connect(&running[0], &identity).await;
    let there = Wallet::connect(&running[1], &identity).await;
    // A token of operator 0 shown to operator 1.
    let refused = there
        .spark()
        .generate_deposit_address(here.with(address_request(&identity)))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    // A token of one identity used for another.
    let refused = here
        .spark()
        .generate_deposit_address(here.with(address_request(&secret(91))))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");

    let challenge_at = async |operator: &Running| {
        let url = format!("https://localhost:{}", operator.public_address().port());
        let channel = client::connect(&url, &TlsTrust::LocalInsecure)
            .await
            .unwrap();
        let mut authn = client::authn(channel);
        let public_key = identity.public_key(SECP256K1).serialize().to_vec();
        let protected = authn
            .get_challenge(GetChallengeRequest {
                public_key: public_key.clone(),
            })
            .await
            .unwrap()
            .into_inner()
            .protected_challenge;
        let encoded = protected
            .as_ref()
            .and_then(|protected| protected.challenge.as_ref())
            .unwrap()
            .encode_to_vec();
        let digest = sha256::Hash::hash(&encoded).to_byte_array();
        let signature = SECP256K1.sign_ecdsa(&Message::from_digest(digest), &identity);
        let answer = VerifyChallengeRequest {
            protected_challenge: protected,
            signature: signature.serialize_der().to_vec(),
            public_key,
        };
        (authn, answer)
    };
    let (mut authn, answer) = challenge_at(&running[0]).await;
    let (mut other, _) = challenge_at(&running[1]).await;
    // Answered at another operator than the one that asked.
    let refused = other.verify_challenge(answer.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    // A nonce of a megabyte is not even hashed; a good answer still serves after that.
    let mut oversized = answer.clone();
    oversized
        .protected_challenge
        .as_mut()
        .and_then(|protected| protected.challenge.as_mut())
        .unwrap()
        .nonce = vec![7; 1_000_000];
    let refused = authn.verify_challenge(oversized).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    authn.verify_challenge(answer.clone()).await.unwrap();
    let refused = authn.verify_challenge(answer).await.unwrap_err();
    assert!(
        matches!(
            refused.code(),
            Code::Unauthenticated | Code::AlreadyExists | Code::FailedPrecondition
        ),
        "{refused:?}"
    );
    for operator in running {
        operator.stop().await;
    }
}

/// The resident memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_66_huge_messages_and_lists_are_refused_in_bounded_memory() {
    let network = Network::plan().await;
    let running = network.start().await;
    let identity = secret(92);
    let wallet = Wallet::connect(&running[0], &identity).await;
    let mut spark = wallet.spark();
    let nodes = |count: usize, length: usize| QueryNodesRequest {
        source: Some(Source::NodeIds(TreeNodeIds {
            node_ids: vec!["x".repeat(length); count],
        })),
        network: REGTEST,
        ..Default::default()
    };
    let package = |count: usize| StartTransferRequest {
        transfer_id: "00000000-0000-7000-8000-000000000000".into(),
        owner_identity_public_key: identity.public_key(SECP256K1).serialize().to_vec(),
        receiver_identity_public_key: public(93).serialize().to_vec(),
        transfer_package: Some(TransferPackage {
            leaves_to_send: vec![UserSignedTxSigningJob::default(); count],
            ..Default::default()
        }),
        ..Default::default()
    };
    let before = resident();
    for _ in 0..20 {
        // More than ten mebibytes.
        let refused = spark
            .query_nodes(wallet.with(nodes(1, 11 * 1024 * 1024)))
            .await
            .unwrap_err();
        assert!(
            matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted),
            "{refused:?}"
        );
        // A hundred thousand items in less than that.
        let refused = spark
            .query_nodes(wallet.with(nodes(100_000, 36)))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        let refused = spark
            .start_transfer_v2(wallet.with(package(100_000)))
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
    let grown = resident().saturating_sub(before);
    // Sixty requests of up to 11 MiB were made here and received here, in one process: what stays
    // is a few buffers, not all of it.
    assert!(grown < 200 * 1024 * 1024, "{grown} bytes more");
    // It still serves.
    spark
        .generate_deposit_address(wallet.with(address_request(&identity)))
        .await
        .unwrap();
    for operator in running {
        operator.stop().await;
    }
}
