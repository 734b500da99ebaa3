//! Proofs of deposit addresses.

mod common;

use std::collections::BTreeMap;

use bitcoin::key::TapTweak as _;
use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::{Keypair, Message, PublicKey, Secp256k1};
use common::{array, bytes, list, public, secret, text};
use serde_json::Value;
use tinderbox_protocol::deposit::{
    AddressProof, ClaimedAddress, operators_key, sign_address, verify_possession,
};
use tinderbox_protocol::hash::{address_digest, pop_message, pop_message_legacy};
use tinderbox_protocol::{Error, Network};

/// Identity keys of the first three development operators, by identifier.
fn operators(vectors: &Value) -> BTreeMap<String, PublicKey> {
    list(&vectors["constants"]["local_development_operators"]["operators"])[..3]
        .iter()
        .map(|one| {
            (
                text(&one["identifier"]).to_owned(),
                public(&one["identity_public_key"]),
            )
        })
        .collect()
}

fn proof(group: &Value) -> AddressProof {
    AddressProof {
        address_signatures: group["address_signatures_der"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(identifier, signature)| (identifier.clone(), bytes(signature)))
            .collect(),
        proof_of_possession: bytes(&group["proof_of_possession_signature"]),
    }
}

fn claimed<'a>(vectors: &Value, group: &'a Value) -> ClaimedAddress<'a> {
    ClaimedAddress {
        address: text(&group["address"]),
        verifying_key: public(&group["verifying_key"]),
        user_signing_key: public(&group["user_signing_public_key"]),
        identity: public(&vectors["wallets"]["alice"]["identity_public_key"]),
        network: Network::Local,
    }
}

#[test]
fn the_recorded_proof_is_accepted() {
    let vectors = common::crypto();
    let group = &vectors["deposit_address_proof"];
    let claimed = claimed(&vectors, group);
    claimed
        .verify(&proof(group), &operators(&vectors), None)
        .unwrap();

    let half = public(&group["keyshare_public_key"]);
    assert_eq!(
        operators_key(&claimed.verifying_key, &claimed.user_signing_key).unwrap(),
        half
    );
    assert_eq!(
        pop_message(&claimed.identity, &half, claimed.address),
        array::<32>(&group["message_hash_v2"])
    );
    assert_eq!(
        pop_message_legacy(&claimed.identity, &half, claimed.address),
        array::<32>(&group["message_hash_legacy"])
    );
    assert_eq!(
        address_digest(claimed.address),
        array::<32>(&group["address_hash"])
    );
    // The path is alice's static deposit key 0.
    let seed = bytes(&vectors["wallets"]["alice"]["seed"]);
    let keys = tinderbox_protocol::WalletKeys::from_seed(&seed, Network::Local, None).unwrap();
    assert_eq!(text(&group["user_derivation"]), "m/8797555'/1'/3'/0'");
    assert_eq!(
        keys.static_deposit(0).unwrap().public_key(),
        claimed.user_signing_key
    );
    let x_only = &group["proof_verifies_under_xonly"];
    let script = tinderbox_protocol::tx::p2tr(&half);
    assert_eq!(script.as_bytes()[2..], bytes(x_only));
}

#[test]
fn operators_sign_the_recorded_address_signatures() {
    let vectors = common::crypto();
    let group = &vectors["deposit_address_proof"];
    for operator in &list(&vectors["constants"]["local_development_operators"]["operators"])[..3] {
        let signature = sign_address(
            &secret(&operator["identity_private_key"]),
            text(&group["address"]),
        );
        assert_eq!(
            signature,
            bytes(&group["address_signatures_der"][text(&operator["identifier"])])
        );
    }
}

#[test]
fn the_second_recorded_proof_is_accepted() {
    let vectors = common::transactions();
    let group = &vectors["deposit_address_proof"];
    let half = public(&group["operator_public_key"]);
    let identity = public(&group["identity_public_key"]);
    let address = text(&group["address"]);
    assert_eq!(
        operators_key(
            &public(&group["verifying_key"]),
            &public(&group["user_signing_public_key"])
        )
        .unwrap(),
        half
    );
    assert_eq!(
        pop_message(&identity, &half, address),
        array::<32>(&group["pop_message_hash"])
    );
    assert_eq!(
        tinderbox_protocol::tx::p2tr(&half).as_bytes()[2..],
        bytes(&group["pop_verify_key_xonly"])
    );
    verify_possession(&half, &identity, address, &bytes(&group["pop_signature"])).unwrap();
    assert_eq!(
        address_digest(address),
        array::<32>(&group["address_sha256_for_operator_ecdsa"])
    );
}

