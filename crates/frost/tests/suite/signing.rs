//! Signing with wrong inputs. Case numbers are those of the project's list of faults.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use proptest::prelude::*;
use tinderbox_frost::{
    Error, NonceCommitment, Nonces, OperatorIndex, Participant, SecretScalar, SignatureShare,
    SigningPackage, TaprootKey, verify_signature,
};

use crate::common::{Group, rng};

const MESSAGE: [u8; 32] = [0x42; 32];

fn operators(numbers: &[u16]) -> Vec<Participant> {
    numbers
        .iter()
        .map(|number| OperatorIndex(*number).into())
        .collect()
}

fn bend(share: &SignatureShare) -> SignatureShare {
    let mut bytes = share.0;
    bytes[31] ^= 1;
    SignatureShare(bytes)
}

#[test]
fn every_subset_of_at_least_threshold_operators_signs() {
    for (threshold, count) in [(2, 2), (2, 3), (3, 5), (4, 4)] {
        for mask in 0u16..1 << count {
            let signers: Vec<u16> = (0..count)
                .filter(|number| mask >> number & 1 == 1)
                .collect();
            let mut group = Group::new(u64::from(mask), threshold, count);
            let session = group.session(&signers, MESSAGE);
            if signers.len() < usize::from(threshold) {
                assert_eq!(
                    session.package.prepare().unwrap_err(),
                    Error::TooFewCommitments {
                        expected: threshold,
                        actual: signers.len()
                    }
                );
                continue;
            }
            let signature = session.sign(&group).aggregate(&group).unwrap();
            verify_signature(&group.verifying_key(), &MESSAGE, &signature).unwrap();
        }
    }
}

#[test]
fn operators_far_apart_sign_together() {
    let mut group = Group::new(5, 3, 40);
    let signature = group
        .session(&[0, 33, 39], MESSAGE)
        .sign(&group)
        .aggregate(&group)
        .unwrap();
    verify_signature(&group.verifying_key(), &MESSAGE, &signature).unwrap();
}

/// Case 16: fewer operators than the threshold, with the user counted as one of them.
#[test]
fn the_user_does_not_count_towards_the_threshold() {
    let mut group = Group::new(1, 3, 5);
    let session = group.session(&[0, 4], MESSAGE);
    assert_eq!(
        session.package.prepare().unwrap_err(),
        Error::TooFewCommitments {
            expected: 3,
            actual: 2
        }
    );
}

#[test]
fn a_threshold_below_two_is_refused() {
    for threshold in [0, 1] {
        let mut group = Group::new(1, 2, 3);
        let mut package = group.session(&[0, 1], MESSAGE).package;
        package.threshold = threshold;
        assert_eq!(
            package.prepare().unwrap_err(),
            Error::BadThreshold {
                threshold,
                count: 2
            }
        );
    }
}

/// Case 16: the commitment set lacks the signer's own entry.
#[test]
fn an_operator_refuses_a_package_without_its_own_commitment() {
    let mut group = Group::new(2, 2, 3);
    let prepared = group.session(&[0, 1], MESSAGE).package.prepare().unwrap();
    let absent = OperatorIndex(2);
    let nonces = Nonces::generate(&mut group.rng);
    assert_eq!(
        prepared.sign_operator(&absent, group.share(absent), nonces),
        Err(Error::NotASigner {
            participant: absent.into()
        })
    );
    let alone = group
        .operators_only(&[0, 1], MESSAGE)
        .package
        .prepare()
        .unwrap();
    let nonces = Nonces::generate(&mut group.rng);
    assert_eq!(
        alone.sign_user(&group.user, nonces),
        Err(Error::NotASigner {
            participant: Participant::User
        })
    );
}

/// Case 16: commitments swapped between jobs, or between operators of one job.
#[test]
fn a_signer_refuses_a_package_with_commitments_of_another_job() {
    let mut group = Group::new(3, 2, 3);
    let mut first = group.session(&[0, 1], MESSAGE);
    let second = group.session(&[0, 1], [9; 32]);
    let prepared = second.package.prepare().unwrap();
    let index = OperatorIndex(0);
    let other = Error::OtherNonces {
        participant: index.into(),
    };
    let nonces = first.nonces.remove(&index).unwrap();
    assert_eq!(
        prepared.sign_operator(&index, group.share(index), nonces),
        Err(other.clone())
    );
    let user_nonces = first.user_nonces.take().unwrap();
    assert_eq!(
        prepared.sign_user(&group.user, user_nonces),
        Err(Error::OtherNonces {
            participant: Participant::User
        })
    );

    let mut third = group.session(&[0, 1], MESSAGE);
    let (a, b) = (
        third.package.operators[&index],
        third.package.operators[&OperatorIndex(1)],
    );
    third.package.operators = [(index, b), (OperatorIndex(1), a)].into();
    let prepared = third.package.prepare().unwrap();
    let nonces = third.nonces.remove(&index).unwrap();
    assert_eq!(
        prepared.sign_operator(&index, group.share(index), nonces),
        Err(other)
    );
}

