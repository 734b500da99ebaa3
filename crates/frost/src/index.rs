//! Operators' numbers and what is derived from them.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::ciphersuite::USER_IDENTIFIER;
use crate::error::{Error, Result};
use crate::scalar::Scalar;

/// An operator's number, counted from 0.
///
/// Its evaluation point is the number plus one; its identifier on the wire, in FROST and in every
/// map is that point as 32 bytes big-endian. The three always coincide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OperatorIndex(pub u16);

impl OperatorIndex {
    /// The operator's evaluation point: its number plus one, never zero.
    #[must_use]
    pub fn x(self) -> u32 {
        u32::from(self.0).saturating_add(1)
    }

    /// The identifier as 32 bytes big-endian.
    #[must_use]
    pub fn identifier_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (to, from) in bytes.iter_mut().rev().zip(self.x().to_le_bytes()) {
            *to = from;
        }
        bytes
    }

    /// The identifier as 64 lowercase hex digits.
    #[must_use]
    pub fn identifier(self) -> String {
        hex::encode(self.identifier_bytes())
    }

    /// Reads an identifier of 64 hex digits (either case).
    ///
    /// # Errors
    /// [`Error::BadIdentifier`] for another length, other characters, zero, or more than 65,536.
    pub fn from_identifier(text: &str) -> Result<Self> {
        let bad = || Error::BadIdentifier {
            text: text.chars().take(80).collect(),
        };
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| bad())?;
        let x = bytes.iter().try_fold(0u32, |x, byte| {
            x.checked_mul(256)
                .and_then(|x| x.checked_add(u32::from(*byte)))
        });
        x.and_then(|x| x.checked_sub(1))
            .and_then(|number| u16::try_from(number).ok())
            .map(Self)
            .ok_or_else(bad)
    }

    /// The first `count` operators.
    pub fn first(count: u16) -> impl Iterator<Item = Self> + Clone {
        (0..count).map(Self)
    }

    /// The evaluation point as a scalar.
    #[must_use]
    pub fn scalar(self) -> Scalar {
        Scalar::from(self.x())
    }
}

impl fmt::Display for OperatorIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "operator {}", self.0)
    }
}

/// Someone who signs: an operator, or the owner of the leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Participant {
    /// One of the threshold group.
    Operator(OperatorIndex),
    /// The owner. Sorts after every operator, as its identifier does.
    User,
}

impl Participant {
    /// The FROST identifier, 32 bytes big-endian.
    #[must_use]
    pub fn identifier_bytes(self) -> [u8; 32] {
        match self {
            Self::Operator(index) => index.identifier_bytes(),
            Self::User => USER_IDENTIFIER,
        }
    }
}

impl fmt::Display for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator(index) => index.fmt(f),
            Self::User => f.write_str("the user"),
        }
    }
}

impl From<OperatorIndex> for Participant {
    fn from(index: OperatorIndex) -> Self {
        Self::Operator(index)
    }
}
