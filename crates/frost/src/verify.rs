//! Checks of shares and of finished signatures.

use bitcoin::secp256k1::{Message, PublicKey, SECP256K1, XOnlyPublicKey, schnorr};

use crate::error::{Error, Result};
use crate::index::{OperatorIndex, Participant};
use crate::package::SignatureShare;
use crate::point;
use crate::prepare::Prepared;
use crate::scalar::Scalar;
use crate::taproot::output_key;

impl Prepared {
    /// Checks an operator's share against its public share.
    ///
    /// # Errors
    /// [`Error::NotASigner`], or [`Error::InvalidShares`] with the operator as culprit.
    pub fn verify_operator_share(
        &self,
        index: &OperatorIndex,
        public_share: &PublicKey,
        share: &SignatureShare,
    ) -> Result<()> {
        let tweak = *self.key.tweak();
        self.verify(Participant::Operator(*index), public_share, &tweak, share)
    }

    /// Checks the owner's share against its public key.
    ///
    /// # Errors
    /// As [`verify_operator_share`](Self::verify_operator_share).
    pub fn verify_user_share(&self, public_key: &PublicKey, share: &SignatureShare) -> Result<()> {
        self.verify(Participant::User, public_key, &Scalar::ZERO, share)
    }

    fn verify(
        &self,
        participant: Participant,
        public: &PublicKey,
        tweak: &Scalar,
        share: &SignatureShare,
    ) -> Result<()> {
        let seat = self.seat(participant)?;
        let weight = self.coefficient(participant)?.mul(&self.challenge);
        let (verifying_odd, output_odd) = (self.key.verifying_odd(), self.key.output_odd());
        // z·G − λc·Y' with the tweak's part of Y' moved to G: one multiplication, one addition.
        let expected = || -> Result<PublicKey> {
            let response =
                Scalar::from_be_bytes(&share.0)?.sub(&weight.mul(tweak).negate_if(output_odd));
            let factor = weight.negate().negate_if(verifying_odd != output_odd);
            point::add_base(&point::mul(public, &factor)?, &response, "a share's nonce")
        };
        let nonce = point::negate_if(&seat.nonce, self.commitment_odd);
        if expected().is_ok_and(|expected| expected == nonce) {
            Ok(())
        } else {
            Err(Error::InvalidShares {
                culprits: vec![participant],
            })
        }
    }
}

/// Checks a finished signature under the taproot output key of `verifying_key`.
///
/// # Errors
/// [`Error::InvalidSignature`].
pub fn verify_signature(
    verifying_key: &PublicKey,
    message: &[u8; 32],
    signature: &[u8; 64],
) -> Result<()> {
    verify_schnorr(&output_key(verifying_key), message, signature)
}

/// BIP340.
pub(crate) fn verify_schnorr(
    key: &XOnlyPublicKey,
    message: &[u8; 32],
    signature: &[u8; 64],
) -> Result<()> {
    let signature =
        schnorr::Signature::from_slice(signature).map_err(|_| Error::InvalidSignature)?;
    SECP256K1
        .verify_schnorr(&signature, &Message::from_digest(*message), key)
        .map_err(|_| Error::InvalidSignature)
}
