//! Signature shares.

use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::index::{OperatorIndex, Participant};
use crate::nonce::Nonces;
use crate::package::SignatureShare;
use crate::prepare::Prepared;
use crate::scalar::Scalar;
use crate::secret::SecretScalar;

impl Prepared {
    /// An operator's share. The nonces are used up, whatever the outcome.
    ///
    /// # Errors
    /// [`Error::NotASigner`], or [`Error::OtherNonces`] if the package commits to others.
    pub fn sign_operator(
        &self,
        index: &OperatorIndex,
        share: &SecretScalar,
        nonces: Nonces,
    ) -> Result<SignatureShare> {
        let tweak = *self.key.tweak();
        self.sign(Participant::Operator(*index), share, &tweak, nonces)
    }

    /// The owner's share. The nonces are used up, whatever the outcome.
    ///
    /// # Errors
    /// As [`sign_operator`](Self::sign_operator).
    pub fn sign_user(&self, secret: &SecretScalar, nonces: Nonces) -> Result<SignatureShare> {
        self.sign(Participant::User, secret, &Scalar::ZERO, nonces)
    }

    fn sign(
        &self,
        participant: Participant,
        secret: &SecretScalar,
        tweak: &Scalar,
        nonces: Nonces,
    ) -> Result<SignatureShare> {
        let seat = self.seat(participant)?;
        if seat.commitment != nonces.commitment() {
            return Err(Error::OtherNonces { participant });
        }
        let weight = self.coefficient(participant)?.mul(&self.challenge);
        let key = Zeroizing::new(
            secret
                .expose()
                .negate_if(self.key.verifying_odd())
                .add(tweak)
                .negate_if(self.key.output_odd()),
        );
        let bound = Zeroizing::new(nonces.binding().expose().mul(&seat.binding_factor));
        let nonce = Zeroizing::new(
            nonces
                .hiding()
                .expose()
                .add(&bound)
                .negate_if(self.commitment_odd),
        );
        let weighted = Zeroizing::new(key.mul(&weight));
        Ok(SignatureShare(nonce.add(&weighted).to_be_bytes()))
    }
}
