//! Key shares: the operators' half of every leaf.

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_frost::OperatorIndex;

use super::{FlowId, KeyshareId};
use crate::record::{Index, IndexKey, Row, Table};
use crate::secret::SealedShare;

/// What a key share is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyshareStatus {
    /// In the pool.
    Available,
    /// Taken by this flow; never goes back to the pool, whatever becomes of the flow.
    Used(FlowId),
}

/// One operator's share of one key, and what everybody knows about that key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyshareRow {
    /// Id, equal on all operators.
    pub id: KeyshareId,
    /// The operator that may take it from the pool.
    pub coordinator: OperatorIndex,
    /// In the pool or used.
    pub status: KeyshareStatus,
    /// How many tweaks have been applied.
    pub generation: u32,
    /// The operators' group key.
    pub group_key: PublicKey,
    /// Public share of every operator, in order of index.
    pub public_shares: Vec<PublicKey>,
    /// This operator's share, sealed.
    pub sealed: SealedShare,
}

impl Row for KeyshareRow {
    const TABLE: Table = Table::Keyshare;

    fn id(&self) -> Vec<u8> {
        self.id.0.to_vec()
    }

    fn listed(&self) -> Vec<IndexKey> {
        match self.status {
            KeyshareStatus::Available => vec![IndexKey::new(
                Index::KeyshareAvailable,
                &[&self.coordinator.0.to_be_bytes(), &self.id.0],
            )],
            KeyshareStatus::Used(_) => Vec::new(),
        }
    }
}
