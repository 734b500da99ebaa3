//! What travels: round trips, and refusal of malformed bytes.

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tinderbox_frost::dkg::{self, Round1Package};
use tinderbox_frost::multiply::{Package, Product};
use tinderbox_frost::{
    Error, KeyShare, NonceCommitment, OperatorIndex, Participant, PublicKeyshare, Scalar,
    SecretScalar, SignatureShare, SigningPackage,
};

use crate::common::{Group, rng};

fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let binary = postcard::to_allocvec(value).unwrap();
    assert_eq!(postcard::from_bytes::<T>(&binary).unwrap(), *value);
    let text = serde_json::to_string(value).unwrap();
    assert_eq!(serde_json::from_str::<T>(&text).unwrap(), *value);
}

#[test]
fn everything_that_travels_comes_back_the_same() {
    let mut group = Group::new(1, 2, 3);
    let mut package = group.session(&[0, 2], [1; 32]).package;
    round_trip(&package);
    package.adaptor = Some(group.user.public_key());
    package.user = None;
    round_trip(&package);
    round_trip(&package.operators[&OperatorIndex(0)]);
    round_trip(&SignatureShare([7; 32]));
    round_trip(&PublicKeyshare::from_proofs(&group.dealt.proofs, 3).unwrap());
    round_trip(&Participant::User);
    round_trip(&Participant::from(OperatorIndex(65_535)));
    let (_, first) = dkg::round1(OperatorIndex(0), 3, 2, &mut rng(1)).unwrap();
    round_trip::<Round1Package>(&first);
    let share = KeyShare {
        index: OperatorIndex(0),
        secret: group.share(OperatorIndex(0)).duplicate(),
    };
    let product = Product::deal(&share, &group.user, 2, 3, &mut rng(2)).unwrap();
    round_trip::<Package>(&product.package);
}

/// Case 16: a repeated operator in bytes, where the last one must not silently win.
#[test]
fn a_package_that_names_an_operator_twice_is_not_read() {
    let mut group = Group::new(2, 2, 3);
    let package = group.session(&[0, 2], [1; 32]).package;
    let text = serde_json::to_string(&package).unwrap();
    let twice = text.replace("\"2\":", "\"0\":");
    assert_ne!(text, twice);
    let error = serde_json::from_str::<SigningPackage>(&twice).unwrap_err();
    assert!(
        error.to_string().contains("operator 0 appears twice"),
        "{error}"
    );
}

/// Case 16: points at infinity, and points that are none.
#[test]
fn identity_points_and_other_non_points_are_not_read() {
    let mut group = Group::new(3, 2, 3);
    let own = group.session(&[0, 1], [1; 32]).package.operators[&OperatorIndex(0)];
    let right = postcard::to_allocvec(&own).unwrap();
    for bad in [[0; 33], [0xff; 33], [5; 33]] {
        for place in [0, 33] {
            let mut bytes = right.clone();
            assert_eq!(bytes.len(), 66);
            bytes[place..place + 33].copy_from_slice(&bad);
            assert!(postcard::from_bytes::<NonceCommitment>(&bytes).is_err());
        }
    }
    let mut off_curve = right.clone();
    off_curve[1..33].copy_from_slice(&{
        let mut x = [0; 32];
        x[31] = 5;
        x
    });
    assert!(postcard::from_bytes::<NonceCommitment>(&off_curve).is_err());
}

#[test]
fn scalars_at_or_above_the_order_are_not_read() {
    let bytes = postcard::to_allocvec(&[0xffu8; 32]).unwrap();
    assert!(postcard::from_bytes::<Scalar>(&bytes).is_err());
    round_trip(&Scalar::from(7));
    round_trip(&Scalar::ZERO);
    assert_eq!(Scalar::ZERO.invert(), Err(Error::ZeroScalar));
}

#[test]
fn identifiers_are_read_in_either_case_and_refused_otherwise() {
    let read = |text: &str| OperatorIndex::from_identifier(text);
    let eleven = format!("{}0a", "00".repeat(31));
    assert_eq!(read(&eleven), Ok(OperatorIndex(9)));
    assert_eq!(read(&eleven.to_uppercase()), Ok(OperatorIndex(9)));
    let largest = format!("{}010000", "00".repeat(29));
    assert_eq!(read(&largest), Ok(OperatorIndex(65_535)));
    assert_eq!(OperatorIndex(65_535).identifier(), largest);
    for bad in [
        "00".repeat(32),
        format!("{}010001", "00".repeat(29)),
        format!("01{}", "00".repeat(31)),
        "01".to_owned(),
        String::new(),
        format!("{}01", "00".repeat(32)),
        format!("{}0g", "00".repeat(31)),
        "é".repeat(32),
    ] {
        let error = read(&bad).unwrap_err();
        assert!(matches!(error, Error::BadIdentifier { .. }), "{error}");
    }
}

#[test]
fn a_wiped_secret_leaves_nothing_of_itself() {
    use zeroize::Zeroize;
    let mut secret = SecretScalar::random(&mut rng(1));
    let before = *secret.to_be_bytes();
    secret.zeroize();
    assert_ne!(*secret.to_be_bytes(), before);
    assert_eq!(secret.to_be_bytes()[..31], [0; 31]);
}

proptest! {
    #[test]
    fn packages_of_any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = postcard::from_bytes::<SigningPackage>(&bytes);
        let _ = postcard::from_bytes::<Round1Package>(&bytes);
        let _ = postcard::from_bytes::<Package>(&bytes);
    }

    #[test]
    fn identifiers_round_trip(number: u16) {
        let index = OperatorIndex(number);
        prop_assert_eq!(OperatorIndex::from_identifier(&index.identifier()), Ok(index));
        prop_assert_eq!(index.x(), u32::from(number) + 1);
    }

    #[test]
    fn wide_reduction_agrees_with_long_division(high: [u8; 16], low: [u8; 32]) {
        let mut wide = [0; 48];
        wide[..16].copy_from_slice(&high);
        wide[16..].copy_from_slice(&low);
        // high · 2²⁵⁶ + low, with 2²⁵⁶ mod n computed as (2¹²⁸)².
        let mut shift = [0; 32];
        shift[15] = 1;
        let shift = Scalar::reduce(&shift);
        let mut padded = [0; 32];
        padded[16..].copy_from_slice(&high);
        let expected = Scalar::reduce(&padded).mul(&shift.mul(&shift)).add(&Scalar::reduce(&low));
        prop_assert_eq!(Scalar::reduce_wide(&wide), expected);
    }
}
