//! Refusals of flows as the refusals that wallets read. The only place where both are known.

use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_rpc::{Reason as WireReason, ServiceError};
use tonic::{Code, Status};

use crate::tables::TableError;

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// A flow or a check refused it.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The edge refused it.
    #[error("{0}")]
    Service(#[from] ServiceError),
}

impl ApiError {
    /// The wallet keeps this to itself.
    #[must_use]
    pub fn private() -> Self {
        ServiceError::access_denied("this wallet is private: only its owner may read this").into()
    }

    /// The reason, if a flow or a check refused it.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Refused(refusal) => Some(refusal.reason),
            Self::Service(_) => None,
        }
    }
}

impl From<TableError> for ApiError {
    fn from(error: TableError) -> Self {
        Self::Refused(error.into())
    }
}

impl From<ApiError> for ServiceError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Refused(refusal) => refused(refusal),
            ApiError::Service(error) => error,
        }
    }
}

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        ServiceError::from(error).into()
    }
}

/// The word of the contract for a flow's reason, and a status code if not the word's own.
const fn wire(reason: Reason) -> (WireReason, Option<Code>) {
    let word = match reason {
        Reason::MalformedField => WireReason::MalformedField,
        Reason::MissingField => WireReason::MissingField,
        Reason::DuplicateField => WireReason::DuplicateField,
        Reason::BadSignature => WireReason::BadSignature,
        Reason::TimelockMismatch => WireReason::TimelockMismatch,
        Reason::LeafRenewalRequired => WireReason::LeafRenewalRequired,
        Reason::NotOwner => WireReason::NotOwner,
        Reason::MissingEntity => WireReason::MissingEntity,
        Reason::LeafUnavailable => WireReason::LeafUnavailable,
        Reason::InvalidState | Reason::Disagreement => WireReason::InvalidState,
        Reason::DuplicateOperation => WireReason::DuplicateOperation,
        Reason::LockConflict => WireReason::LockConflict,
        Reason::ConcurrentClaimConflict => WireReason::ConcurrentClaimConflict,
        Reason::Expired => WireReason::Expired,
        Reason::InsufficientConfirmations => WireReason::InsufficientConfirmations,
        Reason::OperatorUnavailable => WireReason::ExternalOperatorUnavailable,
        Reason::LimitExceeded => WireReason::QuotaExceeded,
        Reason::Internal => WireReason::Internal,
    };
    (word, None)
}

fn refused(refusal: Refusal) -> ServiceError {
    if refusal.reason == Reason::Internal {
        return ServiceError::internal(&refusal.message);
    }
    let (reason, code) = wire(refusal.reason);
    let mut error = ServiceError::new(reason, refusal.message);
    error.metadata = refusal.facts;
    match code {
        Some(code) => error.with_code(code),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_and_facts_travel_with_the_code() {
        let refusal = Refusal::new(Reason::TimelockMismatch, "timelock is 3, expected 4")
            .with("expected_timelock", 4);
        let status = Status::from(ApiError::from(refusal));
        assert_eq!(status.code(), Code::InvalidArgument);
        let read = ServiceError::from_status(&status);
        assert_eq!(read.reason, Some(WireReason::TimelockMismatch));
        assert_eq!(read.metadata.get("expected_timelock").unwrap(), "4");
    }

    #[test]
    fn conflicts_say_when_to_try_again() {
        for reason in [Reason::ConcurrentClaimConflict, Reason::LockConflict] {
            let status = Status::from(ApiError::from(Refusal::new(reason, "busy")));
            assert_eq!(status.code(), Code::Aborted);
            assert!(ServiceError::from_status(&status).retry_after.is_some());
        }
    }

    #[test]
    fn our_own_faults_tell_nothing() {
        let refusal = Refusal::new(Reason::Internal, "table 7 is on fire").with("table", 7);
        let status = Status::from(ApiError::from(refusal));
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("table"));
        assert!(status.details().is_empty());
    }
}
