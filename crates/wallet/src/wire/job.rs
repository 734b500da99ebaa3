use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use tinderbox_frost::{NonceCommitment, OperatorIndex};
use tinderbox_protocol::LeafId;
use tinderbox_protocol::tx::UnsignedTx;

use super::read::{Read, key};
use super::{common, spark};
use crate::signer::UserShare;

/// The operators' nonces for one signature.
pub(crate) type Commitments = BTreeMap<OperatorIndex, NonceCommitment>;

/// Reads the nonces of one entry of a `get_signing_commitments` reply.
pub(crate) fn commitments(entry: &spark::RequestedSigningCommitments) -> Read<Commitments> {
    entry
        .signing_nonce_commitments
        .iter()
        .map(|(identifier, commitment)| {
            let index = OperatorIndex::from_identifier(identifier)
                .map_err(|_| format!("\"{identifier}\" is no operator identifier"))?;
            let commitment = NonceCommitment {
                hiding: key("a hiding commitment", &commitment.hiding)?,
                binding: key("a binding commitment", &commitment.binding)?,
            };
            Ok((index, commitment))
        })
        .collect()
}

/// A half-signed transaction with one input of ours.
pub(crate) fn half_signed(
    leaf: &LeafId,
    signing_key: &PublicKey,
    tx: &UnsignedTx,
    operators: &Commitments,
    share: &UserShare,
) -> spark::UserSignedTxSigningJob {
    let data = input_data(operators, share);
    spark::UserSignedTxSigningJob {
        leaf_id: leaf.to_string(),
        signing_public_key: signing_key.serialize().to_vec(),
        raw_tx: tx.serialize(),
        signing_nonce_commitment: data.signing_nonce_commitment,
        user_signature: data.user_signature,
        signing_commitments: data.signing_commitments,
        additional_inputs: Vec::new(),
    }
}

/// The half signature of one input.
pub(crate) fn input_data(operators: &Commitments, share: &UserShare) -> spark::InputSigningData {
    spark::InputSigningData {
        signing_nonce_commitment: Some(commitment(&share.commitment)),
        user_signature: share.share.0.to_vec(),
        signing_commitments: Some(spark::SigningCommitments {
            signing_commitments: operators
                .iter()
                .map(|(i, c)| (i.identifier(), commitment(c)))
                .collect(),
        }),
    }
}

fn commitment(nonces: &NonceCommitment) -> common::SigningCommitment {
    common::SigningCommitment {
        hiding: nonces.hiding.serialize().to_vec(),
        binding: nonces.binding.serialize().to_vec(),
    }
}
