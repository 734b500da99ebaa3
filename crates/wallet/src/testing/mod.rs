//! Fakes for tests.

mod fake_chain;
mod fake_operator;

pub(crate) use fake_chain::FakeChain;
pub(crate) use fake_operator::FakeOperator;
