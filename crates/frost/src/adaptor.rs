//! Adaptor signatures: a signature that lacks one secret number.
//!
//! With the adaptor point `T = τ·G`, an adaptor signature `(r, s)` becomes valid as `(r, s + τ)` or
//! `(r, s − τ)`, and whoever sees both forms learns `τ`. Keys here are x-only *output* keys: of a
//! verifying key take [`output_key`](crate::output_key).

use bitcoin::secp256k1::{Parity, PublicKey, XOnlyPublicKey};
use rand::{CryptoRng, RngCore};

use crate::ciphersuite::h2;
use crate::error::{Error, Result};
use crate::point;
use crate::scalar::Scalar;
use crate::secret::SecretScalar;
use crate::verify::verify_schnorr;

/// Checks that the signature becomes valid with the secret of `adaptor`, added or subtracted.
///
/// # Errors
/// [`Error::InvalidAdaptor`].
pub fn verify(
    output_key: &XOnlyPublicKey,
    message: &[u8; 32],
    signature: &[u8; 64],
    adaptor: &PublicKey,
) -> Result<()> {
    let (r, s) = split(signature)?;
    let challenge = h2(&[&r, &output_key.serialize(), message]);
    let key = PublicKey::from_x_only_public_key(*output_key, Parity::Even);
    let fits = |negate: bool| -> Result<bool> {
        let nonce = point::add_base(&point::mul(&key, &challenge.negate())?, &s, "a nonce")?;
        let whole = point::sum(&[&nonce, &point::negate_if(adaptor, negate)], "a nonce")?;
        Ok(point::x(&whole) == r)
    };
    if fits(false) == Ok(true) || fits(true) == Ok(true) {
        Ok(())
    } else {
        Err(Error::InvalidAdaptor)
    }
}

/// Makes an adaptor signature valid with the adaptor's secret.
///
/// # Errors
/// [`Error::InvalidAdaptor`] if neither sum nor difference verifies.
pub fn complete(
    output_key: &XOnlyPublicKey,
    message: &[u8; 32],
    signature: &[u8; 64],
    secret: &SecretScalar,
) -> Result<[u8; 64]> {
    let (r, s) = split(signature)?;
    [s.add(secret.expose()), s.sub(secret.expose())]
        .iter()
        .map(|s| join(&r, s))
        .find(|whole| verify_schnorr(output_key, message, whole).is_ok())
        .ok_or(Error::InvalidAdaptor)
}

/// Takes a secret out of a valid signature: the result is completed by the same secret.
///
/// # Errors
/// [`Error::ScalarOutOfRange`] for a malformed signature.
pub fn detach(signature: &[u8; 64], secret: &SecretScalar) -> Result<[u8; 64]> {
    let (r, s) = split(signature)?;
    Ok(join(&r, &s.sub(secret.expose())))
}

/// Takes a fresh random secret out of a valid signature and returns both.
///
/// # Errors
/// As [`detach`].
pub fn generate<R: RngCore + CryptoRng + ?Sized>(
    signature: &[u8; 64],
    rng: &mut R,
) -> Result<([u8; 64], SecretScalar)> {
    let secret = SecretScalar::random(rng);
    Ok((detach(signature, &secret)?, secret))
}

/// The adaptor's secret, from an adaptor signature and its completed form.
///
/// # Errors
/// [`Error::InvalidAdaptor`] if the two do not differ by the secret of `adaptor`.
pub fn extract(
    completed: &[u8; 64],
    signature: &[u8; 64],
    adaptor: &PublicKey,
) -> Result<SecretScalar> {
    let ((whole_r, whole), (r, s)) = (split(completed)?, split(signature)?);
    let secret = SecretScalar::new(whole.sub(&s)).map_err(|_| Error::InvalidAdaptor)?;
    let public = secret.public_key();
    if whole_r != r {
        Err(Error::InvalidAdaptor)
    } else if public == *adaptor {
        Ok(secret)
    } else if public == point::negate_if(adaptor, true) {
        Ok(secret.negate())
    } else {
        Err(Error::InvalidAdaptor)
    }
}

fn split(signature: &[u8; 64]) -> Result<([u8; 32], Scalar)> {
    let mut r = [0; 32];
    let mut s = [0; 32];
    for (to, from) in r.iter_mut().chain(&mut s).zip(signature) {
        *to = *from;
    }
    Ok((r, Scalar::from_be_bytes(&s)?))
}

pub(crate) fn join(r: &[u8; 32], s: &Scalar) -> [u8; 64] {
    let mut signature = [0; 64];
    for (to, from) in signature
        .iter_mut()
        .zip(r.iter().copied().chain(s.to_be_bytes()))
    {
        *to = from;
    }
    signature
}
