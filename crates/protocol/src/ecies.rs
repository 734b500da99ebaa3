//! Encryption to a public key: ephemeral Diffie-Hellman on secp256k1, HKDF-SHA-256, AES-256-GCM
//! with a nonce of 16 bytes. Interoperates with the `ecies` libraries (version 0.2) of wallets.
//!
//! ```text
//!  ephemeral key (65, uncompressed) ‖ nonce (16) ‖ tag (16) ‖ ciphertext
//! ```

use aes_gcm::aead::consts::U16;
use aes_gcm::aead::{AeadInPlace as _, KeyInit as _};
use aes_gcm::{AesGcm, aes::Aes256};
use bitcoin::secp256k1::{PublicKey, Scalar, SecretKey};
use hkdf::Hkdf;
use rand::{CryptoRng, RngCore};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::curve::CURVE;
use crate::{Error, Result};

type Cipher = AesGcm<Aes256, U16>;

const KEY: usize = 65;
const NONCE: usize = 16;
const TAG: usize = 16;

/// By how much a ciphertext is longer than its plaintext, in bytes.
pub const OVERHEAD: usize = KEY + NONCE + TAG;

/// Encrypts `plaintext` so that only the owner of `recipient` reads it.
///
/// # Errors
/// [`Error::Encrypt`] if the plaintext is longer than AES-GCM allows (64 GiB).
pub fn encrypt(
    recipient: &PublicKey,
    plaintext: &[u8],
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<Vec<u8>> {
    let mut ephemeral = SecretKey::new(rng);
    let mut nonce = [0; NONCE];
    rng.fill_bytes(&mut nonce);
    let sealed = seal(recipient, &ephemeral, &nonce, plaintext);
    ephemeral.non_secure_erase();
    sealed
}

/// Decrypts what [`encrypt`] made for `key`.
///
/// # Errors
/// [`Error::Decrypt`] if it is too short, begins with no uncompressed key, was made for another
/// key, or has been changed.
pub fn decrypt(key: &SecretKey, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |reason| Error::Decrypt { reason };
    let short = "it is shorter than an empty message";
    let (ephemeral, rest) = ciphertext.split_at_checked(KEY).ok_or(failed(short))?;
    let (nonce, rest) = rest.split_at_checked(NONCE).ok_or(failed(short))?;
    let (tag, body) = rest.split_at_checked(TAG).ok_or(failed(short))?;
    // Of 65 bytes only the uncompressed form is read; the hybrid form (06, 07) is refused here.
    if ephemeral.first() != Some(&4) {
        return Err(failed("it does not begin with an uncompressed public key"));
    }
    let ephemeral = PublicKey::from_slice(ephemeral)
        .map_err(|_| failed("it does not begin with an uncompressed public key"))?;
    let cipher = cipher(&ephemeral, &ephemeral, key).map_err(failed)?;
    let mut plaintext = Zeroizing::new(body.to_vec());
    cipher
        .decrypt_in_place_detached(nonce.into(), &[], &mut plaintext, tag.into())
        .map_err(|_| failed("it was made for another key, or has been changed"))?;
    Ok(plaintext)
}

/// Encrypts with a given ephemeral key and nonce. Each pair must be used once.
pub(crate) fn seal(
    recipient: &PublicKey,
    ephemeral: &SecretKey,
    nonce: &[u8; NONCE],
    plaintext: &[u8],
) -> Result<Vec<u8>> {
    let failed = |reason| Error::Encrypt { reason };
    let ephemeral_public = ephemeral.public_key(&CURVE);
    let cipher = cipher(&ephemeral_public, recipient, ephemeral).map_err(failed)?;
    let mut body = plaintext.to_vec();
    let tag = cipher
        .encrypt_in_place_detached(nonce.into(), &[], &mut body)
        .map_err(|_| failed("it is too long"))?;
    Ok([
        ephemeral_public.serialize_uncompressed().as_slice(),
        nonce,
        tag.as_slice(),
        &body,
    ]
    .concat())
}

/// The cipher for the point `secret · other`. The ephemeral public key goes into the key, too.
fn cipher(
    ephemeral: &PublicKey,
    other: &PublicKey,
    secret: &SecretKey,
) -> std::result::Result<Cipher, &'static str> {
    let impossible = "the shared key cannot be made";
    let shared = other
        .mul_tweak(&CURVE, &Scalar::from(*secret))
        .map_err(|_| impossible)?;
    let input = Zeroizing::new(
        [
            ephemeral.serialize_uncompressed(),
            shared.serialize_uncompressed(),
        ]
        .concat(),
    );
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, &input)
        .expand(&[], key.as_mut_slice())
        .map_err(|_| impossible)?;
    Cipher::new_from_slice(key.as_slice()).map_err(|_| impossible)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn bytes(value: &Value) -> Vec<u8> {
        hex::decode(value.as_str().unwrap()).unwrap()
    }

    #[test]
    fn given_randomness_makes_the_recorded_ciphertext() {
        let vectors: Value =
            serde_json::from_str(include_str!("../tests/vectors/crypto.json")).unwrap();
        let mut seen = 0;
        for case in vectors["ecies"].as_array().unwrap() {
            if case["kind"] != "deterministic" {
                continue;
            }
            seen += 1;
            let recipient = PublicKey::from_slice(&bytes(&case["receiver_public_key"])).unwrap();
            let ephemeral = SecretKey::from_slice(&bytes(&case["ephemeral_private_key"])).unwrap();
            let nonce = bytes(&case["nonce"]).try_into().unwrap();
            let sealed = seal(&recipient, &ephemeral, &nonce, &bytes(&case["plaintext"])).unwrap();
            assert_eq!(sealed, bytes(&case["ciphertext"]));
        }
        assert!(seen >= 2);
    }
}
