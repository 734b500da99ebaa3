//! Challenges and tokens, against recorded vectors and against people who cheat.

use std::sync::Arc;

use bitcoin::secp256k1::{Message, PublicKey, Secp256k1, SecretKey};
use prost::Message as _;
use rand::{CryptoRng, RngCore, SeedableRng as _};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tinderbox_rpc::proto::spark_authn::{
    Challenge, GetChallengeRequest, ProtectedChallenge, VerifyChallengeRequest,
};
use tinderbox_rpc::session::{
    Anonymous, InMemoryNonces, Lifetimes, NonceMemory as _, NonceMemoryError, Purpose, SessionKeys,
    Sessions,
};
use tinderbox_rpc::{Caller, Reason, ServiceError};
use tonic::Code;

/// Gives the same bytes again and again, so that recorded nonces come out.
struct Recorded(Vec<u8>);

impl RngCore for Recorded {
    fn next_u32(&mut self) -> u32 {
        unreachable!("only whole nonces are drawn")
    }
    fn next_u64(&mut self) -> u64 {
        unreachable!("only whole nonces are drawn")
    }
    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.0);
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Recorded {}

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors/authn.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

fn sessions(secret: &[u8; 32]) -> Sessions {
    let memory = Arc::new(InMemoryNonces::default());
    Sessions::new(SessionKeys::derive(secret), memory, Lifetimes::default())
}

fn recorded_sessions() -> Sessions {
    let secret = bytes(&vectors()["reference_server"]["operator_identity_private_key"]);
    sessions(&secret.try_into().unwrap())
}

const NOW: u64 = 1_786_974_052;

fn recorded_challenge() -> ProtectedChallenge {
    let vectors = vectors();
    let public_key = bytes(&vectors["challenge"]["public_key"]);
    let mut rng = Recorded(bytes(&vectors["challenge"]["nonce"]));
    recorded_sessions()
        .challenge(&GetChallengeRequest { public_key }, NOW, &mut rng)
        .unwrap()
        .protected_challenge
        .unwrap()
}

fn recorded_answer() -> VerifyChallengeRequest {
    VerifyChallengeRequest {
        protected_challenge: Some(recorded_challenge()),
        signature: bytes(&vectors()["signature_der"]),
        public_key: bytes(&vectors()["challenge"]["public_key"]),
    }
}

async fn verify(request: &VerifyChallengeRequest, now: u64) -> Result<String, ServiceError> {
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let answer = recorded_sessions().verify(request, now, &mut rng).await?;
    Ok(answer.session_token)
}

#[test]
fn keys_are_derived_as_recorded() {
    let server = &vectors()["reference_server"];
    let secret: [u8; 32] = bytes(&server["operator_identity_private_key"])
        .try_into()
        .unwrap();
    let challenge = SessionKeys::derive_one(&secret, Purpose::Challenge);
    let token = SessionKeys::derive_one(&secret, Purpose::Token);
    assert_eq!(challenge.to_vec(), bytes(&server["challenge_hmac_key"]));
    assert_eq!(token.to_vec(), bytes(&server["session_hmac_key"]));
}

#[test]
fn challenge_is_encoded_and_proved_as_recorded() {
    let protected = recorded_challenge();
    let encoded = protected.challenge.unwrap().encode_to_vec();
    assert_eq!(encoded, bytes(&vectors()["challenge_bytes"]));
    assert_eq!(
        Sha256::digest(&encoded).to_vec(),
        bytes(&vectors()["challenge_sha256"])
    );
    assert_eq!(
        protected.server_hmac,
        bytes(&vectors()["reference_server"]["server_hmac"])
    );
}

#[tokio::test]
async fn recorded_answer_gives_the_recorded_token_and_the_token_names_its_holder() {
    let vectors = vectors();
    let server = &vectors["reference_server"];
    // version 1, expiry, nonce of 32 bytes, key: the nonce stands after 8 bytes of head.
    let session = bytes(&server["session_bytes"]);
    let nonce = session[10..42].to_vec();
    let expires = NOW + 20 + 900;
    let sessions = recorded_sessions();
    let answer = sessions
        .verify(&recorded_answer(), NOW + 20, &mut Recorded(nonce))
        .await
        .unwrap();
    assert_eq!(answer.expiration_timestamp, i64::try_from(expires).unwrap());
    let holder = PublicKey::from_slice(&bytes(&vectors["challenge"]["public_key"])).unwrap();
    let caller = sessions.caller(Some(answer.session_token.as_bytes()), expires - 1);
    assert_eq!(caller, Caller::Identity(holder));
    let recorded = server["session_token_base64url"].as_str().unwrap();
    let caller = sessions.caller(Some(recorded.as_bytes()), NOW);
    assert_eq!(caller, Caller::Identity(holder));
}

