//! What a wallet checks before it believes that it owns something.
//!
//! The sender may be hostile, and so may an operator or the chain source. Each check is one function
//! and one [`Failure`]; nothing here asks anybody: what is needed is passed in.
//!
//! | module | checks |
//! |---|---|
//! | [`refund`] | form, timelock, destination and signature of a refund |
//! | [`keys`] | that user's and operators' halves make the leaf's key |
//! | [`path`] | that a chain of signed transactions leads from the deposit to the leaf |
//! | [`root`] | that the deposit is in a block, unspent, and as large as the tree says |
//! | [`deposit`] | that a deposit became the leaf that was asked for |
//! | [`handover`] | that the sender meant this leaf, in this transfer, for us |
//! | [`agreement`] | that the operators tell the same story |

pub mod agreement;
pub mod deposit;
mod failure;
pub mod handover;
pub mod keys;
pub mod path;
pub mod refund;
pub mod root;

#[cfg(test)]
pub(crate) mod fixture;

pub use failure::Failure;

use crate::error::Error;

/// Result of a check.
pub type Check<T = ()> = std::result::Result<T, Failure>;

impl Failure {
    /// As an error about `subject`.
    pub fn about(self, subject: impl Into<String>) -> Error {
        Error::Check {
            subject: subject.into(),
            failure: self,
        }
    }
}
