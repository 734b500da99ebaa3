//! What a wallet signed and sends, as plain data.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_frost::{NonceCommitment, OperatorIndex, SignatureShare, SigningPackage};
use tinderbox_protocol::LeafId;

use crate::refusal::{Halt, Reason, Refusal, refuse};

/// The user's half of one signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserShare {
    /// The user's nonces.
    pub commitment: NonceCommitment,
    /// The user's signature share.
    pub share: SignatureShare,
    /// The operators that sign, with the nonces that they handed out.
    pub operators: BTreeMap<OperatorIndex, NonceCommitment>,
}

impl UserShare {
    /// The signing package for `message` under `verifying_key`.
    ///
    /// # Errors
    /// A refusal unless exactly `threshold` operators of the `count` that exist sign.
    pub fn package(
        &self,
        verifying_key: PublicKey,
        message: [u8; 32],
        threshold: u16,
        count: u16,
    ) -> Result<SigningPackage, Refusal> {
        check_signers(&self.operators, threshold, count)?;
        Ok(SigningPackage {
            verifying_key,
            message,
            operators: self.operators.clone(),
            user: Some(self.commitment),
            adaptor: None,
            threshold,
        })
    }
}

/// Refuses a set of signers that is not exactly `threshold` of the `count` operators.
///
/// # Errors
/// A refusal that names `signing_commitments`.
pub fn check_signers(
    operators: &BTreeMap<OperatorIndex, NonceCommitment>,
    threshold: u16,
    count: u16,
) -> Result<(), Refusal> {
    if operators.len() != usize::from(threshold) || operators.keys().any(|index| index.0 >= count) {
        return Err(Refusal::new(
            Reason::MalformedField,
            format!(
                "signing_commitments must name {threshold} of the {count} operators: use a reply of get_signing_commitments as it is"
            ),
        ));
    }
    Ok(())
}

/// A transaction that the user has half signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserJob {
    /// The leaf it belongs to; absent in deposits, where the address says it.
    pub leaf: Option<LeafId>,
    /// The user's half of the key.
    pub signing_key: PublicKey,
    /// The transaction without witness.
    pub tx: Vec<u8>,
    /// The half signature of input 0.
    pub share: UserShare,
    /// Half signatures of the inputs after it.
    pub more: Vec<UserShare>,
}

/// A transaction that the user will complete itself: the operators only give their shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenJob {
    /// The user's half of the key.
    pub signing_key: PublicKey,
    /// The transaction without witness.
    pub tx: Vec<u8>,
    /// The user's nonces.
    pub commitment: NonceCommitment,
    /// The operators that sign, with their nonces: the coordinator's choice.
    pub operators: BTreeMap<OperatorIndex, NonceCommitment>,
}

/// A sender's or a receiver's package: half-signed refunds and encrypted key tweaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TweakPackage {
    /// Fee-less refunds: these define the set of leaves.
    pub cpfp: Vec<UserJob>,
    /// Refunds of the direct node transactions.
    pub direct: Vec<UserJob>,
    /// Fee-paying refunds of the node transactions.
    pub direct_from_cpfp: Vec<UserJob>,
    /// One ciphertext per operator, keyed by identifier (64 hex digits), exactly as sent.
    pub tweaks: BTreeMap<String, Vec<u8>>,
    /// The user's signature over the transfer id and the ciphertexts (DER).
    pub user_signature: Vec<u8>,
    /// 0: the older form of the signed message, 1: the present one.
    pub hash_variant: u8,
}

impl TweakPackage {
    /// The ciphertext for operator `me`; empty if there is none.
    #[must_use]
    pub fn ciphertext(&self, me: OperatorIndex) -> Vec<u8> {
        self.tweaks
            .get(&me.identifier())
            .cloned()
            .unwrap_or_default()
    }

    /// Checks that there is exactly one ciphertext per operator.
    ///
    /// # Errors
    /// A refusal that names `key_tweak_package`.
    pub fn check_recipients(
        &self,
        operators: impl Iterator<Item = OperatorIndex>,
    ) -> Result<(), Halt> {
        let mut expected = 0usize;
        for operator in operators {
            expected = expected.saturating_add(1);
            if !self.tweaks.contains_key(&operator.identifier()) {
                return refuse(
                    Reason::MissingField,
                    format!(
                        "key_tweak_package has no entry for operator {}",
                        operator.identifier()
                    ),
                );
            }
        }
        if self.tweaks.len() != expected {
            return refuse(
                Reason::MalformedField,
                "key_tweak_package has an entry for an unknown operator",
            );
        }
        Ok(())
    }

    /// The three jobs of each leaf, by leaf.
    ///
    /// # Errors
    /// A refusal if a leaf is missing or appears twice, or a list names a leaf that is not sent.
    pub fn by_leaf(&self) -> Result<BTreeMap<LeafId, LeafJobs<'_>>, Halt> {
        let mut leaves: BTreeMap<LeafId, LeafJobs<'_>> = BTreeMap::new();
        for job in &self.cpfp {
            let leaf = leaf_of(job, "leaves")?;
            let jobs = LeafJobs {
                cpfp: job,
                direct: None,
                direct_from_cpfp: None,
            };
            if leaves.insert(leaf, jobs).is_some() {
                return duplicate(leaf, "leaves");
            }
        }
        if leaves.is_empty() {
            return refuse(
                Reason::MissingField,
                "no leaves: name at least one leaf in the package",
            );
        }
        for job in &self.direct {
            let leaf = leaf_of(job, "direct leaves")?;
            let jobs = known(&mut leaves, leaf, "direct leaves")?;
            if jobs.direct.replace(job).is_some() {
                return duplicate(leaf, "direct leaves");
            }
        }
        for job in &self.direct_from_cpfp {
            let leaf = leaf_of(job, "direct_from_cpfp leaves")?;
            let jobs = known(&mut leaves, leaf, "direct_from_cpfp leaves")?;
            if jobs.direct_from_cpfp.replace(job).is_some() {
                return duplicate(leaf, "direct_from_cpfp leaves");
            }
        }
        Ok(leaves)
    }
}

/// The jobs of one leaf.
#[derive(Clone, Copy, Debug)]
pub struct LeafJobs<'a> {
    /// Fee-less refund.
    pub cpfp: &'a UserJob,
    /// Refund of the direct node transaction.
    pub direct: Option<&'a UserJob>,
    /// Fee-paying refund of the node transaction.
    pub direct_from_cpfp: Option<&'a UserJob>,
}

fn leaf_of(job: &UserJob, list: &str) -> Result<LeafId, Halt> {
    job.leaf.map_or_else(
        || refuse(Reason::MissingField, format!("{list}: leaf_id")),
        Ok,
    )
}

fn known<'a, 'b>(
    leaves: &'b mut BTreeMap<LeafId, LeafJobs<'a>>,
    leaf: LeafId,
    list: &str,
) -> Result<&'b mut LeafJobs<'a>, Halt> {
    leaves.get_mut(&leaf).ok_or_else(|| {
        Refusal::new(
            Reason::MalformedField,
            format!("{list}: leaf {leaf} is not among the leaves of the package"),
        )
        .into()
    })
}

fn duplicate<T>(leaf: LeafId, list: &str) -> Result<T, Halt> {
    Err(Refusal::new(
        Reason::DuplicateField,
        format!("{list}: leaf {leaf} appears twice"),
    )
    .with("leaf_id", leaf)
    .into())
}
