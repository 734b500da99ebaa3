//! What a payment and a claim consist of: half-signed refunds, and a change of key for every operator.
//!
//! No I/O here: the operators' nonces come in, a message comes out.

mod claim;
mod deal;
mod renew;
mod send;
#[cfg(test)]
mod tests;

pub(crate) use claim::{Incoming, claim_package};
pub(crate) use deal::Recipients;
pub(crate) use renew::Renewal;
pub(crate) use send::{Outgoing, transfer_package};
