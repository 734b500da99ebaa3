//! Secret sharing and tweaks: properties, and wrong inputs (cases 20 to 22).

use std::collections::BTreeMap;

use bitcoin::secp256k1::{PublicKey, SECP256K1};
use proptest::prelude::*;
use tinderbox_frost::{
    Error, KeyShare, OperatorIndex, PublicKeyshare, SecretScalar, feldman, tweak,
};

use crate::common::{Group, hex_of, rng};

const ORDER: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";

fn random(seed: u64) -> SecretScalar {
    SecretScalar::random(&mut rng(seed))
}

/// Case 20: a share that is not on the polynomial.
#[test]
fn a_wrong_share_is_refused() {
    let dealt = feldman::split(&random(1), 2, 3, &mut rng(2)).unwrap();
    let index = OperatorIndex(1);
    let mismatch = Err(Error::ShareMismatch { index });
    assert_eq!(
        feldman::verify_share(&dealt.proofs, index, &random(3)),
        mismatch
    );
    assert_eq!(
        feldman::verify_share(&dealt.proofs, index, &dealt.shares[0]),
        mismatch
    );
    assert_eq!(
        feldman::verify_share(&dealt.proofs, index, &dealt.shares[1].negate()),
        mismatch
    );
    assert_eq!(
        feldman::verify_share(&dealt.proofs, index, &dealt.shares[1]),
        Ok(())
    );
}

/// Case 20: shares at or above the order, zero, empty, or too long; a short one is left-padded.
#[test]
fn shares_out_of_range_are_refused() {
    let read = |text: &str| SecretScalar::try_from_be_bytes(&hex::decode(text).unwrap());
    assert_eq!(read(ORDER).err(), Some(Error::ScalarOutOfRange));
    assert_eq!(read(&"ff".repeat(32)).err(), Some(Error::ScalarOutOfRange));
    assert_eq!(read(&"00".repeat(32)).err(), Some(Error::ZeroScalar));
    assert_eq!(read("00").err(), Some(Error::ZeroScalar));
    assert_eq!(read("").err(), Some(Error::ScalarLength { actual: 0 }));
    assert_eq!(
        read(&"01".repeat(33)).err(),
        Some(Error::ScalarLength { actual: 33 })
    );
    let largest = format!("{}40", &ORDER[..62]);
    assert_eq!(hex_of(&read(&largest).unwrap()), largest);
    assert_eq!(
        hex_of(&read("0102").unwrap()),
        format!("{}0102", "00".repeat(30))
    );
}

/// Case 20: a vector of proofs that is shorter or longer than the threshold. The longer one is a
/// polynomial of higher degree: its shares verify, but no `threshold` of them give the secret.
#[test]
fn proofs_must_have_exactly_threshold_entries() {
    let secret = random(1);
    let higher = feldman::split(&secret, 3, 4, &mut rng(2)).unwrap();
    for (place, share) in higher.shares.iter().enumerate() {
        let index = OperatorIndex(u16::try_from(place).unwrap());
        assert_eq!(feldman::verify_share(&higher.proofs, index, share), Ok(()));
    }
    assert_eq!(
        feldman::check_proofs(&higher.proofs, 2),
        Err(Error::ProofCount {
            expected: 2,
            actual: 3
        })
    );
    assert_eq!(
        feldman::check_proofs(&higher.proofs[..2], 3),
        Err(Error::ProofCount {
            expected: 3,
            actual: 2
        })
    );
    assert_eq!(
        feldman::check_proofs(&[], 2),
        Err(Error::ProofCount {
            expected: 2,
            actual: 0
        })
    );
    let two = [
        (OperatorIndex(0), &higher.shares[0]),
        (OperatorIndex(1), &higher.shares[1]),
    ];
    assert_ne!(hex_of(&feldman::recover(&two).unwrap()), hex_of(&secret));
    assert_eq!(
        feldman::recover_checked(&higher.proofs, &two).err(),
        Some(Error::TooFewShares {
            expected: 3,
            actual: 2
        })
    );
}

