//! What senders and receivers of transfers sign.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{sha256, structured};
use crate::{LeafId, TransferId};

/// Which form of a payload was signed. The wire numbers are 0 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashVariant {
    /// The older concatenation.
    Legacy,
    /// The structured hash, which present wallets use.
    #[default]
    V2,
}

impl HashVariant {
    /// From its number on the wire; `None` for a number that nobody uses.
    #[must_use]
    pub const fn from_wire(number: i32) -> Option<Self> {
        match number {
            0 => Some(Self::Legacy),
            1 => Some(Self::V2),
            _ => None,
        }
    }
}

/// What a sender signs (ECDSA, DER) for a package: the transfer id and the ciphertexts by
/// operator identifier.
#[must_use]
pub fn transfer_payload(
    transfer: &TransferId,
    key_tweak_package: &BTreeMap<String, Vec<u8>>,
    variant: HashVariant,
) -> [u8; 32] {
    match variant {
        HashVariant::V2 => structured(&["spark", "transfer", "signing payload"], |hash| {
            hash.bytes(&transfer.bytes16()).map(key_tweak_package)
        }),
        HashVariant::Legacy => {
            let mut payload = transfer.bytes16().to_vec();
            for (identifier, ciphertext) in key_tweak_package {
                payload.extend_from_slice(identifier.as_bytes());
                payload.push(b':');
                payload.extend_from_slice(ciphertext);
                payload.push(b';');
            }
            sha256(&payload)
        }
    }
}

/// What a receiver signs (ECDSA, DER) for a claim package. There is no older form.
#[must_use]
pub fn claim_payload(
    transfer: &TransferId,
    key_tweak_package: &BTreeMap<String, Vec<u8>>,
) -> [u8; 32] {
    structured(&["spark", "claim", "signing payload"], |hash| {
        hash.bytes(&transfer.bytes16()).map(key_tweak_package)
    })
}

/// What a receiver signs (ECDSA) to give a transfer that waits for something back to its sender.
#[must_use]
pub fn return_payload(transfer: &TransferId) -> [u8; 32] {
    structured(&["spark", "return", "signing payload"], |hash| {
        hash.bytes(&transfer.bytes16())
    })
}

/// What a sender signs per leaf, before hashing: leaf id and transfer id as text, the new key's
/// ciphertext.
#[must_use]
pub fn leaf_signature_payload(
    leaf: &LeafId,
    transfer: &TransferId,
    secret_cipher: &[u8],
) -> Vec<u8> {
    [
        leaf.to_string().as_bytes(),
        transfer.to_string().as_bytes(),
        secret_cipher,
    ]
    .concat()
}

/// The digest of [`leaf_signature_payload`], signed with ECDSA in 64 bytes.
#[must_use]
pub fn leaf_signature_digest(
    leaf: &LeafId,
    transfer: &TransferId,
    secret_cipher: &[u8],
) -> [u8; 32] {
    sha256(&leaf_signature_payload(leaf, transfer, secret_cipher))
}
