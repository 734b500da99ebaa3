//! Nested signatures, with adaptors, and of the operators alone.

use std::collections::BTreeMap;

use serde_json::Value;
use tinderbox_frost::{
    OperatorIndex, Participant, Prepared, Scalar, SigningPackage, adaptor, feldman, output_key,
    verify_signature,
};

use crate::common::{
    array, bytes, commitment, hex_of, nonces, number, operator, point, secret, text, vectors,
};

fn package(case: &Value) -> SigningPackage {
    SigningPackage {
        verifying_key: point(&case["verifying_key"]),
        message: array(&case["message"]),
        operators: case["operators"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(identifier, listed)| (operator(identifier), commitment(&listed["commitment"])))
            .collect(),
        user: case.get("user").map(|user| commitment(&user["commitment"])),
        adaptor: case
            .get("adaptor")
            .map(|adaptor| point(&adaptor["public_key"])),
        threshold: number(&case["threshold"]),
    }
}

fn scalar(value: &Value) -> Scalar {
    Scalar::from_be_bytes(&array(value)).unwrap()
}

fn check_public_part(case: &Value, package: &SigningPackage, prepared: &Prepared) {
    let key = prepared.key();
    assert_eq!(
        key.tweak().to_be_bytes(),
        array::<32>(&case["taproot_tweak"])
    );
    assert_eq!(*key.output(), point(&case["output_key"]));
    assert_eq!(output_key(&package.verifying_key), prepared.output_key());
    assert_eq!(
        prepared.output_key().serialize(),
        array::<32>(&case["output_key_xonly"])
    );
    let parity = &case["parity"];
    assert_eq!(
        parity["verifying_key_odd"].as_bool(),
        Some(key.verifying_odd())
    );
    assert_eq!(parity["output_key_odd"].as_bool(), Some(key.output_odd()));
    assert_eq!(
        package.encode_commitments(),
        bytes(&case["encoded_group_commitments"])
    );
    assert_eq!(
        prepared.binding_prefix().to_vec(),
        bytes(&case["binding_factor_prefix"])
    );
    assert_eq!(
        *prepared.group_commitment(),
        point(&case["group_commitment"])
    );
    let odd = case["group_commitment"].as_str().unwrap().starts_with("03");
    assert_eq!(parity["group_commitment_odd"].as_bool(), Some(odd));
    assert_eq!(*prepared.challenge(), scalar(&case["challenge"]));
}

