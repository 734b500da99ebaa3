//! What every change of money on Spark must satisfy, as pure state machines.
//!
//! A *flow* is a request that must happen on all operators or on none. This crate decides: it is
//! handed the rows that it asked for and the request, rebuilds what the transactions should be,
//! and answers with effects (rows to write), jobs for the signer and a digest, or with a refusal
//! that has a stable reason. There is no clock, no randomness and no socket in here: what the
//! outside world has to say comes in as arguments, so that the simulator and the operator run the
//! same code.
//!
//! Where to look: [`record`] and [`snapshot`] say how rows are read and written, [`rows`] what is
//! stored, [`flow`] what a flow is, and each remaining module is one capability.
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

pub mod address;
pub mod checks;
pub mod claim;
pub mod claim_finish;
pub mod claim_sign;
pub mod deposit;
pub mod exit;
pub mod exit_return;
pub mod exit_settle;
pub mod exit_trees;
pub mod finalize;
pub mod flow;
pub mod form;
pub mod give_back;
pub mod htlc;
pub mod invoice;
pub mod job;
mod legs;
pub mod notice;
pub mod package;
pub mod record;
pub mod refunds;
pub mod refusal;
pub mod renew;
pub mod request;
pub mod return_rule;
pub mod returns;
pub mod rotate;
pub mod rows;
pub mod secret;
pub mod send;
pub mod setting;
pub mod settle;
pub mod snapshot;
pub mod start;
pub mod swap_counter;
pub mod swap_legacy;
pub mod swap_legacy_counter;
pub mod swap_primary;
pub mod utxo;
pub mod utxo_claim;
pub mod utxo_refund;
pub mod utxo_reserve;
pub mod utxo_swap;
pub mod utxo_sweep;