/// Case 16: the same operator twice in a list of commitments.
#[test]
fn a_repeated_operator_is_refused() {
    let mut group = Group::new(4, 2, 3);
    let operators = group.session(&[0, 1], MESSAGE).package.operators;
    let twice = operators
        .iter()
        .chain(operators.iter().take(1))
        .map(|(i, c)| (*i, *c));
    assert_eq!(
        SigningPackage::commitments(twice),
        Err(Error::DuplicateOperator {
            index: OperatorIndex(0)
        })
    );
    assert_eq!(
        SigningPackage::commitments(operators.iter().map(|(i, c)| (*i, *c))),
        Ok(operators)
    );
}

/// Case 16: one commitment under two names.
#[test]
fn a_commitment_copied_from_another_signer_is_refused() {
    let mut group = Group::new(4, 2, 3);
    let mut package = group.session(&[0, 2], MESSAGE).package;
    let stolen = package.operators[&OperatorIndex(0)];
    let honest = package.operators.insert(OperatorIndex(2), stolen).unwrap();
    assert_eq!(
        package.prepare().unwrap_err(),
        Error::RepeatedCommitment {
            first: OperatorIndex(0).into(),
            second: OperatorIndex(2).into()
        }
    );
    package.operators.insert(OperatorIndex(2), honest);
    package.user = Some(stolen);
    assert_eq!(
        package.prepare().unwrap_err(),
        Error::RepeatedCommitment {
            first: OperatorIndex(0).into(),
            second: Participant::User
        }
    );
}

/// Case 16: commitments that cancel, so that a nonce point would be the identity.
#[test]
fn an_adaptor_that_cancels_the_group_commitment_is_refused() {
    let mut group = Group::new(6, 2, 3);
    let mut package = group.session(&[0, 1], MESSAGE).package;
    let commitment = *package.prepare().unwrap().group_commitment();
    package.adaptor = Some(commitment.negate(bitcoin::secp256k1::SECP256K1));
    assert_eq!(
        package.prepare().unwrap_err(),
        Error::IdentityPoint {
            what: "the group commitment"
        }
    );
}

#[test]
fn a_key_that_was_prepared_serves_only_its_own_packages() {
    let mut group = Group::new(7, 2, 3);
    let package = group.session(&[0, 1], MESSAGE).package;
    let key = TaprootKey::new(&group.verifying_key()).unwrap();
    let (fast, slow) = (
        package.prepare_with(&key).unwrap(),
        package.prepare().unwrap(),
    );
    assert_eq!(fast.challenge(), slow.challenge());
    let other = TaprootKey::new(&group.user.public_key()).unwrap();
    assert_eq!(
        package.prepare_with(&other).unwrap_err(),
        Error::OtherVerifyingKey
    );
}

/// Case 17: a wrong share names its author; the next subset, with fresh commitments, signs.
#[test]
fn a_bad_share_names_its_culprit_and_the_next_subset_signs() {
    let mut group = Group::new(8, 2, 3);
    let mut signed = group.session(&[0, 1], MESSAGE).sign(&group);
    let bad = signed.shares.get_mut(&OperatorIndex(1)).unwrap();
    *bad = bend(bad);
    assert_eq!(
        signed.aggregate(&group),
        Err(Error::InvalidShares {
            culprits: operators(&[1])
        })
    );
    let signature = group
        .session(&[0, 2], MESSAGE)
        .sign(&group)
        .aggregate(&group)
        .unwrap();
    verify_signature(&group.verifying_key(), &MESSAGE, &signature).unwrap();
}

/// Case 17: several liars at once, the user and unreadable shares among them.
#[test]
fn all_culprits_are_named() {
    let mut group = Group::new(9, 3, 5);
    let mut signed = group.session(&[0, 2, 3, 4], MESSAGE).sign(&group);
    signed
        .shares
        .insert(OperatorIndex(0), SignatureShare([0xff; 32]));
    signed
        .shares
        .insert(OperatorIndex(3), SignatureShare([0; 32]));
    signed.user_share = signed.user_share.as_ref().map(bend);
    let mut culprits = operators(&[0, 3]);
    culprits.push(Participant::User);
    let error = signed.aggregate(&group).unwrap_err();
    assert_eq!(error, Error::InvalidShares { culprits });
    assert_eq!(
        error.to_string(),
        "wrong signature share of operator 0, operator 3, the user; \
         sign again without them and with fresh commitments"
    );
}

