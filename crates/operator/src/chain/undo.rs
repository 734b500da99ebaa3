//! What a block changed, so that a reorganisation can take it back.

use serde::{Deserialize, Serialize};
use tinderbox_flows::record::{Row, Table};
use tinderbox_protocol::{BlockHeight, LeafId};

/// The rows that a block changed. Kept as long as the block may be reorganised away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndoRow {
    /// Which block.
    pub height: BlockHeight,
    /// Ids of the outputs that it confirmed.
    pub utxos: Vec<Vec<u8>>,
    /// Nodes whose status or confirmation it changed.
    pub nodes: Vec<LeafId>,
    /// Cooperative exits whose payout it holds.
    pub exits: Vec<[u8; 16]>,
}

impl UndoRow {
    /// The row id for the block at `height`. The same table holds the applied chain, whose id
    /// does not begin so.
    #[must_use]
    pub fn id_of(height: BlockHeight) -> Vec<u8> {
        let mut id = b"undo".to_vec();
        id.extend(height.0.to_be_bytes());
        id
    }

    /// True if there is nothing to take back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.utxos.is_empty() && self.nodes.is_empty() && self.exits.is_empty()
    }
}

impl Row for UndoRow {
    const TABLE: Table = Table::Chain;
    const FORMAT: u8 = 2;

    fn id(&self) -> Vec<u8> {
        Self::id_of(self.height)
    }
}
