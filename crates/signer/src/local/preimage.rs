//! Shares of preimages. They are sealed under a key that follows from the identity key: whoever has
//! that key could open the wallet's ciphertext too. Nothing about them has to be destroyed early,
//! because the preimage becomes known to the payer.

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::job::OpenedPreimage;
use tinderbox_flows::secret::{PreimageShare, SealedPreimage};
use tinderbox_frost::{SecretScalar, feldman};
use tinderbox_protocol::ecies;
use tinderbox_protocol::package::SecretShare;
use zeroize::Zeroizing;

use super::Core;
use crate::SignerError;
use crate::seal::{Secret, open_preimage, seal_preimage};
use crate::signer::PreimagePart;

const LABEL: &str = "tinderbox/signer/preimage/1";

impl Core {
    fn preimage_key(&self) -> Secret {
        self.identity.derive(LABEL)
    }

    pub(super) fn keep_preimage(
        &self,
        payment_hash: &[u8; 32],
        part: PreimagePart,
    ) -> Result<OpenedPreimage, SignerError> {
        let (share, proofs) = match part {
            PreimagePart::Plain(share, proofs) => (share, proofs),
            PreimagePart::Encrypted(ciphertext) => self.decrypt_preimage(&ciphertext)?,
        };
        feldman::check_proofs(&proofs, self.config.threshold)
            .map_err(|error| bad(error.to_string()))?;
        let share =
            SecretScalar::try_from_be_bytes(&share).map_err(|error| bad(error.to_string()))?;
        feldman::verify_share(&proofs, self.config.operator, &share)
            .map_err(|error| bad(error.to_string()))?;
        let sealed = seal_preimage(&self.preimage_key(), payment_hash, &share.to_be_bytes())?;
        Ok(OpenedPreimage { sealed, proofs })
    }

    fn decrypt_preimage(
        &self,
        ciphertext: &[u8],
    ) -> Result<(Zeroizing<Vec<u8>>, Vec<PublicKey>), SignerError> {
        let plain = ecies::decrypt(self.identity.secret(), ciphertext)
            .map_err(|error| bad(error.to_string()))?;
        let mut share = SecretShare::from_bytes(&plain).map_err(|error| bad(error.to_string()))?;
        let proofs = share
            .proofs
            .iter()
            .map(|point| match point.len() {
                33 => PublicKey::from_slice(point).map_err(|_| bad("a proof is no point")),
                _ => Err(bad("a proof has not 33 bytes")),
            })
            .collect::<Result<_, _>>()?;
        let secret = Zeroizing::new(std::mem::take(&mut share.secret_share));
        Ok((secret, proofs))
    }

    pub(super) fn preimage_share(
        &self,
        payment_hash: &[u8; 32],
        sealed: &SealedPreimage,
    ) -> Result<PreimageShare, SignerError> {
        open_preimage(&self.preimage_key(), payment_hash, sealed)
            .map(|share| PreimageShare(*share))
            .ok_or_else(|| {
                bad("it does not open: this database belongs to another identity key or payment hash")
            })
    }
}

fn bad(text: impl Into<String>) -> SignerError {
    SignerError::BadPreimage(text.into())
}
