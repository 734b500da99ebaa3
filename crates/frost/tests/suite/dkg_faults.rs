//! Case 23: key generation among liars, silent ones and messengers who meddle.

use std::collections::BTreeMap;

use bitcoin::secp256k1::SECP256K1;
use proptest::prelude::*;
use tinderbox_frost::dkg::{
    self, GeneratedKey, ProofOfKnowledge, Round1Package, Round1Secret, Round2Secret,
};
use tinderbox_frost::{Error, OperatorIndex, SecretScalar, feldman};

use crate::common::{hex_of, rng};

type Packages = BTreeMap<OperatorIndex, Round1Package>;
type Mail = BTreeMap<OperatorIndex, SecretScalar>;

fn start(
    seed: u64,
    threshold: u16,
    count: u16,
) -> (BTreeMap<OperatorIndex, Round1Secret>, Packages) {
    let mut rng = rng(seed);
    let mut secrets = BTreeMap::new();
    let mut packages = BTreeMap::new();
    for index in OperatorIndex::first(count) {
        let (secret, package) = dkg::round1(index, count, threshold, &mut rng).unwrap();
        assert_eq!(secret.package(), &package);
        secrets.insert(index, secret);
        packages.insert(index, package);
    }
    (secrets, packages)
}

/// Runs the second round at every participant and delivers the mail.
fn exchange(
    secrets: BTreeMap<OperatorIndex, Round1Secret>,
    packages: &Packages,
) -> BTreeMap<OperatorIndex, (Round2Secret, Mail)> {
    let mut states = BTreeMap::new();
    let mut mail: BTreeMap<OperatorIndex, Mail> = BTreeMap::new();
    for (index, secret) in secrets {
        let (state, shares) = dkg::round2(secret, packages).unwrap();
        states.insert(index, state);
        for (to, share) in shares {
            mail.entry(to).or_default().insert(index, share);
        }
    }
    states
        .into_iter()
        .map(|(index, state)| (index, (state, mail.remove(&index).unwrap())))
        .collect()
}

fn run(seed: u64, threshold: u16, count: u16) -> Vec<GeneratedKey> {
    let (secrets, packages) = start(seed, threshold, count);
    exchange(secrets, &packages)
        .into_values()
        .map(|(state, mail)| dkg::finish(state, &mail).unwrap())
        .collect()
}

/// Expects the second round to fail at operator 0.
fn second_round_fails(
    mut secrets: BTreeMap<OperatorIndex, Round1Secret>,
    packages: &Packages,
    expected: &Error,
) {
    let own = secrets.remove(&OperatorIndex(0)).unwrap();
    assert_eq!(dkg::round2(own, packages).err().as_ref(), Some(expected));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn all_participants_hold_shares_of_one_key(seed: u64, threshold in 2u16..5, extra in 0u16..3) {
        let count = threshold + extra;
        let keys = run(seed, threshold, count);
        let first = keys[0].public();
        for (index, key) in OperatorIndex::first(count).zip(&keys) {
            prop_assert_eq!(&key.public(), &first);
            prop_assert_eq!(key.share.public_key(), first.public_shares[&index]);
        }
        let some: Vec<_> = OperatorIndex::first(count)
            .zip(keys.iter().map(|key| &key.share))
            .skip(usize::from(extra))
            .collect();
        let secret = feldman::recover(&some).unwrap();
        prop_assert_eq!(secret.public_key(), first.group_key);
    }
}

#[test]
fn two_generations_share_nothing() {
    let (first, second) = (run(1, 2, 3), run(2, 2, 3));
    assert_ne!(first[0].group_key, second[0].group_key);
    assert_ne!(hex_of(&first[0].share), hex_of(&second[0].share));
}

#[test]
fn impossible_groups_are_refused() {
    let start = |index, count, threshold| {
        dkg::round1(OperatorIndex(index), count, threshold, &mut rng(1)).err()
    };
    assert_eq!(
        start(0, 3, 1),
        Some(Error::BadThreshold {
            threshold: 1,
            count: 3
        })
    );
    assert_eq!(
        start(0, 3, 4),
        Some(Error::BadThreshold {
            threshold: 4,
            count: 3
        })
    );
    assert_eq!(
        start(3, 3, 2),
        Some(Error::UnknownOperator {
            index: OperatorIndex(3),
            count: 3
        })
    );
}

/// Case 23: a wrong proof of knowledge.
#[test]
fn a_wrong_proof_of_knowledge_names_its_author() {
    let culprit = OperatorIndex(2);
    let bends: [fn(&mut ProofOfKnowledge); 4] = [
        |proof| proof.response[31] ^= 1,
        |proof| proof.nonce[0] ^= 1,
        |proof| proof.response = [0xff; 32],
        |proof| {
            *proof = ProofOfKnowledge {
                nonce: [0; 32],
                response: [0; 32],
            }
        },
    ];
    for bend in bends {
        let (secrets, mut packages) = start(3, 2, 3);
        bend(&mut packages.get_mut(&culprit).unwrap().proof);
        second_round_fails(secrets, &packages, &Error::DkgProof { culprit });
    }
}