fn check_case(case: &Value) {
    let package = package(case);
    let prepared = package.prepare().unwrap();
    check_public_part(case, &package, &prepared);
    let listed_signers: Vec<OperatorIndex> = case["participants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|identifier| operator(text(identifier)))
        .collect();
    assert!(package.operators.keys().eq(&listed_signers));

    let mut shares = BTreeMap::new();
    let mut public_shares = BTreeMap::new();
    let mut parts = Vec::new();
    for (identifier, listed) in case["operators"].as_object().unwrap() {
        let index = operator(identifier);
        let key = secret(&listed["secret_share"]);
        assert_eq!(key.public_key(), point(&listed["public_share"]));
        let participant = Participant::from(index);
        assert_eq!(
            prepared.coefficient(participant).unwrap(),
            scalar(&listed["lagrange_coefficient"])
        );
        assert_eq!(
            prepared.binding_factor(participant),
            Some(&scalar(&listed["binding_factor"]))
        );
        let share = prepared
            .sign_operator(&index, &key, nonces(&listed["nonce"]))
            .unwrap();
        assert_eq!(
            hex::encode(share.0),
            text(&listed["signature_share"]),
            "{index}"
        );
        prepared
            .verify_operator_share(&index, &key.public_key(), &share)
            .unwrap();
        shares.insert(index, share);
        public_shares.insert(index, key.public_key());
        parts.push((index, key));
    }
    let recovered: Vec<_> = parts.iter().map(|(index, key)| (*index, key)).collect();
    let group = feldman::recover(&recovered).unwrap();
    assert_eq!(hex_of(&group), text(&case["se_polynomial_coefficients"][0]));
    assert_eq!(group.public_key(), point(&case["se_group_public_key"]));
    assert_eq!(
        feldman::recover_public(&public_shares).unwrap(),
        group.public_key()
    );

    let user = case.get("user").map(|user| {
        let key = secret(&user["secret"]);
        let participant = Participant::User;
        assert_eq!(prepared.coefficient(participant), Ok(Scalar::ONE));
        assert_eq!(
            prepared.binding_factor(participant),
            Some(&scalar(&user["binding_factor"]))
        );
        let share = prepared.sign_user(&key, nonces(&user["nonce"])).unwrap();
        assert_eq!(hex::encode(share.0), text(&user["signature_share"]));
        assert_eq!(key.public_key(), point(&user["public_key"]));
        prepared
            .verify_user_share(&key.public_key(), &share)
            .unwrap();
        (share, key.public_key())
    });

    let aggregated = prepared
        .aggregate(
            &shares,
            user.as_ref().map(|(share, _)| share),
            &public_shares,
            user.as_ref().map(|(_, key)| key),
        )
        .unwrap();
    check_result(case, &package, &prepared, &aggregated);
}

fn check_result(
    case: &Value,
    package: &SigningPackage,
    prepared: &Prepared,
    aggregated: &[u8; 64],
) {
    let expected: [u8; 64] = array(&case["final_signature"]);
    let finished = match case.get("adaptor") {
        None => *aggregated,
        Some(listed) => {
            let point = point(&listed["public_key"]);
            let hidden = secret(&listed["secret"]);
            let key = prepared.output_key();
            assert_eq!(*aggregated, array::<64>(&case["adaptor_signature"]));
            assert!(
                verify_signature(&package.verifying_key, &package.message, aggregated).is_err(),
                "an adaptor signature must not be valid yet"
            );
            adaptor::verify(&key, &package.message, aggregated, &point).unwrap();
            let finished = adaptor::complete(&key, &package.message, aggregated, &hidden).unwrap();
            let opened = adaptor::extract(&finished, aggregated, &point).unwrap();
            assert_eq!(hex_of(&opened), text(&listed["secret"]));
            finished
        }
    };
    assert_eq!(finished, expected);
    verify_signature(&package.verifying_key, &package.message, &finished).unwrap();
}

#[test]
fn nested_signatures_of_every_parity_and_threshold_are_those_of_the_vectors() {
    let vector = vectors!("frost");
    let cases = vector.as_array().unwrap();
    assert_eq!(cases.len(), 11);
    cases.iter().for_each(check_case);
}

#[test]
fn adaptor_signatures_are_those_of_the_vectors() {
    let vector = vectors!("frost_adaptor");
    let cases = vector.as_array().unwrap();
    assert_eq!(cases.len(), 3);
    cases.iter().for_each(check_case);
}

#[test]
fn signatures_of_the_operators_alone_are_those_of_the_vectors() {
    let vector = vectors!("frost_se_only");
    let cases = vector.as_array().unwrap();
    assert_eq!(cases.len(), 4);
    for case in cases {
        assert!(case.get("user").is_none());
        assert_eq!(case["verifying_key"], case["se_group_public_key"]);
        check_case(case);
    }
}

#[test]
fn a_signature_does_not_verify_under_the_untweaked_key() {
    for case in vectors!("frost").as_array().unwrap() {
        let signature =
            bitcoin::secp256k1::schnorr::Signature::from_slice(&bytes(&case["final_signature"]))
                .unwrap();
        let message = bitcoin::secp256k1::Message::from_digest(array(&case["message"]));
        let (untweaked, _) = point(&case["verifying_key"]).x_only_public_key();
        let context = bitcoin::secp256k1::SECP256K1;
        assert!(
            context
                .verify_schnorr(&signature, &message, &untweaked)
                .is_err()
        );
    }
}
