//! Challenges: made, and checked when they come back signed.

use std::time::Duration;

use bitcoin::secp256k1::{Message, PublicKey, Secp256k1, ecdsa::Signature};
use prost::Message as _;
use rand::{CryptoRng, RngCore};
use sha2::{Digest as _, Sha256};

use super::keys::{Purpose, SessionKeys};
use crate::proto::spark_authn::{
    Challenge, GetChallengeResponse, ProtectedChallenge, VerifyChallengeRequest,
};
use crate::{Error, Reason, ServiceError};

/// The only version there is, of challenge and protected challenge.
const VERSION: i32 = 1;

/// Seconds taken off a challenge's life for clocks that differ between processes.
const SKEW: u64 = 1;

/// Longest signature in DER.
const MAX_SIGNATURE: usize = 73;

/// A challenge whose answer is right.
pub(super) struct Answered {
    pub(super) public_key: PublicKey,
    pub(super) nonce: [u8; 32],
    /// Unix seconds after which the challenge is refused for its age.
    pub(super) expires: u64,
}

pub(super) fn make(
    keys: &SessionKeys,
    public_key: &[u8],
    now: u64,
    rng: &mut (impl RngCore + CryptoRng),
) -> Result<GetChallengeResponse, ServiceError> {
    let public_key = parse_key(public_key)?;
    let mut nonce = vec![0; 32];
    rng.fill_bytes(&mut nonce);
    let challenge = Challenge {
        version: VERSION,
        timestamp: i64::try_from(now).map_err(ServiceError::internal)?,
        nonce,
        public_key: public_key.serialize().to_vec(),
    };
    let server_hmac = keys.prove(Purpose::Challenge, &challenge.encode_to_vec());
    Ok(GetChallengeResponse {
        protected_challenge: Some(ProtectedChallenge {
            version: VERSION,
            challenge: Some(challenge),
            server_hmac,
        }),
    })
}

/// Checks everything but whether the challenge was answered before.
pub(super) fn check(
    keys: &SessionKeys,
    request: &VerifyChallengeRequest,
    now: u64,
    life: Duration,
) -> Result<Answered, ServiceError> {
    let protected = request
        .protected_challenge
        .as_ref()
        .ok_or_else(|| Error::missing("protected_challenge"))?;
    let challenge = protected
        .challenge
        .as_ref()
        .ok_or_else(|| Error::missing("protected_challenge.challenge"))?;
    version("protected_challenge.version", protected.version)?;
    version("protected_challenge.challenge.version", challenge.version)?;
    // Sizes come before any hashing, so that nobody makes us hash megabytes.
    let nonce: [u8; 32] =
        challenge.nonce.as_slice().try_into().map_err(|_| {
            Error::malformed("protected_challenge.challenge.nonce", "must be 32 bytes")
        })?;
    let public_key = parse_key(&request.public_key)?;
    if request.signature.len() > MAX_SIGNATURE {
        return Err(Error::malformed("signature", "must be at most 73 bytes, DER").into());
    }
    let made = u64::try_from(challenge.timestamp).unwrap_or(0);
    let last = made.saturating_add(life.as_secs());
    if now.saturating_add(SKEW) > last {
        return Err(ServiceError::challenge_expired());
    }
    if challenge.public_key != public_key.serialize() {
        return Err(Error::malformed("public_key", "the challenge is for another key").into());
    }
    let bytes = challenge.encode_to_vec();
    if !keys.proves(Purpose::Challenge, &bytes, &protected.server_hmac) {
        return Err(ServiceError::new(
            Reason::Unauthenticated,
            "this challenge is not of this operator; ask this operator for a challenge",
        ));
    }
    let signature = Signature::from_der(&request.signature)
        .map_err(|_| Error::malformed("signature", "must be ECDSA in DER"))?;
    let digest = Message::from_digest(Sha256::digest(&bytes).into());
    Secp256k1::verification_only()
        .verify_ecdsa(&digest, &signature, &public_key)
        .map_err(|_| ServiceError::bad_signature("the signature over the challenge"))?;
    Ok(Answered {
        public_key,
        nonce,
        expires: last,
    })
}

/// A challenge that was answered before.
pub(super) fn used() -> ServiceError {
    ServiceError::new(
        Reason::ChallengeUsed,
        "this challenge was answered before; ask for another",
    )
}

fn version(field: &str, found: i32) -> Result<(), Error> {
    if found == VERSION {
        return Ok(());
    }
    Err(Error::malformed(
        field,
        format!("is {found}, must be {VERSION}"),
    ))
}

fn parse_key(bytes: &[u8]) -> Result<PublicKey, Error> {
    if bytes.len() != 33 {
        return Err(Error::malformed(
            "public_key",
            "must be 33 bytes, a compressed key",
        ));
    }
    PublicKey::from_slice(bytes).map_err(|_| Error::malformed("public_key", "is not on the curve"))
}
