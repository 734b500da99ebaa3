//! The operator's identity key, and the files that it comes from.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use aes_gcm::aead::{AeadInPlace as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use bitcoin::secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use hmac::{Hmac, Mac};
use rand::RngCore;
use rand::rngs::OsRng;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::SignerError;
use crate::seal::Secret;

const MAGIC: &[u8; 8] = b"TINDERID";
const FORMAT: u8 = 1;
/// What is common for PBKDF2 with SHA-256; stored in the file, so it can be raised.
const ROUNDS: u32 = 600_000;
/// More would be a way to hang the program with a file.
const MOST_ROUNDS: u32 = 100_000_000;

/// An operator's identity key pair. No `Debug`, no `Clone`; the secret is wiped when this is
/// dropped.
pub struct Identity {
    secret: SecretKey,
    public: PublicKey,
}

impl Identity {
    /// The pair with this secret.
    #[must_use]
    pub fn new(secret: SecretKey) -> Self {
        Self {
            public: secret.public_key(SECP256K1),
            secret,
        }
    }

    /// A new random pair.
    #[must_use]
    pub fn generate() -> Self {
        Self::new(SecretKey::new(&mut OsRng))
    }

    /// From 64 hex digits; space around them is ignored.
    ///
    /// # Errors
    /// [`SignerError::Vault`] if that is not a secret key.
    pub fn from_hex(text: &str) -> Result<Self, SignerError> {
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), bytes.as_mut_slice()).map_err(|_| not_a_key())?;
        Self::from_bytes(&bytes)
    }

    /// From a file that holds 64 hex digits.
    ///
    /// # Errors
    /// [`SignerError::Vault`] if the file cannot be read or holds something else.
    pub fn load(path: &Path) -> Result<Self, SignerError> {
        let bytes = read(path)?;
        if bytes.starts_with(MAGIC) {
            return Err(unusable(path, "it is sealed: give its passphrase"));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| not_a_key())?;
        Self::from_hex(text)
    }

    /// From a file that [`Identity::seal`] wrote.
    ///
    /// # Errors
    /// [`SignerError::Vault`] if the file cannot be read, is not one of these, or the passphrase
    /// is another.
    pub fn load_sealed(path: &Path, passphrase: &str) -> Result<Self, SignerError> {
        let bytes = read(path)?;
        let sealed = Sealed::read(&bytes).ok_or_else(|| {
            unusable(
                path,
                "it is not a sealed identity key of a format that this program knows",
            )
        })?;
        let secret = sealed
            .open(passphrase)
            .ok_or_else(|| unusable(path, "wrong passphrase, or the file was changed"))?;
        Self::from_bytes(&secret)
    }

    /// Writes it to a new file as 64 hex digits, readable by its owner only.
    ///
    /// # Errors
    /// [`SignerError::Vault`] if the file exists or cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), SignerError> {
        let text = Zeroizing::new(hex::encode(
            Zeroizing::new(self.secret.secret_bytes()).as_slice(),
        ));
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|error| unusable(path, &error.to_string()))
    }

    /// Writes it to a new file, encrypted under a passphrase (PBKDF2-HMAC-SHA-256, AES-256-GCM).
    ///
    /// # Errors
    /// [`SignerError::Vault`] if the file exists or cannot be written.
    pub fn seal(&self, path: &Path, passphrase: &str) -> Result<(), SignerError> {
        self.seal_with(path, passphrase, ROUNDS)
    }

    fn seal_with(&self, path: &Path, passphrase: &str, rounds: u32) -> Result<(), SignerError> {
        let mut salt = [0; 16];
        OsRng.fill_bytes(&mut salt);
        let head = head(rounds, &salt);
        let key = stretch(passphrase, &salt, rounds);
        let mut body = Zeroizing::new(self.secret.secret_bytes());
        // The salt makes the key a new one each time, so the nonce may be constant.
        let tag = Aes256Gcm::new((&*key).into())
            .encrypt_in_place_detached(&Nonce::default(), &head, body.as_mut_slice())
            .map_err(|_| unusable(path, "encryption failed"))?;
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?;
            file.write_all(&[&head, body.as_slice(), tag.as_slice()].concat())?;
            file.sync_all()
        };
        write().map_err(|error| unusable(path, &error.to_string()))
    }

    fn from_bytes(bytes: &Secret) -> Result<Self, SignerError> {
        SecretKey::from_slice(bytes.as_slice())
            .map(Self::new)
            .map_err(|_| not_a_key())
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub(crate) fn secret(&self) -> &SecretKey {
        &self.secret
    }

    /// An ECDSA signature over a 32-byte digest: deterministic, low-S, DER.
    #[must_use]
    pub fn sign(&self, digest: &[u8; 32]) -> Vec<u8> {
        SECP256K1
            .sign_ecdsa(&Message::from_digest(*digest), &self.secret)
            .serialize_der()
            .to_vec()
    }

    pub(crate) fn derive(&self, label: &str) -> Secret {
        let mut hash = Sha256::new();
        hash.update(Zeroizing::new(self.secret.secret_bytes()).as_slice());
        hash.update(label);
        Zeroizing::new(hash.finalize().into())
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.secret.non_secure_erase();
    }
}

