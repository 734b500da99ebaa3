//! Transactions that a user has half signed.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use tinderbox_frost::{NonceCommitment, OperatorIndex, SignatureShare};
use tinderbox_protocol::LeafId;

use super::{commitment, commitment_to_proto, commitments, commitments_to_proto};
use super::{id, public_key, required, share};
use crate::Error;
use crate::proto::{common, spark};

/// The user's half of the signature for one input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputShare {
    /// The user's nonce commitment.
    pub user_commitment: NonceCommitment,
    /// The user's signature share.
    pub user_share: SignatureShare,
    /// The operators' nonce commitments that the share was made with.
    pub operator_commitments: BTreeMap<OperatorIndex, NonceCommitment>,
}

/// A transaction with the user's half of its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SigningJob {
    /// The leaf that it spends; deposits have none yet.
    pub leaf_id: Option<LeafId>,
    /// The user's key in the verifying key.
    pub signing_public_key: PublicKey,
    /// Serialized transaction, unsigned.
    pub tx: Vec<u8>,
    /// The first input.
    pub input: InputShare,
    /// Further inputs, in order.
    pub additional_inputs: Vec<InputShare>,
}

impl InputShare {
    fn read(
        user_commitment: &Option<common::SigningCommitment>,
        user_share: &[u8],
        operators: &Option<spark::SigningCommitments>,
    ) -> Result<Self, Error> {
        const USER: &str = "signing_nonce_commitment";
        const OPERATORS: &str = "signing_commitments";
        Ok(Self {
            user_commitment: commitment(USER, required(USER, user_commitment)?)?,
            user_share: share("user_signature", user_share)?,
            operator_commitments: commitments(OPERATORS, required(OPERATORS, operators)?)?,
        })
    }
}

impl TryFrom<&spark::UserSignedTxSigningJob> for SigningJob {
    type Error = Error;

    fn try_from(message: &spark::UserSignedTxSigningJob) -> Result<Self, Error> {
        if message.raw_tx.is_empty() {
            return Err(Error::missing("raw_tx"));
        }
        let leaf_id = match message.leaf_id.as_str() {
            "" => None,
            text => Some(id("leaf_id", text)?),
        };
        let mut additional_inputs = Vec::with_capacity(message.additional_inputs.len());
        for (position, input) in message.additional_inputs.iter().enumerate() {
            let read = InputShare::read(
                &input.signing_nonce_commitment,
                &input.user_signature,
                &input.signing_commitments,
            );
            let place = format!("additional_inputs[{position}]");
            additional_inputs.push(read.map_err(|error| error.under(&place))?);
        }
        Ok(Self {
            leaf_id,
            signing_public_key: public_key("signing_public_key", &message.signing_public_key)?,
            tx: message.raw_tx.clone(),
            input: InputShare::read(
                &message.signing_nonce_commitment,
                &message.user_signature,
                &message.signing_commitments,
            )?,
            additional_inputs,
        })
    }
}

impl From<&SigningJob> for spark::UserSignedTxSigningJob {
    fn from(job: &SigningJob) -> Self {
        let further = |input: &InputShare| spark::InputSigningData {
            signing_nonce_commitment: Some(commitment_to_proto(&input.user_commitment)),
            user_signature: input.user_share.0.to_vec(),
            signing_commitments: Some(commitments_to_proto(&input.operator_commitments)),
        };
        Self {
            leaf_id: job.leaf_id.map(|leaf| leaf.to_string()).unwrap_or_default(),
            signing_public_key: job.signing_public_key.serialize().to_vec(),
            raw_tx: job.tx.clone(),
            signing_nonce_commitment: Some(commitment_to_proto(&job.input.user_commitment)),
            user_signature: job.input.user_share.0.to_vec(),
            signing_commitments: Some(commitments_to_proto(&job.input.operator_commitments)),
            additional_inputs: job.additional_inputs.iter().map(further).collect(),
        }
    }
}
