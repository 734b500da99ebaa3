//! Fakes for tests.

mod fake_chain;

pub(crate) use fake_chain::FakeChain;
