//! First round: commitments to everybody.

use bitcoin::secp256k1::PublicKey;
use rand::{CryptoRng, RngCore};
use serde::{Deserialize, Serialize};

use super::proof::ProofOfKnowledge;
use crate::error::{Error, Result};
use crate::index::OperatorIndex;
use crate::polynomial::{Polynomial, check_threshold};
use crate::secret::SecretScalar;

/// What a participant shows to everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round1Package {
    /// Commitments to the coefficients of its polynomial, constant term first.
    pub commitments: Vec<PublicKey>,
    /// Proof that it knows the constant term.
    pub proof: ProofOfKnowledge,
}

/// What a participant keeps for the second round.
pub struct Round1Secret {
    pub(super) index: OperatorIndex,
    pub(super) operators: u16,
    pub(super) threshold: u16,
    pub(super) polynomial: Polynomial,
    pub(super) package: Round1Package,
}

impl Round1Secret {
    /// The package that goes with it.
    #[must_use]
    pub fn package(&self) -> &Round1Package {
        &self.package
    }
}

/// Starts a key of `operators` participants, any `threshold` of which can sign.
///
/// # Errors
/// [`Error::BadThreshold`] unless `2 ≤ threshold ≤ operators`, [`Error::UnknownOperator`] if
/// `index` is not one of them.
pub fn round1<R: RngCore + CryptoRng + ?Sized>(
    index: OperatorIndex,
    operators: u16,
    threshold: u16,
    rng: &mut R,
) -> Result<(Round1Secret, Round1Package)> {
    check_threshold(threshold, operators)?;
    if index.0 >= operators {
        return Err(Error::UnknownOperator {
            index,
            count: operators.into(),
        });
    }
    let polynomial = Polynomial::random(SecretScalar::random(rng), threshold, rng);
    let commitments = polynomial.commit();
    let (Some(secret), Some(public)) = (polynomial.constant(), commitments.first()) else {
        return Err(Error::BadThreshold {
            threshold,
            count: operators.into(),
        });
    };
    let proof = ProofOfKnowledge::prove(index, secret, public, rng);
    let package = Round1Package { commitments, proof };
    let secret = Round1Secret {
        index,
        operators,
        threshold,
        polynomial,
        package: package.clone(),
    };
    Ok((secret, package))
}

/// Checks a participant's package. [`round2`](super::round2) does so for all of them.
///
/// # Errors
/// [`Error::DkgCommitmentCount`] or [`Error::DkgProof`], both with the participant as culprit: a
/// package that was taken from another participant fails too.
pub fn verify_round1(index: OperatorIndex, threshold: u16, package: &Round1Package) -> Result<()> {
    let count = Error::DkgCommitmentCount {
        culprit: index,
        expected: threshold,
        actual: package.commitments.len(),
    };
    if package.commitments.len() != usize::from(threshold) {
        return Err(count);
    }
    let public = package.commitments.first().ok_or(count)?;
    package.proof.verify(index, public)
}
