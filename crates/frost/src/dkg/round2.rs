//! Second round: a secret value for each peer.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;

use super::round1::{Round1Package, Round1Secret, verify_round1};
use crate::error::{Error, Result};
use crate::index::OperatorIndex;
use crate::point;
use crate::scalar::Scalar;
use crate::secret::SecretScalar;
use crate::taproot::tap_tweak;

/// What a participant keeps for the end: its own value, and the public polynomial of the key.
pub struct Round2Secret {
    pub(super) index: OperatorIndex,
    pub(super) operators: u16,
    pub(super) own: SecretScalar,
    /// Everybody's commitments, to name culprits.
    pub(super) commitments: BTreeMap<OperatorIndex, Vec<PublicKey>>,
    /// Commitments of the final key's polynomial, after the taproot step.
    pub(super) proofs: Vec<PublicKey>,
    /// Whether the taproot step negates.
    pub(super) negate: bool,
    /// What the taproot step adds.
    pub(super) tweak: Scalar,
}

impl Round2Secret {
    /// The key that this generation will have; every participant has the same.
    #[must_use]
    pub fn group_key(&self) -> Option<&PublicKey> {
        self.proofs.first()
    }
}

/// Checks everybody's packages (own included) and makes the value for each peer. Each value goes
/// to its peer alone, over an authenticated, encrypted channel.
///
/// # Errors
/// [`Error::DkgSilent`] for missing packages, [`Error::UnknownOperator`] for one too many,
/// [`Error::DkgOwnPackageAltered`], those of [`verify_round1`], or [`Error::IdentityPoint`].
pub fn round2(
    secret: Round1Secret,
    packages: &BTreeMap<OperatorIndex, Round1Package>,
) -> Result<(Round2Secret, BTreeMap<OperatorIndex, SecretScalar>)> {
    let everyone = OperatorIndex::first(secret.operators);
    let culprits: Vec<OperatorIndex> = everyone
        .clone()
        .filter(|index| !packages.contains_key(index))
        .collect();
    if !culprits.is_empty() {
        return Err(Error::DkgSilent { round: 1, culprits });
    }
    for (index, package) in packages {
        if index.0 >= secret.operators {
            return Err(Error::UnknownOperator {
                index: *index,
                count: secret.operators.into(),
            });
        }
        if *index == secret.index {
            if *package != secret.package {
                return Err(Error::DkgOwnPackageAltered);
            }
        } else {
            verify_round1(*index, secret.threshold, package)?;
        }
    }

    let sums = (0..usize::from(secret.threshold))
        .map(|place| {
            let column: Vec<&PublicKey> = packages
                .values()
                .filter_map(|package| package.commitments.get(place))
                .collect();
            point::sum(&column, "the group key")
        })
        .collect::<Result<Vec<_>>>()?;
    let (group, rest) = sums.split_first().ok_or(Error::IdentityPoint {
        what: "the group key",
    })?;
    let negate = point::is_odd(group);
    let tweak = tap_tweak(group);
    let constant = point::add_base(&point::negate_if(group, negate), &tweak, "the group key")?;
    let proofs = core::iter::once(constant)
        .chain(rest.iter().map(|sum| point::negate_if(sum, negate)))
        .collect();

    let shares = everyone
        .filter(|index| *index != secret.index)
        .map(|index| Ok((index, secret.polynomial.evaluate(index)?)))
        .collect::<Result<_>>()?;
    let own = secret.polynomial.evaluate(secret.index)?;
    let commitments = packages
        .iter()
        .map(|(index, package)| (*index, package.commitments.clone()))
        .collect();
    let next = Round2Secret {
        index: secret.index,
        operators: secret.operators,
        own,
        commitments,
        proofs,
        negate,
        tweak,
    };
    Ok((next, shares))
}
