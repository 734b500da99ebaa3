//! Challenges and sessions: how a wallet proves who it is.
//!
//! A server sends a challenge together with its own HMAC over it, and so remembers nothing. The
//! wallet signs the SHA-256 of the encoded challenge (ECDSA, DER). Wallets encode operators'
//! challenges anew, so a challenge holds exactly these fields, none of them at its default.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use bitcoin::secp256k1::SecretKey;
use hmac::Mac as _;
use prost::Message;
use zeroize::Zeroizing;

use crate::hash::sha256;
use crate::mac::hmac_sha256;
use crate::{Error, Result};

/// The only version.
pub const VERSION: i32 = 1;

const CHALLENGE_SECRET: &[u8] = b"AUTH_CHALLENGE_SECRET_v1";
const SESSION_SECRET: &[u8] = b"AUTH_SESSION_SECRET_v1";

/// An operator's challenge.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Challenge {
    /// [`VERSION`].
    #[prost(int32, tag = "1")]
    pub version: i32,
    /// When it was made, Unix seconds.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
    /// 32 random bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub nonce: Vec<u8>,
    /// The wallet's identity key, 33 bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub public_key: Vec<u8>,
}

/// A session that an operator granted.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Session {
    /// [`VERSION`].
    #[prost(int32, tag = "1")]
    pub version: i32,
    /// When it ends, Unix seconds.
    #[prost(int64, tag = "2")]
    pub expiration_timestamp: i64,
    /// 32 random bytes.
    #[prost(bytes = "vec", tag = "3")]
    pub nonce: Vec<u8>,
    /// The wallet's identity key, 33 bytes.
    #[prost(bytes = "vec", tag = "4")]
    pub public_key: Vec<u8>,
}

/// A session and the operator's HMAC over it: what a token encodes.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ProtectedSession {
    /// [`VERSION`].
    #[prost(int32, tag = "1")]
    pub version: i32,
    /// The session.
    #[prost(message, optional, tag = "2")]
    pub session: Option<Session>,
    /// HMAC-SHA-256 over the encoded session.
    #[prost(bytes = "vec", tag = "3")]
    pub hmac: Vec<u8>,
}

/// A challenge of a service provider. Other field numbers, which some wallets insist on.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SspChallenge {
    /// [`VERSION`].
    #[prost(int32, tag = "1")]
    pub version: i32,
    /// When it was made, Unix seconds.
    #[prost(int64, tag = "10")]
    pub timestamp: i64,
    /// 32 random bytes.
    #[prost(bytes = "vec", tag = "20")]
    pub nonce: Vec<u8>,
    /// The wallet's identity key, 33 bytes.
    #[prost(bytes = "vec", tag = "30")]
    pub public_key: Vec<u8>,
}

/// A service provider's challenge and its HMAC. The wallet signs the SHA-256 of all of it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SspProtectedChallenge {
    /// [`VERSION`].
    #[prost(int32, tag = "1")]
    pub version: i32,
    /// The challenge.
    #[prost(message, optional, tag = "10")]
    pub challenge: Option<SspChallenge>,
    /// HMAC-SHA-256 over the encoded challenge.
    #[prost(bytes = "vec", tag = "20")]
    pub server_hmac: Vec<u8>,
}

impl Challenge {
    /// What a wallet signs.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.encode_to_vec())
    }
}

impl SspProtectedChallenge {
    /// The text that is sent: base64, URL alphabet, no padding.
    #[must_use]
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.encode_to_vec())
    }

    /// Reads the text, in either alphabet, padded or not.
    ///
    /// # Errors
    /// [`Error::MalformedMessage`].
    pub fn from_text(text: &str) -> Result<Self> {
        let bytes = lenient_base64(text, "the challenge")?;
        decode(&bytes, "the challenge")
    }

    /// What a wallet signs.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        sha256(&self.encode_to_vec())
    }
}

impl ProtectedSession {
    /// The token: base64, URL alphabet, padded.
    #[must_use]
    pub fn to_token(&self) -> String {
        URL_SAFE.encode(self.encode_to_vec())
    }

    /// Reads a token. Whether its HMAC is right is for [`ServerKeys`] to say.
    ///
    /// # Errors
    /// [`Error::MalformedMessage`].
    pub fn from_token(token: &str) -> Result<Self> {
        let bytes = lenient_base64(token, "the session token")?;
        decode(&bytes, "the session token")
    }
}

/// The keys of a server's HMACs, made from its identity key.
pub struct ServerKeys {
    challenge: Zeroizing<[u8; 32]>,
    session: Zeroizing<[u8; 32]>,
}

impl ServerKeys {
    /// The keys of the server with this identity key.
    #[must_use]
    pub fn new(identity: &SecretKey) -> Self {
        let key = |label: &[u8]| {
            let input = Zeroizing::new([identity.secret_bytes().as_slice(), label].concat());
            Zeroizing::new(sha256(&input))
        };
        Self {
            challenge: key(CHALLENGE_SECRET),
            session: key(SESSION_SECRET),
        }
    }

    /// The HMAC of an encoded challenge.
    #[must_use]
    pub fn challenge_hmac(&self, challenge: &[u8]) -> [u8; 32] {
        hmac_sha256(&self.challenge, challenge)
            .finalize()
            .into_bytes()
            .into()
    }

    /// The HMAC of an encoded session.
    #[must_use]
    pub fn session_hmac(&self, session: &[u8]) -> [u8; 32] {
        hmac_sha256(&self.session, session)
            .finalize()
            .into_bytes()
            .into()
    }

    /// True if `hmac` is this server's over `challenge`. Takes the same time either way.
    #[must_use]
    pub fn challenge_is_ours(&self, challenge: &[u8], hmac: &[u8]) -> bool {
        hmac_sha256(&self.challenge, challenge)
            .verify_slice(hmac)
            .is_ok()
    }

    /// True if `hmac` is this server's over `session`. Takes the same time either way.
    #[must_use]
    pub fn session_is_ours(&self, session: &[u8], hmac: &[u8]) -> bool {
        hmac_sha256(&self.session, session)
            .verify_slice(hmac)
            .is_ok()
    }
}

fn decode<M: Message + Default>(bytes: &[u8], what: &'static str) -> Result<M> {
    M::decode(bytes).map_err(|error| Error::MalformedMessage {
        what,
        reason: error.to_string(),
    })
}

fn lenient_base64(text: &str, what: &'static str) -> Result<Vec<u8>> {
    let plain: String = text
        .trim()
        .trim_end_matches('=')
        .chars()
        .map(|letter| match letter {
            '+' => '-',
            '/' => '_',
            other => other,
        })
        .collect();
    URL_SAFE_NO_PAD
        .decode(plain)
        .map_err(|error| Error::MalformedMessage {
            what,
            reason: error.to_string(),
        })
}
