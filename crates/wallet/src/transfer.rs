//! Transfers, as operators describe them.

use std::time::{Duration, SystemTime};

use bitcoin::Transaction;
use bitcoin::secp256k1::PublicKey;
use serde::Serialize;
use tinderbox_protocol::{Sats, TransferId};

use crate::leaf::Node;

/// Where a transfer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferStatus {
    /// The sender has begun.
    SenderInitiated,
    /// The sender's tweak waits for something: a preimage, a confirmation.
    SenderPending,
    /// The sender is done; the receiver can claim.
    Claimable,
    /// The receiver is in the middle of a claim.
    Claiming,
    /// Done.
    Completed,
    /// Ended without effect.
    Expired,
    /// Given back to the sender.
    Returned,
    /// Unknown to this program.
    Other,
}

impl TransferStatus {
    /// True while the money has left the sender's hands neither for good nor back.
    pub const fn is_sender_pending(self) -> bool {
        matches!(self, Self::SenderInitiated | Self::SenderPending)
    }

    /// True while the receiver can claim.
    pub const fn is_receiver_pending(self) -> bool {
        matches!(self, Self::Claimable | Self::Claiming)
    }
}

impl std::fmt::Display for TransferStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SenderInitiated => "begun",
            Self::SenderPending => "pending",
            Self::Claimable => "to be claimed",
            Self::Claiming => "being claimed",
            Self::Completed => "completed",
            Self::Expired => "expired",
            Self::Returned => "returned",
            Self::Other => "unknown",
        })
    }
}

/// What a transfer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferKind {
    /// A payment.
    Payment,
    /// Against a preimage: Lightning, hash locks.
    PreimageSwap,
    /// To a provider that pays out on chain.
    CooperativeExit,
    /// For a coin on a static address.
    UtxoSwap,
    /// One leg of an exchange of leaves.
    Swap,
    /// Unknown to this program.
    Other,
}

impl std::fmt::Display for TransferKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Payment => "payment",
            Self::PreimageSwap => "preimage swap",
            Self::CooperativeExit => "cooperative exit",
            Self::UtxoSwap => "static deposit",
            Self::Swap => "leaf swap",
            Self::Other => "unknown",
        })
    }
}

/// One receiver of a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receiver {
    /// Its identity key.
    pub identity: PublicKey,
    /// What it gets.
    pub amount: Sats,
}

/// One leaf of a transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferLeaf {
    /// The leaf.
    pub node: Node,
    /// The leaf's intermediate key, encrypted to the receiver.
    pub secret_cipher: Vec<u8>,
    /// The sender's signature over ids and cipher.
    pub signature: Vec<u8>,
    /// Fee-less refund to the receiver.
    pub refund: Transaction,
    /// Its fee-paying variants.
    pub direct_refund: Option<Transaction>,
    /// Its fee-paying variants.
    pub direct_from_cpfp_refund: Option<Transaction>,
}

/// A transfer as this wallet may see it: a receiver sees only its own leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Its id.
    pub id: TransferId,
    /// Who pays.
    pub sender: PublicKey,
    /// Who is paid; with several receivers, one of them.
    pub receiver: PublicKey,
    /// Where it stands.
    pub status: TransferStatus,
    /// What it is for.
    pub kind: TransferKind,
    /// Sum of all its leaves.
    pub total: Sats,
    /// The leaves that this wallet may see.
    pub leaves: Vec<TransferLeaf>,
    /// All receivers, if the operators name them.
    pub receivers: Vec<Receiver>,
    /// When it began.
    pub created: Option<SystemTime>,
    /// When it changed last.
    pub updated: Option<SystemTime>,
    /// The invoice that it pays.
    pub invoice: Option<String>,
}

impl Transfer {
    /// Sum of the leaves that this wallet sees.
    pub fn visible(&self) -> Sats {
        Sats(
            self.leaves
                .iter()
                .fold(0, |sum, leaf| leaf.node.value.0.saturating_add(sum)),
        )
    }

    /// When it began, in seconds since 1970.
    pub fn created_seconds(&self) -> Option<u64> {
        seconds(self.created)
    }
}

pub(crate) fn seconds(time: Option<SystemTime>) -> Option<u64> {
    time.and_then(|t| t.duration_since(SystemTime::UNIX_EPOCH).ok())
        .map(|d: Duration| d.as_secs())
}
