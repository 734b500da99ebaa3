//! Transfers: leaves on their way from one owner to another.

use bitcoin::Txid;
use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::{LeafId, LeafSequence, Network, Sats, TransferId};

use super::{FlowId, Millis, network_byte};
use crate::record::{Index, IndexKey, Row, Table};
use crate::secret::StagedTweak;

use bitcoin::secp256k1::PublicKey as Point;

/// Why leaves move. The numbers of the wire contract are in the operator's conversions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransferKind {
    /// A payment.
    Transfer,
    /// Against the preimage of a payment hash.
    PreimageSwap,
    /// Against a payment on chain.
    CooperativeExit,
    /// Against an output that pays a static deposit address.
    UtxoSwap,
    /// First leg of a leaf swap.
    PrimarySwap,
    /// Second leg of a leaf swap.
    CounterSwap,
    /// First leg of a leaf swap of the older protocol.
    LegacySwap,
    /// Second leg of a leaf swap of the older protocol.
    LegacyCounterSwap,
}

/// Where a transfer stands. The numbers of the wire contract are in the operator's conversions.
///
/// ```text
///                      ┌──────────────► Returned
///  SenderInitiated ─► SenderKeyTweakPending ─► SenderKeyTweaked ─► Completed
///                      └► ApplyingSenderKeyTweak ─┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransferStatus {
    /// Locked and staged: its start is not decided or not finished, or it waits for what it is
    /// against.
    SenderKeyTweakPending,
    /// The sender's key is out; receivers may claim.
    SenderKeyTweaked,
    /// All receivers have claimed.
    Completed,
    /// Given back to the sender.
    Returned,
    /// Locked; the sender has yet to send its tweaks.
    SenderInitiated,
    /// First leg of a swap whose second leg is being agreed on.
    ApplyingSenderKeyTweak,
}

impl TransferStatus {
    /// True while the sender's key is not out: nobody can claim, and the transfer may be returned.
    #[must_use]
    pub const fn is_staged(self) -> bool {
        matches!(
            self,
            Self::SenderInitiated | Self::SenderKeyTweakPending | Self::ApplyingSenderKeyTweak
        )
    }
}

/// What a transfer is against, by kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Details {
    /// A payment is against nothing.
    None,
    /// Kind [`TransferKind::PreimageSwap`].
    Preimage {
        /// SHA-256 of the preimage.
        payment_hash: [u8; 32],
    },
    /// Kind [`TransferKind::CooperativeExit`].
    Exit {
        /// The id that the wallet chose for its exit.
        exit: [u8; 16],
        /// The transaction that pays the wallet on chain.
        txid: Txid,
    },
    /// Kinds [`TransferKind::PrimarySwap`] and [`TransferKind::CounterSwap`].
    Swap {
        /// The point whose secret makes both legs' refunds valid.
        adaptor: PublicKey,
        /// The other leg, once there is one.
        other: Option<TransferId>,
    },
    /// Kind [`TransferKind::UtxoSwap`].
    Utxo {
        /// Id of the swap's row.
        swap: Vec<u8>,
    },
    /// Kinds [`TransferKind::LegacySwap`] and [`TransferKind::LegacyCounterSwap`].
    LegacySwap {
        /// The other leg, once there is one.
        other: Option<TransferId>,
    },
}

impl Details {
    /// The other leg of a leaf swap, once there is one.
    #[must_use]
    pub const fn other_leg(&self) -> Option<TransferId> {
        match self {
            Self::Swap { other, .. } | Self::LegacySwap { other } => *other,
            _ => None,
        }
    }

    /// The same with another other leg, or none; nothing changes unless it is a leg of a leaf swap.
    #[must_use]
    pub fn with_other_leg(mut self, leg: Option<TransferId>) -> Self {
        if let Self::Swap { other, .. } | Self::LegacySwap { other } = &mut self {
            *other = leg;
        }
        self
    }
}

