//! Bytes from outside: whatever they are, the answer is a verdict and never a panic.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use proptest::prelude::*;
use prost::Message;
use tinderbox_frost::{NonceCommitment, OperatorIndex, SignatureShare};
use tinderbox_protocol::LeafId;
use tinderbox_protocol::hash::HashVariant;
use tinderbox_rpc::convert::{
    InputShare, SigningJob, TransferJobs, TransferPackage, millis, network, network_to_proto,
    timestamp,
};
use tinderbox_rpc::proto::{mock, spark, spark_authn, spark_ssp_internal, spark_token};
use tinderbox_rpc::session::{InMemoryNonces, Lifetimes, SessionKeys, Sessions};
use tinderbox_rpc::validate::{self, Validate};
use tinderbox_rpc::{Caller, Reason, ServiceError};
use tonic::{Code, Status};

/// What a server does with bytes before its handler sees them.
fn receive<T: Message + Default + Validate>(bytes: &[u8]) -> Result<T, String> {
    let message = T::decode(bytes).map_err(|error| error.to_string())?;
    validate::check(&message).map_err(|error| {
        assert_eq!(error.code, Code::InvalidArgument);
        assert!(error.metadata.contains_key("field"), "{error:?}");
        error.to_string()
    })?;
    Ok(message)
}

fn receive_any(bytes: &[u8]) {
    let _ = receive::<spark::GenerateDepositAddressRequest>(bytes);
    let _ = receive::<spark::FinalizeDepositTreeCreationRequest>(bytes);
    let _ = receive::<spark::StartTransferRequest>(bytes);
    let _ = receive::<spark::StartTransferV3Request>(bytes);
    let _ = receive::<spark::ClaimTransferRequest>(bytes);
    let _ = receive::<spark::InitiatePreimageSwapRequest>(bytes);
    let _ = receive::<spark::RenewLeafRequest>(bytes);
    let _ = receive::<spark::TransferFilter>(bytes);
    let _ = receive::<spark::QueryNodesRequest>(bytes);
    let _ = receive::<spark::QuerySparkTransactionVolumesRequest>(bytes);
    let _ = receive::<spark_token::StartTransactionRequest>(bytes);
    let _ = receive::<spark_token::BroadcastTransactionRequest>(bytes);
    let _ = receive::<spark_token::QueryTokenTransactionsRequest>(bytes);
    let _ = receive::<spark_authn::VerifyChallengeRequest>(bytes);
    let _ = receive::<spark_ssp_internal::InitiateStaticDepositUtxoSwapRequest>(bytes);
    let _ = receive::<spark_ssp_internal::ReserveInstantStaticDepositUtxoSwapRequest>(bytes);
    let _ = receive::<spark_ssp_internal::SignStaticDepositSweepTxRequest>(bytes);
    let _ = receive::<mock::ModifyNodeTimelockRequest>(bytes);
    if let Ok(package) = receive::<spark::TransferPackage>(bytes) {
        let _ = TransferPackage::try_from(&package);
    }
    if let Ok(job) = receive::<spark::UserSignedTxSigningJob>(bytes) {
        let _ = SigningJob::try_from(&job);
    }
}

fn point() -> impl Strategy<Value = PublicKey> {
    any::<[u8; 32]>().prop_filter_map("a secret key", |bytes| {
        Some(
            SecretKey::from_slice(&bytes)
                .ok()?
                .public_key(&Secp256k1::new()),
        )
    })
}

fn nonce() -> impl Strategy<Value = NonceCommitment> {
    (point(), point()).prop_map(|(hiding, binding)| NonceCommitment { hiding, binding })
}

fn input() -> impl Strategy<Value = InputShare> {
    let operators =
        proptest::collection::btree_map((0..9u16).prop_map(OperatorIndex), nonce(), 0..4);
    (nonce(), any::<[u8; 32]>(), operators).prop_map(|(user_commitment, share, operators)| {
        InputShare {
            user_commitment,
            user_share: SignatureShare(share),
            operator_commitments: operators,
        }
    })
}

fn job() -> impl Strategy<Value = SigningJob> {
    (
        proptest::option::of(any::<[u8; 16]>()),
        point(),
        proptest::collection::vec(any::<u8>(), 1..100),
        input(),
        proptest::collection::vec(input(), 0..3),
    )
        .prop_map(
            |(leaf, signing_public_key, tx, input, additional_inputs)| SigningJob {
                leaf_id: leaf.map(LeafId::from_bytes16),
                signing_public_key,
                tx,
                input,
                additional_inputs,
            },
        )
}

fn package() -> impl Strategy<Value = TransferPackage> {
    let jobs = || proptest::collection::vec(job(), 0..3);
    let sealed = proptest::collection::vec(any::<u8>(), 0..50);
    (
        (jobs(), jobs(), jobs()),
        proptest::collection::btree_map((0..9u16).prop_map(OperatorIndex), sealed, 0..4),
        proptest::collection::vec(any::<u8>(), 1..73),
        any::<bool>(),
    )
        .prop_map(
            |((leaves, direct, direct_from_cpfp), key_tweaks, user_signature, old)| {
                TransferPackage {
                    jobs: TransferJobs {
                        leaves,
                        direct,
                        direct_from_cpfp,
                    },
                    key_tweaks,
                    user_signature,
                    hash_variant: if old {
                        HashVariant::Legacy
                    } else {
                        HashVariant::V2
                    },
                }
            },
        )
}