#[test]
fn impossible_thresholds_are_refused() {
    for (threshold, count) in [(0, 3), (1, 3), (4, 3), (2, 1), (2, 0)] {
        assert_eq!(
            feldman::split(&random(1), threshold, count, &mut rng(2)).err(),
            Some(Error::BadThreshold {
                threshold,
                count: u32::from(count)
            })
        );
    }
}

#[test]
fn recovery_refuses_too_few_or_repeated_shares() {
    let dealt = feldman::split(&random(1), 2, 3, &mut rng(2)).unwrap();
    let first = (OperatorIndex(0), &dealt.shares[0]);
    assert_eq!(
        feldman::recover(&[]).err(),
        Some(Error::TooFewShares {
            expected: 2,
            actual: 0
        })
    );
    assert_eq!(
        feldman::recover(&[first]).err(),
        Some(Error::TooFewShares {
            expected: 2,
            actual: 1
        })
    );
    assert_eq!(
        feldman::recover(&[first, (OperatorIndex(1), &dealt.shares[1]), first]).err(),
        Some(Error::DuplicateOperator {
            index: OperatorIndex(0)
        })
    );
}

/// Case 21: public shares of a tweak that do not follow from its proofs.
#[test]
fn inconsistent_public_share_tweaks_are_refused() {
    let dealt = feldman::split(&random(1), 2, 3, &mut rng(2)).unwrap();
    let right = feldman::evaluate_all(&dealt.proofs, 3).unwrap();
    assert_eq!(
        feldman::check_public_shares(&dealt.proofs, 3, &right),
        Ok(())
    );

    for index in OperatorIndex::first(3) {
        let mut wrong = right.clone();
        wrong.insert(index, random(9).public_key());
        assert_eq!(
            feldman::check_public_shares(&dealt.proofs, 3, &wrong),
            Err(Error::PublicShareMismatch { index })
        );
        let mut negated = right.clone();
        negated.insert(index, right[&index].negate(SECP256K1));
        assert_eq!(
            feldman::check_public_shares(&dealt.proofs, 3, &negated),
            Err(Error::PublicShareMismatch { index })
        );
        let mut missing = right.clone();
        missing.remove(&index);
        assert_eq!(
            feldman::check_public_shares(&dealt.proofs, 3, &missing),
            Err(Error::PublicShareMismatch { index })
        );
    }
    let mut more = right.clone();
    more.insert(OperatorIndex(3), random(9).public_key());
    assert_eq!(
        feldman::check_public_shares(&dealt.proofs, 3, &more),
        Err(Error::UnknownOperator {
            index: OperatorIndex(3),
            count: 3
        })
    );
}

/// Case 22: the same secret dealt as another polynomial to each operator. Every operator's own
/// checks pass; only comparing the proofs finds it.
#[test]
fn another_polynomial_for_another_operator_is_refused() {
    let secret = random(1);
    let first = feldman::split(&secret, 2, 3, &mut rng(2)).unwrap();
    let second = feldman::split(&secret, 2, 3, &mut rng(3)).unwrap();
    assert_eq!(first.proofs[0], second.proofs[0]);
    for (dealt, number) in [(&first, 0), (&second, 1)] {
        let index = OperatorIndex(number);
        let share = &dealt.shares[usize::from(number)];
        assert_eq!(feldman::verify_share(&dealt.proofs, index, share), Ok(()));
    }
    let other = OperatorIndex(1);
    assert_eq!(
        feldman::compare_proofs(&first.proofs, other, &second.proofs),
        Err(Error::ProofsDiffer { index: other })
    );
    assert_eq!(
        feldman::compare_proofs(&first.proofs, other, &first.proofs),
        Ok(())
    );
}

