//! The reference implementation of the ciphersuite takes part in our key generations and in
//! signatures of the operators alone.

use std::collections::BTreeMap;

use frost_secp256k1_tr as stock;
use stock::keys::dkg as stock_dkg;
use tinderbox_frost::dkg::{self, Round1Package};
use tinderbox_frost::{
    NonceCommitment, Nonces, OperatorIndex, SecretScalar, SignatureShare, SigningPackage,
    verify_signature,
};

use crate::common::rng;

fn identifier(index: OperatorIndex) -> stock::Identifier {
    stock::Identifier::try_from(index.0 + 1).unwrap()
}

fn to_stock(package: &Round1Package) -> stock_dkg::round1::Package {
    stock_dkg::round1::Package::deserialize(&package.to_bytes()).unwrap()
}

fn share_to_stock(share: &SecretScalar) -> stock_dkg::round2::Package {
    let share = stock::keys::SigningShare::deserialize(share.to_be_bytes().as_slice()).unwrap();
    stock_dkg::round2::Package::new(share)
}

struct Mixed {
    ours: BTreeMap<OperatorIndex, dkg::GeneratedKey>,
    theirs: BTreeMap<OperatorIndex, (stock::keys::KeyPackage, stock::keys::PublicKeyPackage)>,
}

/// One run in which the operators of `stock_ones` are the reference implementation.
fn mixed(seed: u64, threshold: u16, count: u16, stock_ones: &[u16]) -> Mixed {
    let mut rng = rng(seed);
    let mut ours = BTreeMap::new();
    let mut theirs = BTreeMap::new();
    let mut packages = BTreeMap::new();
    for index in OperatorIndex::first(count) {
        if stock_ones.contains(&index.0) {
            let (secret, package) =
                stock_dkg::part1(identifier(index), count, threshold, &mut rng).unwrap();
            let bytes = package.serialize().unwrap();
            let read = Round1Package::from_bytes(&bytes).unwrap();
            assert_eq!(read.to_bytes(), bytes);
            packages.insert(index, read);
            theirs.insert(index, secret);
        } else {
            let (secret, package) = dkg::round1(index, count, threshold, &mut rng).unwrap();
            packages.insert(index, package);
            ours.insert(index, secret);
        }
    }

    let mut mail: BTreeMap<(OperatorIndex, OperatorIndex), SecretScalar> = BTreeMap::new();
    let mut our_states = BTreeMap::new();
    for (index, secret) in ours {
        let (state, shares) = dkg::round2(secret, &packages).unwrap();
        our_states.insert(index, state);
        mail.extend(shares.into_iter().map(|(to, share)| ((index, to), share)));
    }
    let others = |index: OperatorIndex| -> BTreeMap<_, _> {
        packages
            .iter()
            .filter(|(other, _)| **other != index)
            .map(|(other, package)| (identifier(*other), to_stock(package)))
            .collect()
    };
    let mut their_states = BTreeMap::new();
    for (index, secret) in theirs {
        let (state, shares) = stock_dkg::part2(secret, &others(index)).unwrap();
        their_states.insert(index, state);
        for to in OperatorIndex::first(count).filter(|to| *to != index) {
            let share = shares[&identifier(to)].signing_share().serialize();
            mail.insert(
                (index, to),
                SecretScalar::try_from_be_bytes(&share).unwrap(),
            );
        }
    }

    let received = |index: OperatorIndex| -> BTreeMap<OperatorIndex, SecretScalar> {
        mail.iter()
            .filter(|((_, to), _)| *to == index)
            .map(|((from, _), share)| (*from, share.duplicate()))
            .collect()
    };
    let ours = our_states
        .into_iter()
        .map(|(index, state)| (index, dkg::finish(state, &received(index)).unwrap()))
        .collect();
    let theirs = their_states
        .into_iter()
        .map(|(index, state)| {
            let shares = received(index)
                .iter()
                .map(|(from, share)| (identifier(*from), share_to_stock(share)))
                .collect();
            (
                index,
                stock_dkg::part3(&state, &others(index), &shares).unwrap(),
            )
        })
        .collect();
    Mixed { ours, theirs }
}