#[tokio::test]
async fn token_is_encoded_as_recorded() {
    let vectors = vectors();
    let server = &vectors["reference_server"];
    let session = bytes(&server["session_bytes"]);
    let expiry = recorded_expiry(&session);
    let answered = expiry - 900;
    let sessions = recorded_sessions();
    // The recorded session was made at another second than the recorded challenge was answered,
    // so the challenge is made anew for that second, by a key of this test.
    let secret = SecretKey::from_slice(&[3; 32]).unwrap();
    let request = answer(&sessions, &secret, answered);
    let token = sessions
        .verify(&request, answered, &mut Recorded(session[10..42].to_vec()))
        .await
        .unwrap();
    use base64::Engine as _;
    let engine = base64::engine::general_purpose::URL_SAFE;
    let ours = engine.decode(&token.session_token).unwrap();
    let recorded = engine
        .decode(server["session_token_base64url"].as_str().unwrap())
        .unwrap();
    // The same up to the holder's key and the proof over it.
    assert_eq!(ours.len(), recorded.len());
    assert_eq!(ours[..4 + 44], recorded[..4 + 44]);
}

/// Reads the varint after the two-byte version field and the tag.
fn recorded_expiry(session: &[u8]) -> u64 {
    prost::encoding::decode_varint(&mut &session[3..]).unwrap()
}

fn answer(sessions: &Sessions, secret: &SecretKey, now: u64) -> VerifyChallengeRequest {
    let curve = Secp256k1::new();
    let public_key = secret.public_key(&curve).serialize().to_vec();
    let mut rng = rand::rngs::StdRng::from_entropy();
    let protected = sessions
        .challenge(
            &GetChallengeRequest {
                public_key: public_key.clone(),
            },
            now,
            &mut rng,
        )
        .unwrap()
        .protected_challenge
        .unwrap();
    let digest = Sha256::digest(protected.challenge.as_ref().unwrap().encode_to_vec());
    let signature = curve.sign_ecdsa(&Message::from_digest(digest.into()), secret);
    VerifyChallengeRequest {
        protected_challenge: Some(protected),
        signature: signature.serialize_der().to_vec(),
        public_key,
    }
}

#[tokio::test]
async fn challenge_lives_one_minute_less_the_allowance_for_skew() {
    assert!(verify(&recorded_answer(), NOW + 59).await.is_ok());
    let error = verify(&recorded_answer(), NOW + 60).await.unwrap_err();
    assert!(error.message.contains("challenge expired"), "{error}");
    assert_eq!(error.code, Code::Unauthenticated);
}

#[tokio::test]
async fn challenge_serves_once() {
    let sessions = recorded_sessions();
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let request = recorded_answer();
    assert!(sessions.verify(&request, NOW, &mut rng).await.is_ok());
    let error = sessions.verify(&request, NOW, &mut rng).await.unwrap_err();
    assert_eq!(error.reason, Some(Reason::ChallengeUsed));
}

#[tokio::test]
async fn wrong_signature_does_not_use_the_challenge_up() {
    let sessions = recorded_sessions();
    let mut rng = rand::rngs::StdRng::seed_from_u64(1);
    let good = recorded_answer();
    let other = answer(&sessions, &SecretKey::from_slice(&[9; 32]).unwrap(), NOW);
    let bad = VerifyChallengeRequest {
        signature: other.signature,
        ..good.clone()
    };
    let error = sessions.verify(&bad, NOW, &mut rng).await.unwrap_err();
    assert_eq!(error.reason, Some(Reason::BadSignature));
    assert!(sessions.verify(&good, NOW, &mut rng).await.is_ok());
}

/// Case 64: sizes are checked before anything is hashed; a challenge of another operator, for
/// another key, or altered, is refused.
#[tokio::test]
async fn challenges_that_are_not_ours_are_refused_without_a_reason_to_retry() {
    fn altered(change: impl FnOnce(&mut VerifyChallengeRequest)) -> VerifyChallengeRequest {
        let mut request = recorded_answer();
        change(&mut request);
        request
    }
    fn challenge(request: &mut VerifyChallengeRequest) -> &mut Challenge {
        request
            .protected_challenge
            .as_mut()
            .unwrap()
            .challenge
            .as_mut()
            .unwrap()
    }
    fn protected(request: &mut VerifyChallengeRequest) -> &mut ProtectedChallenge {
        request.protected_challenge.as_mut().unwrap()
    }
    let other_key = SecretKey::from_slice(&[5; 32])
        .unwrap()
        .public_key(&Secp256k1::new());
    let cases = [
        altered(|request| request.protected_challenge = None),
        altered(|request| protected(request).challenge = None),
        altered(|request| protected(request).version = 2),
        altered(|request| challenge(request).version = 0),
        altered(|request| challenge(request).nonce = vec![0; 10_000_000]),
        altered(|request| challenge(request).nonce.clear()),
        altered(|request| challenge(request).nonce[0] ^= 1),
        altered(|request| challenge(request).timestamp += 1),
        altered(|request| protected(request).server_hmac.clear()),
        altered(|request| protected(request).server_hmac[31] ^= 1),
        altered(|request| request.public_key = other_key.serialize().to_vec()),
        altered(|request| request.public_key = other_key.serialize_uncompressed().to_vec()),
        altered(|request| request.public_key.clear()),
        altered(|request| request.signature.clear()),
        altered(|request| request.signature = vec![0x30; 73]),
        altered(|request| request.signature = vec![0x30; 1_000_000]),
    ];
    for (case, request) in cases.iter().enumerate() {
        let error = verify(request, NOW)
            .await
            .expect_err(&format!("case {case}"));
        let final_code = matches!(error.code, Code::InvalidArgument | Code::Unauthenticated);
        assert!(final_code, "case {case}: {error:?}");
        assert!(!error.message.contains("expired"), "case {case}: {error}");
    }
    let error = sessions(&[1; 32])
        .verify(
            &recorded_answer(),
            NOW,
            &mut rand::rngs::StdRng::seed_from_u64(1),
        )
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::Unauthenticated);
}

