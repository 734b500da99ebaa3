//! What receivers of Lightning payments once signed.

use std::collections::BTreeMap;

use super::structured;

/// What is signed when encrypted shares of a preimage are stored: payment hash, ciphertexts by
/// operator identifier, threshold, Lightning invoice. Present wallets do not sign it.
#[must_use]
pub fn preimage_share_payload(
    payment_hash: &[u8; 32],
    encrypted_shares: &BTreeMap<String, Vec<u8>>,
    threshold: u32,
    invoice: &str,
) -> [u8; 32] {
    structured(
        &["spark", "store_preimage_share", "signing payload"],
        |hash| {
            hash.bytes(payment_hash)
                .map(encrypted_shares)
                .number(threshold)
                .string(invoice)
        },
    )
}
