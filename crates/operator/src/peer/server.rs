//! What the other operators ask of this one.

use std::future::Future;

use futures::future::join_all;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tinderbox_commit::Message;
use tinderbox_frost::OperatorIndex;
use tinderbox_rpc::peer::Peer;
use tinderbox_rpc::proto::peer::Envelope;
use tinderbox_rpc::proto::peer::peer_service_server::PeerService;
use tinderbox_rpc::server::TraceId;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::Hello;
use super::batch::{Answer, BatchError, Item, decode, encode, open, seal};
use crate::keyshares::DkgMessage;
use crate::{Engine, Keyshares, trace};

/// Nonces that an operator may fetch in one go.
const MAX_NONCES: u32 = 20_000;

/// Answers the other operators. Who asks is known from the connection.
#[derive(Clone)]
pub struct PeerServer {
    engine: Engine,
    keyshares: Keyshares,
    hello: Hello,
}

impl PeerServer {
    /// A server in front of these.
    #[must_use]
    pub const fn new(engine: Engine, keyshares: Keyshares, hello: Hello) -> Self {
        Self {
            engine,
            keyshares,
            hello,
        }
    }

    /// Answers every message of an envelope, all at once.
    async fn answer<Q, A, F, Fut>(
        &self,
        request: Request<Envelope>,
        handle: F,
    ) -> Result<Response<Envelope>, Status>
    where
        Q: DeserializeOwned + Send + 'static,
        A: Serialize + Send + 'static,
        F: Fn(Self, OperatorIndex, Q) -> Fut + Copy + Send + 'static,
        Fut: Future<Output = Result<A, String>> + Send + 'static,
    {
        let from = Peer::of(&request)?.operator;
        if from == self.engine.core().site.me {
            return Err(Status::permission_denied(
                "an operator does not call itself: check the addresses",
            ));
        }
        let items: Vec<Item> = open(request.get_ref()).map_err(refuse)?;
        let tasks = items.into_iter().map(|item| {
            let server = self.clone();
            async move {
                let trace = item.trace.as_deref().and_then(TraceId::parse);
                let span = match &trace {
                    Some(trace) => tracing::info_span!("peer", trace_id = %trace, from = from.0),
                    None => tracing::info_span!("peer", from = from.0),
                };
                let work = async move {
                    let message: Q = decode(&item.body).map_err(|error| error.to_string())?;
                    let answer = handle(server, from, message).await?;
                    encode(&answer).map_err(|error| error.to_string())
                };
                let work = tokio::spawn(trace::within(trace, work).instrument(span));
                Answer {
                    number: item.number,
                    body: work
                        .await
                        .unwrap_or_else(|_| Err("the operator failed at this message".into())),
                }
            }
        });
        let answers = join_all(tasks).await;
        Ok(Response::new(seal(&answers).map_err(refuse)?))
    }
}

fn refuse(error: BatchError) -> Status {
    match error {
        BatchError::Version { .. } => Status::failed_precondition(error.to_string()),
        BatchError::Damaged(_) => Status::invalid_argument(error.to_string()),
    }
}

#[tonic::async_trait]
impl PeerService for PeerServer {
    async fn agree(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        self.answer(request, |server, from, message: Message| async move {
            if let Message::Prepare { coordinator, .. } = &message
                && *coordinator != from
            {
                tracing::error!(?from, claimed = ?coordinator, "an operator speaks for another");
                return Err("the coordinator of a flow must send its request itself".into());
            }
            Ok(server.engine.handle(from, message).await)
        })
        .await
    }

    async fn dkg(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        self.answer(request, |server, from, message: DkgMessage| async move {
            Ok(server.keyshares.handle(from, message).await)
        })
        .await
    }

    async fn nonces(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        self.answer(request, |server, _, count: u32| async move {
            if count > MAX_NONCES {
                return Err(format!("{count} nonces at once, {MAX_NONCES} are the most"));
            }
            if count == 0 {
                return Ok(Vec::new());
            }
            let signer = &server.engine.core().signer;
            signer
                .nonces(count)
                .await
                .map_err(|error| error.to_string())
        })
        .await
    }

    async fn hello(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let from = Peer::of(&request)?.operator;
        let theirs = Hello::open(request.get_ref()).map_err(refuse)?;
        tracing::debug!(?from, ?theirs, "an operator asks who this is");
        let own = Hello {
            now: self.engine.core().clock.now(),
            ..self.hello.clone()
        };
        Ok(Response::new(own.seal().map_err(refuse)?))
    }
}