/// Case 17: a share made with another key than the signer's.
#[test]
fn a_share_of_another_key_is_caught_before_aggregation() {
    let mut group = Group::new(10, 2, 3);
    let session = group.session(&[0, 1], MESSAGE);
    let prepared = session.package.prepare().unwrap();
    let index = OperatorIndex(0);
    let wrong = SecretScalar::random(&mut group.rng);
    let nonces = session.nonces.into_iter().next().unwrap().1;
    let share = prepared.sign_operator(&index, &wrong, nonces).unwrap();
    let public = group.public_shares();
    assert_eq!(
        prepared.verify_operator_share(&index, &public[&index], &share),
        Err(Error::InvalidShares {
            culprits: operators(&[0])
        })
    );
    assert_eq!(
        prepared.verify_operator_share(&index, &wrong.public_key(), &share),
        Ok(())
    );
    assert!(
        prepared
            .verify_user_share(&wrong.public_key(), &share)
            .is_err()
    );
}

#[test]
fn share_sets_that_do_not_fit_the_package_are_refused() {
    let mut group = Group::new(11, 2, 3);
    let signed = group.session(&[0, 1], MESSAGE).sign(&group);
    let public = group.public_shares();
    let user_key = group.user.public_key();
    let (shares, user, prepared) = (&signed.shares, signed.user_share.as_ref(), &signed.prepared);

    let mut fewer = shares.clone();
    fewer.remove(&OperatorIndex(1));
    let missing = Participant::from(OperatorIndex(1));
    assert_eq!(
        prepared.aggregate(&fewer, user, &public, Some(&user_key)),
        Err(Error::MissingShare {
            participant: missing
        })
    );
    let mut more = shares.clone();
    more.insert(OperatorIndex(2), shares[&OperatorIndex(1)]);
    assert_eq!(
        prepared.aggregate(&more, user, &public, Some(&user_key)),
        Err(Error::UnexpectedShare {
            participant: OperatorIndex(2).into()
        })
    );
    let mut unknown = public.clone();
    unknown.remove(&OperatorIndex(1));
    assert_eq!(
        prepared.aggregate(shares, user, &unknown, Some(&user_key)),
        Err(Error::MissingPublicShare {
            participant: missing
        })
    );
    assert_eq!(
        prepared.aggregate(shares, None, &public, Some(&user_key)),
        Err(Error::MissingShare {
            participant: Participant::User
        })
    );
    assert_eq!(
        prepared.aggregate(shares, user, &public, None),
        Err(Error::MissingPublicShare {
            participant: Participant::User
        })
    );
    let alone = group.operators_only(&[0, 1], MESSAGE).sign(&group);
    assert_eq!(
        alone.prepared.aggregate(&alone.shares, user, &public, None),
        Err(Error::UnexpectedShare {
            participant: Participant::User
        })
    );
}

/// Case 19: right shares of a key that is not the verifying key give an error, never a signature.
#[test]
fn an_aggregate_that_does_not_verify_is_never_returned() {
    let mut group = Group::new(12, 2, 3);
    let mut session = group.session(&[0, 1], MESSAGE);
    session.package.verifying_key = SecretScalar::random(&mut group.rng).public_key();
    assert_eq!(
        session.sign(&group).aggregate(&group),
        Err(Error::KeyMismatch)
    );

    let mut session = group.session(&[0, 1], MESSAGE);
    session.package.verifying_key = SecretScalar::random(&mut group.rng).public_key();
    session.package.adaptor = Some(SecretScalar::random(&mut group.rng).public_key());
    assert_eq!(
        session.sign(&group).aggregate(&group),
        Err(Error::KeyMismatch)
    );
}

/// Everything that a forger may choose in one session.
#[derive(Clone, Debug)]
enum Change {
    OwnHiding,
    OwnBinding,
    OthersCommitment,
    UserCommitment,
    Message(u8),
    Key,
    DropUser,
    UserAsOperator,
    AddOperator,
    Adaptor,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::OwnHiding),
        Just(Change::OwnBinding),
        Just(Change::OthersCommitment),
        Just(Change::UserCommitment),
        (0u8..=255).prop_map(Change::Message),
        Just(Change::Key),
        Just(Change::DropUser),
        Just(Change::UserAsOperator),
        Just(Change::AddOperator),
        Just(Change::Adaptor),
    ]
}

