//! The end: checked values, added up.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use zeroize::Zeroizing;

use super::round2::Round2Secret;
use crate::error::{Error, Result};
use crate::feldman;
use crate::index::OperatorIndex;
use crate::keyshare::PublicKeyshare;
use crate::secret::SecretScalar;

/// A new shared key as one participant holds it.
pub struct GeneratedKey {
    /// This participant's share.
    pub share: SecretScalar,
    /// The shared key.
    pub group_key: PublicKey,
    /// Everybody's public shares.
    pub public_shares: BTreeMap<OperatorIndex, PublicKey>,
}

impl GeneratedKey {
    /// The public side alone.
    #[must_use]
    pub fn public(&self) -> PublicKeyshare {
        PublicKeyshare {
            group_key: self.group_key,
            public_shares: self.public_shares.clone(),
        }
    }
}

/// Adds up the values that all peers sent, after the taproot step: if the sum of all constant
/// commitments is odd, everything is negated; then its tweak is added.
///
/// The sum is checked against the public polynomial, which is what the key consists of; only if
/// that fails, each value is checked to name the culprits.
///
/// # Errors
/// [`Error::DkgSilent`] for missing values, [`Error::UnknownOperator`] for one too many,
/// [`Error::DkgShares`] with the culprits, [`Error::IdentityPoint`] or [`Error::ZeroScalar`] if
/// a share vanishes.
pub fn finish(
    secret: Round2Secret,
    shares: &BTreeMap<OperatorIndex, SecretScalar>,
) -> Result<GeneratedKey> {
    let culprits: Vec<OperatorIndex> = OperatorIndex::first(secret.operators)
        .filter(|index| *index != secret.index && !shares.contains_key(index))
        .collect();
    if !culprits.is_empty() {
        return Err(Error::DkgSilent { round: 2, culprits });
    }
    if let Some(index) = shares
        .keys()
        .find(|index| index.0 >= secret.operators || **index == secret.index)
    {
        return Err(Error::UnknownOperator {
            index: *index,
            count: secret.operators.into(),
        });
    }
    let mut sum = Zeroizing::new(*secret.own.expose());
    for share in shares.values() {
        *sum = sum.add(share.expose());
    }
    let share = SecretScalar::new(sum.negate_if(secret.negate).add(&secret.tweak))?;
    let public_shares = feldman::evaluate_all(&secret.proofs, secret.operators)?;
    if public_shares.get(&secret.index) != Some(&share.public_key()) {
        return Err(Error::DkgShares {
            culprits: liars(&secret, shares),
        });
    }
    let group_key = *secret.group_key().ok_or(Error::IdentityPoint {
        what: "the group key",
    })?;
    Ok(GeneratedKey {
        share,
        group_key,
        public_shares,
    })
}

fn liars(
    secret: &Round2Secret,
    shares: &BTreeMap<OperatorIndex, SecretScalar>,
) -> Vec<OperatorIndex> {
    secret
        .commitments
        .iter()
        .filter_map(|(index, commitments)| Some((index, commitments, shares.get(index)?)))
        .filter(|(_, commitments, share)| {
            feldman::verify_share(commitments, secret.index, share).is_err()
        })
        .map(|(index, ..)| *index)
        .collect()
}
