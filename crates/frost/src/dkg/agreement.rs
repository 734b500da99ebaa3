//! Did everybody see the same packages?

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::round1::Round1Package;
use crate::error::{Error, Result};
use crate::index::OperatorIndex;

/// Hash of the first-round packages of a batch of keys, one map per key. Every participant signs
/// it with its identity key; equal hashes mean that nobody showed different packages.
///
/// Per key, the hash of identifier (as text) and package of each participant in ascending order;
/// then the hash of these.
#[must_use]
pub fn set_hash<'a>(
    batch: impl IntoIterator<Item = &'a BTreeMap<OperatorIndex, Round1Package>>,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    for packages in batch {
        let mut key = Sha256::new();
        for (index, package) in packages {
            key.update(index.identifier());
            key.update(package.to_bytes());
        }
        hash.update(key.finalize());
    }
    hash.finalize().into()
}

/// Compares what this participant saw with what another one saw.
///
/// The view of the other one must be authenticated; if it lies about a third participant, that
/// one's signed package decides.
///
/// # Errors
/// [`Error::DkgEquivocation`] with everyone whose packages differ, [`Error::DkgSilent`] with
/// everyone whom one of the two did not hear.
pub fn compare_views(
    own: &BTreeMap<OperatorIndex, Round1Package>,
    other: &BTreeMap<OperatorIndex, Round1Package>,
) -> Result<()> {
    let culprits: Vec<OperatorIndex> = own
        .iter()
        .filter(|(index, package)| other.get(index).is_some_and(|other| other != *package))
        .map(|(index, _)| *index)
        .collect();
    if !culprits.is_empty() {
        return Err(Error::DkgEquivocation { culprits });
    }
    let mut culprits: Vec<OperatorIndex> = own
        .keys()
        .filter(|index| !other.contains_key(index))
        .chain(other.keys().filter(|index| !own.contains_key(index)))
        .copied()
        .collect();
    culprits.sort_unstable();
    if culprits.is_empty() {
        Ok(())
    } else {
        Err(Error::DkgSilent { round: 1, culprits })
    }
}
