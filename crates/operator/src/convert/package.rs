//! Half-signed transactions and key tweak packages.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::package::{OpenJob, TweakPackage, UserJob, UserShare};
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_frost::{NonceCommitment, OperatorIndex, SignatureShare};

use super::field::{
    by_identifier, commitment, commitment_to_wire, commitments, leaf_id, malformed, missing,
    public_key, signature_share,
};
use super::{common, spark};

/// Leaves that one package may have.
pub const MAX_LEAVES: usize = 1000;
/// Bytes that the ciphertexts of one package may have together.
const MAX_CIPHERTEXT: usize = 4_000_000;
/// Bytes of the longest DER signature.
const MAX_DER: usize = 73;
/// Inputs that one transaction may have besides the first.
const MAX_MORE_INPUTS: usize = 16;

/// A half signature: the user's share with the nonces that it goes with.
fn user_share(
    field: &str,
    nonce: Option<&common::SigningCommitment>,
    share: &[u8],
    operators: Option<&spark::SigningCommitments>,
) -> Result<UserShare, Refusal> {
    let operators = operators.ok_or_else(|| missing(&format!("{field}.signing_commitments")))?;
    Ok(UserShare {
        commitment: commitment(&format!("{field}.signing_nonce_commitment"), nonce)?,
        share: signature_share(&format!("{field}.user_signature"), share)?,
        operators: commitments(
            &format!("{field}.signing_commitments"),
            &operators.signing_commitments,
        )?,
    })
}

/// A transaction that the user has half signed.
///
/// # Errors
/// A refusal that names the part of `field` that cannot be read.
pub fn user_job(field: &str, wire: &spark::UserSignedTxSigningJob) -> Result<UserJob, Refusal> {
    if wire.raw_tx.is_empty() {
        return Err(missing(&format!("{field}.raw_tx")));
    }
    if wire.additional_inputs.len() > MAX_MORE_INPUTS {
        return Err(malformed(
            &format!("{field}.additional_inputs"),
            format!(
                "{} entries, {MAX_MORE_INPUTS} are the most",
                wire.additional_inputs.len()
            ),
        ));
    }
    let leaf = match wire.leaf_id.as_str() {
        "" => None,
        text => Some(leaf_id(&format!("{field}.leaf_id"), text)?),
    };
    Ok(UserJob {
        leaf,
        signing_key: public_key(
            &format!("{field}.signing_public_key"),
            &wire.signing_public_key,
        )?,
        tx: wire.raw_tx.clone(),
        share: user_share(
            field,
            wire.signing_nonce_commitment.as_ref(),
            &wire.user_signature,
            wire.signing_commitments.as_ref(),
        )?,
        more: wire
            .additional_inputs
            .iter()
            .enumerate()
            .map(|(at, input)| {
                user_share(
                    &format!("{field}.additional_inputs[{at}]"),
                    input.signing_nonce_commitment.as_ref(),
                    &input.user_signature,
                    input.signing_commitments.as_ref(),
                )
            })
            .collect::<Result<_, _>>()?,
    })
}

/// A half-signed transaction that must be there.
///
/// # Errors
/// As [`user_job`].
pub fn required_job(
    field: &str,
    wire: Option<&spark::UserSignedTxSigningJob>,
) -> Result<UserJob, Refusal> {
    user_job(field, wire.ok_or_else(|| missing(field))?)
}

/// Half-signed transactions.
///
/// # Errors
/// As [`user_job`], or if there are too many.
pub fn user_jobs(
    field: &str,
    wire: &[spark::UserSignedTxSigningJob],
) -> Result<Vec<UserJob>, Refusal> {
    if wire.len() > MAX_LEAVES {
        return Err(Refusal::new(
            Reason::MalformedField,
            format!("{field}: {} entries, {MAX_LEAVES} are the most", wire.len()),
        ));
    }
    wire.iter()
        .enumerate()
        .map(|(at, job)| user_job(&format!("{field}[{at}]"), job))
        .collect()
}