/// How far a receiver's claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimPhase {
    /// The sender has not let go yet.
    Initiated,
    /// May claim.
    Pending,
    /// Three-step claim: the receiver's tweaks are staged.
    KeyTweaked,
    /// A claim is being agreed on.
    Locked(FlowId),
    /// The receiver's tweaks are applied, its refunds are not signed.
    KeyTweakApplied,
    /// Three-step claim: refunds are built and wait for the receiver's signatures.
    RefundSigned,
    /// Claimed.
    Completed,
    /// The transfer was returned.
    Cancelled,
}

impl ClaimPhase {
    /// True while the receiver has something to do.
    #[must_use]
    pub const fn is_pending(self) -> bool {
        matches!(
            self,
            Self::Pending
                | Self::KeyTweaked
                | Self::Locked(_)
                | Self::KeyTweakApplied
                | Self::RefundSigned
        )
    }
}

/// One receiver of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverRow {
    /// Its identity key.
    pub identity: PublicKey,
    /// Phase of its claim.
    pub phase: ClaimPhase,
    /// The phase to fall back to if the claim that holds it is refused.
    pub before: ClaimPhase,
    /// When it had claimed.
    pub completed: Option<Millis>,
}

/// The three refunds of a leaf, consensus-encoded; empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeafRefunds {
    /// Fee-less, with an anchor.
    pub cpfp: Vec<u8>,
    /// Spends the direct node transaction.
    pub direct: Vec<u8>,
    /// Fee-paying, spends the node transaction.
    pub direct_from_cpfp: Vec<u8>,
}

/// One leaf of a transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferLeafRow {
    /// Which leaf.
    pub leaf: LeafId,
    /// Which receiver, by place in [`TransferRow::receivers`].
    pub receiver: u32,
    /// The new key, encrypted to the receiver.
    pub secret_cipher: Vec<u8>,
    /// The sender's signature over it.
    pub signature: Vec<u8>,
    /// The sender's staged tweak, until it is applied or dropped.
    pub send_tweak: Option<StagedTweak>,
    /// Public commitments of the sender's tweak, until it is applied or dropped.
    pub send_proofs: Vec<Point>,
    /// The receiver's staged tweak, until it is applied or dropped.
    pub claim_tweak: Option<StagedTweak>,
    /// Public commitments of the receiver's tweak, until it is applied or dropped.
    pub claim_proofs: Vec<Point>,
    /// Sequence of the refund that the sender had: claims count from it.
    pub previous_sequence: LeafSequence,
    /// The refunds that pay the receiver's identity key while it has not claimed.
    pub intermediate: LeafRefunds,
    /// Three-step claim: the refunds that wait for signatures.
    pub claim_refunds: Option<LeafRefunds>,
}

/// A transfer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferRow {
    /// Id, chosen by the sender's wallet; unique for ever.
    pub id: TransferId,
    /// Kind.
    pub kind: TransferKind,
    /// Status.
    pub status: TransferStatus,
    /// Network.
    pub network: Network,
    /// The sender's identity key.
    pub sender: PublicKey,
    /// Receivers, by identity key ascending.
    pub receivers: Vec<ReceiverRow>,
    /// Leaves.
    pub leaves: Vec<TransferLeafRow>,
    /// Value of each leaf, in the same order.
    pub values: Vec<Sats>,
    /// When it lapses, if it can.
    pub expiry: Option<Millis>,
    /// The Spark invoice it pays, exactly as sent; empty if none.
    pub invoice: String,
    /// Hash of the request, so that a retry can be told from a second transfer.
    pub fingerprint: [u8; 32],
    /// What it is against.
    pub details: Details,
    /// The flow that started it.
    pub started_by: FlowId,
    /// The flow that is deciding on the transfer as a whole: its start, its settlement or its
    /// return. While there is one, no other may.
    pub held: Option<FlowId>,
    /// When it was made.
    pub created: Millis,
    /// When it last changed.
    pub updated: Millis,
}

