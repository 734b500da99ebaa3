//! Hash functions of FROST(secp256k1, SHA-256) in its taproot variant.

use sha2::{Digest, Sha256};

use crate::scalar::Scalar;

/// Context string of the ciphersuite; starts every domain separation tag.
pub const CONTEXT: &[u8] = b"FROST-secp256k1-SHA256-TR-v1";

/// The one identifier of every user: [`hash_identifier`] of `user`. Larger than any operator's.
pub const USER_IDENTIFIER: [u8; 32] = [
    0x68, 0x7d, 0xa6, 0x4d, 0x52, 0xa1, 0x6c, 0x6f, 0xc7, 0x92, 0xc6, 0xfc, 0x83, 0x1e, 0xc1, 0xaf,
    0xa7, 0x97, 0xa9, 0x1f, 0x77, 0x54, 0x96, 0x68, 0xa6, 0xb5, 0x42, 0x1f, 0x12, 0xc1, 0xac, 0x77,
];

/// H1: binding factors.
#[must_use]
pub fn h1(message: &[&[u8]]) -> Scalar {
    hash_to_scalar(b"rho", message)
}

/// H2: the BIP340 challenge.
#[must_use]
pub fn h2(message: &[&[u8]]) -> Scalar {
    Scalar::reduce(&tagged_hash("BIP0340/challenge", message))
}

/// H3: hedged nonces.
#[must_use]
pub fn h3(message: &[&[u8]]) -> Scalar {
    hash_to_scalar(b"nonce", message)
}

/// H4: the message.
#[must_use]
pub fn h4(message: &[&[u8]]) -> [u8; 32] {
    hash(&[CONTEXT, b"msg"], message)
}

/// H5: the list of nonce commitments.
#[must_use]
pub fn h5(message: &[&[u8]]) -> [u8; 32] {
    hash(&[CONTEXT, b"com"], message)
}

/// Challenge of a proof of knowledge in the key generation.
#[must_use]
pub fn hash_dkg(message: &[&[u8]]) -> Scalar {
    hash_to_scalar(b"dkg", message)
}

/// Identifier of a participant that is named by a text.
#[must_use]
pub fn hash_identifier(message: &[&[u8]]) -> Scalar {
    hash_to_scalar(b"id", message)
}

/// BIP340 tagged hash.
#[must_use]
pub fn tagged_hash(tag: &str, message: &[&[u8]]) -> [u8; 32] {
    let tag = Sha256::digest(tag);
    hash(&[&tag, &tag], message)
}

/// Hash to a scalar (RFC 9380: 48 bytes of `expand_message_xmd`, reduced).
fn hash_to_scalar(suffix: &[u8], message: &[&[u8]]) -> Scalar {
    Scalar::reduce_wide(&expand_message(&[CONTEXT, suffix], message))
}

/// `expand_message_xmd` of RFC 9380 with SHA-256 and 48 bytes of output. The domain separation tag
/// is the concatenation of `tag`, below 256 bytes.
#[must_use]
pub fn expand_message(tag: &[&[u8]], message: &[&[u8]]) -> [u8; 48] {
    let length = tag.iter().fold(0u8, |sum, part| {
        sum.saturating_add(u8::try_from(part.len()).unwrap_or(u8::MAX))
    });
    let finish = |mut state: Sha256| -> [u8; 32] {
        for part in tag {
            state.update(part);
        }
        state.update([length]);
        state.finalize().into()
    };
    let mut state = Sha256::new();
    state.update([0; 64]);
    for part in message {
        state.update(part);
    }
    state.update([0, 48, 0]);
    let seed = finish(state);
    let first = finish(Sha256::new().chain_update(seed).chain_update([1]));
    let mut mixed = seed;
    for (to, from) in mixed.iter_mut().zip(first) {
        *to ^= from;
    }
    let second = finish(Sha256::new().chain_update(mixed).chain_update([2]));
    let mut output = [0; 48];
    for (to, from) in output.iter_mut().zip(first.into_iter().chain(second)) {
        *to = from;
    }
    output
}

fn hash(prefix: &[&[u8]], message: &[&[u8]]) -> [u8; 32] {
    let mut state = Sha256::new();
    for part in prefix.iter().chain(message) {
        state.update(part);
    }
    state.finalize().into()
}
