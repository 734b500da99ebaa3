//! Secret sharing, key tweaks and key generation.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use serde_json::Value;
use tinderbox_frost::ciphersuite::hash_dkg;
use tinderbox_frost::dkg::{self, Round1Package};
use tinderbox_frost::{
    OperatorIndex, PublicKeyshare, Scalar, SecretScalar, feldman, taproot::TaprootKey, tweak,
};

use crate::common::{
    Scripted, array, bytes, hex_of, number, operator, point, points, secret, text, vectors,
};

#[test]
fn shares_and_proofs_are_those_of_the_vectors() {
    let vector = vectors!("feldman");
    let cases = vector.as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let (threshold, count) = (number(&case["threshold"]), number(&case["num_shares"]));
        let proofs = points(&case["proofs"]);
        let whole = secret(&case["secret"]);
        feldman::check_proofs(&proofs, threshold).unwrap();
        assert_eq!(proofs[0], whole.public_key());
        let mut shares = Vec::new();
        for listed in case["shares"].as_array().unwrap() {
            let index = OperatorIndex(number(&listed["index"]) - 1);
            let share = secret(&listed["share"]);
            feldman::verify_share(&proofs, index, &share).unwrap();
            assert_eq!(
                feldman::evaluate(&proofs, index).unwrap(),
                point(&listed["share_public"])
            );
            shares.push((index, share));
        }
        assert_eq!(shares.len(), usize::from(count));
        let some: Vec<_> = shares
            .iter()
            .rev()
            .take(usize::from(threshold))
            .map(|(index, share)| (*index, share))
            .collect();
        assert_eq!(
            hex_of(&feldman::recover(&some).unwrap()),
            text(&case["secret"])
        );

        if let Some(coefficients) = case["polynomial_coefficients"].as_array() {
            let mut script = Scripted::new(coefficients.iter().skip(1).map(array));
            let dealt = feldman::split(&whole, threshold, count, &mut script).unwrap();
            assert_eq!(dealt.proofs, proofs);
            for (dealt, (_, listed)) in dealt.shares.iter().zip(&shares) {
                assert_eq!(hex_of(dealt), hex_of(listed));
            }
        }
    }
}

#[test]
fn a_shared_preimage_comes_back() {
    let vector = vectors!("preimage_sharing");
    let proofs = points(&vector["proofs"]);
    feldman::check_proofs(&proofs, number(&vector["threshold"])).unwrap();
    let shares: Vec<(OperatorIndex, SecretScalar)> = vector["shares"]
        .as_array()
        .unwrap()
        .iter()
        .map(|listed| {
            let index = OperatorIndex(number(&listed["operator_id"]));
            assert_eq!(index.x(), u32::from(number(&listed["index"])));
            (index, secret(&listed["share"]))
        })
        .collect();
    for left_out in 0..shares.len() {
        let some: Vec<_> = shares
            .iter()
            .enumerate()
            .filter(|(place, _)| *place != left_out)
            .map(|(_, (index, share))| (*index, share))
            .collect();
        let preimage = feldman::recover_checked(&proofs, &some).unwrap();
        assert_eq!(hex_of(&preimage), text(&vector["preimage"]));
        let hash: [u8; 32] = <sha2::Sha256 as sha2::Digest>::digest(*preimage.to_be_bytes()).into();
        assert_eq!(hash, array::<32>(&vector["payment_hash"]));
    }
}

fn keyshare(value: &Value) -> (PublicKeyshare, BTreeMap<OperatorIndex, SecretScalar>) {
    let shares = value["shares"].as_array().unwrap();
    let public = PublicKeyshare {
        group_key: point(&value["public_key"]),
        public_shares: shares
            .iter()
            .map(|share| {
                (
                    operator(text(&share["identifier"])),
                    point(&share["public_share"]),
                )
            })
            .collect(),
    };
    let secrets = shares
        .iter()
        .map(|share| {
            (
                operator(text(&share["identifier"])),
                secret(&share["secret_share"]),
            )
        })
        .collect();
    (public, secrets)
}

