//! What a rollback takes away and a certificate may ask for again.

use bitcoin::secp256k1::PublicKey as Point;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::LeafId;

use super::FlowId;
use crate::record::{Index, IndexKey, Row, Table};
use crate::secret::StagedTweak;

/// The tweaks that a receiver had handed to this operator itself, before a claim that was rolled
/// back. They are in no request: should the no turn out to be a lie, the claim is taken up again
/// with these. Shares a table with transfers; the lengths of their ids differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptTweaksRow {
    /// The flow that was rolled back.
    pub flow: FlowId,
    /// By leaf: the staged tweak, and its public commitments.
    pub leaves: Vec<(LeafId, StagedTweak, Vec<Point>)>,
}

impl KeptTweaksRow {
    /// Its row id.
    #[must_use]
    pub fn id_of(flow: &FlowId) -> Vec<u8> {
        [b"kept".as_slice(), &flow.0].concat()
    }
}

impl Row for KeptTweaksRow {
    const TABLE: Table = Table::Transfer;

    fn id(&self) -> Vec<u8> {
        Self::id_of(&self.flow)
    }

    fn listed(&self) -> Vec<IndexKey> {
        let epochs = self.leaves.iter().map(|(_, tweak, _)| tweak.epoch);
        let oldest = epochs.min().map(|epoch| {
            let id = Self::id_of(&self.flow);
            IndexKey::new(Index::StagedByEpoch, &[&epoch.to_be_bytes(), &id])
        });
        oldest.into_iter().collect()
    }
}
