//! A whole Spark network on one machine.

pub mod faucet;
