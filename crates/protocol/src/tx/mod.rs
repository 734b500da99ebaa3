//! Transactions: builders that make the one transaction that the rules allow, and the comparison
//! of what somebody sent with it.
//!
//! All have version 3 (so that a fee-less parent and its child relay together) and locktime 0.
//! "Fee-less" transactions end in an [`anchor`] that anybody may spend to add a fee; "direct"
//! ones pay a fixed fee and have no anchor, for the watchtower. In function names, fee-less
//! refunds are `cpfp`, as on the wire.

mod check;
pub mod connector;
pub mod fee;
pub mod fee_bump;
pub mod htlc;
mod kind;
pub mod node;
mod parse;
pub mod refund;
pub mod root;
mod script;
mod sighash;
pub mod static_deposit;
mod unsigned;

pub use check::{compare, compare_signed};
pub use kind::{TxField, TxKind};
pub use parse::{parse_any, parse_unsigned};
pub use script::{anchor, is_anchor, p2tr, p2tr_address};
pub use sighash::{finalize, sighash, verify_input};
pub use unsigned::{UnsignedTx, Utxo, first_output};

pub(crate) use unsigned::spend;
