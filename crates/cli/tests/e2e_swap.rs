//! A leaf swap on a real network, both sides made by the test kit: a user offers leaves, a listed
//! provider answers under the same adaptor, both claim.

mod common;

use bitcoin::secp256k1::{SECP256K1, SecretKey};
use tinderbox_devnet::Plan;
use tinderbox_flows::form::{Adaptors, Form};
use tinderbox_frost::{SecretScalar, adaptor, verify_signature};
use tinderbox_protocol::Sats;
use tinderbox_rpc::proto::spark::{Transfer, TransferStatus, TransferType, UserSignedTxSigningJob};
use tinderbox_rpc::{Reason, ServiceError};
use tonic::{Code, Status};

use common::database;
use common::network::{self, Folder};
use common::party::{Party, adaptor_signature, owner};

const OPERATORS: u16 = 3;
/// What the user has: one coin. What the provider has: the same in two, and one more.
const WHOLE: Sats = Sats(20_000);
const HALF: Sats = Sats(10_000);

fn refused(status: &Status, code: Code, reason: Reason, words: &str) {
    let read = ServiceError::from_status(status);
    let found = (status.code(), read.reason);
    assert_eq!(found, (code, Some(reason)), "{status:?}");
    assert!(status.message().contains(words), "{status:?}");
}

