//! What the payee of an invoice signs: a hash of the hashes of its parts.

use bitcoin::secp256k1::PublicKey;
use sha2::{Digest as _, Sha256};

use super::codec::minimal;
use super::{InvoiceFields, Payment};
use crate::Network;
use crate::hash::sha256;

const VERSION: u32 = 1;
const TOKENS: u8 = 1;
const SATS: u8 = 2;

/// The hash that is signed. The network's magic number is hashed once more than the rest.
pub(super) fn digest(network: Network, receiver: &PublicKey, fields: &InvoiceFields) -> [u8; 32] {
    let mut parts: Vec<Vec<u8>> = vec![
        VERSION.to_be_bytes().to_vec(),
        fields.id.as_bytes().to_vec(),
        sha256(&network.magic().to_be_bytes()).to_vec(),
        receiver.serialize().to_vec(),
    ];
    match &fields.payment {
        Payment::Tokens { identifier, amount } => {
            parts.push(vec![TOKENS]);
            parts.push(identifier.unwrap_or([0; 32]).to_vec());
            parts.push(amount.map(minimal).unwrap_or_default());
        }
        Payment::Sats(amount) => {
            parts.push(vec![SATS]);
            parts.push(amount.unwrap_or_default().0.to_be_bytes().to_vec());
        }
    }
    parts.push(fields.memo.clone().unwrap_or_default().into_bytes());
    parts.push(
        fields
            .sender
            .map_or([0; 33], |key| key.serialize())
            .to_vec(),
    );
    let seconds = fields.expiry.map_or(0, |end| end.seconds);
    parts.push(seconds.to_be_bytes().to_vec());
    parts
        .iter()
        .fold(Sha256::new(), |hash, part| hash.chain_update(sha256(part)))
        .finalize()
        .into()
}
