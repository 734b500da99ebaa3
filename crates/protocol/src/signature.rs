//! ECDSA and Schnorr signatures over 32-byte digests.
//!
//! ECDSA is deterministic (RFC 6979) and low-S; signatures with a high S are refused everywhere.
//! Nearly all travel as DER, only a leaf's transfer signature as 64 bytes. Schnorr is BIP 340
//! with the identity key as it is, without taproot tweak.

use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::{Keypair, Message, PublicKey, SecretKey, schnorr};
use rand::{CryptoRng, RngCore};

use crate::curve::CURVE;
use crate::{Error, Result};

/// Signs with ECDSA.
#[must_use]
pub fn sign_ecdsa(key: &SecretKey, digest: &[u8; 32]) -> Signature {
    CURVE.sign_ecdsa(&Message::from_digest(*digest), key)
}

/// Signs with ECDSA, DER encoding.
#[must_use]
pub fn sign_der(key: &SecretKey, digest: &[u8; 32]) -> Vec<u8> {
    sign_ecdsa(key, digest).serialize_der().to_vec()
}

/// Signs with ECDSA, 64-byte encoding.
#[must_use]
pub fn sign_compact(key: &SecretKey, digest: &[u8; 32]) -> [u8; 64] {
    sign_ecdsa(key, digest).serialize_compact()
}

/// Checks a DER signature. `what` names it in errors.
///
/// # Errors
/// [`Error::MalformedSignature`] if it is not DER, [`Error::BadSignature`] if it does not verify
/// or has a high S.
pub fn verify_der(
    key: &PublicKey,
    digest: &[u8; 32],
    signature: &[u8],
    what: &'static str,
) -> Result<()> {
    let signature = Signature::from_der(signature).map_err(|_| Error::MalformedSignature {
        what,
        reason: "it is not a DER-encoded ECDSA signature",
    })?;
    verify(key, digest, &signature, what)
}

/// Checks a signature of exactly 64 bytes or, if it has another length, in DER.
///
/// # Errors
/// As [`verify_der`].
pub fn verify_der_or_compact(
    key: &PublicKey,
    digest: &[u8; 32],
    signature: &[u8],
    what: &'static str,
) -> Result<()> {
    if signature.len() != 64 {
        return verify_der(key, digest, signature, what);
    }
    let signature = Signature::from_compact(signature).map_err(|_| Error::MalformedSignature {
        what,
        reason: "its numbers are out of range",
    })?;
    verify(key, digest, &signature, what)
}

/// Signs with BIP 340, with fresh auxiliary randomness.
#[must_use]
pub fn sign_schnorr(
    key: &SecretKey,
    digest: &[u8; 32],
    rng: &mut (impl RngCore + CryptoRng),
) -> [u8; 64] {
    let mut auxiliary = [0; 32];
    rng.fill_bytes(&mut auxiliary);
    let mut pair = Keypair::from_secret_key(&CURVE, key);
    let signature =
        CURVE.sign_schnorr_with_aux_rand(&Message::from_digest(*digest), &pair, &auxiliary);
    pair.non_secure_erase();
    signature.serialize()
}

/// Checks a BIP 340 signature under the x coordinate of `key`.
///
/// # Errors
/// [`Error::MalformedSignature`] unless it has 64 bytes, [`Error::BadSignature`].
pub fn verify_schnorr(
    key: &PublicKey,
    digest: &[u8; 32],
    signature: &[u8],
    what: &'static str,
) -> Result<()> {
    let signature =
        schnorr::Signature::from_slice(signature).map_err(|_| Error::MalformedSignature {
            what,
            reason: "it does not have 64 bytes",
        })?;
    let (key, _) = key.x_only_public_key();
    CURVE
        .verify_schnorr(&signature, &Message::from_digest(*digest), &key)
        .map_err(|_| Error::BadSignature { what })
}

fn verify(
    key: &PublicKey,
    digest: &[u8; 32],
    signature: &Signature,
    what: &'static str,
) -> Result<()> {
    // libsecp256k1 refuses a high S here.
    CURVE
        .verify_ecdsa(&Message::from_digest(*digest), signature, key)
        .map_err(|_| Error::BadSignature { what })
}
