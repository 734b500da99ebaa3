//! Everything between a socket and a domain type: the protobuf contract and its generated code,
//! TLS, sessions, request validation, limits, error mapping and conversions.
//!
//! A server is put together from [`server::services`] and run by [`server::Server`]; each request
//! passes, outside in: response headers, cross-origin rules, gRPC-web, panic guard, caller
//! identification, rate limits, the bound on requests in flight, and then the handler. A handler
//! calls [`validate::check`], asks its [`Caller`], and returns [`ServiceError`] for every refusal.
//!
//! Operators talk to each other through [`peer`], on a listener of its own. Wallets connect with
//! [`client::connect`].

pub mod client;
pub mod codec;
pub mod convert;
mod error;
pub mod limit;
pub mod peer;
pub mod proto;
mod reason;
pub mod server;
mod service_error;
pub mod session;
pub mod tls;
pub mod validate;

pub use error::Error;
pub use reason::{Reason, UnknownReason};
pub use service_error::{ERROR_DOMAIN, ServiceError};
pub use session::Caller;
