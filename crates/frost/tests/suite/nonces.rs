//! Nonces sign once.

use std::sync::{Arc, Barrier, Mutex};

use proptest::prelude::*;
use tinderbox_frost::{Error, NonceBinding, Nonces, OperatorIndex, SecretScalar};

use crate::common::{Group, rng};

/// Case 14: the same commitment under a second message; after a restart both nonces and binding
/// come back from their stored form.
#[test]
fn a_bound_nonce_refuses_a_second_message_also_after_a_restart() {
    let mut group = Group::new(14, 2, 3);
    let session = group.session(&[0, 1], [1; 32]);
    let mut binding = NonceBinding::default();
    assert!(!binding.is_bound());
    binding.bind(&session.package).unwrap();

    let stored = postcard::to_allocvec(&binding).unwrap();
    let mut restored: NonceBinding = postcard::from_bytes(&stored).unwrap();
    assert!(restored.is_bound());
    let mut other = session.package.clone();
    other.message = [2; 32];
    assert_eq!(restored.bind(&other), Err(Error::NonceReuse));
    let mut adaptor = session.package.clone();
    adaptor.adaptor = Some(group.user.public_key());
    assert_eq!(restored.bind(&adaptor), Err(Error::NonceReuse));
    assert_eq!(
        restored.bind(&session.package),
        Ok(()),
        "a retry of the same package"
    );
}

/// Case 14: a retry gives the same share, so it gives away nothing new.
#[test]
fn a_retry_of_the_same_package_gives_the_same_share() {
    let mut group = Group::new(15, 2, 3);
    let session = group.session(&[0, 1], [1; 32]);
    let prepared = session.package.prepare().unwrap();
    let index = OperatorIndex(0);
    let stored = session.nonces[&index].to_bytes();
    let commitment = session.nonces[&index].commitment();
    let shares: Vec<_> = [
        Nonces::from_bytes(&stored).unwrap(),
        Nonces::from_bytes(&stored).unwrap(),
        Nonces::from_stored(&stored, commitment).unwrap(),
    ]
    .into_iter()
    .map(|nonces| {
        prepared
            .sign_operator(&index, group.share(index), nonces)
            .unwrap()
    })
    .collect();
    assert!(shares.windows(2).all(|pair| pair[0] == pair[1]));
}

/// Case 15: two second-round calls race for one commitment; exactly one wins.
#[test]
fn of_two_concurrent_bindings_exactly_one_succeeds() {
    for round in 0..50 {
        let mut group = Group::new(round, 2, 3);
        let first = group.session(&[0, 1], [1; 32]).package;
        let mut second = first.clone();
        second.message = [2; 32];
        let binding = Arc::new(Mutex::new(NonceBinding::default()));
        let start = Arc::new(Barrier::new(2));
        let threads: Vec<_> = [first, second]
            .into_iter()
            .map(|package| {
                let (binding, start) = (Arc::clone(&binding), Arc::clone(&start));
                std::thread::spawn(move || {
                    start.wait();
                    binding.lock().unwrap().bind(&package)
                })
            })
            .collect();
        let results: Vec<_> = threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        assert_eq!(
            results
                .iter()
                .filter(|result| **result == Err(Error::NonceReuse))
                .count(),
            1
        );
    }
}

/// Why nonces must sign once: two shares of one pair under different challenges give the key away.
#[test]
fn a_reused_nonce_would_give_the_key_share_away() {
    let mut group = Group::new(16, 2, 3);
    let session = group.session(&[0, 1], [1; 32]);
    let mut adaptor = session.package.clone();
    adaptor.adaptor = Some(SecretScalar::random(&mut group.rng).public_key());
    let stored = session.user_nonces.as_ref().unwrap().to_bytes();
    let shares: Vec<_> = [&session.package, &adaptor]
        .into_iter()
        .map(|package| {
            let prepared = package.prepare().unwrap();
            let share = prepared
                .sign_user(&group.user, Nonces::from_bytes(&stored).unwrap())
                .unwrap();
            let odd = prepared.group_commitment().serialize()[0] == 3;
            let scalar = tinderbox_frost::Scalar::from_be_bytes(&share.0).unwrap();
            (
                scalar.negate_if(odd),
                prepared.challenge().negate_if(odd),
                *prepared.key(),
            )
        })
        .collect();
    let key = shares[0].2;
    let difference = shares[0].0.sub(&shares[1].0);
    let challenges = shares[0].1.sub(&shares[1].1);
    let secret = difference
        .mul(&challenges.invert().unwrap())
        .negate_if(key.verifying_odd() != key.output_odd());
    assert_eq!(secret.to_be_bytes(), *group.user.to_be_bytes());
}

#[test]
fn damaged_nonces_are_refused() {
    let mut stored = *Nonces::generate(&mut rng(1)).to_bytes();
    stored[32..].fill(0);
    assert_eq!(Nonces::from_bytes(&stored).err(), Some(Error::ZeroScalar));
    stored.fill(0xff);
    assert_eq!(
        Nonces::from_bytes(&stored).err(),
        Some(Error::ScalarOutOfRange)
    );
}

#[test]
fn hedged_nonces_differ_by_key_even_if_the_random_source_repeats() {
    let (first, second) = (
        SecretScalar::random(&mut rng(1)),
        SecretScalar::random(&mut rng(2)),
    );
    let of = |key| {
        Nonces::generate_hedged(&mut rng(3), key)
            .unwrap()
            .commitment()
    };
    assert_ne!(of(&first), of(&second));
    assert_eq!(of(&first), of(&first));
}

/// Two nonces in order are not two nonces out of order.
#[test]
fn hiding_and_binding_are_kept_apart() {
    let nonces = Nonces::generate(&mut rng(4));
    let again = Nonces::from_bytes(&nonces.to_bytes()).unwrap();
    assert_eq!(again.commitment(), nonces.commitment());
    let mut swapped = *nonces.to_bytes();
    swapped.rotate_left(32);
    let swapped = Nonces::from_bytes(&swapped).unwrap().commitment();
    assert_eq!(swapped.hiding, nonces.commitment().binding);
    assert_ne!(swapped, nonces.commitment());
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes: [u8; 32], more: [u8; 32]) {
        let mut both = [0; 64];
        both[..32].copy_from_slice(&bytes);
        both[32..].copy_from_slice(&more);
        if let Ok(nonces) = Nonces::from_bytes(&both) {
            prop_assert_eq!(&*nonces.to_bytes(), &both);
        }
    }
}
