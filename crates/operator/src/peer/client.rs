//! Sending to the other operators.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tinderbox_commit::{Message, Reply};
use tinderbox_frost::{NonceCommitment, OperatorIndex};
use tinderbox_rpc::client;
use tinderbox_rpc::proto::peer::peer_service_client::PeerServiceClient;
use tonic::transport::Channel;

use super::batch::{decode, encode};
use super::lane::{Health, Lane};
use crate::keyshares::{DkgMessage, DkgReply};
use crate::{PeerError, Peers};

/// How long an agreement message may take. Longer than the engine waits for a vote.
const AGREE: Duration = Duration::from_secs(15);
/// How long a step of key generation may take: a run makes many keys at once.
const DKG: Duration = Duration::from_secs(60);
/// How long nonces may take.
const NONCES: Duration = Duration::from_secs(15);

/// Another operator and the way to it. The channel connects when it is first used, and again
/// whenever it is lost.
pub struct PeerTarget {
    /// Which.
    pub operator: OperatorIndex,
    /// How.
    pub channel: Channel,
}

/// How often an operator that does not answer is asked whether it is back.
const PROBE_DOWN: Duration = Duration::from_millis(500);
/// How often one that does is asked, so that its silence is noticed when nobody else asks.
const PROBE_UP: Duration = Duration::from_secs(10);

struct Lanes {
    agree: Lane,
    dkg: Lane,
    nonces: Lane,
    health: Arc<Health>,
}

/// The way to all other operators.
pub struct PeerClient {
    lanes: BTreeMap<OperatorIndex, Arc<Lanes>>,
}

impl PeerClient {
    /// Starts the queues; must be called within a runtime.
    #[must_use]
    pub fn start(targets: impl IntoIterator<Item = PeerTarget>) -> Self {
        let lanes = targets
            .into_iter()
            .map(|target| {
                let client = client::peer(target.channel);
                (target.operator, Lanes::start(&client))
            })
            .collect();
        Self { lanes }
    }

    /// The operators that answered when they were last asked.
    pub fn reachable(&self) -> impl Iterator<Item = OperatorIndex> + '_ {
        self.lanes
            .iter()
            .filter(|(_, lanes)| lanes.health.is_up())
            .map(|(operator, _)| *operator)
    }

    async fn ask<Q: Serialize, A: DeserializeOwned>(
        &self,
        operator: OperatorIndex,
        lane: impl Fn(&Lanes) -> &Lane,
        message: &Q,
    ) -> Result<A, PeerError> {
        let failed = |why: String| PeerError { operator, why };
        let lanes = self
            .lanes
            .get(&operator)
            .ok_or_else(|| failed("it is not in the configuration".into()))?;
        let body = encode(message).map_err(|error| failed(error.to_string()))?;
        let answer = lane(lanes).ask(body).await.map_err(failed)?;
        decode(&answer).map_err(|error| failed(error.to_string()))
    }
}

impl Lanes {
    fn start(client: &PeerServiceClient<Channel>) -> Arc<Self> {
        let health = Arc::<Health>::default();
        let (agree, dkg, nonces) = (client.clone(), client.clone(), client.clone());
        let lanes = Arc::new(Self {
            agree: Lane::start(
                move |envelope| {
                    let mut client = agree.clone();
                    async move { Ok(client.agree(envelope).await?.into_inner()) }
                },
                Arc::clone(&health),
                AGREE,
            ),
            dkg: Lane::start(
                move |envelope| {
                    let mut client = dkg.clone();
                    async move { Ok(client.dkg(envelope).await?.into_inner()) }
                },
                Arc::clone(&health),
                DKG,
            ),
            nonces: Lane::start(
                move |envelope| {
                    let mut client = nonces.clone();
                    async move { Ok(client.nonces(envelope).await?.into_inner()) }
                },
                Arc::clone(&health),
                NONCES,
            ),
            health,
        });
        tokio::spawn(probe(Arc::downgrade(&lanes)));
        lanes
    }
}

/// Asks for no nonces, again and again: an exchange that only shows that the operator is there.
/// Ends with the lanes.
async fn probe(lanes: Weak<Lanes>) {
    let Ok(nothing) = encode(&0u32) else { return };
    loop {
        let Some(lanes) = lanes.upgrade() else { return };
        if let Err(why) = lanes.nonces.ask(nothing.clone()).await {
            tracing::debug!(why, "another operator does not answer");
        }
        let pause = if lanes.health.is_up() {
            PROBE_UP
        } else {
            PROBE_DOWN
        };
        drop(lanes);
        tokio::time::sleep(pause).await;
    }
}

#[async_trait]
impl Peers for PeerClient {
    async fn agree(&self, to: OperatorIndex, message: Message) -> Result<Reply, PeerError> {
        self.ask(to, |lanes| &lanes.agree, &message).await
    }

    async fn dkg(&self, to: OperatorIndex, message: DkgMessage) -> Result<DkgReply, PeerError> {
        self.ask(to, |lanes| &lanes.dkg, &message).await
    }

    async fn nonces(
        &self,
        to: OperatorIndex,
        count: u32,
    ) -> Result<Vec<NonceCommitment>, PeerError> {
        self.ask(to, |lanes| &lanes.nonces, &count).await
    }
}
