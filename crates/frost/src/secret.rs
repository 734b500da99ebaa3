//! Secret numbers: never zero, never printed, never copied by accident, wiped when dropped.

use bitcoin::secp256k1::{PublicKey, SecretKey};
use rand::{CryptoRng, RngCore};
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::error::{Error, Result};
use crate::point;
use crate::scalar::Scalar;

/// A private key, key share, nonce or tweak: a non-zero number below the group order.
///
/// It can be neither printed nor cloned; [`duplicate`](Self::duplicate) says so out loud.
/// ```compile_fail,E0277
/// let secret = tinderbox_frost::SecretScalar::random(&mut rand::rngs::OsRng);
/// println!("{secret:?}");
/// ```
/// ```compile_fail,E0599
/// let secret = tinderbox_frost::SecretScalar::random(&mut rand::rngs::OsRng);
/// let second = secret.clone();
/// ```
pub struct SecretScalar(Scalar);

impl SecretScalar {
    /// Reads a big-endian number of 1 to 32 bytes (some wallets cut leading zeros).
    ///
    /// # Errors
    /// [`Error::ScalarLength`], [`Error::ScalarOutOfRange`], or [`Error::ZeroScalar`].
    pub fn try_from_be_bytes(bytes: &[u8]) -> Result<Self> {
        let length = Error::ScalarLength {
            actual: bytes.len(),
        };
        if bytes.is_empty() {
            return Err(length);
        }
        let skip = 32usize.checked_sub(bytes.len()).ok_or(length)?;
        let mut padded = Zeroizing::new([0; 32]);
        for (to, from) in padded.iter_mut().skip(skip).zip(bytes) {
            *to = *from;
        }
        Self::new(Scalar::from_be_bytes(&padded)?)
    }

    /// A random one.
    pub fn random<R: RngCore + CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        loop {
            rng.fill_bytes(bytes.as_mut_slice());
            if let Ok(secret) = Self::try_from_be_bytes(bytes.as_slice()) {
                return secret;
            }
        }
    }

    /// Takes a scalar into custody.
    ///
    /// # Errors
    /// [`Error::ZeroScalar`] for zero.
    pub(crate) fn new(scalar: Scalar) -> Result<Self> {
        if scalar.is_zero() {
            Err(Error::ZeroScalar)
        } else {
            Ok(Self(scalar))
        }
    }

    /// 32 bytes big-endian, wiped when dropped.
    #[must_use]
    pub fn to_be_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_be_bytes())
    }

    /// A second copy, on purpose.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0)
    }

    /// The public point of this secret.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        point::base_of_secret(self)
    }

    /// Sum.
    ///
    /// # Errors
    /// [`Error::ZeroScalar`] if the two cancel.
    pub fn add(&self, other: &Self) -> Result<Self> {
        Self::new(self.0.add(&other.0))
    }

    /// Difference.
    ///
    /// # Errors
    /// [`Error::ZeroScalar`] if the two are equal.
    pub fn sub(&self, other: &Self) -> Result<Self> {
        Self::new(self.0.sub(&other.0))
    }

    /// Product; never zero, since neither factor is.
    #[must_use]
    pub fn mul(&self, other: &Self) -> Self {
        Self(self.0.mul(&other.0))
    }

    /// The negative.
    #[must_use]
    pub fn negate(&self) -> Self {
        Self(self.0.negate())
    }

    pub(crate) fn expose(&self) -> &Scalar {
        &self.0
    }
}

impl TryFrom<&SecretKey> for SecretScalar {
    type Error = Error;

    /// # Errors
    /// None in practice: a secret key is a non-zero scalar.
    fn try_from(key: &SecretKey) -> Result<Self> {
        Self::try_from_be_bytes(Zeroizing::new(key.secret_bytes()).as_slice())
    }
}

impl ConstantTimeEq for SecretScalar {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.0.ct_eq(&other.0.0)
    }
}

impl Zeroize for SecretScalar {
    /// Overwrites the secret with one, so that no zero scalar comes into being.
    fn zeroize(&mut self) {
        self.0.zeroize();
        self.0 = Scalar::ONE;
    }
}

impl Drop for SecretScalar {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for SecretScalar {}
