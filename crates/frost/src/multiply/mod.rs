//! Multiplicative tweaks: the shared key moves by a *factor* that no operator ever sees.
//!
//! Additive tweaks need no conversation, since the sum of two polynomials is one of the same
//! degree. A product is not: its degree doubles. So each operator multiplies its key share by its
//! share of the factor, shares that product again among all, and everyone interpolates:
//!
//! 1. [`Product::deal`] – every operator; the package to all, each share to its operator alone.
//! 2. [`Package::verify`] – every receiver; a wrong product names its dealer.
//! 3. [`finish`] – with the packages of one agreed set of at least `2·threshold − 1` dealers.
//!
//! The dealers of a finished product must be the same at every operator; agree on them first.

mod equal_logs;

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use rand::{CryptoRng, RngCore};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use equal_logs::EqualLogs;

use crate::error::{Error, Result};
use crate::feldman;
use crate::index::OperatorIndex;
use crate::keyshare::{KeyShare, PublicKeyshare};
use crate::lagrange;
use crate::point;
use crate::polynomial::check_threshold;
use crate::scalar::Scalar;
use crate::secret::SecretScalar;

/// What a dealer shows to everybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Commitments of the polynomial that shares the product; the first is the product's point.
    pub proofs: Vec<PublicKey>,
    /// Proof that the product is that of the dealer's two shares.
    pub product: EqualLogs,
}

/// One operator's product, shared again.
pub struct Product {
    /// For everybody.
    pub package: Package,
    /// For operator `i` alone, at place `i`.
    pub shares: Vec<SecretScalar>,
}

impl Product {
    /// Multiplies this operator's key share by its share of the factor and deals the product.
    ///
    /// # Errors
    /// [`Error::BadThreshold`]; [`Error::TooFewShares`] if `count < 2·threshold − 1`, since then the
    /// product cannot be interpolated.
    pub fn deal<R: RngCore + CryptoRng + ?Sized>(
        share: &KeyShare,
        factor: &SecretScalar,
        threshold: u16,
        count: u16,
        rng: &mut R,
    ) -> Result<Self> {
        check_threshold(threshold, count)?;
        check_dealers(threshold, usize::from(count))?;
        let dealt = feldman::split(&share.secret.mul(factor), threshold, count, rng)?;
        let product = EqualLogs::prove(share.index, &share.public_share(), factor, rng)?;
        Ok(Self {
            package: Package {
                proofs: dealt.proofs,
                product,
            },
            shares: dealt.shares,
        })
    }
}

impl Package {
    /// Checks the dealer's product against its public share of the key and of the factor.
    ///
    /// # Errors
    /// [`Error::ProofCount`], or [`Error::ProductProof`] with the dealer.
    pub fn verify(
        &self,
        dealer: OperatorIndex,
        threshold: u16,
        public_share: &PublicKey,
        public_factor: &PublicKey,
    ) -> Result<()> {
        feldman::check_proofs(&self.proofs, threshold)?;
        let wrong = Error::ProductProof { culprit: dealer };
        let product = self.proofs.first().ok_or_else(|| wrong.clone())?;
        self.product
            .verify(dealer, public_share, public_factor, product)
            .map_err(|_| wrong)
    }
}

/// This operator's share of the multiplied key, and the key's public side.
///
/// Verifies every package and every share. `key` and `factor_proofs` are the public sides of the
/// two things that are multiplied.
///
/// # Errors
/// [`Error::TooFewShares`] for fewer than `2·threshold − 1` dealers; [`Error::MissingPublicShare`];
/// [`Error::ProofCount`], [`Error::ProductProof`] or [`Error::ShareMismatch`], the latter two with
/// the dealer; [`Error::IdentityPoint`].
pub fn finish(
    index: OperatorIndex,
    threshold: u16,
    key: &PublicKeyshare,
    factor_proofs: &[PublicKey],
    dealt: &BTreeMap<OperatorIndex, (Package, SecretScalar)>,
) -> Result<(KeyShare, PublicKeyshare)> {
    check_dealers(threshold, dealt.len())?;
    feldman::check_proofs(factor_proofs, threshold)?;
    let mut columns: Vec<Vec<PublicKey>> = vec![Vec::new(); usize::from(threshold)];
    let mut secret = Zeroizing::new(Scalar::ZERO);
    for (dealer, (package, share)) in dealt {
        let public_share = key
            .public_shares
            .get(dealer)
            .ok_or(Error::MissingPublicShare {
                participant: (*dealer).into(),
            })?;
        let public_factor = feldman::evaluate(factor_proofs, *dealer)?;
        package.verify(*dealer, threshold, public_share, &public_factor)?;
        feldman::verify_share(&package.proofs, index, share)
            .map_err(|_| Error::ShareMismatch { index: *dealer })?;
        let weight = lagrange::coefficient(*dealer, dealt.keys().copied())?;
        let part = Zeroizing::new(share.expose().mul(&weight));
        *secret = secret.add(&part);
        for (column, proof) in columns.iter_mut().zip(&package.proofs) {
            column.push(point::mul(proof, &weight)?);
        }
    }
    let proofs = columns
        .iter()
        .map(|column| point::sum(&column.iter().collect::<Vec<_>>(), "the multiplied key"))
        .collect::<Result<Vec<_>>>()?;
    let public_shares = key
        .public_shares
        .keys()
        .map(|index| Ok((*index, feldman::evaluate(&proofs, *index)?)))
        .collect::<Result<_>>()?;
    let group_key = *proofs.first().ok_or(Error::IdentityPoint {
        what: "the multiplied key",
    })?;
    let share = KeyShare {
        index,
        secret: SecretScalar::new(*secret)?,
    };
    Ok((
        share,
        PublicKeyshare {
            group_key,
            public_shares,
        },
    ))
}

fn check_dealers(threshold: u16, dealers: usize) -> Result<()> {
    let expected = usize::from(threshold).saturating_mul(2).saturating_sub(1);
    if dealers < expected {
        return Err(Error::TooFewShares {
            expected,
            actual: dealers,
        });
    }
    Ok(())
}
