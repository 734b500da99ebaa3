//! What a sender or a receiver signs away at once.

use std::collections::BTreeMap;

use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::hash::HashVariant;

use super::SigningJob;
use crate::Error;
use crate::proto::spark;

/// The refund transactions of a package, in the three variants that a leaf has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransferJobs {
    /// One for each leaf; fees come from a child transaction.
    pub leaves: Vec<SigningJob>,
    /// One for each leaf with a direct transaction; spends it.
    pub direct: Vec<SigningJob>,
    /// Direct variant that spends the leaf's usual transaction.
    pub direct_from_cpfp: Vec<SigningJob>,
}

/// A transfer or claim package. The two have the same shape on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferPackage {
    /// Refund transactions.
    pub jobs: TransferJobs,
    /// Key tweaks of all leaves by operator, each encrypted to that operator.
    pub key_tweaks: BTreeMap<OperatorIndex, Vec<u8>>,
    /// DER signature of the package's owner over transfer id and key tweaks.
    pub user_signature: Vec<u8>,
    /// Which digest the signature is over.
    pub hash_variant: HashVariant,
}

/// A package on the wire, whichever it is.
struct Wire<'a> {
    fields: [&'static str; 3],
    jobs: [&'a [spark::UserSignedTxSigningJob]; 3],
    key_tweaks: &'a BTreeMap<String, Vec<u8>>,
    user_signature: &'a [u8],
    hash_variant: i32,
}

impl TryFrom<Wire<'_>> for TransferPackage {
    type Error = Error;

    fn try_from(wire: Wire<'_>) -> Result<Self, Error> {
        if wire.user_signature.is_empty() {
            return Err(Error::missing("user_signature"));
        }
        let hash_variant = HashVariant::from_wire(wire.hash_variant)
            .ok_or_else(|| Error::malformed("hash_variant", "must be 0 or 1"))?;
        let mut key_tweaks = BTreeMap::new();
        for (identifier, sealed) in wire.key_tweaks {
            let operator = OperatorIndex::from_identifier(identifier).map_err(|_| {
                Error::malformed("key_tweak_package", "a key is no operator identifier")
            })?;
            key_tweaks.insert(operator, sealed.clone());
        }
        let [leaves, direct, direct_from_cpfp] = wire.fields;
        Ok(Self {
            jobs: TransferJobs {
                leaves: read(leaves, wire.jobs[0])?,
                direct: read(direct, wire.jobs[1])?,
                direct_from_cpfp: read(direct_from_cpfp, wire.jobs[2])?,
            },
            key_tweaks,
            user_signature: wire.user_signature.to_vec(),
            hash_variant,
        })
    }
}

fn read(field: &str, jobs: &[spark::UserSignedTxSigningJob]) -> Result<Vec<SigningJob>, Error> {
    jobs.iter()
        .enumerate()
        .map(|(position, job)| {
            SigningJob::try_from(job).map_err(|error| error.under(&format!("{field}[{position}]")))
        })
        .collect()
}

fn write(jobs: &[SigningJob]) -> Vec<spark::UserSignedTxSigningJob> {
    jobs.iter().map(Into::into).collect()
}

fn variant(variant: HashVariant) -> i32 {
    match variant {
        HashVariant::Legacy => spark::HashVariant::Unspecified.into(),
        HashVariant::V2 => spark::HashVariant::V2.into(),
    }
}

fn by_identifier(key_tweaks: &BTreeMap<OperatorIndex, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    key_tweaks
        .iter()
        .map(|(operator, sealed)| (operator.identifier(), sealed.clone()))
        .collect()
}

impl TryFrom<&spark::TransferPackage> for TransferPackage {
    type Error = Error;

    fn try_from(message: &spark::TransferPackage) -> Result<Self, Error> {
        Wire {
            fields: [
                "leaves_to_send",
                "direct_leaves_to_send",
                "direct_from_cpfp_leaves_to_send",
            ],
            jobs: [
                &message.leaves_to_send,
                &message.direct_leaves_to_send,
                &message.direct_from_cpfp_leaves_to_send,
            ],
            key_tweaks: &message.key_tweak_package,
            user_signature: &message.user_signature,
            hash_variant: message.hash_variant,
        }
        .try_into()
    }
}

impl TryFrom<&spark::ClaimPackage> for TransferPackage {
    type Error = Error;

    fn try_from(message: &spark::ClaimPackage) -> Result<Self, Error> {
        Wire {
            fields: [
                "leaves_to_claim",
                "direct_leaves_to_claim",
                "direct_from_cpfp_leaves_to_claim",
            ],
            jobs: [
                &message.leaves_to_claim,
                &message.direct_leaves_to_claim,
                &message.direct_from_cpfp_leaves_to_claim,
            ],
            key_tweaks: &message.key_tweak_package,
            user_signature: &message.user_signature,
            hash_variant: message.hash_variant,
        }
        .try_into()
    }
}

impl From<&TransferPackage> for spark::TransferPackage {
    fn from(package: &TransferPackage) -> Self {
        Self {
            leaves_to_send: write(&package.jobs.leaves),
            key_tweak_package: by_identifier(&package.key_tweaks),
            user_signature: package.user_signature.clone(),
            direct_leaves_to_send: write(&package.jobs.direct),
            direct_from_cpfp_leaves_to_send: write(&package.jobs.direct_from_cpfp),
            hash_variant: variant(package.hash_variant),
        }
    }
}

impl From<&TransferPackage> for spark::ClaimPackage {
    fn from(package: &TransferPackage) -> Self {
        Self {
            leaves_to_claim: write(&package.jobs.leaves),
            key_tweak_package: by_identifier(&package.key_tweaks),
            user_signature: package.user_signature.clone(),
            direct_leaves_to_claim: write(&package.jobs.direct),
            direct_from_cpfp_leaves_to_claim: write(&package.jobs.direct_from_cpfp),
            hash_variant: variant(package.hash_variant),
        }
    }
}
