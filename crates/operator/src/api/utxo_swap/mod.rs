//! Outputs at static addresses that service providers swap for leaves.

mod earlier;
mod fixed;
mod instant;
mod request;
mod sweep;

pub use fixed::initiate_static_deposit_utxo_swap;
pub use instant::{
    claim_instant_static_deposit_utxo_swap, reserve_instant_static_deposit_utxo_swap,
};
pub use sweep::sign_static_deposit_sweep_tx;
