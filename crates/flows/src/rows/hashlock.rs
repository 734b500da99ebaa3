//! Transfers against the preimage of a payment hash, and the preimages that operators hold in shares.

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::{LeafId, TransferId};

use super::{FlowId, JobRow, Millis};
use crate::package::UserShare;
use crate::record::{Index, IndexKey, Row, Table};
use crate::secret::{Preimage, SealedPreimage};

/// This operator's share of a preimage that a wallet deposited, so that it can be paid while it is
/// offline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreimageShareRow {
    /// SHA-256 of the preimage.
    pub payment_hash: [u8; 32],
    /// Who is to be paid: its identity key.
    pub owner: PublicKey,
    /// How many shares give the preimage.
    pub threshold: u16,
    /// The Lightning invoice, as it was sent.
    pub invoice: String,
    /// The share.
    pub sealed: SealedPreimage,
    /// Commitments of the polynomial, the preimage's own point first.
    pub proofs: Vec<PublicKey>,
    /// The flow that is storing it, or giving it away.
    pub held: Option<FlowId>,
    /// When it was made.
    pub created: Millis,
}

impl Row for PreimageShareRow {
    const TABLE: Table = Table::PreimageShare;

    fn id(&self) -> Vec<u8> {
        self.payment_hash.to_vec()
    }
}

/// How far a hash lock is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashLockState {
    /// Nobody has shown the preimage.
    Waiting,
    /// The operators have put the preimage together; the transfer is to be settled, and cannot be
    /// returned any more. Nobody else is told the preimage before it is.
    Revealed(Preimage),
    /// Settled.
    Shared(Preimage),
    /// The leaves are with their sender again.
    Returned,
}

/// A fee-less plain refund that the sender half signed, for the receiver to look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRefund {
    /// Of which leaf.
    pub leaf: LeafId,
    /// The transaction, without witness.
    pub tx: Vec<u8>,
    /// The sender's half of its signature.
    pub share: UserShare,
}

/// On which side of a hash lock somebody stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockRole {
    /// It gives the leaves.
    Sender,
    /// It gets them for the preimage.
    Receiver,
    /// On either.
    Either,
}

/// A transfer against a preimage: what its own row does not say.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HashLockRow {
    /// The transfer.
    pub transfer: TransferId,
    /// SHA-256 of the preimage.
    pub payment_hash: [u8; 32],
    /// Who gives the leaves.
    pub sender: PublicKey,
    /// Who gets them.
    pub receiver: PublicKey,
    /// How far it is.
    pub state: HashLockState,
    /// Half-signed plain refunds, until it is settled or returned.
    pub refunds: Vec<UserRefund>,
    /// The signatures that are made when it is settled, and not before: a transfer that is returned
    /// must leave nothing behind that competes with the sender's own refunds.
    pub jobs: Vec<JobRow>,
    /// When it was made.
    pub created: Millis,
    /// When it last changed.
    pub updated: Millis,
}

impl HashLockRow {
    /// Its row id.
    #[must_use]
    pub fn id_of(transfer: &TransferId) -> Vec<u8> {
        transfer.bytes16().to_vec()
    }

    /// Sort key prefix of the hash locks in which `identity` has this role.
    #[must_use]
    pub fn party_prefix(identity: &PublicKey, role: LockRole) -> Vec<u8> {
        let mut prefix = identity.serialize().to_vec();
        prefix.push(match role {
            LockRole::Sender => 0,
            LockRole::Receiver => 1,
            LockRole::Either => 2,
        });
        prefix
    }

    /// Sort key prefix of the hash locks with this payment hash.
    #[must_use]
    pub fn hash_prefix(payment_hash: &[u8; 32]) -> Vec<u8> {
        payment_hash.to_vec()
    }

    /// The preimage, if everybody may know it.
    #[must_use]
    pub const fn shared(&self) -> Option<&Preimage> {
        match &self.state {
            HashLockState::Shared(preimage) => Some(preimage),
            _ => None,
        }
    }

    /// Brings it to an end: what was kept for one is dropped.
    pub fn end(&mut self, state: HashLockState, now: Millis) {
        self.state = state;
        self.refunds.clear();
        self.jobs.clear();
        self.updated = now;
    }
}

impl Row for HashLockRow {
    const TABLE: Table = Table::HashLock;

    fn id(&self) -> Vec<u8> {
        Self::id_of(&self.transfer)
    }

    fn listed(&self) -> Vec<IndexKey> {
        let id = self.transfer.bytes16();
        let created = self.created.sort();
        let party = |identity: &PublicKey, role| {
            let prefix = Self::party_prefix(identity, role);
            IndexKey::new(Index::HashLockByParty, &[&prefix, &created, &id])
        };
        let mut listed = vec![
            party(&self.sender, LockRole::Sender),
            party(&self.receiver, LockRole::Receiver),
            party(&self.sender, LockRole::Either),
            IndexKey::new(
                Index::HashLockByHash,
                &[
                    &self.payment_hash,
                    &self.receiver.serialize(),
                    &created,
                    &id,
                ],
            ),
        ];
        if self.receiver != self.sender {
            listed.push(party(&self.receiver, LockRole::Either));
        }
        if matches!(self.state, HashLockState::Revealed(_)) {
            listed.push(IndexKey::new(Index::HashLockRevealed, &[&created, &id]));
        }
        listed
    }
}

/// Keeps a payment hash exclusive: at most one hash lock per hash and receiver is waiting or
/// settled. Shares a table with [`HashLockRow`]; the lengths of their ids differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashSlotRow {
    /// The payment hash.
    pub payment_hash: [u8; 32],
    /// The receiver.
    pub receiver: PublicKey,
    /// The transfer that has it.
    pub transfer: TransferId,
}

impl HashSlotRow {
    /// Its row id.
    #[must_use]
    pub fn id_of(payment_hash: &[u8; 32], receiver: &PublicKey) -> Vec<u8> {
        [payment_hash.as_slice(), &receiver.serialize()].concat()
    }
}

impl Row for HashSlotRow {
    const TABLE: Table = Table::HashLock;

    fn id(&self) -> Vec<u8> {
        Self::id_of(&self.payment_hash, &self.receiver)
    }
}
