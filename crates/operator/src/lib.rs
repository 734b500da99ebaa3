//! A Spark operator.
//!
//! Data flows one way: `api` parses, authenticates and hands a typed request to the [`engine`];
//! the engine runs a flow on all operators; flows decide; the store applies. Chain duties feed the
//! same store. Everything that matters is in the database or in the signer's vault: several
//! processes of one operator may share both.

pub mod api;
pub mod chain;
pub mod clock;
pub mod config;
pub mod convert;
pub mod engine;
pub mod events;
pub mod keyshares;
pub mod limits;
pub mod metrics;
pub mod nonces;
pub mod peer;
pub mod returns;
pub mod serve;
pub mod tables;

use std::sync::Arc;

use tinderbox_chain::ChainSource;
use tinderbox_flows::flow::Site;
use tinderbox_signer::Signer;
use tinderbox_store::Store;

pub use clock::Clock;
pub use engine::{Engine, PeerError, Peers};
pub use events::Events;
pub use keyshares::Keyshares;
pub use nonces::Nonces;

/// The parts of an operator that all services share.
#[derive(Clone)]
pub struct Core {
    /// Who the operators are.
    pub site: Arc<Site>,
    /// Tables.
    pub store: Arc<dyn Store>,
    /// Key custody.
    pub signer: Arc<dyn Signer>,
    /// The chain.
    pub chain: Arc<dyn ChainSource>,
    /// Time and randomness.
    pub clock: Arc<dyn Clock>,
    /// The other operators.
    pub peers: Arc<dyn Peers>,
    /// What just happened, for event streams.
    pub events: Events,
}