struct Wire<'a> {
    names: [&'static str; 3],
    jobs: [&'a [spark::UserSignedTxSigningJob]; 3],
    tweaks: BTreeMap<String, Vec<u8>>,
    user_signature: &'a [u8],
    hash_variant: i32,
}

fn package(wire: Wire<'_>) -> Result<TweakPackage, Refusal> {
    if wire.user_signature.is_empty() || wire.user_signature.len() > MAX_DER {
        return Err(malformed(
            "user_signature",
            format!(
                "{} bytes, a signature has 1 to {MAX_DER}",
                wire.user_signature.len()
            ),
        ));
    }
    let ciphertext: usize = wire.tweaks.values().map(Vec::len).sum();
    if ciphertext > MAX_CIPHERTEXT {
        return Err(malformed(
            "key_tweak_package",
            format!("{ciphertext} bytes, {MAX_CIPHERTEXT} are the most: send fewer leaves at once"),
        ));
    }
    let [cpfp, direct, direct_from_cpfp] = wire.names;
    Ok(TweakPackage {
        cpfp: user_jobs(cpfp, wire.jobs[0])?,
        direct: user_jobs(direct, wire.jobs[1])?,
        direct_from_cpfp: user_jobs(direct_from_cpfp, wire.jobs[2])?,
        tweaks: wire.tweaks,
        user_signature: wire.user_signature.to_vec(),
        hash_variant: u8::try_from(wire.hash_variant)
            .map_err(|_| malformed("hash_variant", "unknown, use 1"))?,
    })
}

/// A sender's package.
///
/// # Errors
/// A refusal that names the field that cannot be read.
pub fn send_package(wire: &spark::TransferPackage) -> Result<TweakPackage, Refusal> {
    package(Wire {
        names: [
            "leaves_to_send",
            "direct_leaves_to_send",
            "direct_from_cpfp_leaves_to_send",
        ],
        jobs: [
            &wire.leaves_to_send,
            &wire.direct_leaves_to_send,
            &wire.direct_from_cpfp_leaves_to_send,
        ],
        tweaks: wire
            .key_tweak_package
            .iter()
            .map(|(operator, bytes)| (operator.clone(), bytes.clone()))
            .collect(),
        user_signature: &wire.user_signature,
        hash_variant: wire.hash_variant,
    })
}

/// A receiver's package.
///
/// # Errors
/// A refusal that names the field that cannot be read.
pub fn claim_package(wire: &spark::ClaimPackage) -> Result<TweakPackage, Refusal> {
    package(Wire {
        names: [
            "leaves_to_claim",
            "direct_leaves_to_claim",
            "direct_from_cpfp_leaves_to_claim",
        ],
        jobs: [
            &wire.leaves_to_claim,
            &wire.direct_leaves_to_claim,
            &wire.direct_from_cpfp_leaves_to_claim,
        ],
        tweaks: wire
            .key_tweak_package
            .iter()
            .map(|(operator, bytes)| (operator.clone(), bytes.clone()))
            .collect(),
        user_signature: &wire.user_signature,
        hash_variant: wire.hash_variant,
    })
}

/// A transaction that the user completes itself, with the nonces of the operators that sign.
///
/// # Errors
/// A refusal that names the part of `field` that cannot be read.
pub fn open_job(
    field: &str,
    wire: &spark::SigningJob,
    operators: BTreeMap<OperatorIndex, NonceCommitment>,
) -> Result<OpenJob, Refusal> {
    if wire.raw_tx.is_empty() {
        return Err(missing(&format!("{field}.raw_tx")));
    }
    Ok(OpenJob {
        signing_key: public_key(
            &format!("{field}.signing_public_key"),
            &wire.signing_public_key,
        )?,
        tx: wire.raw_tx.clone(),
        commitment: commitment(
            &format!("{field}.signing_nonce_commitment"),
            wire.signing_nonce_commitment.as_ref(),
        )?,
        operators,
    })
}

/// What a wallet needs to complete a signature: the operators' shares, and what they can be
/// checked with.
#[must_use]
pub fn signing_result(
    shares: &BTreeMap<OperatorIndex, SignatureShare>,
    nonces: &BTreeMap<OperatorIndex, NonceCommitment>,
    public_shares: &[PublicKey],
    keyshare: spark::SigningKeyshare,
) -> spark::SigningResult {
    spark::SigningResult {
        public_keys: shares
            .keys()
            .filter_map(|operator| {
                let key = public_shares.get(usize::from(operator.0))?;
                Some((operator.identifier(), key.serialize().to_vec()))
            })
            .collect(),
        signing_nonce_commitments: by_identifier(nonces, commitment_to_wire),
        signature_shares: by_identifier(shares, |share| share.0.to_vec()),
        signing_keyshare: Some(keyshare),
    }
}
