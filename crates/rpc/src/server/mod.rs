//! The listener that wallets connect to: TLS, gRPC and gRPC-web on one port, and everything that
//! each request passes before its handler.

mod accept;
mod connection;
mod cors;
mod headers;
mod identify;
mod panic;
mod run;
pub mod services;
mod settings;

pub use accept::{Accepted, accept};
pub use connection::{Connection, ConnectionInfo};
pub use cors::cors;
pub use headers::{ResponseHeaders, ResponseHeadersLayer, TraceId};
pub use identify::{Identify, IdentifyLayer};
pub use panic::{CatchPanic, CatchPanicLayer};
pub use run::Server;
pub(crate) use run::run;
pub use settings::Settings;
