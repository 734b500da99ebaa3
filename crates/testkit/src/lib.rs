//! Fakes, fixtures and the simulator.
//!
//! [`sim`] runs real engines, flows and wallets of several operators in one thread, on tables in
//! memory, a chain that is made up, a clock that stands still until everybody waits, and a network
//! that loses, doubles, delays and reorders: all from one seed, so that every failure can be
//! played again.
//!
//! [`proxy`] breaks real connections between real processes.

pub mod chain;
pub mod faults;
pub mod hashlocks;
pub mod legacy;
pub mod owner;
pub mod proxy;
pub mod renewing;
pub mod signer;
pub mod sim;
