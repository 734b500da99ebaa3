//! Feldman's verifiable secret sharing.
//!
//! The dealer hides the secret as the constant term of a random polynomial of degree
//! `threshold − 1`, gives operator `i` its value at `i + 1`, and shows everybody the same
//! *proofs*: one point per coefficient. A longer vector would be a polynomial of higher degree,
//! whose shares verify but can never be used with `threshold` signers; it is refused.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use rand::{CryptoRng, RngCore};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::index::OperatorIndex;
use crate::lagrange;
use crate::point;
use crate::polynomial::{Polynomial, check_threshold, evaluate_points};
use crate::scalar::Scalar;
use crate::secret::SecretScalar;

/// A shared secret, ready to hand out.
pub struct Shares {
    /// Commitments to the coefficients, constant term first; the same for everybody.
    pub proofs: Vec<PublicKey>,
    /// Share of operator `i` at place `i`.
    pub shares: Vec<SecretScalar>,
}

/// Shares a secret among `count` operators, any `threshold` of which can use it.
///
/// # Errors
/// [`Error::BadThreshold`] unless `2 ≤ threshold ≤ count`.
pub fn split<R: RngCore + CryptoRng + ?Sized>(
    secret: &SecretScalar,
    threshold: u16,
    count: u16,
    rng: &mut R,
) -> Result<Shares> {
    check_threshold(threshold, count)?;
    let polynomial = Polynomial::random(secret.duplicate(), threshold, rng);
    let shares = OperatorIndex::first(count)
        .map(|index| polynomial.evaluate(index))
        .collect::<Result<Vec<_>>>()?;
    Ok(Shares {
        proofs: polynomial.commit(),
        shares,
    })
}

/// Checks that there is exactly one proof per coefficient.
///
/// # Errors
/// [`Error::ProofCount`].
pub fn check_proofs(proofs: &[PublicKey], threshold: u16) -> Result<()> {
    if proofs.len() == usize::from(threshold) {
        Ok(())
    } else {
        Err(Error::ProofCount {
            expected: threshold,
            actual: proofs.len(),
        })
    }
}

/// Checks an operator's share against the proofs. Call [`check_proofs`] too.
///
/// # Errors
/// [`Error::ShareMismatch`] with the operator, or [`Error::IdentityPoint`].
pub fn verify_share(
    proofs: &[PublicKey],
    index: OperatorIndex,
    share: &SecretScalar,
) -> Result<()> {
    if evaluate(proofs, index)? == share.public_key() {
        Ok(())
    } else {
        Err(Error::ShareMismatch { index })
    }
}

/// An operator's public share.
///
/// # Errors
/// [`Error::IdentityPoint`] if the committed polynomial, or a partial sum of it, vanishes there;
/// also for no proofs at all.
pub fn evaluate(proofs: &[PublicKey], index: OperatorIndex) -> Result<PublicKey> {
    evaluate_points(proofs, index)
}

/// Public shares of the first `count` operators.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_all(
    proofs: &[PublicKey],
    count: u16,
) -> Result<BTreeMap<OperatorIndex, PublicKey>> {
    OperatorIndex::first(count)
        .map(|index| Ok((index, evaluate(proofs, index)?)))
        .collect()
}

/// Checks that a dealer's list of public shares is what the proofs say, for all `count` operators.
///
/// # Errors
/// [`Error::PublicShareMismatch`] with the first operator whose entry is wrong or missing,
/// [`Error::UnknownOperator`] for an entry too many, [`Error::IdentityPoint`].
pub fn check_public_shares(
    proofs: &[PublicKey],
    count: u16,
    public_shares: &BTreeMap<OperatorIndex, PublicKey>,
) -> Result<()> {
    for index in OperatorIndex::first(count) {
        if public_shares.get(&index) != Some(&evaluate(proofs, index)?) {
            return Err(Error::PublicShareMismatch { index });
        }
    }
    match public_shares.keys().find(|index| index.0 >= count) {
        Some(index) => Err(Error::UnknownOperator {
            index: *index,
            count: count.into(),
        }),
        None => Ok(()),
    }
}

/// Checks that another operator was dealt the same polynomial. Equal secrets do not suffice: with
/// other coefficients the shares of different operators would not belong together.
///
/// # Errors
/// [`Error::ProofsDiffer`] with the other operator.
pub fn compare_proofs(own: &[PublicKey], other: OperatorIndex, others: &[PublicKey]) -> Result<()> {
    if own == others {
        Ok(())
    } else {
        Err(Error::ProofsDiffer { index: other })
    }
}

/// Recovers a secret from shares that were checked. Any `threshold` of them give it; with fewer,
/// the result is an unrelated number, so count them first or use [`recover_checked`].
///
/// # Errors
/// [`Error::TooFewShares`] for less than two, [`Error::DuplicateOperator`], or
/// [`Error::ZeroScalar`].
pub fn recover(shares: &[(OperatorIndex, &SecretScalar)]) -> Result<SecretScalar> {
    if shares.len() < 2 {
        return Err(Error::TooFewShares {
            expected: 2,
            actual: shares.len(),
        });
    }
    let mut secret = Zeroizing::new(Scalar::ZERO);
    for (index, share) in shares {
        let weight = lagrange::coefficient(*index, shares.iter().map(|(other, _)| *other))?;
        let part = Zeroizing::new(share.expose().mul(&weight));
        *secret = secret.add(&part);
    }
    SecretScalar::new(*secret)
}

/// Recovers a secret and checks shares and result against the proofs.
///
/// # Errors
/// As [`recover`] and [`verify_share`]; [`Error::TooFewShares`] for fewer shares than proofs.
pub fn recover_checked(
    proofs: &[PublicKey],
    shares: &[(OperatorIndex, &SecretScalar)],
) -> Result<SecretScalar> {
    if shares.len() < proofs.len() {
        return Err(Error::TooFewShares {
            expected: proofs.len(),
            actual: shares.len(),
        });
    }
    for (index, share) in shares {
        verify_share(proofs, *index, share)?;
    }
    recover(shares)
}

/// The shared public key, from public shares of at least `threshold` operators.
///
/// # Errors
/// As [`recover`]; [`Error::IdentityPoint`] if the shares cancel.
pub fn recover_public(public_shares: &BTreeMap<OperatorIndex, PublicKey>) -> Result<PublicKey> {
    if public_shares.len() < 2 {
        return Err(Error::TooFewShares {
            expected: 2,
            actual: public_shares.len(),
        });
    }
    let terms = public_shares
        .iter()
        .map(|(index, share)| {
            let weight = lagrange::coefficient(*index, public_shares.keys().copied())?;
            point::mul(share, &weight)
        })
        .collect::<Result<Vec<_>>>()?;
    point::sum(&terms.iter().collect::<Vec<_>>(), "the shared key")
}