#[tokio::test]
async fn authorization_is_read_with_and_without_bearer_and_never_refused() {
    let sessions = recorded_sessions();
    let token = vectors()["reference_server"]["session_token_base64url"]
        .as_str()
        .unwrap()
        .to_owned();
    let holder = PublicKey::from_slice(&bytes(&vectors()["challenge"]["public_key"])).unwrap();
    let unpadded = token.trim_end_matches('=');
    let mut broken = token.clone();
    broken.replace_range(60..61, if &token[60..61] == "A" { "B" } else { "A" });
    let anonymous = |reason| Caller::Anonymous { reason };
    for (value, expected) in [
        (token.clone(), Caller::Identity(holder)),
        (format!("Bearer {token}"), Caller::Identity(holder)),
        (format!("bearer   {token} "), Caller::Identity(holder)),
        (unpadded.to_owned(), Caller::Identity(holder)),
        ("Bearer undefined".to_owned(), anonymous(Anonymous::NoToken)),
        ("undefined".to_owned(), anonymous(Anonymous::NoToken)),
        ("Bearer ".to_owned(), anonymous(Anonymous::NoToken)),
        ("Bearer".to_owned(), anonymous(Anonymous::NoToken)),
        (String::new(), anonymous(Anonymous::NoToken)),
        (format!("Bearer{token}"), anonymous(Anonymous::Malformed)),
        ("Basic abc".to_owned(), anonymous(Anonymous::Malformed)),
        ("A".repeat(100_000), anonymous(Anonymous::Malformed)),
        (broken, anonymous(Anonymous::Foreign)),
    ] {
        let caller = sessions.caller(Some(value.as_bytes()), NOW);
        assert_eq!(caller, expected, "{}", value.get(..40).unwrap_or(&value));
    }
    assert_eq!(sessions.caller(None, NOW), anonymous(Anonymous::NoToken));
    let foreign = self::sessions(&[1; 32]).caller(Some(token.as_bytes()), NOW);
    assert_eq!(foreign, anonymous(Anonymous::Foreign));
}

#[test]
fn expired_token_asks_to_sign_in_again_and_a_missing_one_asks_to_sign_in() {
    let sessions = recorded_sessions();
    let token = vectors()["reference_server"]["session_token_base64url"]
        .as_str()
        .unwrap()
        .to_owned();
    let expiry = recorded_expiry(&bytes(&vectors()["reference_server"]["session_bytes"]));
    assert!(
        sessions
            .caller(Some(token.as_bytes()), expiry - 1)
            .require()
            .is_ok()
    );
    let expired = sessions.caller(Some(token.as_bytes()), expiry);
    let error = expired.require().unwrap_err();
    assert!(error.message.contains("token has expired"));
    assert_eq!(error.code, Code::Unauthenticated);
    assert!(expired.reader().is_err());
    let nobody = sessions.caller(None, NOW);
    let error = nobody.require().unwrap_err();
    assert_eq!(error.code, Code::Unauthenticated);
    assert!(!error.message.contains("expired"));
    assert_eq!(nobody.reader(), Ok(None));
}

#[test]
fn session_of_one_key_does_not_serve_for_another() {
    let key = PublicKey::from_slice(&bytes(&vectors()["challenge"]["public_key"])).unwrap();
    let caller = Caller::Identity(key);
    assert_eq!(caller.require_key("owner", &key.serialize()), Ok(key));
    let error = caller.require_key("owner", &[2; 33]).unwrap_err();
    assert_eq!(error.code, Code::PermissionDenied);
    assert_eq!(error.metadata["field"], "owner");
}

#[tokio::test]
async fn full_memory_refuses_instead_of_forgetting() {
    let memory = InMemoryNonces::new(2);
    assert_eq!(memory.spend([1; 32], 100, 50).await, Ok(true));
    assert_eq!(memory.spend([2; 32], 101, 50).await, Ok(true));
    assert_eq!(
        memory.spend([3; 32], 102, 50).await,
        Err(NonceMemoryError::Full)
    );
    assert_eq!(memory.spend([1; 32], 100, 50).await, Ok(false));
    // At its last second a nonce is still remembered, after it there is room again.
    assert_eq!(memory.spend([1; 32], 100, 100).await, Ok(false));
    assert_eq!(memory.spend([3; 32], 102, 101).await, Ok(true));
    assert_eq!(memory.spend([2; 32], 101, 101).await, Ok(false));
}
