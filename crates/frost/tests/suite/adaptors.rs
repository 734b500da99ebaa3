//! Adaptor signatures: properties and wrong inputs.

use proptest::prelude::*;
use tinderbox_frost::{Error, SecretScalar, adaptor, verify_signature};

use crate::common::{Group, Signed, hex_of};

fn with_adaptor(group: &mut Group, message: [u8; 32], hidden: &SecretScalar) -> Signed {
    let mut session = group.session(&[0, 2], message);
    session.package.adaptor = Some(hidden.public_key());
    session.sign(group)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the parities, the aggregate is not valid, the secret completes it, and both forms
    /// together give the secret.
    #[test]
    fn an_adaptor_signature_waits_for_its_secret(seed: u64, message: [u8; 32]) {
        let mut group = Group::new(seed, 2, 3);
        let hidden = SecretScalar::random(&mut group.rng);
        let point = hidden.public_key();
        let signed = with_adaptor(&mut group, message, &hidden);
        let incomplete = signed.aggregate(&group).unwrap();
        let (verifying_key, key) = (group.verifying_key(), signed.prepared.output_key());
        prop_assert_eq!(
            verify_signature(&verifying_key, &message, &incomplete),
            Err(Error::InvalidSignature)
        );
        prop_assert_eq!(adaptor::verify(&key, &message, &incomplete, &point), Ok(()));

        let whole = adaptor::complete(&key, &message, &incomplete, &hidden).unwrap();
        prop_assert_eq!(verify_signature(&verifying_key, &message, &whole), Ok(()));
        let opened = adaptor::extract(&whole, &incomplete, &point).unwrap();
        prop_assert_eq!(hex_of(&opened), hex_of(&hidden));
    }

    /// An adaptor taken out of a finished signature behaves the same.
    #[test]
    fn an_adaptor_is_taken_out_of_a_finished_signature(seed: u64) {
        let mut group = Group::new(seed, 2, 3);
        let signed = group.session(&[0, 1], [5; 32]).sign(&group);
        let whole = signed.aggregate(&group).unwrap();
        let key = signed.prepared.output_key();
        let (incomplete, hidden) = adaptor::generate(&whole, &mut group.rng).unwrap();
        let point = hidden.public_key();
        prop_assert_eq!(adaptor::verify(&key, &[5; 32], &incomplete, &point), Ok(()));
        prop_assert_eq!(adaptor::complete(&key, &[5; 32], &incomplete, &hidden).unwrap(), whole);
    }
}

#[test]
fn another_adaptor_message_key_or_signature_is_refused() {
    let mut group = Group::new(1, 2, 3);
    let hidden = SecretScalar::random(&mut group.rng);
    let other = SecretScalar::random(&mut group.rng);
    let signed = with_adaptor(&mut group, [1; 32], &hidden);
    let incomplete = signed.aggregate(&group).unwrap();
    let key = signed.prepared.output_key();
    let other_key = other.public_key().x_only_public_key().0;
    let point = hidden.public_key();
    let refused = Err(Error::InvalidAdaptor);
    assert_eq!(
        adaptor::verify(&key, &[1; 32], &incomplete, &other.public_key()),
        refused
    );
    assert_eq!(
        adaptor::verify(&key, &[2; 32], &incomplete, &point),
        refused
    );
    assert_eq!(
        adaptor::verify(&other_key, &[1; 32], &incomplete, &point),
        refused
    );
    let mut bent = incomplete;
    bent[40] ^= 1;
    assert_eq!(adaptor::verify(&key, &[1; 32], &bent, &point), refused);
    assert_eq!(
        adaptor::complete(&key, &[1; 32], &incomplete, &other),
        Err(Error::InvalidAdaptor)
    );
    let whole = adaptor::complete(&key, &[1; 32], &incomplete, &hidden).unwrap();
    for (completed, signature, point) in [
        (&whole, &incomplete, other.public_key()),
        (&whole, &whole, point),
        (&bent, &incomplete, point),
    ] {
        assert_eq!(
            adaptor::extract(completed, signature, &point).err(),
            Some(Error::InvalidAdaptor)
        );
    }
    let mut large = incomplete;
    large[32..].fill(0xff);
    assert_eq!(
        adaptor::verify(&key, &[1; 32], &large, &point),
        Err(Error::ScalarOutOfRange)
    );
}

/// Case 17 with an adaptor: the culprit is found although the sum is no valid signature.
#[test]
fn a_bad_share_beside_an_adaptor_is_named() {
    let mut group = Group::new(2, 2, 3);
    let hidden = SecretScalar::random(&mut group.rng);
    let mut signed = with_adaptor(&mut group, [1; 32], &hidden);
    let index = *signed.shares.keys().next().unwrap();
    signed.shares.get_mut(&index).unwrap().0[31] ^= 1;
    assert_eq!(
        signed.aggregate(&group),
        Err(Error::InvalidShares {
            culprits: vec![index.into()]
        })
    );
}
