//! What wallets ask of an operator.
//!
//! A handler parses, checks who asks, and hands a typed request to the engine, or reads rows. One
//! file per capability; [`service`] lists them all under the names of the contract.
//!
//! | file | is |
//! |---|---|
//! | [`error`] | refusals as status codes |
//! | [`view`] | rows with everything that belongs to them, settled before they are shown |
//! | [`deposit`], [`commitments`], [`transfer`], [`renew`], [`exit_trees`], [`htlc`], [`query`], [`events`], [`settings`] | capabilities |
//! | [`dispatch`] | what happens around every handler |
//! | [`idempotency`] | a request that is sent again gets the answer that it got |
//! | [`authn`], [`service`], [`ssp`], [`token`], [`mock`] | the services of the contract |

pub mod authn;
pub mod commitments;
pub mod deposit;
pub mod dispatch;
pub mod error;
pub mod events;
pub mod exit_trees;
pub mod htlc;
pub mod idempotency;
pub mod mock;
pub mod paging;
pub mod query;
pub mod renew;
pub mod service;
pub mod settings;
pub mod ssp;
pub mod token;
pub mod transfer;
pub mod utxo_swap;
pub mod view;

use std::sync::Arc;

use bitcoin::secp256k1::PublicKey;
use tinderbox_chain::BlockRef;
use tinderbox_flows::flow::Outcome;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::Millis;
use tokio::sync::watch;

use crate::config::OperatorInfo;
use crate::limits::{Limits, StreamLimit};
use crate::tables::Tables;
use crate::trace;
use crate::{Core, Engine, Keyshares, Nonces};

pub use error::ApiError;

/// What handlers work with.
#[derive(Clone)]
pub struct Api {
    /// Shared parts.
    pub core: Core,
    /// Runs flows.
    pub engine: Engine,
    /// The pool of key shares.
    pub keyshares: Keyshares,
    /// The pool of nonces.
    pub nonces: Nonces,
    /// Rows.
    pub tables: Tables,
    /// Leaves and balances of private wallets are hidden as well.
    pub hide_balances: bool,
    /// Limits.
    pub limits: Arc<Limits>,
    /// Counts event streams.
    pub streams: StreamLimit,
    /// Event streams.
    pub hub: events::Hub,
    /// All operators, in order of index.
    pub operators: Arc<[OperatorInfo]>,
    /// Give a preimage before the sender's tweaks, as recorded tests ask: local networks that serve
    /// test controls only.
    pub legacy_receive: bool,
    /// Identity keys of the service providers that the configuration lists.
    pub ssps: Arc<[PublicKey]>,
    /// The last block that was applied.
    pub tip: watch::Receiver<Option<BlockRef>>,
}

impl Api {
    /// Runs a flow. Goes on to its end even if the caller does not wait for it: a wallet that
    /// hangs up must not leave leaves locked until somebody asks.
    ///
    /// # Errors
    /// The flow's refusal.
    pub async fn run(&self, request: Request) -> Result<Outcome, Refusal> {
        let engine = self.engine.clone();
        match tokio::spawn(trace::carried(async move { engine.run(request).await })).await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::error!(%error, "a flow's task failed; recovery will finish the flow");
                Err(Refusal::new(
                    Reason::Internal,
                    "the operator failed at this request",
                ))
            }
        }
    }

    /// Now, by this operator's clock.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.core.clock.now()
    }

    /// Height of the last block that was applied; 0 before the first.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.tip.borrow().map_or(0, |tip| tip.height.0)
    }

    /// Random bytes.
    #[must_use]
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.core.clock.random(&mut bytes);
        bytes
    }

    /// A random UUID (version 4).
    #[must_use]
    pub fn random_id(&self) -> [u8; 16] {
        uuid::Builder::from_random_bytes(self.random())
            .into_uuid()
            .into_bytes()
    }
}