#[test]
fn a_key_share_moves_from_sender_to_receiver() {
    let vector = vectors!("transfer_keyshare");
    let verifying_key = point(&vector["verifying_key"]);
    let threshold = number(&vector["threshold"]);
    let steps = [
        (
            "keyshare_before",
            "send",
            "keyshare_after_send",
            "sender_leaf_key",
            "temporary_key",
        ),
        (
            "keyshare_after_send",
            "claim",
            "keyshare_after_claim",
            "temporary_key",
            "receiver_leaf_key",
        ),
    ];
    for (before, step, after, old_key, new_key) in steps {
        let (public, secrets) = keyshare(&vector[before]);
        let (public_after, secrets_after) = keyshare(&vector[after]);
        let dealt = &vector[step];
        let proofs = points(&dealt["proofs"]);
        let (old_key, new_key) = (secret(&vector[old_key]), secret(&vector[new_key]));
        assert_eq!(
            hex_of(&old_key.sub(&new_key).unwrap()),
            text(&dealt["tweak_scalar"])
        );
        assert_eq!(proofs[0], secret(&dealt["tweak_scalar"]).public_key());

        feldman::check_proofs(&proofs, threshold).unwrap();
        let public_tweaks: BTreeMap<OperatorIndex, PublicKey> = dealt["pubkey_shares_tweak"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(identifier, share)| (operator(identifier), point(share)))
            .collect();
        feldman::check_public_shares(&proofs, 3, &public_tweaks).unwrap();
        for (identifier, share) in dealt["shares"].as_object().unwrap() {
            let index = operator(identifier);
            let delta = secret(share);
            feldman::verify_share(&proofs, index, &delta).unwrap();
            let moved = tweak::apply_secret(&secrets[&index], &delta).unwrap();
            assert_eq!(hex_of(&moved), hex_of(&secrets_after[&index]));
            assert_eq!(moved.public_key(), public_after.public_shares[&index]);
        }
        assert_eq!(public.tweaked(&proofs).unwrap(), public_after);
        let owner = tweak::sub_points(&verifying_key, &public_after.group_key).unwrap();
        assert_eq!(owner, new_key.public_key());
        assert_eq!(owner, point(&vector[after]["owner_signing_public_key"]));
    }
}

#[test]
fn key_generation_reproduces_the_recorded_run_byte_for_byte() {
    let vector = vectors!("dkg");
    let participants = vector["participants"].as_object().unwrap();
    let mut secrets = BTreeMap::new();
    let mut packages = BTreeMap::new();
    for (identifier, listed) in participants {
        let index = operator(identifier);
        let recorded = bytes(&listed["round1_package"]);
        let package = Round1Package::from_bytes(&recorded).unwrap();
        assert_eq!(package.to_bytes(), recorded);
        dkg::verify_round1(index, 2, &package).unwrap();
        assert_eq!(
            [package.proof.nonce, package.proof.response].concat(),
            bytes(&listed["proof_of_knowledge"])
        );

        // k = μ − c·a₀ gives back the recorded proof.
        let coefficients: Vec<[u8; 32]> = listed["coefficients"]
            .as_array()
            .unwrap()
            .iter()
            .map(array)
            .collect();
        let mut nonce = vec![2];
        nonce.extend_from_slice(&package.proof.nonce);
        let challenge = hash_dkg(&[
            &index.identifier_bytes(),
            &package.commitments[0].serialize(),
            &nonce,
        ]);
        let k = Scalar::from_be_bytes(&package.proof.response).unwrap().sub(
            &Scalar::from_be_bytes(&coefficients[0])
                .unwrap()
                .mul(&challenge),
        );
        let mut script = Scripted::new(coefficients.into_iter().chain([k.to_be_bytes()]));
        let (secret, own) = dkg::round1(index, 3, 2, &mut script).unwrap();
        assert_eq!(own, package);
        secrets.insert(index, secret);
        packages.insert(index, package);
    }
    assert_eq!(
        dkg::set_hash([&packages]),
        array::<32>(&vector["round1_package_hash_for_single_key_batch"])
    );

    let mut states = BTreeMap::new();
    let mut mail: BTreeMap<OperatorIndex, BTreeMap<OperatorIndex, SecretScalar>> = BTreeMap::new();
    for (index, secret) in secrets {
        let (state, shares) = dkg::round2(secret, &packages).unwrap();
        assert_eq!(state.group_key(), Some(&point(&vector["group_key"])));
        states.insert(index, state);
        for (to, share) in shares {
            let recorded = &participants[&to.identifier()]["round2_received"][index.identifier()];
            assert_eq!(text(recorded), format!("00230f8ab3{}", hex_of(&share)));
            mail.entry(to).or_default().insert(index, share);
        }
    }
    let raw = TaprootKey::new(&point(&vector["group_key_before_post_dkg"])).unwrap();
    assert_eq!(
        raw.tweak().to_be_bytes(),
        array::<32>(&vector["post_dkg_tweak"])
    );
    assert_eq!(*raw.output(), point(&vector["group_key"]));
    for (index, state) in states {
        let listed = &participants[&index.identifier()];
        let key = dkg::finish(state, &mail[&index]).unwrap();
        assert_eq!(hex_of(&key.share), text(&listed["final_secret_share"]));
        assert_eq!(key.group_key, point(&vector["group_key"]));
        for (other, public) in &key.public_shares {
            assert_eq!(
                *public,
                point(&participants[&other.identifier()]["final_public_share"])
            );
        }
        let raw_share = Scalar::from_be_bytes(&array(&listed["raw_share_sum"])).unwrap();
        let by_hand = raw_share.negate_if(raw.verifying_odd()).add(raw.tweak());
        assert_eq!(by_hand.to_be_bytes(), *key.share.to_be_bytes());
    }
}