/// The role of a party in sort keys.
const SENDER: u8 = 0;
const RECEIVER: u8 = 1;

impl TransferRow {
    /// Its row id.
    #[must_use]
    pub fn id_of(id: &TransferId) -> Vec<u8> {
        id.bytes16().to_vec()
    }

    /// Sum of its leaves' values; at most the most that there can be.
    #[must_use]
    pub fn total(&self) -> Sats {
        Sats(
            self.values
                .iter()
                .fold(0, |sum, value| sum.saturating_add(value.0)),
        )
    }

    /// The place of `identity` among the receivers.
    #[must_use]
    pub fn receiver(&self, identity: &PublicKey) -> Option<usize> {
        self.receivers
            .iter()
            .position(|receiver| receiver.identity == *identity)
    }

    /// The leaves that go to the receiver at `place`.
    pub fn leaves_of(&self, place: usize) -> impl Iterator<Item = &TransferLeafRow> {
        self.leaves
            .iter()
            .filter(move |leaf| usize::try_from(leaf.receiver) == Ok(place))
    }

    /// Sort key prefix of the transfers that `identity` sent (`true`) or receives.
    #[must_use]
    pub fn party_prefix(identity: &PublicKey, sender: bool, network: Network) -> Vec<u8> {
        let mut prefix = identity.serialize().to_vec();
        prefix.push(if sender { SENDER } else { RECEIVER });
        prefix.push(network_byte(network));
        prefix
    }

    /// Sort key prefix of the transfers that `identity` can claim.
    #[must_use]
    pub fn pending_prefix(identity: &PublicKey, network: Network) -> Vec<u8> {
        let mut prefix = identity.serialize().to_vec();
        prefix.push(network_byte(network));
        prefix
    }
}

impl Row for TransferRow {
    const TABLE: Table = Table::Transfer;
    const FORMAT: u8 = 2;

    fn id(&self) -> Vec<u8> {
        Self::id_of(&self.id)
    }

    fn listed(&self) -> Vec<IndexKey> {
        let id = self.id.bytes16();
        let created = self.created.sort();
        let mut listed = vec![IndexKey::new(
            Index::TransferByParty,
            &[
                &Self::party_prefix(&self.sender, true, self.network),
                &created,
                &id,
            ],
        )];
        for receiver in &self.receivers {
            listed.push(IndexKey::new(
                Index::TransferByParty,
                &[
                    &Self::party_prefix(&receiver.identity, false, self.network),
                    &created,
                    &id,
                ],
            ));
            if receiver.phase.is_pending() {
                listed.push(IndexKey::new(
                    Index::TransferPending,
                    &[
                        &Self::pending_prefix(&receiver.identity, self.network),
                        &created,
                        &id,
                    ],
                ));
            }
        }
        if let Some(expiry) = self.expiry.filter(|_| self.status.is_staged()) {
            listed.push(IndexKey::new(
                Index::TransferByExpiry,
                &[&expiry.sort(), &id],
            ));
        }
        for leaf in &self.leaves {
            let receiver = usize::try_from(leaf.receiver)
                .ok()
                .and_then(|place| self.receivers.get(place));
            let ended = matches!(
                self.status,
                TransferStatus::Completed | TransferStatus::Returned
            ) || receiver.is_none_or(|receiver| {
                matches!(
                    receiver.phase,
                    ClaimPhase::Completed | ClaimPhase::Cancelled
                )
            });
            if !ended {
                listed.push(IndexKey::new(
                    Index::TransferByLeaf,
                    &[&leaf.leaf.bytes16(), &created, &id],
                ));
            }
        }
        let epochs = self
            .leaves
            .iter()
            .flat_map(|leaf| [&leaf.send_tweak, &leaf.claim_tweak])
            .flatten()
            .map(|tweak| tweak.epoch);
        if let Some(epoch) = epochs.min() {
            listed.push(IndexKey::new(
                Index::StagedByEpoch,
                &[&epoch.to_be_bytes(), &id],
            ));
        }
        listed
    }
}
