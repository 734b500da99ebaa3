//! Connections to operators, for wallets and for operators themselves.

mod connect;
mod connector;
mod services;
mod trust;

pub use connect::{connect, connect_lazy};
pub(crate) use connector::{Target, channel, established};
pub use services::{MESSAGE_BYTES, authn, mock, peer, spark, ssp, token};
pub use trust::TlsTrust;
