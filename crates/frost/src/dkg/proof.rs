//! Proof that a participant knows the secret behind its first commitment. Without it, the last one
//! to show its commitments could choose the group key.

use bitcoin::secp256k1::PublicKey;
use rand::{CryptoRng, RngCore};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::ciphersuite::hash_dkg;
use crate::error::{Error, Result};
use crate::index::OperatorIndex;
use crate::point;
use crate::scalar::Scalar;
use crate::secret::SecretScalar;

/// A Schnorr proof, bound to the participant's identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofOfKnowledge {
    /// x coordinate of the nonce point, whose y is even.
    pub nonce: [u8; 32],
    /// Response, big-endian.
    pub response: [u8; 32],
}

impl ProofOfKnowledge {
    pub(crate) fn prove<R: RngCore + CryptoRng + ?Sized>(
        index: OperatorIndex,
        secret: &SecretScalar,
        public: &PublicKey,
        rng: &mut R,
    ) -> Self {
        let nonce = SecretScalar::random(rng);
        let point = nonce.public_key();
        let odd = point::is_odd(&point);
        let point = point::negate_if(&point, odd);
        let challenge = challenge(index, public, &point.serialize());
        let part = Zeroizing::new(secret.expose().mul(&challenge));
        let even = Zeroizing::new(nonce.expose().negate_if(odd));
        Self {
            nonce: point::x(&point),
            response: even.add(&part).to_be_bytes(),
        }
    }

    pub(crate) fn verify(&self, index: OperatorIndex, public: &PublicKey) -> Result<()> {
        let wrong = Error::DkgProof { culprit: index };
        let mut even = [2; 33];
        for (to, from) in even.iter_mut().skip(1).zip(self.nonce) {
            *to = from;
        }
        let back = challenge(index, public, &even).negate();
        let nonce = Scalar::from_be_bytes(&self.response)
            .and_then(|response| {
                point::add_base(&point::mul(public, &back)?, &response, "a proof's nonce")
            })
            .map_err(|_| wrong.clone())?;
        if nonce.serialize() == even {
            Ok(())
        } else {
            Err(wrong)
        }
    }
}

fn challenge(index: OperatorIndex, public: &PublicKey, nonce: &[u8; 33]) -> Scalar {
    hash_dkg(&[&index.identifier_bytes(), &public.serialize(), nonce])
}
