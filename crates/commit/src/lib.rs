//! How operators agree: votes, certificates, refusals.
//!
//! The rule that everything else serves: **nothing that gives power leaves an operator before it
//! has seen everyone's yes.** A vote is signed with the operator's identity key, stored before it
//! is sent, and cast once per flow. All votes yes on one digest are the [`Certificate`]; one no is
//! the refusal. They exclude each other as long as nobody votes twice, and whoever does has signed
//! the proof of it.
//!
//! This crate is pure: [`vote`] and [`certificate`] say what is valid, [`message`] what operators
//! say to each other, [`step`] what one of them does next. The operator crate moves the bytes.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod certificate;
pub mod message;
pub mod quorum;
pub mod step;
pub mod vote;

pub use certificate::{Certificate, CertificateError};
pub use message::{Message, Reply};
pub use vote::{SignedVote, Vote, VoteBatch};
