//! Numbers modulo the order of secp256k1.
//!
//! libsecp256k1 offers neither an inverse nor a zero scalar nor a reduction of long hashes, so
//! numbers live in k256; points stay with libsecp256k1, which is twice as fast.

use bitcoin::secp256k1;
use k256::elliptic_curve::PrimeField;
use k256::elliptic_curve::ops::Reduce;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::DefaultIsZeroes;

use crate::error::{Error, Result};

/// A number modulo the group order; may be zero. Public: secrets are
/// [`SecretScalar`](crate::SecretScalar)s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scalar(pub(crate) k256::Scalar);

impl DefaultIsZeroes for Scalar {}

impl Scalar {
    /// Zero.
    pub const ZERO: Self = Self(k256::Scalar::ZERO);
    /// One.
    pub const ONE: Self = Self(k256::Scalar::ONE);

    /// Reads 32 bytes big-endian.
    ///
    /// # Errors
    /// [`Error::ScalarOutOfRange`] if the number is not below the order.
    pub fn from_be_bytes(bytes: &[u8; 32]) -> Result<Self> {
        Option::from(k256::Scalar::from_repr((*bytes).into()))
            .map(Self)
            .ok_or(Error::ScalarOutOfRange)
    }

    /// The number of 32 bytes big-endian, reduced modulo the order.
    #[must_use]
    pub fn reduce(bytes: &[u8; 32]) -> Self {
        Self(<k256::Scalar as Reduce<k256::U256>>::reduce_bytes(
            &(*bytes).into(),
        ))
    }

    /// The number of 48 bytes big-endian, reduced modulo the order.
    #[must_use]
    pub fn reduce_wide(bytes: &[u8; 48]) -> Self {
        let (high, low) = bytes.split_at(24);
        let half = |half: &[u8]| {
            let mut padded = [0; 32];
            for (to, from) in padded.iter_mut().skip(8).zip(half) {
                *to = *from;
            }
            Self::reduce(&padded)
        };
        // 2^192
        let mut shift = [0; 32];
        if let Some(byte) = shift.get_mut(7) {
            *byte = 1;
        }
        half(high).mul(&Self::reduce(&shift)).add(&half(low))
    }

    /// 32 bytes big-endian.
    #[must_use]
    pub fn to_be_bytes(&self) -> [u8; 32] {
        self.0.to_bytes().into()
    }

    /// Whether the number is zero.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0.is_zero().into()
    }

    /// Sum.
    #[must_use]
    pub fn add(&self, other: &Self) -> Self {
        Self(self.0.add(&other.0))
    }

    /// Difference.
    #[must_use]
    pub fn sub(&self, other: &Self) -> Self {
        Self(self.0.sub(&other.0))
    }

    /// Product.
    #[must_use]
    pub fn mul(&self, other: &Self) -> Self {
        Self(self.0.mul(&other.0))
    }

    /// The negative, if `negate`; the number itself otherwise. `negate` must be public.
    #[must_use]
    pub fn negate_if(&self, negate: bool) -> Self {
        if negate { self.negate() } else { *self }
    }

    /// The negative.
    #[must_use]
    pub fn negate(&self) -> Self {
        Self(self.0.negate())
    }

    /// The inverse of a public number (its running time may depend on it).
    ///
    /// # Errors
    /// [`Error::ZeroScalar`] for zero.
    pub fn invert(&self) -> Result<Self> {
        if *self == Self::ONE || self.negate() == Self::ONE {
            return Ok(*self);
        }
        Option::from(self.0.invert())
            .map(Self)
            .ok_or(Error::ZeroScalar)
    }

    /// The form that libsecp256k1 takes as a tweak.
    pub(crate) fn to_tweak(self) -> Result<secp256k1::Scalar> {
        secp256k1::Scalar::from_be_bytes(self.to_be_bytes()).map_err(|_| Error::ScalarOutOfRange)
    }
}

impl From<u32> for Scalar {
    fn from(number: u32) -> Self {
        Self(k256::Scalar::from(number))
    }
}

impl Serialize for Scalar {
    fn serialize<S: Serializer>(&self, serializer: S) -> core::result::Result<S::Ok, S::Error> {
        self.to_be_bytes().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> core::result::Result<Self, D::Error> {
        let bytes = <[u8; 32]>::deserialize(deserializer)?;
        Self::from_be_bytes(&bytes).map_err(D::Error::custom)
    }
}
