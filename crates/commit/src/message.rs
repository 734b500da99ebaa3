//! What operators say to each other about a flow.

use serde::{Deserialize, Serialize};
use tinderbox_flows::flow::{Outcome, Output};
use tinderbox_flows::refusal::Refusal;
use tinderbox_flows::rows::FlowId;
use tinderbox_frost::OperatorIndex;

use crate::certificate::Certificate;
use crate::vote::SignedVote;

/// Format of the messages on the wire.
pub const FORMAT: u32 = 2;

/// From one operator to another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Check this, lock, stage, vote.
    Prepare {
        /// The flow.
        flow: FlowId,
        /// Who runs it. Must be the sender.
        coordinator: OperatorIndex,
        /// The request, encoded.
        request: Vec<u8>,
    },
    /// Everyone said yes: go on.
    Commit {
        /// The flow.
        flow: FlowId,
        /// Proof.
        certificate: Certificate,
    },
    /// Somebody said no: undo.
    Refuse {
        /// The flow.
        flow: FlowId,
        /// Proof.
        vote: SignedVote,
        /// Why.
        refusal: Refusal,
    },
    /// The signatures are complete.
    Finish {
        /// The flow.
        flow: FlowId,
        /// For an operator that has not heard of it.
        certificate: Certificate,
        /// Signatures.
        outcome: Outcome,
    },
    /// What do you know?
    Inquire {
        /// The flow.
        flow: FlowId,
        /// True: if you have not voted, vote no now. False: only tell.
        decide: bool,
    },
}

impl Message {
    /// The flow that it is about.
    #[must_use]
    pub const fn flow(&self) -> FlowId {
        match self {
            Self::Prepare { flow, .. }
            | Self::Commit { flow, .. }
            | Self::Refuse { flow, .. }
            | Self::Finish { flow, .. }
            | Self::Inquire { flow, .. } => *flow,
        }
    }
}

/// The answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// My vote is yes; I do not know the outcome.
    Yes(SignedVote),
    /// There is a no: mine, or one that I was shown.
    No {
        /// Proof.
        vote: SignedVote,
        /// Why.
        refusal: Refusal,
    },
    /// I hold the certificate and did my part.
    Committed {
        /// Proof.
        certificate: Certificate,
        /// My contribution.
        output: Output,
        /// The outcome, if I have it.
        outcome: Option<Outcome>,
    },
    /// I have not voted.
    Unknown,
    /// I could not do it now; nothing is known to have changed. Ask again.
    Later(Refusal),
}
