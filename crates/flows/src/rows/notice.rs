//! What wallets are told: the log from which event streams are fed.
//!
//! A write that changes something for a wallet says so in the same batch, as [`FreshNotices`]
//! under an id of its own, so that no two writes meet at a common row. Later one process gives
//! what is fresh its places in the log: it moves it into a [`NoticePage`] and counts up the
//! [`NoticeHead`], in one conditional write. So the log has no gaps and one order, however many
//! processes an operator has.

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::{LeafId, TransferId};

use super::{Millis, TransferStatus};
use crate::record::{Index, IndexKey, Row, Table};

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// A transfer reached this status.
    Transfer(TransferId, TransferStatus),
    /// A deposit became a leaf that can be spent.
    Deposit(LeafId),
    /// A leaf changed otherwise.
    Leaf(LeafId),
    /// A wallet changed its settings.
    Setting,
}

/// As what a wallet is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It sends.
    Sender,
    /// It receives.
    Receiver,
    /// It owns the leaf, or the settings.
    Owner,
}

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// The wallet.
    pub identity: PublicKey,
    /// As what.
    pub role: Role,
    /// True if the wire contract has an event for it; otherwise only streams that ask for every
    /// change hear of it.
    pub contract: bool,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What.
    pub subject: Subject,
    /// To whom.
    pub told: Vec<Told>,
}

/// What one write has to tell, before it has its place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreshNotices {
    /// The flow, or 16 random bytes.
    pub id: [u8; 16],
    /// When, by the clock of the process that wrote it.
    pub made: Millis,
    /// What.
    pub notices: Vec<Notice>,
}

impl Row for FreshNotices {
    const TABLE: Table = Table::Notice;

    fn id(&self) -> Vec<u8> {
        [b"f".as_slice(), &self.id].concat()
    }

    fn listed(&self) -> Vec<IndexKey> {
        vec![IndexKey::new(
            Index::NoticeFresh,
            &[&self.made.sort(), &self.id],
        )]
    }
}

/// Some consecutive notices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticePage {
    /// Place of the last of them; the first place of the log is 1.
    pub last: u64,
    /// When it was made, by the clock of the process that wrote it.
    pub made: Millis,
    /// The notices, in order.
    pub notices: Vec<Notice>,
}

impl NoticePage {
    /// Id of the page whose last notice has this place.
    #[must_use]
    pub fn id_of(last: u64) -> Vec<u8> {
        [b"p".as_slice(), &last.to_be_bytes()].concat()
    }

    /// Place before its first notice.
    #[must_use]
    pub fn before(&self) -> u64 {
        self.last
            .saturating_sub(u64::try_from(self.notices.len()).unwrap_or(u64::MAX))
    }
}

impl Row for NoticePage {
    const TABLE: Table = Table::Notice;

    fn id(&self) -> Vec<u8> {
        Self::id_of(self.last)
    }

    fn listed(&self) -> Vec<IndexKey> {
        vec![IndexKey::new(
            Index::NoticeByPlace,
            &[&self.last.to_be_bytes()],
        )]
    }
}

/// How far the log goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeHead {
    /// Random; tells this log from that of another database.
    pub log: [u8; 8],
    /// Place of the last notice; 0 while there is none.
    pub last: u64,
}

impl NoticeHead {
    /// The id of the only row.
    pub const ID: &[u8] = b"h";
}

impl Row for NoticeHead {
    const TABLE: Table = Table::Notice;

    fn id(&self) -> Vec<u8> {
        Self::ID.to_vec()
    }
}
