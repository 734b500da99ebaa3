//! What an operator does next, given what it knows about a flow.

use tinderbox_flows::rows::{FlowRow, FlowState};

use crate::message::Message;

/// The next step of an operator that was sent a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look at the request and vote.
    Vote,
    /// Never voted on it: store a no.
    VoteNo,
    /// Answer with what is stored; change nothing.
    Tell,
    /// Check the certificate, then sign and tweak.
    Commit,
    /// Check the outcome, then write it.
    Finish,
    /// Check the certificate, sign, tweak, then write the outcome.
    CommitAndFinish,
    /// Check the no, then undo.
    Rollback,
    /// Check the no, then remember it, so that a late prepare finds it.
    Burn,
    /// A no against a certificate: somebody voted twice. The certificate stands; name the operator.
    Evidence,
    /// A certificate against a no that this operator was shown after its own yes: somebody voted
    /// twice. The certificate wins, because others may have acted on it, and a no gives nothing to
    /// act on. Name the operator, vote yes again, commit.
    Reinstate,
    /// A certificate for a flow on which this operator has no vote on record: its database is
    /// older than its word. Refuse loudly; an operator must not restore an old database.
    Amnesia,
}

/// Decides by state and message alone. Total: every combination has an answer, so that lost,
/// doubled, late and reordered messages need no thought elsewhere.
#[must_use]
pub const fn next(row: Option<&FlowRow>, message: &Message) -> Step {
    let Some(row) = row else {
        return match message {
            Message::Prepare { .. } => Step::Vote,
            Message::Commit { .. } | Message::Finish { .. } => Step::Amnesia,
            Message::Refuse { .. } => Step::Burn,
            Message::Inquire { decide: true, .. } => Step::VoteNo,
            Message::Inquire { decide: false, .. } => Step::Tell,
        };
    };
    match (row.state, message) {
        (_, Message::Prepare { .. } | Message::Inquire { .. })
        | (FlowState::Committed | FlowState::Done, Message::Commit { .. })
        | (FlowState::Done, Message::Finish { .. })
        | (FlowState::Refused, Message::Refuse { .. }) => Step::Tell,
        (FlowState::Prepared, Message::Commit { .. }) => Step::Commit,
        (FlowState::Prepared, Message::Finish { .. }) => Step::CommitAndFinish,
        (FlowState::Prepared, Message::Refuse { .. }) => Step::Rollback,
        (FlowState::Committed, Message::Finish { .. }) => Step::Finish,
        (FlowState::Refused, Message::Commit { .. } | Message::Finish { .. }) => {
            // Without a request on record this operator never said yes: no certificate is real.
            if row.request.is_empty() {
                Step::Evidence
            } else {
                Step::Reinstate
            }
        }
        (FlowState::Committed | FlowState::Done, Message::Refuse { .. }) => Step::Evidence,
    }
}
