use bitcoin::Block;

use crate::source::BlockRef;

/// A block that joined the best chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectedBlock {
    /// Its height and hash.
    pub at: BlockRef,
    /// The whole block.
    pub block: Block,
}

/// What happened to the best chain. Apply each in one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainEvent {
    /// These blocks follow the tip, in this order. Never empty.
    Connected(Vec<ConnectedBlock>),
    /// The blocks after `to` left the best chain.
    Disconnected {
        /// The new tip: the last block that both chains have.
        to: BlockRef,
        /// What left, lowest first.
        removed: Vec<BlockRef>,
    },
}

impl ChainEvent {
    /// The tip once the event is applied.
    pub fn tip(&self) -> Option<BlockRef> {
        match self {
            Self::Connected(blocks) => blocks.last().map(|block| block.at),
            Self::Disconnected { to, .. } => Some(*to),
        }
    }
}