/// Case 23: a rogue key, chosen after the others' so that the sum is a key of the rogue's own.
#[test]
fn a_rogue_key_names_its_author() {
    let culprit = OperatorIndex(2);
    let (secrets, mut packages) = start(4, 2, 3);
    let wanted = SecretScalar::random(&mut rng(5));
    let others = packages[&OperatorIndex(0)].commitments[0]
        .combine(&packages[&OperatorIndex(1)].commitments[0])
        .unwrap();
    let rogue = wanted
        .public_key()
        .combine(&others.negate(SECP256K1))
        .unwrap();
    packages.get_mut(&culprit).unwrap().commitments[0] = rogue;
    second_round_fails(secrets, &packages, &Error::DkgProof { culprit });
}

/// Case 23: an index hijacked by replaying another's package, or by showing it as one's own.
#[test]
fn a_package_under_anothers_index_is_refused() {
    let (secrets, mut packages) = start(6, 2, 3);
    packages.insert(OperatorIndex(2), packages[&OperatorIndex(1)].clone());
    second_round_fails(
        secrets,
        &packages,
        &Error::DkgProof {
            culprit: OperatorIndex(2),
        },
    );

    let (secrets, mut packages) = start(6, 2, 3);
    packages.insert(OperatorIndex(1), packages[&OperatorIndex(0)].clone());
    second_round_fails(
        secrets,
        &packages,
        &Error::DkgProof {
            culprit: OperatorIndex(1),
        },
    );

    let (secrets, mut packages) = start(6, 2, 3);
    packages.insert(OperatorIndex(0), packages[&OperatorIndex(1)].clone());
    second_round_fails(secrets, &packages, &Error::DkgOwnPackageAltered);

    let (secrets, mut packages) = start(6, 2, 3);
    packages.insert(OperatorIndex(3), packages[&OperatorIndex(1)].clone());
    second_round_fails(
        secrets,
        &packages,
        &Error::UnknownOperator {
            index: OperatorIndex(3),
            count: 3,
        },
    );
}

/// Case 23: a polynomial of another degree.
#[test]
fn a_wrong_number_of_commitments_names_its_author() {
    let culprit = OperatorIndex(1);
    for actual in [0, 1, 3] {
        let (secrets, mut packages) = start(7, 2, 3);
        let spare = packages[&OperatorIndex(2)].commitments[0];
        packages
            .get_mut(&culprit)
            .unwrap()
            .commitments
            .resize(actual, spare);
        second_round_fails(
            secrets,
            &packages,
            &Error::DkgCommitmentCount {
                culprit,
                expected: 2,
                actual,
            },
        );
    }
}

/// Case 23: silence in the first and in the second round.
#[test]
fn silent_participants_are_named_in_each_round() {
    let (secrets, mut packages) = start(8, 2, 4);
    packages.remove(&OperatorIndex(1));
    packages.remove(&OperatorIndex(3));
    let culprits = vec![OperatorIndex(1), OperatorIndex(3)];
    let silent = Error::DkgSilent { round: 1, culprits };
    assert_eq!(
        silent.to_string(),
        "key generation: nothing of operator 1, operator 3 in round 1; \
         check that they run, then start a new one"
    );
    second_round_fails(secrets, &packages, &silent);

    let (secrets, packages) = start(8, 2, 4);
    let mut states = exchange(secrets, &packages);
    let (state, mut mail) = states.remove(&OperatorIndex(0)).unwrap();
    mail.remove(&OperatorIndex(2));
    assert_eq!(
        dkg::finish(state, &mail).err(),
        Some(Error::DkgSilent {
            round: 2,
            culprits: vec![OperatorIndex(2)]
        })
    );
}

/// Case 23: wrong second-round values, of one dealer and of two.
#[test]
fn wrong_secret_shares_name_their_dealers() {
    for liars in [vec![1u16], vec![1, 3]] {
        let (secrets, packages) = start(9, 2, 4);
        let (state, mut mail) = exchange(secrets, &packages)
            .remove(&OperatorIndex(0))
            .unwrap();
        let mut rng = rng(10);
        for liar in &liars {
            mail.insert(OperatorIndex(*liar), SecretScalar::random(&mut rng));
        }
        let culprits = liars.into_iter().map(OperatorIndex).collect();
        assert_eq!(
            dkg::finish(state, &mail).err(),
            Some(Error::DkgShares { culprits })
        );
    }
}