fn applied(change: &Change, package: &SigningPackage, seed: u64) -> SigningPackage {
    let mut rng = rng(seed);
    let fresh = Nonces::generate(&mut rng).commitment();
    let mut changed = package.clone();
    match change {
        Change::OwnHiding => {
            changed.operators.get_mut(&OperatorIndex(0)).unwrap().hiding = fresh.hiding;
        }
        Change::OwnBinding => {
            changed
                .operators
                .get_mut(&OperatorIndex(0))
                .unwrap()
                .binding = fresh.binding;
        }
        Change::OthersCommitment => {
            changed.operators.insert(OperatorIndex(1), fresh);
        }
        Change::UserCommitment => changed.user = Some(fresh),
        Change::Message(bit) => changed.message[usize::from(*bit) / 8] ^= 1 << (bit % 8),
        Change::Key => changed.verifying_key = fresh.hiding,
        Change::DropUser => changed.user = None,
        Change::UserAsOperator => {
            let user = changed.user.take().unwrap();
            changed.operators.insert(OperatorIndex(2), user);
        }
        Change::AddOperator => {
            changed.operators.insert(OperatorIndex(2), fresh);
        }
        Change::Adaptor => changed.adaptor = Some(fresh.hiding),
    }
    changed
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Case 18: any change to what is signed changes the fingerprint (so the nonces refuse) and the
    /// challenge; and the binding factor too, but for the adaptor, which is no part of it.
    #[test]
    fn any_change_changes_the_binding_factor_or_the_challenge(change in change(), seed: u64) {
        let mut group = Group::new(seed, 2, 3);
        let package = group.session(&[0, 1], MESSAGE).package;
        let changed = applied(&change, &package, seed ^ 1);
        prop_assert_ne!(package.fingerprint(), changed.fingerprint());
        let (before, after) = (package.prepare().unwrap(), changed.prepare().unwrap());
        prop_assert_ne!(before.challenge(), after.challenge());
        let me = Participant::from(OperatorIndex(0));
        if matches!(change, Change::Adaptor) {
            prop_assert_eq!(before.binding_factor(me), after.binding_factor(me));
            prop_assert_ne!(before.group_commitment(), after.group_commitment());
        } else {
            prop_assert_ne!(before.binding_factor(me), after.binding_factor(me));
        }
    }

    /// Random groups, subsets and messages sign, with and without the user, and any flipped bit of
    /// any share is blamed on its author.
    #[test]
    fn honest_groups_sign_and_a_flipped_bit_is_blamed(
        seed: u64,
        message: [u8; 32],
        threshold in 2u16..5,
        extra in 0u16..3,
        with_user: bool,
        liar: prop::sample::Index,
        bit in 0usize..256,
    ) {
        let count = threshold + extra;
        let mut group = Group::new(seed, threshold, count);
        let signers: Vec<u16> = (extra..count).collect();
        let session = if with_user {
            group.session(&signers, message)
        } else {
            group.operators_only(&signers, message)
        };
        let key = session.package.verifying_key;
        let mut signed = session.sign(&group);
        let signature = signed.aggregate(&group).unwrap();
        prop_assert_eq!(verify_signature(&key, &message, &signature), Ok(()));

        let liar = OperatorIndex(signers[liar.index(signers.len())]);
        signed.shares.get_mut(&liar).unwrap().0[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(
            signed.aggregate(&group),
            Err(Error::InvalidShares { culprits: vec![liar.into()] })
        );
    }
}

/// Case 18: 300 sessions opened side by side on one operator's commitments, the forger choosing
/// its own only after it saw those (the shape of the ROS attack). Binding factors of all sessions
/// differ, so no sum of group commitments can be steered.
#[test]
fn three_hundred_parallel_sessions_share_no_binding_factor() {
    let mut group = Group::new(18, 2, 3);
    let honest: Vec<NonceCommitment> = (0..300)
        .map(|_| Nonces::generate(&mut group.rng).commitment())
        .collect();
    let user = Nonces::generate(&mut group.rng).commitment();
    let verifying_key = group.verifying_key();
    let mut factors = BTreeMap::new();
    let mut previous = user.hiding;
    for (session, own) in honest.iter().enumerate() {
        // The forger's points depend on the honest ones of this session and on the last result.
        let add = |a: &PublicKey, b: &PublicKey| a.combine(b).unwrap();
        let adaptive = NonceCommitment {
            hiding: add(&own.hiding, &previous),
            binding: add(&own.binding, &previous),
        };
        let package = SigningPackage {
            verifying_key,
            message: MESSAGE,
            operators: [(OperatorIndex(0), *own), (OperatorIndex(1), adaptive)].into(),
            user: Some(user),
            adaptor: None,
            threshold: 2,
        };
        let prepared = package.prepare().unwrap();
        previous = *prepared.group_commitment();
        for participant in [
            OperatorIndex(0).into(),
            OperatorIndex(1).into(),
            Participant::User,
        ] {
            let factor = prepared.binding_factor(participant).unwrap().to_be_bytes();
            assert_eq!(factors.insert(factor, session), None);
        }
    }
    assert_eq!(factors.len(), 900);
}
