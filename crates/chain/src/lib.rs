//! Bitcoin Core over JSON-RPC: what operators and wallets ask of the chain.
//!
//! | module | is |
//! |---|---|
//! | [`rpc`] | the client: one call, many calls in one request, typed results, typed refusals |
//! | [`source`] | [`ChainSource`], the questions an operator or a wallet asks; [`Rpc`] answers them |
//! | [`follow`] | [`Follower`]: applies blocks in order, notices reorganisations, catches up in batches |
//! | [`broadcast`] | sends transactions and packages; "already there" is success; refusals explained |
//! | [`fees`] | a fee rate with sane bounds |
//! | [`regtest`] | [`RegtestNode`]: a private regtest node as a child process |
//! | [`find`] | where a usable `bitcoind` is |
//!
//! Everything takes and gives `bitcoin` types, [`BlockHeight`](tinderbox_protocol::BlockHeight) and
//! [`Sats`](tinderbox_protocol::Sats). Bitcoin Core 29 or newer is needed: version-3 transactions,
//! ephemeral anchors and package submission are what Spark's exits are made of.

pub mod broadcast;
mod core_source;
pub mod error;
pub mod fees;
pub mod find;
pub mod follow;
pub mod regtest;
pub mod rpc;
pub mod source;

pub use broadcast::{Accepted, Broadcaster, PackageOutcome};
pub use error::{Error, Rejection, Result};
pub use fees::FeeEstimator;
pub use find::find_bitcoind;
pub use follow::{BlockSource, ChainEvent, ChainState, ConnectedBlock, Follower, Window};
pub use regtest::{RegtestConfig, RegtestNode};
pub use rpc::{Auth, Rpc, RpcConfig};
pub use source::{BlockRef, ChainSource, OutputView, Spend, TxView};
