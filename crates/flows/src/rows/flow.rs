//! The agreement log.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_frost::{OperatorIndex, SignatureShare, SigningPackage};
use tinderbox_protocol::LeafId;

use super::{FlowId, Millis};
use crate::record::{Index, IndexKey, Row, Table};

/// How far a flow is at this operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FlowState {
    /// Voted yes: rows are locked, the outcome is not known here.
    Prepared,
    /// Voted no, or saw a no. Everything staged is gone.
    Refused,
    /// Holds the certificate; shares are made, tweaks applied. Signatures are missing.
    Committed,
    /// Finished.
    Done,
}

/// Which transaction of a leaf a signature is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Part {
    /// Proof of possession of a deposit address' key.
    Possession,
    /// Input of a root transaction.
    Root(u32),
    /// Fee-less refund.
    Cpfp,
    /// Refund of the direct node transaction.
    Direct,
    /// Fee-paying refund of the node transaction.
    DirectFromCpfp,
    /// Spend of an output at a deposit address.
    Spend,
    /// Node that a renewal inserts above the leaf.
    Split,
    /// Its fee-paying variant.
    DirectSplit,
    /// The leaf's own transaction.
    Node,
    /// Its fee-paying variant.
    DirectNode,
}

/// A signature that a flow makes, with what is needed to put it together after the shares of the
/// keys have moved on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobRow {
    /// The leaf that it is for, if any.
    pub leaf: Option<LeafId>,
    /// Which of its transactions.
    pub part: Part,
    /// What is signed and by whom.
    pub package: SigningPackage,
    /// The user's share, if the user signs too.
    pub user_share: Option<SignatureShare>,
    /// The user's half of the key at signing.
    pub user_key: Option<PublicKey>,
    /// Public shares of the operators at signing, in order of index.
    pub public_shares: Vec<PublicKey>,
}

/// What one operator knows about one flow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlowRow {
    /// Id.
    pub id: FlowId,
    /// The operator that runs it.
    pub coordinator: OperatorIndex,
    /// State.
    pub state: FlowState,
    /// What all operators must agree on.
    pub digest: [u8; 32],
    /// The request, encoded; dropped when the flow is done.
    pub request: Vec<u8>,
    /// Votes that this operator has seen, its own included: encoded signed votes by operator.
    pub votes: BTreeMap<OperatorIndex, Vec<u8>>,
    /// Why it was refused, if it was: encoded refusal.
    pub refusal: Vec<u8>,
    /// Signatures to make.
    pub jobs: Vec<JobRow>,
    /// This operator's contribution, made at commit: encoded.
    pub output: Vec<u8>,
    /// What became of the jobs, once they are all there: encoded.
    pub outcome: Vec<u8>,
    /// When the row last changed, by this operator's clock.
    pub updated: Millis,
}

impl FlowRow {
    /// True while something is left to do. A flow that was rolled back after this operator's own
    /// yes stays open, with its request, until all others have confirmed that they hold a no too:
    /// if one of them holds the certificate instead, whoever said no had said yes before.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        match self.state {
            FlowState::Prepared | FlowState::Committed => true,
            FlowState::Refused => !self.request.is_empty(),
            FlowState::Done => false,
        }
    }
}

impl Row for FlowRow {
    const TABLE: Table = Table::Flow;
    const FORMAT: u8 = 2;

    fn id(&self) -> Vec<u8> {
        self.id.0.to_vec()
    }

    fn listed(&self) -> Vec<IndexKey> {
        let index = if self.is_open() {
            Index::FlowOpen
        } else {
            Index::FlowDone
        };
        vec![IndexKey::new(index, &[&self.updated.sort(), &self.id.0])]
    }
}
