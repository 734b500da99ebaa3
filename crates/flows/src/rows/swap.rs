//! Leaf swaps of the older protocol: what a transfer's own row does not say.

use serde::{Deserialize, Serialize};
use tinderbox_protocol::TransferId;

use super::JobRow;
use crate::record::{Row, Table};

/// What is signed when a first leg of the older protocol is settled, and not before: an offer that is
/// returned must leave nothing behind that competes with the sender's own refunds. Gone once the
/// offer has ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SwapOfferRow {
    /// The first leg.
    pub transfer: TransferId,
    /// The signatures of its refunds, half made.
    pub jobs: Vec<JobRow>,
}

impl SwapOfferRow {
    /// Its row id.
    #[must_use]
    pub fn id_of(transfer: &TransferId) -> Vec<u8> {
        transfer.bytes16().to_vec()
    }
}

impl Row for SwapOfferRow {
    const TABLE: Table = Table::SwapOffer;

    fn id(&self) -> Vec<u8> {
        Self::id_of(&self.transfer)
    }
}
