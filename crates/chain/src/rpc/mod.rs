//! The JSON-RPC client.
//!
//! [`Rpc`] is cheap to clone; all clones share one connection pool. [`Rpc::call`] is one call,
//! [`Rpc::batch`] many in one HTTP request; `methods` gives the calls that we use their types.

mod config;
mod methods;
mod transport;
pub mod types;

pub use config::{Auth, RpcConfig};
pub use transport::Rpc;

/// The oldest Bitcoin Core that works, as `getnetworkinfo` counts: 29.0.
pub const MINIMUM_VERSION: u64 = 290_000;

/// Core's error codes that we act on (`rpc/protocol.h` of Bitcoin Core).
pub mod code {
    /// No such block, transaction or address.
    pub const NOT_FOUND: i64 = -5;
    /// A parameter is out of range, for example a height above the tip.
    pub const OUT_OF_RANGE: i64 = -8;
    /// The transaction was not even looked at by the mempool: inputs missing, fee above the cap.
    pub const VERIFY_ERROR: i64 = -25;
    /// The mempool's rules forbid the transaction.
    pub const VERIFY_REJECTED: i64 = -26;
    /// The transaction's outputs are in the chain already.
    pub const ALREADY_IN_CHAIN: i64 = -27;
    /// The node is starting.
    pub const WARMING_UP: i64 = -28;
}
