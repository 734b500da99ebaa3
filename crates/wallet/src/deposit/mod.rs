//! From the chain into Spark: addresses, and the claim of what was sent to them.

mod address;
mod claim;

pub use address::{DepositAddress, UnusedAddress};
