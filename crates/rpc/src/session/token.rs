//! Tokens: a session and its proof in one opaque word.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bitcoin::secp256k1::PublicKey;
use prost::Message as _;

use super::caller::Anonymous;
use super::keys::{Purpose, SessionKeys};

const VERSION: i32 = 1;

/// Longest token that is looked at; ours have 168 characters.
const MAX_TOKEN: usize = 512;

/// Padded on the way out; some header libraries strip the padding on the way back.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a token says.
#[derive(Clone, PartialEq, prost::Message)]
struct Session {
    #[prost(int32, tag = "1")]
    version: i32,
    /// Unix seconds.
    #[prost(int64, tag = "2")]
    expiration_timestamp: i64,
    #[prost(bytes = "vec", tag = "3")]
    nonce: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    public_key: Vec<u8>,
}

/// A session and the HMAC over its encoding. The encoding is kept as it came, so that the proof
/// is checked over the very bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct ProtectedSession {
    #[prost(int32, tag = "1")]
    version: i32,
    #[prost(bytes = "vec", tag = "2")]
    session: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    hmac: Vec<u8>,
}

pub(super) fn make(
    keys: &SessionKeys,
    public_key: &PublicKey,
    expires: i64,
    nonce: &[u8; 32],
) -> String {
    let session = Session {
        version: VERSION,
        expiration_timestamp: expires,
        nonce: nonce.to_vec(),
        public_key: public_key.serialize().to_vec(),
    }
    .encode_to_vec();
    let hmac = keys.prove(Purpose::Token, &session);
    BASE64.encode(
        ProtectedSession {
            version: VERSION,
            session,
            hmac,
        }
        .encode_to_vec(),
    )
}

pub(super) fn read(keys: &SessionKeys, token: &[u8], now: u64) -> Result<PublicKey, Anonymous> {
    if token.len() > MAX_TOKEN {
        return Err(Anonymous::Malformed);
    }
    let bytes = BASE64.decode(token).map_err(|_| Anonymous::Malformed)?;
    let protected = ProtectedSession::decode(bytes.as_slice()).map_err(|_| Anonymous::Malformed)?;
    if protected.version != VERSION {
        return Err(Anonymous::Malformed);
    }
    if !keys.proves(Purpose::Token, &protected.session, &protected.hmac) {
        return Err(Anonymous::Foreign);
    }
    let session =
        Session::decode(protected.session.as_slice()).map_err(|_| Anonymous::Malformed)?;
    if session.version != VERSION {
        return Err(Anonymous::Malformed);
    }
    if u64::try_from(session.expiration_timestamp).unwrap_or(0) <= now {
        return Err(Anonymous::Expired);
    }
    PublicKey::from_slice(&session.public_key).map_err(|_| Anonymous::Malformed)
}
