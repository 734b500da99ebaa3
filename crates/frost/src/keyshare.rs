//! Key shares: one operator's secret, and what everybody knows of the shared key.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::feldman;
use crate::index::OperatorIndex;
use crate::secret::SecretScalar;
use crate::tweak;

/// An operator's share of a key.
pub struct KeyShare {
    /// Whose share it is.
    pub index: OperatorIndex,
    /// Value of the shared polynomial at the operator's evaluation point.
    pub secret: SecretScalar,
}

impl KeyShare {
    /// The point of this share.
    #[must_use]
    pub fn public_share(&self) -> PublicKey {
        self.secret.public_key()
    }

    /// Sum of several keys' shares of one operator: its share of the sum of the keys.
    ///
    /// # Errors
    /// [`Error::TooFewShares`] for none, [`Error::UnknownOperator`] for another's share,
    /// [`Error::ZeroScalar`] if they cancel.
    pub fn sum(shares: &[&Self]) -> Result<Self> {
        let (first, rest) = shares.split_first().ok_or(Error::TooFewShares {
            expected: 1,
            actual: 0,
        })?;
        let mut secret = first.secret.duplicate();
        for share in rest {
            share.same_operator(first.index)?;
            secret = secret.add(&share.secret)?;
        }
        Ok(Self {
            index: first.index,
            secret,
        })
    }

    /// The share that makes `others` sum to this one: of the last child of a split key.
    ///
    /// # Errors
    /// As [`sum`](Self::sum).
    pub fn remainder(&self, others: &[&Self]) -> Result<Self> {
        let mut secret = self.secret.duplicate();
        for share in others {
            share.same_operator(self.index)?;
            secret = secret.sub(&share.secret)?;
        }
        Ok(Self {
            index: self.index,
            secret,
        })
    }

    fn same_operator(&self, index: OperatorIndex) -> Result<()> {
        if self.index == index {
            Ok(())
        } else {
            Err(Error::UnknownOperator {
                index: self.index,
                count: 1,
            })
        }
    }
}

/// The public side of a shared key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKeyshare {
    /// The shared key.
    pub group_key: PublicKey,
    /// Point of every operator's share.
    pub public_shares: BTreeMap<OperatorIndex, PublicKey>,
}

impl PublicKeyshare {
    /// The public side of a dealt or generated key, from the commitments of its polynomial.
    ///
    /// # Errors
    /// [`Error::IdentityPoint`].
    pub fn from_proofs(proofs: &[PublicKey], count: u16) -> Result<Self> {
        Ok(Self {
            group_key: *proofs.first().ok_or(Error::IdentityPoint {
                what: "the group key",
            })?,
            public_shares: feldman::evaluate_all(proofs, count)?,
        })
    }

    /// After a tweak that was dealt with these proofs.
    ///
    /// # Errors
    /// [`Error::IdentityPoint`] if the group key or a share would vanish: such a tweak would make
    /// the key unusable and must not be applied.
    pub fn tweaked(&self, proofs: &[PublicKey]) -> Result<Self> {
        let constant = proofs
            .first()
            .ok_or(Error::IdentityPoint { what: "the tweak" })?;
        Ok(Self {
            group_key: tweak::apply_public(&self.group_key, constant)?,
            public_shares: self
                .public_shares
                .iter()
                .map(|(index, share)| {
                    let delta = feldman::evaluate(proofs, *index)?;
                    Ok((*index, tweak::apply_public(share, &delta)?))
                })
                .collect::<Result<_>>()?,
        })
    }

    /// Sum of two keys of the same operators.
    ///
    /// # Errors
    /// [`Error::IdentityPoint`] if they cancel, [`Error::PublicShareMismatch`] for an operator that
    /// only one of them has.
    pub fn add(&self, other: &Self) -> Result<Self> {
        self.combine(other, tweak::add_points)
    }

    /// Difference of two keys of the same operators.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn sub(&self, other: &Self) -> Result<Self> {
        self.combine(other, tweak::sub_points)
    }

    fn combine(
        &self,
        other: &Self,
        with: fn(&PublicKey, &PublicKey) -> Result<PublicKey>,
    ) -> Result<Self> {
        let missing = |index: &OperatorIndex| Error::PublicShareMismatch { index: *index };
        if let Some(index) = other
            .public_shares
            .keys()
            .find(|index| !self.public_shares.contains_key(index))
        {
            return Err(missing(index));
        }
        Ok(Self {
            group_key: with(&self.group_key, &other.group_key)?,
            public_shares: self
                .public_shares
                .iter()
                .map(|(index, share)| {
                    let other = other
                        .public_shares
                        .get(index)
                        .ok_or_else(|| missing(index))?;
                    Ok((*index, with(share, other)?))
                })
                .collect::<Result<_>>()?,
        })
    }
}