fn check(mixed: &Mixed) {
    let public = mixed.ours.values().next().unwrap().public();
    for (index, key) in &mixed.ours {
        assert_eq!(key.public(), public);
        assert_eq!(key.share.public_key(), public.public_shares[index]);
    }
    for (index, (key, group)) in &mixed.theirs {
        assert_eq!(
            group.verifying_key().serialize().unwrap(),
            public.group_key.serialize().to_vec()
        );
        for (other, share) in &public.public_shares {
            let theirs = &group.verifying_shares()[&identifier(*other)];
            assert_eq!(theirs.serialize().unwrap(), share.serialize().to_vec());
        }
        let share = SecretScalar::try_from_be_bytes(&key.signing_share().serialize()).unwrap();
        assert_eq!(share.public_key(), public.public_shares[index]);
    }
}

#[test]
fn the_reference_implementation_ends_with_the_same_key() {
    for seed in 0..6 {
        check(&mixed(seed, 2, 3, &[1]));
        check(&mixed(seed, 2, 3, &[0, 2]));
        check(&mixed(seed, 3, 5, &[1, 3, 4]));
    }
}

#[test]
fn the_reference_implementation_and_we_sign_together() {
    for seed in 0..12 {
        let mixed = mixed(seed, 2, 3, &[2]);
        let ours = &mixed.ours[&OperatorIndex(0)];
        let (their_key, their_group) = &mixed.theirs[&OperatorIndex(2)];
        let mut rng = rng(seed);
        let message = [seed as u8; 32];

        let our_nonces = Nonces::generate(&mut rng);
        let (their_nonces, their_commitments) =
            stock::round1::commit(their_key.signing_share(), &mut rng);
        let point = |bytes: Vec<u8>| bitcoin::secp256k1::PublicKey::from_slice(&bytes).unwrap();
        let theirs = NonceCommitment {
            hiding: point(their_commitments.hiding().serialize().unwrap()),
            binding: point(their_commitments.binding().serialize().unwrap()),
        };
        let package = SigningPackage {
            verifying_key: ours.group_key,
            message,
            operators: [
                (OperatorIndex(0), our_nonces.commitment()),
                (OperatorIndex(2), theirs),
            ]
            .into(),
            user: None,
            adaptor: None,
            threshold: 2,
        };
        let nonce = |point: bitcoin::secp256k1::PublicKey| {
            stock::round1::NonceCommitment::deserialize(&point.serialize()).unwrap()
        };
        let own = our_nonces.commitment();
        let stock_package = stock::SigningPackage::new(
            [
                (
                    identifier(OperatorIndex(0)),
                    stock::round1::SigningCommitments::new(nonce(own.hiding), nonce(own.binding)),
                ),
                (identifier(OperatorIndex(2)), their_commitments),
            ]
            .into(),
            &message,
        );

        let prepared = package.prepare().unwrap();
        let our_share = prepared
            .sign_operator(&OperatorIndex(0), &ours.share, our_nonces)
            .unwrap();
        let their_share =
            stock::round2::sign_with_tweak(&stock_package, &their_nonces, their_key, None).unwrap();
        let their_bytes: [u8; 32] = their_share.serialize().try_into().unwrap();

        let shares = [
            (OperatorIndex(0), our_share),
            (OperatorIndex(2), SignatureShare(their_bytes)),
        ]
        .into();
        let signature = prepared
            .aggregate(&shares, None, &ours.public_shares, None)
            .unwrap();
        verify_signature(&ours.group_key, &message, &signature).unwrap();

        let stock_shares = [
            (
                identifier(OperatorIndex(0)),
                stock::round2::SignatureShare::deserialize(&our_share.0).unwrap(),
            ),
            (identifier(OperatorIndex(2)), their_share),
        ]
        .into();
        let theirs =
            stock::aggregate_with_tweak(&stock_package, &stock_shares, their_group, None).unwrap();
        assert_eq!(theirs.serialize().unwrap(), signature.to_vec());
    }
}
