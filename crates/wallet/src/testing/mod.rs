//! Fakes for tests.

mod fake_chain;
mod fake_operator;
mod to_wire;
mod world;

pub(crate) use fake_chain::FakeChain;
pub(crate) use fake_operator::FakeOperator;
pub(crate) use to_wire::{node_message, transfer_message};
pub(crate) use world::World;
