//! Protobuf messages to domain types and back.
//!
//! Reading checks form only: keys are keys, ids are ids, maps are keyed by operators. Whether what
//! is read is true is for the protocol's rules. Every failure is an [`Error`](crate::Error) that
//! names the field, and so becomes INVALID_ARGUMENT.

mod field;
mod job;
mod package;

pub use field::{
    commitment, commitment_to_proto, commitments, commitments_to_proto, id, millis, network,
    network_to_proto, public_key, required, share, timestamp,
};
pub use job::{InputShare, SigningJob};
pub use package::{TransferJobs, TransferPackage};