/// Case 8, for addresses: whatever is wrong, nobody is told to pay to it.
#[test]
fn an_address_without_every_proof_is_refused() {
    let vectors = common::crypto();
    let group = &vectors["deposit_address_proof"];
    let address = claimed(&vectors, group);
    let operators = operators(&vectors);
    let good = proof(group);
    let first = operators.keys().next().unwrap().clone();

    let rejected: Vec<&str> = list(&group["rejected_by_sdk"]).iter().map(text).collect();
    assert_eq!(rejected.len(), 4);

    // Proof over the older message, and over the right one by the key without its tweak.
    let half = public(&group["keyshare_public_key"]);
    let message = pop_message(&address.identity, &half, address.address);
    let legacy = pop_message_legacy(&address.identity, &half, address.address);
    let curve = Secp256k1::new();
    let untweaked = Keypair::from_secret_key(
        &curve,
        &secret(&group["frost_run"]["se_polynomial_coefficients"][0]),
    );
    let tweaked = untweaked.tap_tweak(&curve, None).to_keypair();
    let with = |key: &Keypair, message: [u8; 32]| {
        let mut changed = good.clone();
        let signature = curve.sign_schnorr_no_aux_rand(&Message::from_digest(message), key);
        changed.proof_of_possession = signature.serialize().to_vec();
        address.verify(&changed, &operators, None)
    };
    with(&tweaked, message).unwrap();
    for refused in [with(&tweaked, legacy), with(&untweaked, message)] {
        assert!(matches!(refused, Err(Error::BadSignature { .. })));
    }

    // 64 bytes instead of DER; high S; signature of another operator.
    let der = Signature::from_der(&good.address_signatures[&first]).unwrap();
    let compact = der.serialize_compact();
    let order = num_order();
    let mut high = compact;
    high[32..].copy_from_slice(&subtract(&order, &compact[32..]));
    let high = Signature::from_compact(&high).unwrap();
    let last = operators.keys().next_back().unwrap();
    for wrong in [
        compact.to_vec(),
        high.serialize_der().to_vec(),
        good.address_signatures[last].clone(),
        Vec::new(),
    ] {
        let mut changed = good.clone();
        changed.address_signatures.insert(first.clone(), wrong);
        assert!(matches!(
            address.verify(&changed, &operators, Some(&first)),
            Err(Error::BadSignature { .. } | Error::MalformedSignature { .. })
        ));
    }

    // The coordinator may leave its own out only where it is excused.
    let mut missing = good.clone();
    missing.address_signatures.remove(&first);
    address.verify(&missing, &operators, Some(&first)).unwrap();
    for excused in [None, Some(last.as_str())] {
        assert_eq!(
            address.verify(&missing, &operators, excused),
            Err(Error::MissingOperatorSignature {
                operator: first.clone()
            })
        );
    }

    // Proof of possession for somebody else, or none.
    for wrong in [vec![0; 64], vec![], good.proof_of_possession[1..].to_vec()] {
        let mut changed = good.clone();
        changed.proof_of_possession = wrong;
        assert!(address.verify(&changed, &operators, None).is_err());
    }
    let mut other = address.clone();
    other.identity = half;
    assert!(matches!(
        other.verify(&good, &operators, None),
        Err(Error::BadSignature { .. })
    ));

    // Keys that do not give the address, or a half that is the whole.
    let mut other = address.clone();
    other.verifying_key = half;
    assert!(matches!(
        other.verify(&good, &operators, None),
        Err(Error::WrongAddress { .. })
    ));
    let mut other = address.clone();
    other.network = Network::Mainnet;
    assert!(matches!(
        other.verify(&good, &operators, None),
        Err(Error::WrongAddress { .. })
    ));
    let mut other = address.clone();
    other.user_signing_key = other.verifying_key;
    assert!(matches!(
        other.verify(&good, &operators, None),
        Err(Error::KeysCancel { .. })
    ));
}

fn num_order() -> [u8; 32] {
    bitcoin::secp256k1::constants::CURVE_ORDER
}

fn subtract(from: &[u8; 32], what: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let mut borrow = 0_i16;
    for place in (0..32).rev() {
        let digit = i16::from(from[place]) - i16::from(what[place]) - borrow;
        borrow = i16::from(digit < 0);
        out[place] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    out
}
