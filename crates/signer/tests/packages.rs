//! Key tweak packages: what is refused, and how long staged tweaks live.

mod common;

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use common::{Dealt, Mode, Network, OPERATORS, claim_package, leaf_id, send_package};
use rand::rngs::OsRng;
use tinderbox_frost::{OperatorIndex, SecretScalar, feldman};
use tinderbox_protocol::ecies;
use tinderbox_protocol::package::SendLeafKeyTweak;
use tinderbox_signer::{PackageKind, PlainTweak, Signer, SignerError};
use zeroize::Zeroizing;

for_both! {
    case_20_a_share_that_does_not_fit_exactly_threshold_proofs_is_refused,
    case_21_public_shares_that_do_not_follow_from_the_proofs_are_refused,
    case_22_another_polynomial_for_one_operator_shows_in_the_proofs,
    case_22_a_tweak_that_makes_a_share_zero_is_refused,
    malformed_packages_are_refused_by_leaf_and_field,
    a_package_for_another_operator_does_not_open,
    shares_in_the_clear_are_checked_like_packages,
    short_shares_are_padded,
    a_package_of_many_leaves_keeps_its_order,
    a_staged_tweak_outlives_a_restart_and_falls_with_its_epoch,
    an_epoch_is_kept_while_its_tweaks_may_be_on_their_way,
    refusals_name_no_secret,
}

fn dealt() -> Dealt {
    Dealt::new(leaf_id(), &SecretScalar::random(&mut OsRng))
}

async fn refused(signer: &dyn Signer, leaf: SendLeafKeyTweak) -> String {
    let package = send_package(signer, vec![leaf]);
    match signer.open(PackageKind::Send, package).await {
        Err(SignerError::BadPackage(text)) => text,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was opened"),
    }
}

