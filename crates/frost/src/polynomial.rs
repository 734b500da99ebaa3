//! Secret polynomials, and public ones "in the exponent".

use bitcoin::secp256k1::PublicKey;
use rand::{CryptoRng, RngCore};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::index::OperatorIndex;
use crate::point;
use crate::scalar::Scalar;
use crate::secret::SecretScalar;

/// Points up to here are multiplied by adding copies, which costs one inversion in all.
const COPIES: u32 = 32;

/// Coefficients, constant term first; none is zero, so every commitment is a point.
pub(crate) struct Polynomial(Vec<SecretScalar>);

impl Polynomial {
    /// A random one of degree `threshold − 1` with this constant term.
    pub(crate) fn random<R: RngCore + CryptoRng + ?Sized>(
        constant: SecretScalar,
        threshold: u16,
        rng: &mut R,
    ) -> Self {
        let rest = (1..threshold).map(|_| SecretScalar::random(rng));
        Self(core::iter::once(constant).chain(rest).collect())
    }

    /// Commitments to all coefficients.
    pub(crate) fn commit(&self) -> Vec<PublicKey> {
        self.0.iter().map(SecretScalar::public_key).collect()
    }

    /// The constant term.
    pub(crate) fn constant(&self) -> Option<&SecretScalar> {
        self.0.first()
    }

    /// The value at an operator's evaluation point.
    ///
    /// # Errors
    /// [`Error::ZeroScalar`] if that point is a root, which random coefficients do not have.
    pub(crate) fn evaluate(&self, index: OperatorIndex) -> Result<SecretScalar> {
        let x = index.scalar();
        let mut value = Zeroizing::new(Scalar::ZERO);
        for coefficient in self.0.iter().rev() {
            *value = value.mul(&x).add(coefficient.expose());
        }
        SecretScalar::new(*value)
    }
}

/// Checks `2 ≤ threshold ≤ count`.
pub(crate) fn check_threshold(threshold: u16, count: u16) -> Result<()> {
    if threshold < 2 || threshold > count {
        return Err(Error::BadThreshold {
            threshold,
            count: u32::from(count),
        });
    }
    Ok(())
}

/// Value of a committed polynomial at an operator's evaluation point.
///
/// # Errors
/// [`Error::IdentityPoint`] if it, or a partial sum, is the identity: only a dealer who wants that
/// can bring it about.
pub(crate) fn evaluate_points(proofs: &[PublicKey], index: OperatorIndex) -> Result<PublicKey> {
    const WHAT: &str = "a value of the committed polynomial";
    let x = index.x();
    let mut coefficients = proofs.iter().rev();
    let mut value = *coefficients
        .next()
        .ok_or(Error::IdentityPoint { what: WHAT })?;
    for coefficient in coefficients {
        value = if x <= COPIES {
            let mut terms = vec![coefficient];
            terms.extend((0..x).map(|_| &value));
            point::sum(&terms, WHAT)?
        } else {
            point::sum(&[&point::mul(&value, &index.scalar())?, coefficient], WHAT)?
        };
    }
    Ok(value)
}
