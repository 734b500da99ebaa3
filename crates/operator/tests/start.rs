//! Three operators start, talk to each other and to a wallet, and stop.

mod common;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::{Message, PublicKey, SECP256K1, ecdsa};
use common::{Network, PATIENCE, Wallet, public, secret};
use tinderbox_operator::serve::{Operator, StartError};
use tinderbox_rpc::ServiceError;
use tinderbox_rpc::client;
use tinderbox_rpc::proto::mock::QueryPreimageShareRequest;
use tinderbox_rpc::proto::spark::query_nodes_request::Source;
use tinderbox_rpc::proto::spark::subscribe_to_events_response::Event;
use tinderbox_rpc::proto::spark::transfer_filter::Participant;
use tinderbox_rpc::proto::spark::{
    Address, GenerateDepositAddressRequest, GenerateStaticDepositAddressRequest,
    GetSigningCommitmentsRequest, GetUtxosForAddressRequest, QueryNodesRequest,
    QueryUnusedDepositAddressesRequest, SubscribeToEventsRequest, TransferFilter,
};
use tinderbox_rpc::proto::spark_token::QueryTokenOutputsRequest;
use tonic::Code;

const REGTEST: i32 = 2;

/// What a wallet checks before it shows an address to anybody.
fn check_address(address: &Address, owner: &PublicKey, signing: &PublicKey) {
    let verifying = PublicKey::from_slice(&address.verifying_key).unwrap();
    let expected =
        tinderbox_protocol::deposit::address(&verifying, tinderbox_protocol::Network::Local);
    assert_eq!(address.address, expected.to_string());
    let proof = address.deposit_address_proof.as_ref().unwrap();
    assert_eq!(proof.address_signatures.len(), 3);
    let digest = sha256::Hash::hash(address.address.as_bytes()).to_byte_array();
    for (index, signature) in (0u16..).zip(proof.address_signatures.values()) {
        let identity = public(u8::try_from(index).unwrap() + 1);
        let signature = ecdsa::Signature::from_der(signature).unwrap();
        SECP256K1
            .verify_ecdsa(&Message::from_digest(digest), &signature, &identity)
            .unwrap();
    }
    let operators = tinderbox_frost::tweak::sub_points(&verifying, signing).unwrap();
    let message = tinderbox_protocol::hash::pop_message(owner, &operators, &address.address);
    let signature: [u8; 64] = proof
        .proof_of_possession_signature
        .clone()
        .try_into()
        .unwrap();
    tinderbox_frost::verify_signature(&operators, &message, &signature).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn wallet_starts_gets_addresses_and_sees_its_deposit() {
    let network = Network::plan().await;
    let mut running = network.start().await;
    let (identity, signing) = (secret(77), public(78));
    let owner = identity.public_key(SECP256K1);
    let owner_bytes = owner.serialize().to_vec();
    let wallet = Wallet::connect(&running[0], &identity).await;
    let mut spark = wallet.spark();

    let request = || GenerateDepositAddressRequest {
        signing_public_key: signing.serialize().to_vec(),
        identity_public_key: owner_bytes.clone(),
        network: REGTEST,
        leaf_id: None,
        is_static: Some(false),
        hash_variant: 1,
    };
    let mut addresses = Vec::new();
    for _ in 0..3 {
        let answer = spark
            .generate_deposit_address(wallet.with(request()))
            .await
            .unwrap();
        let address = answer.into_inner().deposit_address.unwrap();
        check_address(&address, &owner, &signing);
        addresses.push(address.address);
    }
    // Without a session, and in somebody else's name.
    let refused = spark.generate_deposit_address(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut foreign = request();
    foreign.identity_public_key = public(79).serialize().to_vec();
    let refused = spark
        .generate_deposit_address(wallet.with(foreign))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut wrong = request();
    wrong.network = 1;
    let refused = spark
        .generate_deposit_address(wallet.with(wrong))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(ServiceError::from_status(&refused).reason.is_some());

    // Every operator has them, newest first; pages end.
    for operator in &running {
        let other = Wallet::connect(operator, &identity).await;
        let mut spark = other.spark();
        let unused = QueryUnusedDepositAddressesRequest {
            identity_public_key: owner_bytes.clone(),
            network: REGTEST,
            limit: 2,
            offset: 0,
        };
        let first = spark
            .query_unused_deposit_addresses(unused.clone())
            .await
            .unwrap()
            .into_inner();
        assert_eq!((first.deposit_addresses.len(), first.offset), (2, 2));
        let unused = QueryUnusedDepositAddressesRequest {
            offset: 2,
            ..unused
        };
        let last = spark
            .query_unused_deposit_addresses(unused)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(last.offset, -1);
        let listed: Vec<_> = first
            .deposit_addresses
            .iter()
            .chain(&last.deposit_addresses)
            .map(|row| row.deposit_address.clone())
            .rev()
            .collect();
        assert_eq!(listed, addresses);
    }

    // The static address is one and the same, whoever is asked.
    let statics = GenerateStaticDepositAddressRequest {
        signing_public_key: signing.serialize().to_vec(),
        identity_public_key: owner_bytes.clone(),
        network: REGTEST,
        hash_variant: 1,
    };
    let first = spark
        .generate_static_deposit_address(wallet.with(statics.clone()))
        .await
        .unwrap()
        .into_inner()
        .deposit_address
        .unwrap();
    check_address(&first, &owner, &signing);
    let other = Wallet::connect(&running[1], &identity).await;
    let again = other
        .spark()
        .generate_static_deposit_address(other.with(statics))
        .await
        .unwrap();
    assert_eq!(
        again.into_inner().deposit_address.unwrap().address,
        first.address
    );

    // What every wallet asks when it starts.
    let commitments = GetSigningCommitmentsRequest {
        node_ids: Vec::new(),
        count: 3,
        node_id_count: 2,
    };
    let answer = spark
        .get_signing_commitments(wallet.with(commitments))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.signing_commitments.len(), 6);
    let signers = |at: usize| -> Vec<&String> {
        answer.signing_commitments[at]
            .signing_nonce_commitments
            .keys()
            .collect()
    };
    assert!((0..6).all(|at| signers(at).len() == 2 && signers(at) == signers(0)));
    let tokens = client::token(wallet.channel.clone())
        .query_token_outputs(QueryTokenOutputsRequest::default())
        .await
        .unwrap();
    assert!(tokens.into_inner().page_response.is_some());
    let nodes = QueryNodesRequest {
        source: Some(Source::OwnerIdentityPubkey(owner_bytes.clone())),
        network: REGTEST,
        limit: 100,
        ..QueryNodesRequest::default()
    };
    let nodes = spark.query_nodes(nodes).await.unwrap().into_inner();
    assert_eq!((nodes.nodes.len(), nodes.offset), (0, -1));
    let pending = TransferFilter {
        participant: Some(Participant::ReceiverIdentityPublicKey(owner_bytes.clone())),
        network: REGTEST,
        limit: 25,
        ..TransferFilter::default()
    };
    let pending = spark
        .query_pending_transfers(wallet.with(pending))
        .await
        .unwrap()
        .into_inner();
    assert_eq!((pending.transfers.len(), pending.offset), (0, -1));
    let events = SubscribeToEventsRequest {
        identity_public_key: owner_bytes.clone(),
        ..SubscribeToEventsRequest::default()
    };
    let mut stream = spark
        .subscribe_to_events(wallet.with(events))
        .await
        .unwrap()
        .into_inner();
    let first = tokio::time::timeout(PATIENCE, stream.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(matches!(first.event, Some(Event::Connected(_))));
    let second = tokio::time::timeout(PATIENCE, stream.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(matches!(second.event, Some(Event::Heartbeat(_))));

    // A deposit is seen by every operator once it is deep enough.
    let address = addresses[0]
        .parse::<bitcoin::Address<_>>()
        .unwrap()
        .assume_checked();
    network
        .node
        .rpc()
        .generate_to_address(1, &address)
        .await
        .unwrap();
    network.node.mine(2).await.unwrap();
    for operator in &running {
        let url = format!("https://localhost:{}", operator.public_address().port());
        let channel = client::connect(&url, &client::TlsTrust::LocalInsecure)
            .await
            .unwrap();
        let mut spark = client::spark(channel);
        let asked = GetUtxosForAddressRequest {
            address: addresses[0].clone(),
            network: REGTEST,
            ..GetUtxosForAddressRequest::default()
        };
        let mut tip = operator.api().tip.clone();
        tokio::time::timeout(
            PATIENCE,
            tip.wait_for(|tip| tip.is_some_and(|tip| tip.height.0 >= 3)),
        )
        .await
        .unwrap()
        .unwrap();
        let utxos = spark
            .get_utxos_for_address(asked)
            .await
            .unwrap()
            .into_inner()
            .utxos;
        assert_eq!(utxos.len(), 1);
    }

    // One operator down: nothing that needs all of them starts; reads go on.
    running.pop().unwrap().stop().await;
    let refused = spark
        .generate_deposit_address(wallet.with(request()))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(
        !running[0]
            .ready(std::time::Duration::ZERO)
            .await
            .unwrap_err()
            .is_empty()
    );

    // Back again, with what it knew.
    let third = Operator::start(network.files[2].check().unwrap())
        .await
        .unwrap();
    third.ready(PATIENCE).await.unwrap();
    running.push(third);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match spark.generate_deposit_address(wallet.with(request())).await {
            Ok(_) => break,
            Err(status) if status.code() == Code::Unavailable => {
                assert!(tokio::time::Instant::now() < deadline, "{status}");
            }
            Err(status) => panic!("{status}"),
        }
    }
    for operator in running {
        operator.stop().await;
    }
    network.node.stop().await.unwrap();
    drop(network.folder);
}

/// Case 65: an operator whose configuration does not ask for the test controls does not know them, not
/// even on a local network. That it cannot ask for them elsewhere is for the configuration's tests.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn case_65_test_controls_are_unknown_where_nobody_asked_for_them() {
    let mut network = Network::plan().await;
    network.files[1].mock = false;
    let running = network.start().await;
    for (operator, code) in running.iter().zip([Code::NotFound, Code::Unimplemented]) {
        let wallet = Wallet::connect(operator, &secret(77)).await;
        let mut mock = client::mock(wallet.channel.clone());
        let request = wallet.with(QueryPreimageShareRequest {
            payment_hash: vec![9; 32],
        });
        let status = mock.query_preimage_share(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
    }
    for operator in running {
        operator.stop().await;
    }
    network.node.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_with_another_operators_key_does_not_start() {
    let network = Network::plan().await;
    let mut file = network.files[0].clone();
    file.index = 1;
    match Operator::start(file.check().unwrap()).await {
        Err(StartError::WrongIdentity {
            index: 1, found, ..
        }) => assert_eq!(*found, public(1)),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it started"),
    }
    network.node.stop().await.unwrap();
}
