//! The chain as an operator has applied it.

use bitcoin::BlockHash;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::BlockHeight;

use crate::record::{Row, Table};

/// A block that has been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownBlock {
    /// Its height.
    pub height: BlockHeight,
    /// Its hash.
    pub hash: BlockHash,
}

/// The last blocks that have been applied, oldest first: enough to find where a reorganised chain
/// branched off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainRow {
    /// Oldest first.
    pub blocks: Vec<KnownBlock>,
}

impl ChainRow {
    /// The only row's id.
    pub const ID: &'static [u8] = b"tip";

    /// The tip, if any block has been applied.
    #[must_use]
    pub fn tip(&self) -> Option<KnownBlock> {
        self.blocks.last().copied()
    }
}

impl Row for ChainRow {
    const TABLE: Table = Table::Chain;

    fn id(&self) -> Vec<u8> {
        Self::ID.to_vec()
    }
}
