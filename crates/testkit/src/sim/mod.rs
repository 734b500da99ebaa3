//! The simulator.
//!
//! A run begins with leaves that belong to wallets, lets wallets do all that wallets can do, a few
//! kinds of it in each run, through any operator while operators crash at their writes, messages are lost, doubled, delayed and
//! overtaken, clocks are apart and, in some runs, one operator lies. Then the network heals, and
//! after recovery without any help the invariants must hold.

mod acks;
mod after;
mod age;
mod check;
mod cluster;
mod coins;
mod deposits;
mod desk;
mod exit;
mod exits;
mod half;
mod hashlocks;
mod holds;
mod legacy;
mod liar;
mod locks;
mod network;
mod older;
mod outputs;
mod path;
mod pay;
mod plan;
mod renew;
mod report;
mod returns;
mod run;
mod scene;
mod settings;
mod steps;
mod swaps;
mod tap;
mod trees;

pub use age::Age;
pub use check::Broken;
pub use cluster::Cluster;
pub use half::Half;
pub use hashlocks::LASTS_MS;
pub use liar::Lie;
pub use plan::{Family, Plan, Weights};
pub use report::{Deed, Report};
pub use run::run;
pub use scene::{Answer, Scene};
pub use tap::{Alter, Fate, MessageTap, Passing, WriteFate, WriteTap};
