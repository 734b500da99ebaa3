//! Runs flows: the only way in which money moves.
//!
//! [`Engine::run`] is what an api handler calls. The other operators' engines are reached through
//! [`Peers`] and answer in [`Engine::handle`]. What a flow decides is in the flows crate, who says
//! what when in the commit crate; this module reads rows, asks the signer, writes batches and
//! sends messages.

mod coordinator;
mod participant;
mod recovery;
mod revealed;
mod rows;
mod shares;
mod votes;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::OutPoint;
use tinderbox_chain::Spend;
use tinderbox_commit::{Message, Reply};
use tinderbox_flows::flow::ChainFact;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::rows::FlowId;
use tinderbox_frost::OperatorIndex;

use crate::Core;

/// Another operator did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("operator {operator:?} does not answer: {why}")]
pub struct PeerError {
    /// Which.
    pub operator: OperatorIndex,
    /// Why.
    pub why: String,
}

/// The way to the other operators.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// Sends an agreement message and waits for the answer, for a bounded time.
    async fn agree(&self, to: OperatorIndex, message: Message) -> Result<Reply, PeerError>;

    /// Sends a key generation message.
    async fn dkg(
        &self,
        to: OperatorIndex,
        message: crate::keyshares::DkgMessage,
    ) -> Result<crate::keyshares::DkgReply, PeerError>;

    /// Asks for nonce commitments, to be handed out to wallets.
    async fn nonces(
        &self,
        to: OperatorIndex,
        count: u32,
    ) -> Result<Vec<tinderbox_frost::NonceCommitment>, PeerError>;
}

/// How long the engine waits for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For votes, before the coordinator votes no.
    pub votes: Duration,
    /// For acknowledgements, before the coordinator answers its client anyway.
    pub acknowledgements: Duration,
    /// Without news of a flow, before its outcome is asked for.
    pub doubt: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            votes: Duration::from_secs(10),
            acknowledgements: Duration::from_secs(5),
            doubt: Duration::from_secs(3),
        }
    }
}

/// Runs flows for one operator.
#[derive(Clone)]
pub struct Engine {
    core: Core,
    patience: Patience,
    votes: votes::VoteSigner,
    /// Flows that this process coordinates right now. Not a lock: only keeps recovery from asking
    /// about what is in progress.
    running: Arc<Mutex<BTreeSet<FlowId>>>,
    /// Operators that were caught voting twice, with the flow.
    equivocations: Arc<Mutex<BTreeSet<(FlowId, OperatorIndex)>>>,
}

impl Engine {
    /// An engine on these parts.
    #[must_use]
    pub fn new(core: Core, patience: Patience) -> Self {
        let votes = votes::VoteSigner::new(core.site.me, Arc::clone(&core.signer));
        Self {
            core,
            patience,
            votes,
            running: Arc::default(),
            equivocations: Arc::default(),
        }
    }

    /// Operators that this one has caught voting yes and no on one flow.
    #[must_use]
    pub fn equivocations(&self) -> BTreeSet<(FlowId, OperatorIndex)> {
        self.equivocations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Completes when this process coordinates no flow.
    pub async fn idle(&self) {
        while !self.running().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeSet<FlowId>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The parts it runs on.
    #[must_use]
    pub const fn core(&self) -> &Core {
        &self.core
    }
}

/// An output that no block spends, as this operator's own node sees it now.
async fn chain_fact(core: &Core, outpoint: OutPoint) -> Result<Option<ChainFact>, Refusal> {
    match core.chain.confirmations_of(&outpoint).await {
        Ok(found) => Ok(found
            .filter(|output| output.spent != Spend::Confirmed)
            .map(|output| ChainFact {
                value: output.value,
                script: output.script,
                confirmations: output.confirmations,
                contested: output.spent == Spend::InMempool,
            })),
        Err(error) => {
            tracing::error!(%error, "chain");
            Err(Refusal::new(
                Reason::Internal,
                "the operator's Bitcoin node does not answer: try again",
            ))
        }
    }
}