/// A change to a good package, and what the refusal says.
type Case = (fn(&mut SendLeafKeyTweak, &Dealt), &'static str);

async fn refuses(mode: Mode, cases: Vec<Case>) {
    let network = Network::start(mode).await;
    let signer = network.operators[0].signer();
    for (change, expected) in cases {
        let dealt = dealt();
        let mut leaf = dealt.send_leaf(0);
        change(&mut leaf, &dealt);
        let text = refused(signer, leaf).await;
        assert!(text.contains(expected), "{text} does not say {expected}");
        assert!(text.contains(&dealt.leaf.to_string()), "{text}");
    }
}

async fn case_20_a_share_that_does_not_fit_exactly_threshold_proofs_is_refused(mode: Mode) {
    refuses(
        mode,
        vec![
            (
                |leaf, dealt| {
                    let other = dealt.shares[1].to_be_bytes().to_vec();
                    leaf.secret_share_tweak.as_mut().unwrap().secret_share = other;
                },
                "the share of operator 0 does not fit the proofs",
            ),
            (
                |leaf, _| {
                    let share = leaf.secret_share_tweak.as_mut().unwrap();
                    share.secret_share = vec![0xff; 32];
                },
                "the share of operator 0",
            ),
            (
                |leaf, _| {
                    let share = leaf.secret_share_tweak.as_mut().unwrap();
                    share.secret_share = vec![0; 32];
                },
                "the share of operator 0",
            ),
            (
                |leaf, _| {
                    leaf.secret_share_tweak
                        .as_mut()
                        .unwrap()
                        .secret_share
                        .clear()
                },
                "the share of operator 0",
            ),
            (
                |leaf, _| {
                    leaf.secret_share_tweak
                        .as_mut()
                        .unwrap()
                        .secret_share
                        .insert(0, 0)
                },
                "the share of operator 0",
            ),
            (
                |leaf, _| {
                    leaf.secret_share_tweak.as_mut().unwrap().proofs.pop();
                },
                "",
            ),
            (
                |leaf, _| leaf.secret_share_tweak.as_mut().unwrap().proofs.clear(),
                "",
            ),
            (
                // A polynomial of a higher degree: every share fits, and no t could ever sign.
                |leaf, dealt| {
                    let secret = SecretScalar::random(&mut OsRng);
                    let steep = feldman::split(&secret, 3, OPERATORS, &mut OsRng).unwrap();
                    let dealt = Dealt {
                        leaf: dealt.leaf,
                        new_owner: SecretScalar::random(&mut OsRng),
                        public_shares: (0..)
                            .zip(&steep.shares)
                            .map(|(index, share)| {
                                let id = OperatorIndex(index).identifier();
                                (id, share.public_key().serialize().to_vec())
                            })
                            .collect(),
                        proofs: steep.proofs,
                        shares: steep.shares,
                    };
                    *leaf = dealt.send_leaf(0);
                },
                "",
            ),
        ],
    )
    .await;
}

async fn case_21_public_shares_that_do_not_follow_from_the_proofs_are_refused(mode: Mode) {
    refuses(
        mode,
        vec![
            (
                |leaf, _| {
                    let two = OperatorIndex(2).identifier();
                    let one = leaf.pubkey_shares_tweak[&OperatorIndex(1).identifier()].clone();
                    leaf.pubkey_shares_tweak.insert(two, one);
                },
                "the public share of operator 2 is",
            ),
            (
                |leaf, _| {
                    leaf.pubkey_shares_tweak
                        .remove(&OperatorIndex(1).identifier());
                },
                "the public share of operator 1 is missing",
            ),
            (
                |leaf, _| {
                    let one = leaf.pubkey_shares_tweak[&OperatorIndex(1).identifier()].clone();
                    leaf.pubkey_shares_tweak
                        .insert(OperatorIndex(3).identifier(), one);
                },
                "a public share is for operator 3, of 3 operators",
            ),
            (
                |leaf, _| leaf.pubkey_shares_tweak.clear(),
                "the public share of operator 0 is missing",
            ),
        ],
    )
    .await;
}

async fn case_22_another_polynomial_for_one_operator_shows_in_the_proofs(mode: Mode) {
    let network = Network::start(mode).await;
    let leaf = leaf_id();
    let secret = SecretScalar::random(&mut OsRng);
    let owner = || SecretScalar::random(&mut OsRng);
    // Same secret, other coefficients: each slice is right in itself, so each signer opens it, and
    // hands out the proofs that the flow compares across operators.
    let slices = [
        Dealt::of(leaf, owner(), &secret),
        Dealt::of(leaf, owner(), &secret),
    ];
    let mut proofs = Vec::new();
    for (place, slice) in slices.iter().enumerate() {
        let signer = network.operators[place].signer();
        let package = send_package(signer, vec![slice.send_leaf(place)]);
        let opened = signer.open(PackageKind::Send, package).await.unwrap();
        assert_eq!(opened[0].proofs, slice.proofs);
        proofs.push(opened[0].proofs.clone());
    }
    assert_eq!(proofs[0][0], proofs[1][0]);
    assert_ne!(proofs[0], proofs[1]);
}

async fn case_22_a_tweak_that_makes_a_share_zero_is_refused(mode: Mode) {
    let network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let signer = network.operators[0].signer();
    // What only somebody with the vault in hand can know: the share itself.
    let share = network.operators[0].open_share(leaf.keyshare.id, &leaf.keyshare.sealed[0]);
    let public = &leaf.keyshare.public_shares[&OperatorIndex(0)];
    assert_eq!(share.public_key(), *public);
    // A polynomial whose value at operator 0 is the share's opposite: slope, and the rest.
    let slope = SecretScalar::random(&mut OsRng);
    let opposite = share.negate();
    let constant = opposite.sub(&slope).unwrap();
    let proofs = vec![constant.public_key(), slope.public_key()];
    let staged = signer
        .stage(vec![plain(leaf.id, &opposite, &proofs)])
        .await
        .unwrap();
    let job = network.key_job(&leaf, 0, Some(staged[0].staged.clone()), Vec::new());
    for refused in [
        signer.reserve(vec![job.clone()]).await.unwrap_err(),
        signer.execute(vec![job]).await.unwrap_err(),
    ] {
        assert!(matches!(refused, SignerError::BadJob(_)), "{refused}");
    }
    // The share is as it was.
    let job = network.key_job(&leaf, 0, None, Vec::new());
    signer.reserve(vec![job]).await.unwrap();
    assert!(signer.unsettled(1).await.unwrap().is_empty());
}

fn plain(
    leaf: tinderbox_protocol::LeafId,
    share: &SecretScalar,
    proofs: &[PublicKey],
) -> PlainTweak {
    PlainTweak {
        leaf,
        share: Zeroizing::new(share.to_be_bytes().to_vec()),
        proofs: proofs.to_vec(),
        public_shares: feldman::evaluate_all(proofs, OPERATORS).unwrap(),
    }
}

async fn malformed_packages_are_refused_by_leaf_and_field(mode: Mode) {
    refuses(
        mode,
        vec![
            (
                |leaf, _| leaf.secret_share_tweak = None,
                "the secret share is missing",
            ),
            (
                |leaf, _| leaf.secret_share_tweak.as_mut().unwrap().proofs[0] = vec![0],
                "proof has 1 bytes, not 33",
            ),
            (
                |leaf, _| leaf.secret_share_tweak.as_mut().unwrap().proofs[1] = vec![5; 33],
                "proof 0505",
            ),
            (
                |leaf, _| {
                    let one = leaf
                        .pubkey_shares_tweak
                        .remove(&OperatorIndex(1).identifier());
                    leaf.pubkey_shares_tweak.insert("1".into(), one.unwrap());
                },
                "",
            ),
            (
                |leaf, _| {
                    let id = OperatorIndex(2).identifier();
                    leaf.pubkey_shares_tweak.insert(id, vec![2; 32]);
                },
                "the public share of operator 2 has 32 bytes",
            ),
        ],
    )
    .await;
    let network = Network::start(mode).await;
    let signer = network.operators[0].signer();
    let dealt = dealt();
    let twice = vec![dealt.send_leaf(0), dealt.send_leaf(0)];
    let package = send_package(signer, twice);
    let refused = signer.open(PackageKind::Send, package).await.unwrap_err();
    assert!(refused.to_string().contains("is in it twice"), "{refused}");
    for name in ["", "not an id", &dealt.leaf.to_string().replace('-', "")] {
        let mut leaf = dealt.send_leaf(0);
        leaf.leaf_id = name.into();
        let package = send_package(signer, vec![leaf]);
        let refused = signer.open(PackageKind::Send, package).await.unwrap_err();
        assert!(matches!(refused, SignerError::BadPackage(_)), "{refused}");
    }
}

async fn a_package_for_another_operator_does_not_open(mode: Mode) {
    let network = Network::start(mode).await;
    let dealt = dealt();
    let package = send_package(network.operators[1].signer(), vec![dealt.send_leaf(0)]);
    let signer = network.operators[0].signer();
    let identity = signer.identity();
    let mut cases = vec![package, Vec::new(), vec![4; 97], vec![0; 500]];
    // What decrypts, but is no package.
    cases.push(ecies::encrypt(&identity, &[0xff; 40], &mut OsRng).unwrap());
    for ciphertext in cases {
        for kind in [PackageKind::Send, PackageKind::Claim] {
            let refused = signer.open(kind, ciphertext.clone()).await.unwrap_err();
            assert!(matches!(refused, SignerError::BadPackage(_)), "{refused}");
        }
    }
}

async fn shares_in_the_clear_are_checked_like_packages(mode: Mode) {
    let network = Network::start(mode).await;
    let signer = network.operators[1].signer();
    let secret = SecretScalar::random(&mut OsRng);
    let dealt = feldman::split(&secret, 2, OPERATORS, &mut OsRng).unwrap();
    let leaf = leaf_id();
    let staged = signer
        .stage(vec![plain(leaf, &dealt.shares[1], &dealt.proofs)])
        .await
        .unwrap();
    assert_eq!((staged[0].leaf, &staged[0].proofs), (leaf, &dealt.proofs));
    let wrong = vec![plain(leaf, &dealt.shares[0], &dealt.proofs)];
    let refused = signer.stage(wrong).await.unwrap_err().to_string();
    assert!(
        refused.contains("the share of operator 1 does not fit"),
        "{refused}"
    );
    let mut missing = plain(leaf, &dealt.shares[1], &dealt.proofs);
    missing.public_shares = BTreeMap::new();
    let refused = signer.stage(vec![missing]).await.unwrap_err().to_string();
    assert!(refused.contains("operator 0 is missing"), "{refused}");
}

async fn short_shares_are_padded(mode: Mode) {
    let network = Network::start(mode).await;
    let signer = network.operators[0].signer();
    // Some wallets strip leading zeros, so one share in 256 comes a byte short.
    let dealt = loop {
        let dealt = dealt();
        if dealt.shares[0].to_be_bytes()[0] == 0 {
            break dealt;
        }
    };
    let mut leaf = dealt.send_leaf(0);
    leaf.secret_share_tweak
        .as_mut()
        .unwrap()
        .secret_share
        .remove(0);
    let package = send_package(signer, vec![leaf]);
    signer.open(PackageKind::Send, package).await.unwrap();
}

async fn a_package_of_many_leaves_keeps_its_order(mode: Mode) {
    let network = Network::start(mode).await;
    let signer = network.operators[2].signer();
    let dealt: Vec<Dealt> = (0..25).map(|_| dealt()).collect();
    let leaves = dealt.iter().map(|dealt| dealt.claim_leaf(2)).collect();
    let package = claim_package(signer, leaves);
    let opened = signer.open(PackageKind::Claim, package).await.unwrap();
    let ids: Vec<_> = opened.iter().map(|opened| opened.leaf).collect();
    assert_eq!(
        ids,
        dealt.iter().map(|dealt| dealt.leaf).collect::<Vec<_>>()
    );
    assert!(opened.iter().all(|opened| opened.secret_cipher.is_empty()));
    let empty = claim_package(signer, Vec::new());
    assert!(
        signer
            .open(PackageKind::Claim, empty)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn a_staged_tweak_outlives_a_restart_and_falls_with_its_epoch(mode: Mode) {
    let mut network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let dealt = Dealt::new(leaf.id, &leaf.owner);
    let staged = network.open(&dealt, true).await.remove(0);
    let first = network.operators[0].signer().epoch().await.unwrap();
    assert_eq!(staged.epoch, first);
    network.operators[0].restart().await;
    let job = network.key_job(&leaf, 0, Some(staged.clone()), Vec::new());
    network.operators[0]
        .signer()
        .execute(vec![job.clone()])
        .await
        .unwrap();
    // Another epoch begins; the old one stays until somebody retires it.
    network.operators[0].clock.advance(600);
    let signer = network.operators[0].signer();
    let second = signer.epoch().await.unwrap();
    assert_eq!(second, first + 1);
    assert_eq!(signer.epoch().await.unwrap(), second);
    let later = network.open(&dealt, true).await.remove(0);
    assert_eq!(later.epoch, second);
    assert_eq!(
        signer.lowest_epoch(&[later.clone(), staged.clone()]),
        Some(first)
    );
    network.operators[0].clock.advance(600);
    signer.retire(first).await.unwrap();
    signer.execute(vec![job.clone()]).await.unwrap();
    signer.retire(second).await.unwrap();
    for _ in 0..2 {
        let signer = network.operators[0].signer();
        let refused = signer
            .execute(vec![job.clone()])
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains("which is retired"), "{refused}");
        let job = network.key_job(&leaf, 0, Some(later.clone()), Vec::new());
        signer.execute(vec![job]).await.unwrap();
        // The last epoch is kept, whatever is asked.
        signer.retire(u64::MAX).await.unwrap();
        network.operators[0].restart().await;
    }
}

async fn an_epoch_is_kept_while_its_tweaks_may_be_on_their_way(mode: Mode) {
    let network = Network::start(mode).await;
    let leaf = network.leaf().await;
    let signer = network.operators[0].signer();
    let dealt = Dealt::new(leaf.id, &leaf.owner);
    network.operators[0].clock.advance(599);
    let staged = network.open(&dealt, true).await.remove(0);
    network.operators[0].clock.advance(600);
    let next = signer.epoch().await.unwrap();
    assert_eq!(next, staged.epoch + 1);
    // The tweak is not in the database yet, so nobody there knows that its epoch is needed.
    signer.retire(next).await.unwrap();
    let job = network.key_job(&leaf, 0, Some(staged), Vec::new());
    signer.execute(vec![job.clone()]).await.unwrap();
    network.operators[0].clock.advance(600);
    signer.retire(next).await.unwrap();
    assert!(signer.execute(vec![job]).await.is_err());
}

async fn refusals_name_no_secret(mode: Mode) {
    let network = Network::start(mode).await;
    let signer = network.operators[0].signer();
    for _ in 0..3 {
        let dealt = dealt();
        let mut leaf = dealt.send_leaf(0);
        let wrong = dealt.shares[1].to_be_bytes();
        leaf.secret_share_tweak.as_mut().unwrap().secret_share = wrong.to_vec();
        let text = refused(signer, leaf).await;
        for secret in [&dealt.shares[0], &dealt.shares[1], &dealt.new_owner] {
            let secret = secret.to_be_bytes();
            assert!(!text.contains(&hex::encode(&secret[..8])), "{text}");
            assert!(!text.contains(&format!("{:?}", &secret[..8])), "{text}");
        }
    }
}
