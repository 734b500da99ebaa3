//! The two keys that sessions rest on.

use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// What a session key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Proves that a challenge is ours.
    Challenge,
    /// Proves that a token is ours.
    Token,
}

/// The keys of one operator. All its processes use the same two; no other operator knows them.
pub struct SessionKeys {
    challenge: Zeroizing<[u8; 32]>,
    token: Zeroizing<[u8; 32]>,
}

impl SessionKeys {
    /// From two 32-byte keys that nobody else knows.
    pub fn new(challenge: Zeroizing<[u8; 32]>, token: Zeroizing<[u8; 32]>) -> Self {
        Self { challenge, token }
    }

    /// The keys that an operator derives from its 32-byte identity secret:
    /// SHA-256(secret ‖ label), one label for challenges, one for tokens. Called where the
    /// identity secret lives.
    pub fn derive(identity_secret: &[u8; 32]) -> Self {
        Self {
            challenge: Self::derive_one(identity_secret, Purpose::Challenge),
            token: Self::derive_one(identity_secret, Purpose::Token),
        }
    }

    /// One of the two keys of [`SessionKeys::derive`].
    pub fn derive_one(identity_secret: &[u8; 32], purpose: Purpose) -> Zeroizing<[u8; 32]> {
        let label: &[u8] = match purpose {
            Purpose::Challenge => b"AUTH_CHALLENGE_SECRET_v1",
            Purpose::Token => b"AUTH_SESSION_SECRET_v1",
        };
        let mut hash = Sha256::new();
        hash.update(identity_secret);
        hash.update(label);
        Zeroizing::new(hash.finalize().into())
    }

    fn mac(&self, purpose: Purpose, bytes: &[u8]) -> Option<Hmac<Sha256>> {
        let key = match purpose {
            Purpose::Challenge => &self.challenge,
            Purpose::Token => &self.token,
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_slice()).ok()?;
        mac.update(bytes);
        Some(mac)
    }

    /// HMAC-SHA256 over `bytes`.
    pub(super) fn prove(&self, purpose: Purpose, bytes: &[u8]) -> Vec<u8> {
        // HMAC takes keys of any length, so there is always a proof.
        self.mac(purpose, bytes)
            .map(|mac| mac.finalize().into_bytes().to_vec())
            .unwrap_or_default()
    }

    /// Compares in constant time.
    pub(super) fn proves(&self, purpose: Purpose, bytes: &[u8], proof: &[u8]) -> bool {
        self.mac(purpose, bytes)
            .is_some_and(|mac| mac.verify_slice(proof).is_ok())
    }
}
