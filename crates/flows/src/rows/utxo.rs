//! On-chain outputs that pay addresses of ours.

use bitcoin::{BlockHash, OutPoint, ScriptBuf};
use serde::{Deserialize, Serialize};
use tinderbox_protocol::{BlockHeight, Network, Sats, TreeId};

use super::network_byte;
use crate::record::{Index, IndexKey, Row, Table};

/// An output that pays an issued address, seen in a block or claimed before it is in one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UtxoRow {
    /// Where.
    pub outpoint: OutPoint,
    /// Network.
    pub network: Network,
    /// How much.
    pub value: Sats,
    /// The address it pays, as a script.
    pub script: ScriptBuf,
    /// The block it is in, as this operator has applied the chain.
    pub block: Option<(BlockHeight, BlockHash)>,
    /// The tree that was made of it.
    pub tree: Option<TreeId>,
    /// True: made by a transaction of a tree, a node's output with the key of its deposit. Such an
    /// output is the leaf on its way to the chain, and no deposit.
    pub of_tree: bool,
}

impl UtxoRow {
    /// Its id: the transaction id's 32 bytes (internal order), then the output's number.
    #[must_use]
    pub fn id_of(outpoint: &OutPoint) -> Vec<u8> {
        let mut id = AsRef::<[u8]>::as_ref(&outpoint.txid).to_vec();
        id.extend(outpoint.vout.to_be_bytes());
        id
    }

    /// Sort key prefix of the outputs that pay `script`.
    #[must_use]
    pub fn prefix(network: Network, script: &ScriptBuf) -> Vec<u8> {
        let mut prefix = vec![network_byte(network)];
        prefix.extend_from_slice(script.as_bytes());
        prefix
    }
}

impl Row for UtxoRow {
    const TABLE: Table = Table::Utxo;
    const FORMAT: u8 = 2;

    fn id(&self) -> Vec<u8> {
        Self::id_of(&self.outpoint)
    }

    fn listed(&self) -> Vec<IndexKey> {
        let Some((height, _)) = self.block.filter(|_| !self.of_tree) else {
            return Vec::new();
        };
        vec![IndexKey::new(
            Index::UtxoByScript,
            &[
                &Self::prefix(self.network, &self.script),
                &height.0.to_be_bytes(),
                &Self::id_of(&self.outpoint),
            ],
        )]
    }
}
