//! Deposits: addresses, and what is paid to them.

mod address;
mod finalize;
mod listing;
pub(super) mod refund;
mod rotate;
mod utxos;

pub use address::{generate_deposit_address, generate_static_deposit_address};
pub use finalize::finalize_deposit_tree_creation;
pub use listing::{query_static_deposit_addresses, query_unused_deposit_addresses};
pub use refund::initiate_static_deposit_utxo_refund;
pub use rotate::rotate_static_deposit_address;
pub use utxos::{get_utxos_for_address, get_utxos_for_identity};