/// Case 22: a tweak that makes the group key or somebody's share the identity.
#[test]
fn a_tweak_to_the_identity_is_refused() {
    let group = Group::new(22, 2, 3);
    let public = PublicKeyshare::from_proofs(&group.dealt.proofs, 3).unwrap();

    // The group key: the dealer knows P_SE and deals its negative only "in the exponent".
    let cancelling = [public.group_key.negate(SECP256K1), random(1).public_key()];
    assert_eq!(
        public.tweaked(&cancelling),
        Err(Error::IdentityPoint {
            what: "a tweaked key"
        })
    );

    // One operator's share: a polynomial through −f(2) at x = 2.
    let index = OperatorIndex(1);
    let target = group.share(index).negate();
    assert_eq!(
        tweak::apply_secret(group.share(index), &target).err(),
        Some(Error::ZeroScalar)
    );
    let slope = random(2);
    let constant = target.sub(&slope.add(&slope).unwrap()).unwrap();
    let proofs = [constant.public_key(), slope.public_key()];
    assert_eq!(
        feldman::evaluate(&proofs, index).unwrap(),
        target.public_key()
    );
    assert_eq!(
        public.tweaked(&proofs),
        Err(Error::IdentityPoint {
            what: "a tweaked key"
        })
    );
}

/// Case 22: a tweak that itself vanishes for one operator, or altogether.
#[test]
fn a_tweak_that_vanishes_is_refused() {
    let slope = random(1);
    let constant = slope.negate();
    let proofs = [constant.public_key(), slope.public_key()];
    assert_eq!(
        feldman::evaluate(&proofs, OperatorIndex(0)),
        Err(Error::IdentityPoint {
            what: "a value of the committed polynomial"
        })
    );
    assert_eq!(constant.add(&slope).err(), Some(Error::ZeroScalar));
    assert_eq!(
        slope.sub(&slope).err(),
        Some(Error::ZeroScalar),
        "old key equals new key"
    );
    let key = slope.public_key();
    assert_eq!(
        tweak::sub_points(&key, &key),
        Err(Error::IdentityPoint {
            what: "a difference of keys"
        })
    );
    assert!(feldman::evaluate(&[], OperatorIndex(0)).is_err());
}