fn sessions() -> Sessions {
    let memory = Arc::new(InMemoryNonces::default());
    Sessions::new(SessionKeys::derive(&[1; 32]), memory, Lifetimes::default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_get_a_verdict(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        receive_any(&bytes);
    }

    #[test]
    fn good_bytes_with_one_wrong_get_a_verdict(
        package in package(),
        at in any::<proptest::sample::Index>(),
        byte: u8,
    ) {
        let request = spark::StartTransferRequest {
            transfer_package: Some((&package).into()),
            ..Default::default()
        };
        let mut bytes = request.encode_to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        receive_any(&bytes);
        if let Ok(request) = receive::<spark::StartTransferRequest>(&bytes)
            && let Some(package) = &request.transfer_package
        {
            let _ = TransferPackage::try_from(package);
        }
    }

    #[test]
    fn packages_survive_the_wire(package in package()) {
        let sent = spark::TransferPackage::from(&package).encode_to_vec();
        let read = spark::TransferPackage::decode(sent.as_slice()).unwrap();
        prop_assert_eq!(TransferPackage::try_from(&read).unwrap(), package.clone());
        let sent = spark::ClaimPackage::from(&package).encode_to_vec();
        let read = spark::ClaimPackage::decode(sent.as_slice()).unwrap();
        prop_assert_eq!(TransferPackage::try_from(&read).unwrap(), package);
    }

    #[test]
    fn any_authorization_makes_some_caller(value in proptest::collection::vec(any::<u8>(), 0..300)) {
        let anonymous = matches!(sessions().caller(Some(&value), 1), Caller::Anonymous { .. });
        prop_assert!(anonymous);
    }

    #[test]
    fn any_error_details_are_read(
        details in proptest::collection::vec(any::<u8>(), 0..200),
        message in ".*",
    ) {
        let status = Status::with_details(Code::Aborted, message, details.into());
        prop_assert_eq!(ServiceError::from_status(&status).code, Code::Aborted);
    }

    #[test]
    fn times_survive_the_wire(time in -62_135_596_800_000i64..253_402_300_800_000) {
        prop_assert_eq!(millis("time", &timestamp(time)).unwrap(), time);
    }
}

#[test]
fn times_that_no_clock_shows_are_refused() {
    for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000)] {
        assert!(millis("time", &prost_types::Timestamp { seconds, nanos }).is_err());
    }
}

#[test]
fn networks_go_over_the_wire_and_local_becomes_regtest() {
    use tinderbox_protocol::Network;
    for network_ in Network::ALL {
        let number = network_to_proto(network_).into();
        assert_eq!(network("network", number).unwrap(), network_.on_wire());
    }
    for (number, reason) in [
        (0, Reason::MissingField),
        (5, Reason::MalformedField),
        (-1, Reason::MalformedField),
    ] {
        let error = ServiceError::from(network("network", number).unwrap_err());
        assert_eq!(error.reason, Some(reason), "{number}");
    }
}

#[test]
fn broken_part_of_a_package_is_named_by_its_path() {
    let good = good_job();
    let with = |change: fn(&mut spark::UserSignedTxSigningJob)| {
        let mut job = good.clone();
        change(&mut job);
        let package = spark::TransferPackage {
            leaves_to_send: vec![good.clone(), job],
            user_signature: vec![1],
            hash_variant: 1,
            ..Default::default()
        };
        match TransferPackage::try_from(&package) {
            Ok(_) => "ok".to_owned(),
            Err(error) => ServiceError::from(error).metadata["field"].clone(),
        }
    };
    assert_eq!(with(|_| ()), "ok");
    for (field, found) in [
        ("leaf_id", with(|job| job.leaf_id = "x".into())),
        ("raw_tx", with(|job| job.raw_tx.clear())),
        (
            "signing_public_key",
            with(|job| job.signing_public_key = vec![4; 65]),
        ),
        ("user_signature", with(|job| job.user_signature.push(0))),
        (
            "signing_nonce_commitment",
            with(|job| job.signing_nonce_commitment = None),
        ),
        (
            "signing_nonce_commitment.hiding",
            with(|job| job.signing_nonce_commitment.as_mut().unwrap().hiding[0] = 9),
        ),
        (
            "signing_commitments",
            with(|job| {
                let commitment = job.signing_nonce_commitment.clone().unwrap();
                let map = &mut job
                    .signing_commitments
                    .as_mut()
                    .unwrap()
                    .signing_commitments;
                map.insert("operator one".into(), commitment);
            }),
        ),
        (
            "additional_inputs[0].signing_nonce_commitment",
            with(|job| job.additional_inputs = vec![spark::InputSigningData::default()]),
        ),
    ] {
        assert_eq!(found, format!("leaves_to_send[1].{field}"));
    }
}

fn good_job() -> spark::UserSignedTxSigningJob {
    let point = SecretKey::from_slice(&[1; 32])
        .unwrap()
        .public_key(&Secp256k1::new());
    let commitment = NonceCommitment {
        hiding: point,
        binding: point,
    };
    let input = InputShare {
        user_commitment: commitment,
        user_share: SignatureShare([1; 32]),
        operator_commitments: BTreeMap::from([(OperatorIndex(0), commitment)]),
    };
    (&SigningJob {
        leaf_id: Some(LeafId::from_bytes16([7; 16])),
        signing_public_key: point,
        tx: vec![1],
        input,
        additional_inputs: vec![],
    })
        .into()
}
