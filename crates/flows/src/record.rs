//! How rows are named, encoded and found.
//!
//! Every row lives in one table, under one id, with a version that the store counts up at each
//! write. A row can be listed under any number of index keys; index keys sort as bytes. Bodies
//! begin with a format number, so that a later release can read what an earlier one wrote.

use serde::{Serialize, de::DeserializeOwned};

/// The tables of an operator. Numbers are part of the on-disk format: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Agreement log, one row per flow.
    Flow = 1,
    /// Key shares of leaves, and the pool of unused ones.
    Keyshare = 2,
    /// Deposit addresses that this network issued.
    Address = 3,
    /// On-chain outputs that pay an issued address.
    Utxo = 4,
    /// Trees: one per deposit.
    Tree = 5,
    /// Nodes of trees; leaves are the ones that somebody owns.
    Node = 6,
    /// Transfers with their leaves and receivers.
    Transfer = 7,
    /// The chain as this operator has applied it.
    Chain = 8,
    /// Challenge nonces, idempotency rows and other facts with a lifetime.
    Ephemeral = 9,
    /// Settings of wallets.
    Setting = 10,
    /// Swaps of outputs at deposit addresses.
    UtxoSwap = 11,
    /// What such a swap has exclusively.
    UtxoHold = 12,
    /// What the chain said about nodes, and cooperative exits.
    Watch = 16,
    /// Spark invoices that somebody pays or has paid.
    Invoice = 13,
    /// What wallets are told.
    Notice = 17,
    /// Shares of preimages.
    PreimageShare = 14,
    /// Transfers against preimages.
    HashLock = 15,
    /// What is signed when the first leg of a leaf swap is settled.
    SwapOffer = 18,
}

impl Table {
    /// The number that stands for this table on disk.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Flow => 1,
            Self::Keyshare => 2,
            Self::Address => 3,
            Self::Utxo => 4,
            Self::Tree => 5,
            Self::Node => 6,
            Self::Transfer => 7,
            Self::Chain => 8,
            Self::Ephemeral => 9,
            Self::Setting => 10,
            Self::UtxoSwap => 11,
            Self::UtxoHold => 12,
            Self::Watch => 16,
            Self::Invoice => 13,
            Self::Notice => 17,
            Self::PreimageShare => 14,
            Self::HashLock => 15,
            Self::SwapOffer => 18,
        }
    }

    /// The table with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        [
            Self::Flow,
            Self::Keyshare,
            Self::Address,
            Self::Utxo,
            Self::Tree,
            Self::Node,
            Self::Transfer,
            Self::Chain,
            Self::Ephemeral,
            Self::Setting,
            Self::UtxoSwap,
            Self::UtxoHold,
            Self::Watch,
            Self::Invoice,
            Self::Notice,
            Self::PreimageShare,
            Self::HashLock,
            Self::SwapOffer,
        ]
        .into_iter()
        .find(|table| table.number() == number)
    }
}

/// Names one row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The table it is in.
    pub table: Table,
    /// Its id within the table; raw bytes, at most 255.
    pub id: Vec<u8>,
}

impl Key {
    /// The key of row `id` in `table`.
    #[must_use]
    pub fn new(table: Table, id: impl Into<Vec<u8>>) -> Self {
        Self {
            table,
            id: id.into(),
        }
    }
}

/// The indexes of an operator's tables. Numbers are part of the on-disk format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Index {
    /// Unused key shares by the operator that may hand them out.
    KeyshareAvailable = 1,
    /// Deposit addresses by owner, newest last.
    AddressByOwner = 2,
    /// Outputs by the script they pay, then height.
    UtxoByScript = 3,
    /// Nodes by owner.
    NodeByOwner = 4,
    /// Nodes by the id of a transaction whose confirmation matters to them.
    NodeByTxid = 5,
    /// Nodes by parent.
    NodeByParent = 6,
    /// Nodes that wait for their deposit to confirm.
    NodeCreating = 7,
    /// Transfers by participant, role and time.
    TransferByParty = 8,
    /// Transfers that wait for a receiver to claim, by receiver and time.
    TransferPending = 9,
    /// Flows that are not finished, by time of their last step.
    FlowOpen = 10,
    /// Rows with a lifetime, by the time at which they end.
    EphemeralByExpiry = 11,
    /// No longer used: nodes on chain, listed by id.
    NodeOnChain = 12,
    /// Finished flows by time, for the purge.
    FlowDone = 13,
    /// Staged tweaks by the epoch of the key that seals them.
    StagedByEpoch = 14,
    /// Transfers that end at a time of their own.
    TransferByExpiry = 15,
    /// Nodes with an unspent output on chain, by the height from which something of theirs may be
    /// due: the watchtower's list.
    WatchFrom = 35,
    /// Trees whose deposit is not buried deep enough.
    TreePending = 36,
    /// Transfers that are under way, by leaf.
    TransferByLeaf = 37,
    /// What wallets are to be told and has no place in the log yet, by time.
    NoticeFresh = 40,
    /// The log of what wallets are told, by place.
    NoticeByPlace = 41,
    /// Hash locks by party, role and time.
    HashLockByParty = 30,
    /// Hash locks by payment hash and receiver.
    HashLockByHash = 31,
    /// Hash locks whose preimage the operators know and that are not settled yet, by time.
    HashLockRevealed = 32,
    /// Cooperative exits whose exit transaction matters.
    ExitWatched = 38,
}