#[test]
fn sums_and_remainders_of_key_shares_belong_to_sums_of_keys() {
    let (a, b) = (Group::new(1, 2, 3), Group::new(2, 2, 3));
    let public = |group: &Group| PublicKeyshare::from_proofs(&group.dealt.proofs, 3).unwrap();
    let share = |group: &Group, index: OperatorIndex| KeyShare {
        index,
        secret: group.share(index).duplicate(),
    };
    let sum = public(&a).add(&public(&b)).unwrap();
    for index in OperatorIndex::first(3) {
        let (of_a, of_b) = (share(&a, index), share(&b, index));
        let both = KeyShare::sum(&[&of_a, &of_b]).unwrap();
        assert_eq!(both.public_share(), sum.public_shares[&index]);
        let last = both.remainder(&[&of_a]).unwrap();
        assert_eq!(hex_of(&last.secret), hex_of(&of_b.secret));
    }
    assert_eq!(sum.sub(&public(&a)).unwrap(), public(&b));
    assert_eq!(sum.group_key, a.secret.add(&b.secret).unwrap().public_key());

    let (mine, yours) = (share(&a, OperatorIndex(0)), share(&a, OperatorIndex(1)));
    assert!(KeyShare::sum(&[&mine, &yours]).is_err());
    assert!(KeyShare::sum(&[]).is_err());
    let larger = PublicKeyshare::from_proofs(&b.dealt.proofs, 4).unwrap();
    for (left, right) in [(&larger, &public(&a)), (&public(&a), &larger)] {
        assert_eq!(
            left.add(right),
            Err(Error::PublicShareMismatch {
                index: OperatorIndex(3)
            })
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any `threshold` shares of any group give the secret back, in any order; every share fits
    /// the proofs, on both sides of the small points that are multiplied by adding copies.
    #[test]
    fn any_threshold_shares_recover_the_secret(
        seed: u64,
        threshold in 2u16..6,
        extra in 0u16..5,
        picks in prop::collection::vec(any::<prop::sample::Index>(), 6),
    ) {
        let count = threshold + extra;
        let group = Group::new(seed, threshold, count);
        let mut left: Vec<OperatorIndex> = OperatorIndex::first(count).collect();
        let chosen: Vec<_> = picks
            .iter()
            .take(usize::from(threshold))
            .map(|pick| left.swap_remove(pick.index(left.len())))
            .collect();
        let shares: Vec<_> =
            chosen.iter().map(|index| (*index, group.share(*index))).collect();
        let secret = feldman::recover_checked(&group.dealt.proofs, &shares).unwrap();
        prop_assert_eq!(hex_of(&secret), hex_of(&group.secret));
        let public: BTreeMap<OperatorIndex, PublicKey> =
            shares.iter().map(|(index, share)| (*index, share.public_key())).collect();
        prop_assert_eq!(feldman::recover_public(&public).unwrap(), group.secret.public_key());

        let fewer = feldman::recover(&shares[1..]);
        if threshold > 2 {
            prop_assert_ne!(hex_of(&fewer.unwrap()), hex_of(&group.secret));
        } else {
            prop_assert!(fewer.is_err());
        }
    }

    /// Public evaluation agrees with the secret one wherever the operator sits.
    #[test]
    fn public_and_secret_values_agree(seed: u64, number in 0u16..2000, threshold in 2u16..6) {
        let group = Group::new(seed, threshold, number.saturating_add(1).max(threshold));
        let index = OperatorIndex(number);
        prop_assert_eq!(
            feldman::evaluate(&group.dealt.proofs, index).unwrap(),
            group.share(index).public_key()
        );
    }

    /// A dealt tweak moves shares, public shares and group key together, and signatures follow.
    #[test]
    fn a_dealt_tweak_hands_the_key_over(seed: u64) {
        let mut group = Group::new(seed, 2, 3);
        let verifying_key = group.verifying_key();
        let new_user = SecretScalar::random(&mut group.rng);
        let delta = group.user.sub(&new_user).unwrap();
        let dealt = feldman::split(&delta, 2, 3, &mut group.rng).unwrap();
        let public = PublicKeyshare::from_proofs(&group.dealt.proofs, 3).unwrap();
        let moved = public.tweaked(&dealt.proofs).unwrap();
        for (place, delta) in dealt.shares.iter().enumerate() {
            let share = tweak::apply_secret(&group.dealt.shares[place], delta).unwrap();
            group.dealt.shares[place] = share;
        }
        let old_user = std::mem::replace(&mut group.user, new_user);
        group.secret = group.secret.add(&delta).unwrap();
        group.dealt.proofs = group
            .dealt
            .proofs
            .iter()
            .zip(&dealt.proofs)
            .map(|(proof, delta)| tweak::apply_public(proof, delta).unwrap())
            .collect();
        prop_assert_eq!(&moved.public_shares, &group.public_shares());
        prop_assert_eq!(group.verifying_key(), verifying_key);
        let signed = group.session(&[0, 2], [3; 32]).sign(&group);
        let signature = signed.aggregate(&group).unwrap();
        let valid = tinderbox_frost::verify_signature(&verifying_key, &[3; 32], &signature);
        prop_assert_eq!(valid, Ok(()));

        // The old owner's key no longer goes with the operators' shares.
        group.user = old_user;
        let mut session = group.session(&[0, 2], [3; 32]);
        session.package.verifying_key = verifying_key;
        prop_assert_eq!(session.sign(&group).aggregate(&group), Err(Error::KeyMismatch));
    }

    /// Arithmetic of secrets and of their points is the same arithmetic.
    #[test]
    fn points_follow_scalars(a: u64, b: u64) {
        prop_assume!(a != b);
        let (a, b) = (random(a), random(b));
        let (pa, pb) = (a.public_key(), b.public_key());
        prop_assert_eq!(a.add(&b).unwrap().public_key(), tweak::add_points(&pa, &pb).unwrap());
        prop_assert_eq!(a.sub(&b).unwrap().public_key(), tweak::sub_points(&pa, &pb).unwrap());
        prop_assert_eq!(hex_of(&a.mul(&b)), hex_of(&b.mul(&a)));
        prop_assert_eq!(a.negate().public_key(), pa.negate(SECP256K1));
    }

    #[test]
    fn scalars_of_any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(secret) = SecretScalar::try_from_be_bytes(&bytes) {
            let back = secret.to_be_bytes();
            prop_assert_eq!(&back[32 - bytes.len()..], &bytes[..]);
        }
    }
}
