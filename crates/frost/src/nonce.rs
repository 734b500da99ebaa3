//! Nonces: secret pairs that sign once, and the commitments that announce them.

use bitcoin::secp256k1::PublicKey;
use rand::{CryptoRng, RngCore};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::ciphersuite::h3;
use crate::error::{Error, Result};
use crate::package::SigningPackage;
use crate::secret::SecretScalar;

/// What a signer announces before it knows the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NonceCommitment {
    /// Point of the hiding nonce.
    pub hiding: PublicKey,
    /// Point of the binding nonce.
    pub binding: PublicKey,
}

/// A secret nonce pair. Signing takes it by value, so one value cannot sign twice:
/// ```compile_fail,E0382
/// use tinderbox_frost::{Nonces, Prepared, SecretScalar};
/// fn twice(first: &Prepared, second: &Prepared, key: &SecretScalar, nonces: Nonces) {
///     let _ = first.sign_user(key, nonces);
///     let _ = second.sign_user(key, nonces);
/// }
/// ```
/// A store that can bring the same pair back (after a restart, or for a retry) must also keep its
/// [`NonceBinding`].
pub struct Nonces {
    hiding: SecretScalar,
    binding: SecretScalar,
    commitment: NonceCommitment,
}

impl Nonces {
    /// A fresh pair.
    pub fn generate<R: RngCore + CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self::new(SecretScalar::random(rng), SecretScalar::random(rng))
    }

    /// A fresh pair that stays secret even if the random source is weak: each nonce is H3 of 32
    /// random bytes and the key.
    ///
    /// # Errors
    /// [`Error::ZeroScalar`] with probability 2⁻²⁵⁶.
    pub fn generate_hedged<R: RngCore + CryptoRng + ?Sized>(
        rng: &mut R,
        key: &SecretScalar,
    ) -> Result<Self> {
        let mut one = || {
            let mut random = Zeroizing::new([0; 32]);
            rng.fill_bytes(random.as_mut_slice());
            SecretScalar::new(h3(&[random.as_slice(), key.to_be_bytes().as_slice()]))
        };
        Ok(Self::new(one()?, one()?))
    }

    /// From two secret scalars.
    #[must_use]
    pub fn new(hiding: SecretScalar, binding: SecretScalar) -> Self {
        let commitment = NonceCommitment {
            hiding: hiding.public_key(),
            binding: binding.public_key(),
        };
        Self {
            hiding,
            binding,
            commitment,
        }
    }

    /// The announcement of this pair.
    #[must_use]
    pub fn commitment(&self) -> NonceCommitment {
        self.commitment
    }

    /// Hiding nonce, then binding nonce, each 32 bytes big-endian; wiped when dropped.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<[u8; 64]> {
        let mut bytes = Zeroizing::new([0; 64]);
        let (hiding, binding) = bytes.split_at_mut(32);
        hiding.copy_from_slice(self.hiding.to_be_bytes().as_slice());
        binding.copy_from_slice(self.binding.to_be_bytes().as_slice());
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`Error::ZeroScalar`] or [`Error::ScalarOutOfRange`] for damaged bytes.
    pub fn from_bytes(bytes: &[u8; 64]) -> Result<Self> {
        let (hiding, binding) = Self::scalars(bytes)?;
        Ok(Self::new(hiding, binding))
    }

    /// Reads a pair whose commitment is kept under the same seal, which saves two point
    /// multiplications. A wrong commitment yields a wrong signature share, nothing worse.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes).
    pub fn from_stored(bytes: &[u8; 64], commitment: NonceCommitment) -> Result<Self> {
        let (hiding, binding) = Self::scalars(bytes)?;
        Ok(Self {
            hiding,
            binding,
            commitment,
        })
    }

    fn scalars(bytes: &[u8; 64]) -> Result<(SecretScalar, SecretScalar)> {
        let (hiding, binding) = bytes.split_at(32);
        Ok((
            SecretScalar::try_from_be_bytes(hiding)?,
            SecretScalar::try_from_be_bytes(binding)?,
        ))
    }

    pub(crate) fn hiding(&self) -> &SecretScalar {
        &self.hiding
    }

    pub(crate) fn binding(&self) -> &SecretScalar {
        &self.binding
    }
}

/// What a stored nonce pair is bound to: nothing yet, or the first package that it signed.
///
/// The same package may be signed again, since it gives the same share; any other would give away
/// the key share. Keep it beside the nonces, and persist it **before** the share leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NonceBinding(Option<[u8; 32]>);

impl NonceBinding {
    /// Binds to this package, or finds that it is bound to it already.
    ///
    /// # Errors
    /// [`Error::NonceReuse`] if it is bound to another package.
    pub fn bind(&mut self, package: &SigningPackage) -> Result<()> {
        let fingerprint = package.fingerprint();
        match self.0 {
            None => {
                self.0 = Some(fingerprint);
                Ok(())
            }
            Some(bound) if bound == fingerprint => Ok(()),
            Some(_) => Err(Error::NonceReuse),
        }
    }

    /// Whether a package was signed.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.0.is_some()
    }
}
