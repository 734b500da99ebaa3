//! The simulator.
//!
//! A run begins with leaves that belong to wallets, lets wallets pay and claim through any
//! operator while operators crash at their writes, messages are lost, doubled, delayed and
//! overtaken, clocks are apart and, in some runs, one operator lies. Then the network heals, and
//! after recovery without any help the invariants must hold.

mod age;
mod check;
mod cluster;
mod coins;
mod deposits;
mod exit;
mod hashlocks;
mod legacy;
mod liar;
mod locks;
mod network;
mod path;
mod renew;
mod run;
mod scene;
mod swaps;
mod tap;

pub use age::Age;
pub use check::Broken;
pub use cluster::Cluster;
pub use deposits::Half;
pub use hashlocks::LASTS_MS;
pub use liar::Lie;
pub use run::{Plan, Report, run};
pub use scene::{Answer, Scene};
pub use tap::{Alter, Fate, MessageTap, Passing, WriteFate, WriteTap};
