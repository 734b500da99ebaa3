//! The one error that handlers return, and the one mapping between it and a gRPC status.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{Error, Reason};

/// Domain of the error details; wallets look for this word.
pub const ERROR_DOMAIN: &str = "spark";

/// What a caller is told about a fault of ours.
const MASKED: &str = "Something went wrong.";

/// How soon a caller that lost a race should come back.
const CONFLICT_RETRY: Duration = Duration::from_millis(100);

/// A refusal, as a handler gives it and as a caller reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceError {
    /// Status code; clients retry or give up by it.
    pub code: Code,
    /// Stable reason. `None` only in answers of servers that send none.
    pub reason: Option<Reason>,
    /// Text for a person. Some clients match parts of it, see the constructors.
    pub message: String,
    /// Ids and expected/actual values for programs.
    pub metadata: BTreeMap<String, String>,
    /// When to try again, where that makes sense.
    pub retry_after: Option<Duration>,
}

impl ServiceError {
    /// A refusal with the code that goes with `reason`.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code: reason.code(),
            reason: Some(reason),
            message: message.into(),
            metadata: BTreeMap::new(),
            retry_after: matches!(
                reason,
                Reason::LockConflict | Reason::ConcurrentClaimConflict
            )
            .then_some(CONFLICT_RETRY),
        }
    }

    /// The same with another status code.
    #[must_use]
    pub fn with_code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// The same with one more metadata entry.
    #[must_use]
    pub fn with(mut self, key: impl Into<String>, value: impl ToString) -> Self {
        self.metadata.insert(key.into(), value.to_string());
        self
    }

    /// The same with a time to wait.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// A leaf that another flow or the chain holds.
    ///
    /// Wallets look for "not available to transfer" to resynchronise, and for the status word.
    /// Only a leaf that is being created is worth waiting for, so only it gets the reason that
    /// makes wallets wait.
    pub fn leaf_not_available(leaf: impl fmt::Display, status: &str) -> Self {
        let reason = if status == "CREATING" {
            Reason::LeafUnavailable
        } else {
            Reason::InvalidState
        };
        Self::new(
            reason,
            format!("leaf {leaf} is not available to transfer, status: {status}; refresh leaves"),
        )
        .with("leaf_id", leaf)
        .with("status", status)
    }

    /// A leaf of someone else. Wallets look for "not owned by".
    pub fn leaf_not_owned(leaf: impl fmt::Display, caller: impl fmt::Display) -> Self {
        Self::new(
            Reason::NotOwner,
            format!("leaf {leaf} is not owned by {caller}; refresh leaves"),
        )
        .with("leaf_id", leaf)
    }

    /// An id that is taken by a different request, or work that is done.
    pub fn duplicate(what: impl fmt::Display) -> Self {
        Self::new(
            Reason::DuplicateOperation,
            format!("{what} exists already; query it"),
        )
    }

    /// Something is in the wrong state; the message names the state.
    pub fn invalid_state(what: impl fmt::Display, status: impl fmt::Display) -> Self {
        Self::new(
            Reason::InvalidState,
            format!("{what} is in status {status}; query it again"),
        )
        .with("status", status)
    }

    /// A lost race for rows; comes with a time to wait.
    pub fn lock_conflict(what: impl fmt::Display) -> Self {
        Self::new(
            Reason::LockConflict,
            format!("{what} is in use by another request; try again"),
        )
    }

    /// A second claim beside a running one; comes with a time to wait.
    pub fn concurrent_claim(what: impl fmt::Display) -> Self {
        Self::new(
            Reason::ConcurrentClaimConflict,
            format!("another claim of {what} is running; try again"),
        )
    }

    /// A timelock other than the rule's.
    pub fn timelock_mismatch(
        leaf: impl fmt::Display,
        expected: impl fmt::Display,
        provided: impl fmt::Display,
    ) -> Self {
        Self::new(
            Reason::TimelockMismatch,
            format!("timelock of leaf {leaf} is {provided}, must be {expected}; refresh leaves"),
        )
        .with("leaf_id", leaf)
        .with("expected_timelock", expected)
        .with("provided_timelock", provided)
    }

    /// A leaf that has no steps left.
    pub fn renewal_required(leaf: impl fmt::Display) -> Self {
        Self::new(
            Reason::LeafRenewalRequired,
            format!("the timelocks of leaf {leaf} are used up; renew the leaf first"),
        )
        .with("leaf_id", leaf)
    }

    /// A signature, proof or share that does not verify.
    pub fn bad_signature(what: impl fmt::Display) -> Self {
        Self::new(
            Reason::BadSignature,
            format!("{what} does not verify; sign again"),
        )
    }

    /// Something that does not exist.
    pub fn not_found(what: impl fmt::Display) -> Self {
        Self::new(Reason::MissingEntity, format!("{what} not found"))
    }

    /// A peer that does not answer.
    pub fn operator_unavailable(operator: impl fmt::Display) -> Self {
        Self::new(
            Reason::ExternalOperatorUnavailable,
            format!("operator {operator} does not answer; try again"),
        )
        .with("operator", operator)
    }

    /// Too many requests of one caller.
    pub fn rate_limited(wait: Duration) -> Self {
        Self::new(Reason::RateLimited, "too many requests; slow down").after(wait)
    }

    /// A call without a session.
    pub fn unauthenticated(why: impl fmt::Display) -> Self {
        Self::new(
            Reason::Unauthenticated,
            format!("this call needs a session ({why}); authenticate"),
        )
    }

    /// A token that is too old. Wallets look for exactly these words to authenticate again.
    pub fn token_expired() -> Self {
        Self::new(Reason::SessionExpired, "token has expired")
    }

    /// A challenge that is too old. Wallets look for exactly these words to ask for another.
    pub fn challenge_expired() -> Self {
        Self::new(Reason::ChallengeExpired, "challenge expired")
    }

    /// A call for another identity than the session's.
    pub fn access_denied(why: impl Into<String>) -> Self {
        Self::new(Reason::AccessDenied, why)
    }

    /// A fault of ours: the cause goes to the log, the caller learns nothing of it.
    pub fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(%cause, "request failed by a fault of ours");
        Self::new(Reason::Internal, MASKED)
    }

    /// Reads what a server answered.
    pub fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details
            .error_info()
            .filter(|info| info.domain == ERROR_DOMAIN);
        Self {
            code: status.code(),
            reason: info.and_then(|info| info.reason.parse().ok()),
            message: status.message().to_owned(),
            metadata: info
                .map(|info| info.metadata.clone().into_iter().collect())
                .unwrap_or_default(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
        }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ServiceError {}

impl From<ServiceError> for Status {
    fn from(error: ServiceError) -> Self {
        // Faults of ours carry no details at all.
        if matches!(error.code, Code::Internal | Code::Unknown) {
            return Status::new(error.code, error.message);
        }
        let mut details = ErrorDetails::new();
        if let Some(reason) = error.reason {
            let metadata: std::collections::HashMap<_, _> = error.metadata.into_iter().collect();
            details.set_error_info(reason.as_str(), ERROR_DOMAIN, metadata);
        }
        if let Some(wait) = error.retry_after {
            details.set_retry_info(Some(wait));
        }
        Status::with_error_details(error.code, error.message, details)
    }
}

impl From<&Status> for ServiceError {
    fn from(status: &Status) -> Self {
        Self::from_status(status)
    }
}

impl From<Status> for ServiceError {
    fn from(status: Status) -> Self {
        Self::from_status(&status)
    }
}

impl From<Error> for ServiceError {
    fn from(error: Error) -> Self {
        let reason = match &error {
            Error::MissingField { .. } => Reason::MissingField,
            Error::MalformedField { .. } => Reason::MalformedField,
            Error::DuplicateField { .. } => Reason::DuplicateField,
            other => return Self::internal(other),
        };
        let message = error.to_string();
        let (Error::MissingField { field }
        | Error::MalformedField { field, .. }
        | Error::DuplicateField { field, .. }) = error
        else {
            return Self::internal(message);
        };
        Self::new(reason, message).with("field", field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over_the_wire(error: ServiceError) -> ServiceError {
        ServiceError::from(Status::from(error))
    }

    #[test]
    fn every_reason_has_one_word_and_keeps_it_over_the_wire() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
            if reason.code() != Code::Internal {
                let error = ServiceError::new(*reason, "text").with("leaf_id", 7);
                assert_eq!(over_the_wire(error.clone()), error);
            }
        }
        assert!("leaf_unavailable".parse::<Reason>().is_err());
    }

    #[test]
    fn locked_leaf_is_worth_a_refresh_and_a_new_one_worth_a_wait() {
        let locked = ServiceError::leaf_not_available("abc", "TRANSFER_LOCKED");
        assert_eq!(locked.code, Code::FailedPrecondition);
        assert_eq!(locked.reason, Some(Reason::InvalidState));
        assert!(locked.message.contains("not available to transfer"));
        assert!(locked.message.contains("TRANSFER_LOCKED"));
        let new = ServiceError::leaf_not_available("abc", "CREATING");
        assert_eq!(new.reason, Some(Reason::LeafUnavailable));
    }

    #[test]
    fn texts_that_wallets_look_for_are_there() {
        assert!(
            ServiceError::leaf_not_owned("a", "b")
                .message
                .contains("not owned by")
        );
        assert_eq!(
            ServiceError::leaf_not_owned("a", "b").code,
            Code::PermissionDenied
        );
        assert!(
            ServiceError::token_expired()
                .message
                .contains("token has expired")
        );
        assert_eq!(ServiceError::token_expired().code, Code::Unauthenticated);
        assert!(
            ServiceError::challenge_expired()
                .message
                .contains("challenge expired")
        );
        assert!(
            ServiceError::invalid_state("transfer", "EXPIRED")
                .message
                .contains("EXPIRED")
        );
    }

    #[test]
    fn lost_race_says_when_to_come_back() {
        for error in [
            ServiceError::lock_conflict("leaf"),
            ServiceError::concurrent_claim("it"),
        ] {
            let read = over_the_wire(error);
            assert_eq!(read.code, Code::Aborted);
            assert_eq!(read.retry_after, Some(Duration::from_millis(100)));
        }
    }

    #[test]
    fn fault_of_ours_tells_nothing() {
        let status = Status::from(ServiceError::internal("secret detail").with("path", "/x"));
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(status.message(), "Something went wrong.");
        assert!(status.details().is_empty());
    }

    #[test]
    fn timelocks_are_told_as_expected_and_provided() {
        let read = over_the_wire(ServiceError::timelock_mismatch("leaf", 1900, 2000));
        assert_eq!(read.code, Code::InvalidArgument);
        assert_eq!(read.metadata["expected_timelock"], "1900");
        assert_eq!(read.metadata["provided_timelock"], "2000");
        assert_eq!(read.metadata["leaf_id"], "leaf");
    }

    #[test]
    fn details_of_another_domain_are_not_ours() {
        let details = ErrorDetails::with_error_info("LOCK_CONFLICT", "elsewhere", []);
        let status = Status::with_error_details(Code::Aborted, "text", details);
        let read = ServiceError::from_status(&status);
        assert_eq!(read.reason, None);
        assert_eq!(read.message, "text");
    }
}
