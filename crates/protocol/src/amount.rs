//! Amounts and heights.

use std::fmt;

use bitcoin::Amount;
use serde::{Deserialize, Serialize};

/// An amount of bitcoin in satoshis.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Sats(pub u64);

impl Sats {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// All bitcoin there can ever be; the upper bound of an invoice.
    pub const MAX: Self = Self(2_100_000_000_000_000);

    /// The sum, `None` if it does not fit.
    #[must_use]
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        match self.0.checked_add(other.0) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// The difference, `None` if `other` is greater.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }

    /// The sum of many, `None` if it does not fit.
    pub fn checked_sum(amounts: impl IntoIterator<Item = Self>) -> Option<Self> {
        amounts.into_iter().try_fold(Self::ZERO, Self::checked_add)
    }

    /// As a type of the `bitcoin` crate.
    #[must_use]
    pub const fn to_amount(self) -> Amount {
        Amount::from_sat(self.0)
    }
}

impl From<Amount> for Sats {
    fn from(amount: Amount) -> Self {
        Self(amount.to_sat())
    }
}

impl From<Sats> for Amount {
    fn from(sats: Sats) -> Self {
        sats.to_amount()
    }
}

impl fmt::Display for Sats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} sats", self.0)
    }
}

/// A height in the chain; the genesis block has height 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BlockHeight(pub u32);

impl BlockHeight {
    /// The height `blocks` above this one, at most the highest there is.
    #[must_use]
    pub const fn plus(self, blocks: u32) -> Self {
        Self(self.0.saturating_add(blocks))
    }
}

impl fmt::Display for BlockHeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_that_do_not_fit_are_none() {
        assert_eq!(Sats::checked_sum([Sats(1), Sats(2)]), Some(Sats(3)));
        assert_eq!(Sats::checked_sum([Sats(u64::MAX), Sats(1)]), None);
        assert_eq!(Sats(1).checked_sub(Sats(2)), None);
        assert_eq!(BlockHeight(u32::MAX).plus(1), BlockHeight(u32::MAX));
    }
}
