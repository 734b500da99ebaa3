//! Cooperative exits.

use bitcoin::{BlockHash, OutPoint, Txid};
use serde::{Deserialize, Serialize};
use tinderbox_protocol::{BlockHeight, TransferId};

use super::Millis;
use crate::record::{Index, IndexKey, Row, Table};

/// Where a cooperative exit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitState {
    /// Its transfer waits for the exit transaction.
    Open,
    /// The exit transaction is deep enough: the provider may claim the leaves.
    Settled,
    /// Its transfer was returned.
    Returned,
}

/// A cooperative exit: leaves for a payment on chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRow {
    /// Id, chosen by the wallet; unique for ever.
    pub exit: [u8; 16],
    /// The transfer of the leaves.
    pub transfer: TransferId,
    /// The transaction that pays the wallet.
    pub txid: Txid,
    /// Its output that the connectors come from.
    pub funds: OutPoint,
    /// When the transfer lapses.
    pub expiry: Millis,
    /// Where it stands.
    pub state: ExitState,
    /// The block that holds the exit transaction, as this operator has applied the chain. Each
    /// operator's own.
    pub seen: Option<(BlockHeight, BlockHash)>,
}

impl ExitRow {
    /// Its row id: no node's facts have an id of this length.
    #[must_use]
    pub fn id_of(exit: &[u8; 16]) -> Vec<u8> {
        [b"exit".as_slice(), exit].concat()
    }

    /// Blocks that bury the exit transaction, its own counted, when the tip is at `tip`.
    #[must_use]
    pub fn depth(&self, tip: BlockHeight) -> u32 {
        match self.seen {
            Some((height, _)) if height <= tip => tip.0.saturating_sub(height.0).saturating_add(1),
            _ => 0,
        }
    }
}

impl Row for ExitRow {
    const TABLE: Table = Table::Watch;

    fn id(&self) -> Vec<u8> {
        Self::id_of(&self.exit)
    }

    fn listed(&self) -> Vec<IndexKey> {
        match self.state {
            // One that was returned is watched for ever: its exit transaction may still come.
            ExitState::Open | ExitState::Returned => {
                vec![IndexKey::new(Index::ExitWatched, &[&self.exit])]
            }
            ExitState::Settled => Vec::new(),
        }
    }
}