/// Case 23: a value meant for another participant, or from nobody.
#[test]
fn misdirected_secret_shares_are_refused() {
    let (secrets, packages) = start(11, 2, 3);
    let mut states = exchange(secrets, &packages);
    let (_, mut theirs) = states.remove(&OperatorIndex(2)).unwrap();
    let (state, mut mail) = states.remove(&OperatorIndex(0)).unwrap();
    mail.insert(OperatorIndex(1), theirs.remove(&OperatorIndex(1)).unwrap());
    assert_eq!(
        dkg::finish(state, &mail).err(),
        Some(Error::DkgShares {
            culprits: vec![OperatorIndex(1)]
        })
    );

    for index in [OperatorIndex(0), OperatorIndex(3)] {
        let (secrets, packages) = start(11, 2, 3);
        let (state, mut mail) = exchange(secrets, &packages)
            .remove(&OperatorIndex(0))
            .unwrap();
        mail.insert(index, SecretScalar::random(&mut rng(1)));
        assert_eq!(
            dkg::finish(state, &mail).err(),
            Some(Error::UnknownOperator { index, count: 3 })
        );
    }
}

/// Case 23: two participants lie by amounts that cancel. The key is the committed one all the same:
/// everybody's share fits the public polynomial.
#[test]
fn lies_that_cancel_change_nothing() {
    let (secrets, packages) = start(12, 2, 3);
    let (state, mut mail) = exchange(secrets, &packages)
        .remove(&OperatorIndex(0))
        .unwrap();
    let lie = SecretScalar::random(&mut rng(13));
    let (one, two) = (&mail[&OperatorIndex(1)], &mail[&OperatorIndex(2)]);
    let (one, two) = (one.add(&lie).unwrap(), two.sub(&lie).unwrap());
    mail.insert(OperatorIndex(1), one);
    mail.insert(OperatorIndex(2), two);
    let key = dkg::finish(state, &mail).unwrap();
    assert_eq!(key.share.public_key(), key.public_shares[&OperatorIndex(0)]);
    assert_eq!(hex_of(&key.share), hex_of(&run(12, 2, 3)[0].share));
}

/// Case 23: an equivocator shows each peer another, valid package.
#[test]
fn equivocation_is_seen_in_the_hash_and_named_in_the_views() {
    let culprit = OperatorIndex(1);
    let (_, own) = start(14, 2, 3);
    let mut other = own.clone();
    let (_, second) = dkg::round1(culprit, 3, 2, &mut rng(15)).unwrap();
    dkg::verify_round1(culprit, 2, &second).unwrap();
    other.insert(culprit, second);
    assert_ne!(dkg::set_hash([&own]), dkg::set_hash([&other]));
    assert_eq!(
        dkg::compare_views(&own, &other),
        Err(Error::DkgEquivocation {
            culprits: vec![culprit]
        })
    );
    assert_eq!(dkg::compare_views(&own, &own), Ok(()));
    other.remove(&culprit);
    assert_eq!(
        dkg::compare_views(&own, &other),
        Err(Error::DkgSilent {
            round: 1,
            culprits: vec![culprit]
        })
    );
}

/// Case 23: if the equivocation went unnoticed, the values still do not fit, and nobody stores.
#[test]
fn an_unnoticed_equivocation_fails_at_the_end() {
    let culprit = OperatorIndex(1);
    let (secrets, packages) = start(16, 2, 3);
    let mut states = exchange(secrets, &packages);
    let (_, mail) = states.remove(&OperatorIndex(0)).unwrap();

    // Operator 0 saw another package of the culprit, but gets the value of the first polynomial.
    let (mut secrets, mut view) = start(16, 2, 3);
    let (_, second) = dkg::round1(culprit, 3, 2, &mut rng(17)).unwrap();
    view.insert(culprit, second);
    let (state, _) = dkg::round2(secrets.remove(&OperatorIndex(0)).unwrap(), &view).unwrap();
    assert_eq!(
        dkg::finish(state, &mail).err(),
        Some(Error::DkgShares {
            culprits: vec![culprit]
        })
    );
}

proptest! {
    /// Packages of any bytes are read or refused, and what is read is written back the same.
    #[test]
    fn package_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        flip in any::<prop::sample::Index>(),
        cut in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        prop_assert!(Round1Package::from_bytes(&bytes).is_err());
        let (_, package) = dkg::round1(OperatorIndex(0), 3, 2, &mut rng(1)).unwrap();
        let right = package.to_bytes();
        prop_assert_eq!(Round1Package::from_bytes(&right), Ok(package));
        let mut bent = right.clone();
        bent[flip.index(right.len())] ^= 1 << bit;
        if let Ok(read) = Round1Package::from_bytes(&bent) {
            prop_assert_eq!(read.to_bytes(), bent);
        }
        prop_assert!(Round1Package::from_bytes(&right[..cut.index(right.len())]).is_err());
        let longer = [right.as_slice(), &[0]].concat();
        prop_assert!(Round1Package::from_bytes(&longer).is_err());
    }
}

#[test]
fn long_commitment_lists_keep_their_length() {
    let (_, package) = dkg::round1(OperatorIndex(0), 300, 200, &mut rng(1)).unwrap();
    let read = Round1Package::from_bytes(&package.to_bytes()).unwrap();
    assert_eq!(read, package);
}
