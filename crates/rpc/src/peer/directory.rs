//! The operators of this entity, by identity key.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::secp256k1::PublicKey;

use super::OperatorIndex;

/// The operators of this entity, by identity key. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Directory(Arc<BTreeMap<PublicKey, OperatorIndex>>);

impl Directory {
    /// From identity keys and indices.
    pub fn new(operators: impl IntoIterator<Item = (PublicKey, OperatorIndex)>) -> Self {
        Self(Arc::new(operators.into_iter().collect()))
    }

    /// Which operator has this identity key.
    pub fn index(&self, identity: &PublicKey) -> Option<OperatorIndex> {
        self.0.get(identity).copied()
    }
}
