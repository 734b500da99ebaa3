//! Curve points on libsecp256k1, with the identity as an error of its own.

use bitcoin::secp256k1::{Parity, PublicKey, SECP256K1, SecretKey};

use crate::error::{Error, Result};
use crate::scalar::Scalar;
use crate::secret::SecretScalar;

/// `s·G`, in constant time.
pub(crate) fn base_of_secret(secret: &SecretScalar) -> PublicKey {
    let bytes = secret.to_be_bytes();
    match SecretKey::from_slice(bytes.as_slice()) {
        Ok(mut key) => {
            let point = key.public_key(SECP256K1);
            key.non_secure_erase();
            point
        }
        Err(_) => unreachable!("a secret scalar is non-zero and below the order"),
    }
}

/// `s·P`.
///
/// # Errors
/// [`Error::ZeroScalar`] if `s` is zero.
pub(crate) fn mul(point: &PublicKey, scalar: &Scalar) -> Result<PublicKey> {
    if *scalar == Scalar::ONE {
        return Ok(*point);
    }
    point
        .mul_tweak(SECP256K1, &scalar.to_tweak()?)
        .map_err(|_| Error::ZeroScalar)
}

/// `P + s·G`; `what` names the result in the error.
///
/// # Errors
/// [`Error::IdentityPoint`].
pub(crate) fn add_base(
    point: &PublicKey,
    scalar: &Scalar,
    what: &'static str,
) -> Result<PublicKey> {
    point
        .add_exp_tweak(SECP256K1, &scalar.to_tweak()?)
        .map_err(|_| Error::IdentityPoint { what })
}

/// Sum of points; `what` names the result in the error.
///
/// # Errors
/// [`Error::IdentityPoint`].
pub(crate) fn sum(points: &[&PublicKey], what: &'static str) -> Result<PublicKey> {
    PublicKey::combine_keys(points).map_err(|_| Error::IdentityPoint { what })
}

/// The negative, if asked.
pub(crate) fn negate_if(point: &PublicKey, negate: bool) -> PublicKey {
    if negate {
        point.negate(SECP256K1)
    } else {
        *point
    }
}

/// Whether the y coordinate is odd.
pub(crate) fn is_odd(point: &PublicKey) -> bool {
    point.x_only_public_key().1 == Parity::Odd
}

/// The x coordinate.
pub(crate) fn x(point: &PublicKey) -> [u8; 32] {
    point.x_only_public_key().0.serialize()
}
