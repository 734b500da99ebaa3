//! Everything that is hashed before somebody signs it.

mod lightning;
mod static_deposit;
mod structured;
mod transfer;

use bitcoin::secp256k1::PublicKey;
use sha2::{Digest as _, Sha256};

pub use lightning::preimage_share_payload;
pub use static_deposit::{
    InstantStatement, SpendStatement, StaticDepositRequest, StaticDepositStatement, SwapStatement,
};
pub use structured::Structured;
pub use transfer::{
    HashVariant, claim_payload, leaf_signature_digest, leaf_signature_payload, return_payload,
    transfer_payload,
};

/// Hashes values under a list of tags; see [`Structured`].
#[must_use]
pub fn structured(tags: &[&str], fill: impl FnOnce(Structured) -> Structured) -> [u8; 32] {
    fill(Structured::new(tags)).finish()
}

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// What the operators sign together to prove that they hold their half of a deposit address:
/// the depositor's identity key, the operators' key, the address as text.
#[must_use]
pub fn pop_message(identity: &PublicKey, operators: &PublicKey, address: &str) -> [u8; 32] {
    structured(&["spark", "deposit", "proof_of_possession"], |hash| {
        hash.bytes(&identity.serialize())
            .bytes(&operators.serialize())
            .bytes(address.as_bytes())
    })
}

/// The older form of [`pop_message`], which present wallets refuse.
#[must_use]
pub fn pop_message_legacy(identity: &PublicKey, operators: &PublicKey, address: &str) -> [u8; 32] {
    sha256(
        &[
            identity.serialize().as_slice(),
            &operators.serialize(),
            address.as_bytes(),
        ]
        .concat(),
    )
}

/// What each operator signs to vouch for a deposit address.
#[must_use]
pub fn address_digest(address: &str) -> [u8; 32] {
    sha256(address.as_bytes())
}

/// What a wallet signs to prove that it holds its identity key, for a text of the caller's.
#[must_use]
pub fn message_digest(text: &str) -> [u8; 32] {
    sha256(text.as_bytes())
}
