//! Deposit addresses as wallets see them.

use tinderbox_flows::rows::{AddressProof, AddressRow};

use super::field::by_identifier;
use super::spark;

/// The contract's number of the present form of the possession proof.
pub const HASH_VARIANT_V2: i32 = 1;

/// The proofs, with the possession proof in the form that was asked for.
#[must_use]
pub fn proof(proof: &AddressProof, hash_variant: i32) -> spark::DepositAddressProof {
    spark::DepositAddressProof {
        address_signatures: by_identifier(&proof.operators, Clone::clone),
        proof_of_possession_signature: if hash_variant == HASH_VARIANT_V2 {
            proof.possession.clone()
        } else {
            proof.possession_legacy.clone()
        },
    }
}

/// A new address with its proofs.
#[must_use]
pub fn address(row: &AddressRow, hash_variant: i32) -> spark::Address {
    spark::Address {
        address: row.address.clone(),
        verifying_key: row.verifying_key.serialize().to_vec(),
        deposit_address_proof: row.proof.as_ref().map(|stored| proof(stored, hash_variant)),
        is_static: row.is_static,
    }
}

/// An address in a list; with its proofs if `hash_variant` says in which form.
#[must_use]
pub fn listed(row: &AddressRow, hash_variant: Option<i32>) -> spark::DepositAddressQueryResult {
    spark::DepositAddressQueryResult {
        deposit_address: row.address.clone(),
        user_signing_public_key: row.owner_signing.serialize().to_vec(),
        verifying_public_key: row.verifying_key.serialize().to_vec(),
        // An id of zeros would be taken for a real one.
        leaf_id: row.leaf.map(|leaf| leaf.to_string()),
        proof_of_possession: hash_variant
            .and_then(|variant| row.proof.as_ref().map(|stored| proof(stored, variant))),
    }
}