impl Index {
    /// The number that stands for this index on disk.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::KeyshareAvailable => 1,
            Self::AddressByOwner => 2,
            Self::UtxoByScript => 3,
            Self::NodeByOwner => 4,
            Self::NodeByTxid => 5,
            Self::NodeByParent => 6,
            Self::NodeCreating => 7,
            Self::TransferByParty => 8,
            Self::TransferPending => 9,
            Self::FlowOpen => 10,
            Self::EphemeralByExpiry => 11,
            Self::NodeOnChain => 12,
            Self::FlowDone => 13,
            Self::StagedByEpoch => 14,
            Self::TransferByExpiry => 15,
            Self::WatchFrom => 35,
            Self::TreePending => 36,
            Self::TransferByLeaf => 37,
            Self::NoticeFresh => 40,
            Self::NoticeByPlace => 41,
            Self::HashLockByParty => 30,
            Self::HashLockByHash => 31,
            Self::HashLockRevealed => 32,
            Self::ExitWatched => 38,
        }
    }
}

/// One entry of an index: where a row is listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexKey {
    /// Which index.
    pub index: Index,
    /// The sort key within it; raw bytes. Several rows may share one.
    pub key: Vec<u8>,
}

impl IndexKey {
    /// An entry of `index` whose sort key is the concatenation of `parts`.
    #[must_use]
    pub fn new(index: Index, parts: &[&[u8]]) -> Self {
        Self {
            index,
            key: parts.concat(),
        }
    }
}

/// A row's body as stored, with the version that the store gave it (1 for the first write).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Counts the writes of this row.
    pub version: u64,
    /// Encoded row: see [`Row::encode`].
    pub body: Vec<u8>,
}

/// One row to write or delete, on condition that nobody wrote it meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The row.
    pub key: Key,
    /// The version that was read; 0: the row must not exist.
    pub expected: u64,
    /// The new body, or `None` to delete the row.
    pub body: Option<Vec<u8>>,
    /// Index entries to take away.
    pub unlist: Vec<IndexKey>,
    /// Index entries to add.
    pub list: Vec<IndexKey>,
}

/// What one flow wants to happen in one transaction: all of it or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Rows that were only read, with the version that was seen (0: absent).
    pub guards: Vec<(Key, u64)>,
    /// Rows to write; at most one entry per row.
    pub writes: Vec<Write>,
}

impl Batch {
    /// True if applying it would change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}

/// A stored body could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "row {} of table {table:?} is in format {format}, or damaged: use the release that wrote it, or restore the database",
    hex::encode(id)
)]
pub struct Unreadable {
    /// Table of the row.
    pub table: Table,
    /// Id of the row.
    pub id: Vec<u8>,
    /// First byte of its body.
    pub format: u8,
}

/// A typed row.
pub trait Row: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The table it lives in.
    const TABLE: Table;
    /// The format number that this release writes.
    const FORMAT: u8 = 1;

    /// Its id within the table.
    fn id(&self) -> Vec<u8>;

    /// The index entries under which it is listed.
    fn listed(&self) -> Vec<IndexKey> {
        Vec::new()
    }

    /// Its key.
    fn key(&self) -> Key {
        Key::new(Self::TABLE, self.id())
    }

    /// The body to store: format number, then the fields.
    ///
    /// # Errors
    /// If a field cannot be encoded.
    fn encode(&self) -> Result<Vec<u8>, Unreadable> {
        let unreadable = || Unreadable {
            table: Self::TABLE,
            id: self.id(),
            format: Self::FORMAT,
        };
        let mut body = vec![Self::FORMAT];
        body.extend(postcard::to_allocvec(self).map_err(|_| unreadable())?);
        Ok(body)
    }

    /// Reads a body back.
    ///
    /// # Errors
    /// [`Unreadable`] if the body is of an unknown format or damaged.
    fn decode(id: &[u8], body: &[u8]) -> Result<Self, Unreadable> {
        let unreadable = |format| Unreadable {
            table: Self::TABLE,
            id: id.to_vec(),
            format,
        };
        match body.split_first() {
            Some((&format, fields)) if format == Self::FORMAT => {
                postcard::from_bytes(fields).map_err(|_| unreadable(format))
            }
            Some((&format, _)) => Err(unreadable(format)),
            None => Err(unreadable(0)),
        }
    }
}
