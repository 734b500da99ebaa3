//! The stable reasons that clients read from an error's details.

use std::fmt;
use std::str::FromStr;

use tonic::Code;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $code:ident;)*) => {
        /// Why a request was refused, in a word that does not change between versions.
        ///
        /// Wallets match on these words (`google.rpc.ErrorInfo.reason`, domain `spark`), so a
        /// word is never renamed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &[Reason] = &[$(Reason::$name,)*];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }

            /// The status code that goes with it, where the situation does not ask for another.
            pub const fn code(self) -> Code {
                match self { $(Reason::$name => Code::$code,)* }
            }
        }

        impl FromStr for Reason {
            type Err = UnknownReason;
            fn from_str(word: &str) -> Result<Self, UnknownReason> {
                match word {
                    $($text => Ok(Reason::$name),)*
                    _ => Err(UnknownReason(word.to_owned())),
                }
            }
        }
    };
}

reasons! {
    /// The leaf is on its way to be available: ask again soon.
    LeafUnavailable = "LEAF_UNAVAILABLE", FailedPrecondition;
    /// The caller does not own what it wants to spend.
    NotOwner = "NOT_OWNER", PermissionDenied;
    /// The caller may not do this.
    AccessDenied = "ACCESS_DENIED", PermissionDenied;
    /// The call needs a session.
    Unauthenticated = "UNAUTHENTICATED", Unauthenticated;
    /// The session token is too old.
    SessionExpired = "SESSION_EXPIRED", Unauthenticated;
    /// The challenge is too old.
    ChallengeExpired = "CHALLENGE_EXPIRED", Unauthenticated;
    /// The challenge was answered before.
    ChallengeUsed = "CHALLENGE_USED", Unauthenticated;
    /// The id is taken, or the same thing was done already.
    DuplicateOperation = "DUPLICATE_OPERATION", AlreadyExists;
    /// Another claim of the same transfer runs.
    ConcurrentClaimConflict = "CONCURRENT_CLAIM_CONFLICT", Aborted;
    /// Another flow holds a lock on the same rows.
    LockConflict = "LOCK_CONFLICT", Aborted;
    /// The thing exists but is not in a state that allows this.
    InvalidState = "INVALID_STATE", FailedPrecondition;
    /// A signature, proof or share does not verify.
    BadSignature = "BAD_SIGNATURE", InvalidArgument;
    /// A field cannot hold what it holds.
    MalformedField = "MALFORMED_FIELD", InvalidArgument;
    /// A field is not set.
    MissingField = "MISSING_FIELD", InvalidArgument;
    /// A value stands twice where it may stand once.
    DuplicateField = "DUPLICATE_FIELD", InvalidArgument;
    /// A timelock is not the one that the rules ask for.
    TimelockMismatch = "TIMELOCK_MISMATCH", InvalidArgument;
    /// The leaf's timelocks are used up: renew it first.
    LeafRenewalRequired = "LEAF_RENEWAL_REQUIRED", InvalidArgument;
    /// The time for this has passed.
    Expired = "EXPIRED", FailedPrecondition;
    /// The transaction is not deep enough in the chain.
    InsufficientConfirmations = "INSUFFICIENT_CONFIRMATIONS", FailedPrecondition;
    /// Another operator does not answer.
    ExternalOperatorUnavailable = "EXTERNAL_OPERATOR_UNAVAILABLE", Unavailable;
    /// Too many requests.
    RateLimited = "RATE_LIMITED", ResourceExhausted;
    /// A quota is used up.
    QuotaExceeded = "QUOTA_EXCEEDED", ResourceExhausted;
    /// There is no such thing.
    MissingEntity = "MISSING_ENTITY", NotFound;
    /// A one-time value was used for something else before.
    Replay = "REPLAY", FailedPrecondition;
    /// The amounts do not allow this.
    InsufficientAmount = "INSUFFICIENT_AMOUNT", FailedPrecondition;
    /// The method is not offered here.
    MethodDisabled = "METHOD_DISABLED", Unimplemented;
    /// A fault of ours; its cause stays in our log.
    Internal = "INTERNAL", Internal;
}

/// A reason that this version does not know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown reason {0}")]
pub struct UnknownReason(pub String);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