fn shown(transfer: &Transfer) -> (TransferStatus, TransferType) {
    (transfer.status(), transfer.r#type())
}

async fn total(party: &mut Party, operator: usize) -> u64 {
    let leaves = party.leaves(operator).await;
    leaves.iter().map(|leaf| leaf.value.0).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_swaps_one_leaf_for_two_of_a_provider() {
    let folder = Folder::new();
    let (user, provider) = (owner(1), owner(2));
    let plan = Plan {
        ssps: vec![provider.identity()],
        ..network::plan(&folder, database::any(), 32)
    };
    let net = network::start(plan).await;
    let mut user = Party::new(&net, user, 11).await;
    let mut provider = Party::new(&net, provider, 12).await;
    // Coins reach both through a wallet.
    let (bank, _) = network::new_wallet(&net, 0);
    network::deposit(&net, &[&bank], &[WHOLE]).await;
    bank.send(&user.address(), WHOLE).await.expect("paid");
    network::deposit(&net, &[&bank], &[HALF; 3]).await;
    for _ in 0..3 {
        bank.send(&provider.address(), HALF).await.expect("paid");
    }
    user.claim_all(0).await;
    provider.claim_all(1).await;

    // The offer, at operator 0.
    let secret = [42; 32];
    let point = SecretKey::from_slice(&secret).expect("a key");
    let point = point.public_key(SECP256K1);
    let mine = user.leaves(0).await;
    let leg = user.leg(0, &mine, provider.identity(), point).await;
    let mut wrong = leg.clone();
    let package = wrong.transfer_package.as_mut().expect("a package");
    package.direct_from_cpfp_leaves_to_send = package.leaves_to_send.clone();
    let status = user.offer(0, &wrong, point).await.expect_err("refused");
    refused(
        &status,
        Code::InvalidArgument,
        Reason::MalformedField,
        "must be empty in a swap",
    );
    let offer = user.offer(0, &leg, point).await.expect("an offer");
    let primary = offer.transfer.as_ref().expect("a transfer");
    assert_eq!(
        shown(primary),
        (
            TransferStatus::SenderKeyTweakPending,
            TransferType::PrimarySwapV3
        )
    );
    let expiry = primary.expiry_time.as_ref().expect("an expiry").seconds;
    let created = primary.created_time.as_ref().expect("a time").seconds;
    assert!(
        (239..=241).contains(&(expiry - created)),
        "{expiry} {created}"
    );
    // A retry of the same request gets the same shares; another one under this id is refused.
    let again = user.offer(2, &leg, point).await.expect("the same offer");
    assert_eq!(again.signing_results, offer.signing_results);
    let other = user.leg(0, &mine, provider.identity(), point).await;
    let other = tinderbox_rpc::proto::spark::StartTransferRequest {
        transfer_id: leg.transfer_id.clone(),
        ..other
    };
    let status = user.offer(0, &other, point).await.expect_err("refused");
    refused(
        &status,
        Code::AlreadyExists,
        Reason::DuplicateOperation,
        "exists already",
    );

    // The user puts its adaptor signatures together from the messages alone; they are worth
    // nothing without the secret, and the operators keep the refund unsigned.
    assert_eq!(offer.signing_results.len(), mine.len());
    let result = &offer.signing_results[0];
    let threshold = user.site.threshold;
    let (key, message, signature) = adaptor_signature(&leg, &mine[0], result, &point, threshold);
    assert_eq!(key, mine[0].verifying_key);
    assert!(verify_signature(&key, &message, &signature).is_err());
    let output_key = tinderbox_frost::output_key(&key);
    let tau = SecretScalar::try_from_be_bytes(&secret).expect("a scalar");
    let whole = adaptor::complete(&output_key, &message, &signature, &tau).expect("it completes");
    verify_signature(&key, &message, &whole).expect("a signature");
    let job: &UserSignedTxSigningJob = &leg
        .transfer_package
        .as_ref()
        .expect("a package")
        .leaves_to_send[0];
    assert_eq!(primary.leaves[0].intermediate_refund_tx, job.raw_tx);

    // Nothing has moved: the offer is among what the user has sent and can get back.
    assert!(provider.waiting(1).await.is_empty());
    assert_eq!(total(&mut user, 1).await, 0);
    let seen = user.transfer(1, &primary.id).await.expect("it");
    assert_eq!(seen.status(), TransferStatus::SenderKeyTweakPending);

    // The answer, at operator 1. Not for everybody, and not with another total.
    let theirs = provider.leaves(1).await;
    assert_eq!(theirs.len(), 3);
    let answer = provider.leg(1, &theirs, user.identity(), point).await;
    let status = provider.answer(1, &answer, point, &primary.id).await;
    let status = status.expect_err("refused");
    refused(
        &status,
        Code::InvalidArgument,
        Reason::MalformedField,
        "same total",
    );
    let answer = provider.leg(1, &theirs[..2], user.identity(), point).await;
    let own = user.leg(1, &mine, user.identity(), point).await;
    let status = user.answer(1, &own, point, &primary.id).await;
    let status = status.expect_err("refused");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    let reply = provider.answer(1, &answer, point, &primary.id).await;
    let reply = reply.expect("an answer");
    let counter = reply.transfer.as_ref().expect("a transfer");
    assert_eq!(
        shown(counter),
        (
            TransferStatus::SenderKeyTweaked,
            TransferType::CounterSwapV3
        )
    );
    assert_eq!(reply.signing_results.len(), 2);
    for result in &reply.signing_results {
        let mut nodes = theirs.iter();
        let node = nodes.find(|node| node.id.to_string() == result.leaf_id);
        let node = node.expect("a leaf of the answer");
        let (key, message, signature) = adaptor_signature(&answer, node, result, &point, threshold);
        let output_key = tinderbox_frost::output_key(&key);
        let whole = adaptor::complete(&output_key, &message, &signature, &tau);
        verify_signature(&key, &message, &whole.expect("it completes")).expect("a signature");
    }
    // A retry, elsewhere, gets the same: the shares of the moment of signing, although the keys
    // have moved on.
    let again = provider.answer(2, &answer, point, &primary.id).await;
    assert_eq!(
        again.expect("the same").signing_results,
        reply.signing_results
    );
    // A second answer comes too late.
    let late = provider.leg(1, &theirs[2..], user.identity(), point).await;
    let status = provider.answer(1, &late, point, &primary.id).await;
    let status = status.expect_err("refused");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");

    // Both claim, at operators that ran neither leg, from what these tell.
    let seen = user.transfer(2, &counter.id).await.expect("the answer");
    assert_eq!(seen.status(), TransferStatus::SenderKeyTweaked);
    let claimed = user.claim(2, &seen).await.expect("claimed");
    assert_eq!(claimed.status(), TransferStatus::Completed);
    let seen = provider.transfer(0, &primary.id).await.expect("the offer");
    assert_eq!(seen.status(), TransferStatus::SenderKeyTweaked);
    provider.claim(0, &seen).await.expect("claimed");
    for operator in 0..usize::from(OPERATORS) {
        assert_eq!(total(&mut user, operator).await, WHOLE.0);
        assert_eq!(user.leaves(operator).await.len(), 2);
        assert_eq!(total(&mut provider, operator).await, 3 * HALF.0);
    }
    older_protocol(&mut user, &mut provider).await;

    // What was swapped can be spent.
    let mine = user.leaves(0).await;
    let back = user.leg(0, &mine, provider.identity(), point).await;
    user.offer(0, &back, point).await.expect("another offer");

    let place = net.plan().folder.clone();
    net.stop().await.expect("it stops");
    network::assert_no_panic(&place, OPERATORS);
    database::remove(&place, OPERATORS).await;
}

/// The same by the older protocol, one leaf for one: the offer is not signed before it is answered.
async fn older_protocol(user: &mut Party, provider: &mut Party) {
    let of_half = |leaves: Vec<tinderbox_flows::rows::NodeRow>| {
        let mut leaves = leaves.into_iter();
        [leaves.find(|leaf| leaf.value == HALF).expect("a half")]
    };
    let mine = of_half(user.leaves(0).await);
    let to = provider.identity();
    let leg = user.leg_as(0, &mine, to, &Form::Plain).await;
    let open = tinderbox_rpc::proto::spark::StartTransferRequest {
        transfer_package: None,
        ..leg.clone()
    };
    let status = user.legacy_offer(0, &open).await.expect_err("refused");
    refused(
        &status,
        Code::InvalidArgument,
        Reason::MissingField,
        "transfer_package",
    );
    let offer = user.legacy_offer(0, &leg).await.expect("an offer");
    assert!(offer.signing_results.is_empty());
    let offer = offer.transfer.expect("a transfer");
    assert_eq!(
        shown(&offer),
        (TransferStatus::SenderKeyTweakPending, TransferType::Swap)
    );
    let sent = &leg.transfer_package.as_ref().expect("it").leaves_to_send[0];
    assert_eq!(offer.leaves[0].intermediate_refund_tx, sent.raw_tx);
    let again = user.legacy_offer(2, &leg).await.expect("the same");
    assert_eq!(again.transfer, Some(offer.clone()));

    let point = |byte: u8| {
        let key = SecretKey::from_slice(&[byte; 32]).expect("a key");
        key.public_key(SECP256K1)
    };
    let adaptors = Adaptors {
        cpfp: point(5),
        direct: None,
        direct_from_cpfp: Some(point(6)),
    };
    let theirs = of_half(provider.leaves(1).await);
    let form = Form::Adaptors(adaptors);
    let answer = provider.leg_as(1, &theirs, user.identity(), &form).await;
    let status = provider.legacy_answer(1, &answer, adaptors, "7").await;
    let status = status.expect_err("refused");
    refused(
        &status,
        Code::InvalidArgument,
        Reason::MalformedField,
        "swap_id",
    );
    let status = user.legacy_answer(1, &answer, adaptors, &offer.id).await;
    let status = status.expect_err("refused");
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    let reply = provider
        .legacy_answer(1, &answer, adaptors, &offer.id)
        .await;
    let reply = reply.expect("an answer");
    let counter = reply.transfer.as_ref().expect("a transfer");
    assert_eq!(
        shown(counter),
        (TransferStatus::SenderKeyTweaked, TransferType::CounterSwap)
    );
    let [result] = reply.signing_results.as_slice() else {
        panic!("{:?}", reply.signing_results);
    };
    assert!(result.direct_refund_tx_signing_result.is_none());
    assert!(result.direct_from_cpfp_refund_tx_signing_result.is_some());
    let threshold = user.site.threshold;
    let (key, message, signature) =
        adaptor_signature(&answer, &theirs[0], result, &point(5), threshold);
    let secret = SecretScalar::try_from_be_bytes(&[5; 32]).expect("a scalar");
    let output_key = tinderbox_frost::output_key(&key);
    let whole = adaptor::complete(&output_key, &message, &signature, &secret);
    verify_signature(&key, &message, &whole.expect("it completes")).expect("a signature");
    let again = provider
        .legacy_answer(2, &answer, adaptors, &offer.id)
        .await;
    let again = again.expect("the same");
    assert_eq!(again.signing_results, reply.signing_results);

    // Now the offer's refund is signed, and both claim.
    let seen = provider.transfer(0, &offer.id).await.expect("the offer");
    assert_eq!(seen.status(), TransferStatus::SenderKeyTweaked);
    let refund = &seen.leaves[0].intermediate_refund_tx;
    let refund: bitcoin::Transaction = bitcoin::consensus::deserialize(refund).expect("it");
    assert!(!refund.input[0].witness.is_empty());
    provider.claim(2, &seen).await.expect("claimed");
    let seen = user.transfer(2, &counter.id).await.expect("the answer");
    user.claim(0, &seen).await.expect("claimed");
    for operator in 0..usize::from(OPERATORS) {
        assert_eq!(total(user, operator).await, WHOLE.0);
        assert_eq!(total(provider, operator).await, 3 * HALF.0);
    }
}
