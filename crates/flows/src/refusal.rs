//! Why a flow was not started: a reason that programs can rely on, and a text for people.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::record::Unreadable;
use crate::rows::FlowId;
use crate::snapshot::{Miss, ReadError};

/// Stable reasons. Each maps to one status code of the wire contract, in `rpc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// A field cannot be parsed or is out of bounds.
    MalformedField,
    /// A field that must be there is not.
    MissingField,
    /// An entry appears twice.
    DuplicateField,
    /// A signature, proof or share is wrong.
    BadSignature,
    /// A transaction's timelock is not the expected one.
    TimelockMismatch,
    /// The leaf has no timelock left for another hop.
    LeafRenewalRequired,
    /// The caller does not own this.
    NotOwner,
    /// There is no such thing.
    MissingEntity,
    /// The leaf is not ready yet; waiting helps.
    LeafUnavailable,
    /// Not possible in its present state.
    InvalidState,
    /// It is there already.
    DuplicateOperation,
    /// Another request holds it; trying again in a moment helps.
    LockConflict,
    /// Another claim of the same transfer is being agreed on.
    ConcurrentClaimConflict,
    /// Too late.
    Expired,
    /// The chain has not buried it deep enough.
    InsufficientConfirmations,
    /// Another operator does not answer.
    OperatorUnavailable,
    /// Operators do not agree on what they were asked.
    Disagreement,
    /// Too many of something.
    LimitExceeded,
    /// A fault of this operator; nothing was done.
    Internal,
}

/// Fact that names the flow which holds what a request needs.
pub const HELD_BY: &str = "held_by";

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Stable reason.
    pub reason: Reason,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// Facts for programs, such as `leaf_id` or `expected_timelock`.
    pub facts: BTreeMap<String, String>,
}

impl Refusal {
    /// A refusal without facts.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            facts: BTreeMap::new(),
        }
    }

    /// With one more fact.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.facts.insert(name.to_owned(), value.to_string());
        self
    }

    /// With the flow that holds what was asked for, if one does.
    #[must_use]
    pub fn held_by(self, flow: Option<FlowId>) -> Self {
        match flow {
            Some(flow) => self.with(HELD_BY, flow),
            None => self,
        }
    }

    /// True if a flow that was begun after `flow` holds what was asked for. The older of two may
    /// wait for the younger, never the other way round: so of two that want the same thing one gets
    /// it, and nobody waits in a circle.
    #[must_use]
    pub fn is_held_by_younger(&self, flow: FlowId) -> bool {
        // Ids of one length, written in hexadecimal digits, sort like the ids.
        self.facts
            .get(HELD_BY)
            .is_some_and(|holder| *holder > flow.to_string())
    }

    /// True if the same request may succeed later without any change.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self.reason,
            Reason::LockConflict
                | Reason::ConcurrentClaimConflict
                | Reason::OperatorUnavailable
                | Reason::Internal
        )
    }
}

/// Why a flow's function stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Rows are needed that have not been read: read them and call again.
    Miss(Miss),
    /// No.
    Refuse(Refusal),
}

impl From<ReadError> for Halt {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Miss(miss) => Self::Miss(miss),
            ReadError::Unreadable(unreadable) => unreadable.into(),
        }
    }
}

impl From<Unreadable> for Halt {
    fn from(error: Unreadable) -> Self {
        Self::Refuse(Refusal::new(Reason::Internal, error.to_string()))
    }
}

impl From<Refusal> for Halt {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

/// Shorthand for `Err(Halt::Refuse(…))`.
///
/// # Errors
/// Always.
pub fn refuse<T>(reason: Reason, message: impl Into<String>) -> Result<T, Halt> {
    Err(Halt::Refuse(Refusal::new(reason, message)))
}
