//! A whole Spark network on one machine: Bitcoin Core, operators, a faucet.
//!
//! [`DevNet`] supervises child processes of the same program that an operator company runs, so
//! that any of them can be killed and started again. [`faucet`] gives coins and stands in front of
//! the node; [`demo`] plays a story on a network of its own; [`bench`] measures one.

mod balancer;
pub mod bench;
pub mod demo;
mod error;
pub mod faucet;
mod keys;
mod network;
mod plan;
mod postgres;
mod proc_stat;
mod process;
mod report;
pub mod soak;

pub use error::Error;
pub use network::DevNet;
pub use plan::{DatabaseChoice, Plan, Ports, SDK_BASE, SDK_FRONT};
pub use report::Status;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
