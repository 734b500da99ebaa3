//! Additive tweaks: how a leaf changes its owner.
//!
//! The old owner deals `old − new` to the operators as a polynomial. Each adds its own value to its
//! own share, so the group key moves by a number that no operator ever sees, and the verifying key
//! stays. Erasing the old shares is what makes it final. A tweak by a factor is in
//! [`multiply`](crate::multiply).

use bitcoin::secp256k1::PublicKey;

use crate::error::Result;
use crate::point;
use crate::secret::SecretScalar;

/// An operator's share after the tweak.
///
/// # Errors
/// [`Error::ZeroScalar`](crate::Error::ZeroScalar) if the two cancel.
pub fn apply_secret(share: &SecretScalar, tweak: &SecretScalar) -> Result<SecretScalar> {
    share.add(tweak)
}

/// A public share, or the group key, after the tweak.
///
/// # Errors
/// [`Error::IdentityPoint`](crate::Error::IdentityPoint) if the two cancel.
pub fn apply_public(share: &PublicKey, tweak: &PublicKey) -> Result<PublicKey> {
    point::sum(&[share, tweak], "a tweaked key")
}

/// Sum of two keys.
///
/// # Errors
/// [`Error::IdentityPoint`](crate::Error::IdentityPoint) if they cancel.
pub fn add_points(a: &PublicKey, b: &PublicKey) -> Result<PublicKey> {
    point::sum(&[a, b], "a sum of keys")
}

/// Difference of two keys.
///
/// # Errors
/// [`Error::IdentityPoint`](crate::Error::IdentityPoint) if they are equal.
pub fn sub_points(a: &PublicKey, b: &PublicKey) -> Result<PublicKey> {
    point::sum(&[a, &point::negate_if(b, true)], "a difference of keys")
}