/// A sealed file: `"TINDERID" ‖ 1 ‖ rounds (4, big-endian) ‖ salt (16) ‖ ciphertext (32) ‖ tag (16)`.
struct Sealed<'a> {
    rounds: u32,
    salt: &'a [u8; 16],
    body: &'a [u8; 32],
    tag: &'a [u8; 16],
}

impl<'a> Sealed<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (format, rest) = rest.split_first()?;
        let (rounds, rest) = rest.split_first_chunk::<4>()?;
        let (salt, rest) = rest.split_first_chunk::<16>()?;
        let (body, rest) = rest.split_first_chunk::<32>()?;
        let (tag, rest) = rest.split_first_chunk::<16>()?;
        let rounds = u32::from_be_bytes(*rounds);
        (*format == FORMAT && rest.is_empty() && (1..=MOST_ROUNDS).contains(&rounds)).then_some(
            Self {
                rounds,
                salt,
                body,
                tag,
            },
        )
    }

    fn open(&self, passphrase: &str) -> Option<Secret> {
        let key = stretch(passphrase, self.salt, self.rounds);
        let mut body = Zeroizing::new(*self.body);
        Aes256Gcm::new((&*key).into())
            .decrypt_in_place_detached(
                &Nonce::default(),
                &head(self.rounds, self.salt),
                body.as_mut_slice(),
                self.tag.into(),
            )
            .ok()?;
        Some(body)
    }
}

fn head(rounds: u32, salt: &[u8; 16]) -> Vec<u8> {
    [MAGIC.as_slice(), &[FORMAT], &rounds.to_be_bytes(), salt].concat()
}

/// PBKDF2-HMAC-SHA-256, one block.
fn stretch(passphrase: &str, salt: &[u8], rounds: u32) -> Secret {
    let Ok(keyed) = <Hmac<Sha256> as Mac>::new_from_slice(passphrase.as_bytes()) else {
        unreachable!("HMAC takes keys of every length");
    };
    let mut first = keyed.clone();
    first.update(salt);
    first.update(&1u32.to_be_bytes());
    let mut block: Secret = Zeroizing::new(first.finalize().into_bytes().into());
    let mut key = block.clone();
    for _ in 1..rounds {
        let mut next = keyed.clone();
        next.update(block.as_slice());
        *block = next.finalize().into_bytes().into();
        for (to, from) in key.iter_mut().zip(block.iter()) {
            *to ^= from;
        }
    }
    key
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SignerError> {
    let bytes = std::fs::read(path).map_err(|error| unusable(path, &error.to_string()))?;
    let open = std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0);
    if open {
        tracing::warn!(
            path = %path.display(),
            "other users of this machine can read the identity key: make it readable by its owner only (chmod 600)"
        );
    }
    Ok(Zeroizing::new(bytes))
}

fn not_a_key() -> SignerError {
    SignerError::vault(
        "the identity key is not 64 hex digits of a secp256k1 secret key: check the file",
    )
}

fn unusable(path: &Path, why: &str) -> SignerError {
    SignerError::vault(format!(
        "the identity key in {} cannot be used ({why}): check the path and the file",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_identity_opens_with_its_passphrase_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        let identity = Identity::generate();
        identity.seal_with(&path, "correct horse", 3).unwrap();
        let back = Identity::load_sealed(&path, "correct horse").unwrap();
        assert_eq!(back.public(), identity.public());
        assert!(Identity::load_sealed(&path, "battery staple").is_err());
        assert!(Identity::load(&path).is_err());
        assert!(identity.seal_with(&path, "again", 3).is_err());
        let mut bytes = std::fs::read(&path).unwrap();
        let secret = identity.secret.secret_bytes();
        assert!(!bytes.windows(32).any(|part| part == secret));
        bytes[30] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(Identity::load_sealed(&path, "correct horse").is_err());
    }

    #[test]
    fn stretching_is_pbkdf2() {
        // RFC 7914, section 11, first 32 of 64 bytes.
        let key = stretch("passwd", b"salt", 1);
        assert_eq!(
            hex::encode(*key),
            "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
        );
        let key = stretch("Password", b"NaCl", 80_000);
        assert_eq!(
            hex::encode(*key),
            "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"
        );
    }

    #[test]
    fn an_identity_reads_from_hex_and_refuses_anything_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        std::fs::write(&path, format!("{}\n", "11".repeat(32))).unwrap();
        let identity = Identity::load(&path).unwrap();
        let key = SecretKey::from_slice(&[0x11; 32]).unwrap();
        assert_eq!(identity.public(), key.public_key(SECP256K1));
        for text in [
            "",
            "11",
            &"zz".repeat(32),
            &"00".repeat(32),
            &"ff".repeat(32),
        ] {
            let error = Identity::from_hex(text).err().unwrap().to_string();
            assert!(error.contains("64 hex digits"));
        }
    }
}
