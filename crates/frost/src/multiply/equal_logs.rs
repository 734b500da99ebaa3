//! Proof that two points are the same multiple of two bases (Chaum and Pedersen).

use bitcoin::secp256k1::PublicKey;
use rand::{CryptoRng, RngCore};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::ciphersuite::tagged_hash;
use crate::error::{Error, Result};
use crate::index::OperatorIndex;
use crate::point;
use crate::scalar::Scalar;
use crate::secret::SecretScalar;

/// Proof of `M = m·G` and `P = m·F` for one `m`, bound to its dealer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EqualLogs {
    challenge: Scalar,
    response: Scalar,
}

impl EqualLogs {
    /// Proves it for base `F` and secret `m`.
    pub(crate) fn prove<R: RngCore + CryptoRng + ?Sized>(
        dealer: OperatorIndex,
        base: &PublicKey,
        secret: &SecretScalar,
        rng: &mut R,
    ) -> Result<Self> {
        let nonce = SecretScalar::random(rng);
        let challenge = challenge(
            dealer,
            base,
            &[
                secret.public_key(),
                point::mul(base, secret.expose())?,
                nonce.public_key(),
                point::mul(base, nonce.expose())?,
            ],
        );
        let part = Zeroizing::new(secret.expose().mul(&challenge));
        Ok(Self {
            challenge,
            response: nonce.expose().add(&part),
        })
    }

    /// Checks it for base `F` and the points `M` and `P`.
    pub(crate) fn verify(
        &self,
        dealer: OperatorIndex,
        base: &PublicKey,
        multiple: &PublicKey,
        product: &PublicKey,
    ) -> Result<()> {
        const WHAT: &str = "a proof's nonce";
        let back = self.challenge.negate();
        let first = point::add_base(&point::mul(multiple, &back)?, &self.response, WHAT)?;
        let second = point::sum(
            &[
                &point::mul(base, &self.response)?,
                &point::mul(product, &back)?,
            ],
            WHAT,
        )?;
        if challenge(dealer, base, &[*multiple, *product, first, second]) == self.challenge {
            Ok(())
        } else {
            Err(Error::ProductProof { culprit: dealer })
        }
    }
}

/// Points in order: `M`, `P`, nonce on `G`, nonce on `F`.
fn challenge(dealer: OperatorIndex, base: &PublicKey, points: &[PublicKey; 4]) -> Scalar {
    let identifier = dealer.identifier_bytes();
    let base = base.serialize();
    let points = points.map(|point| point.serialize());
    let [multiple, product, first, second] = &points;
    Scalar::reduce(&tagged_hash(
        "tinderbox/equal-logs",
        &[&identifier, &base, multiple, product, first, second],
    ))
}
