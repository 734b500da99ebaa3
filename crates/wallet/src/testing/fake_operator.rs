//! An operator that logs wallets in and answers queries with what a test gave it.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bitcoin::secp256k1::PublicKey;
use tinderbox_protocol::authn::Challenge as Signed;
use tinderbox_protocol::signature::verify_der;
use tinderbox_rpc::proto::spark;
use tinderbox_rpc::proto::spark::spark_service_server::SparkService;
use tinderbox_rpc::proto::spark_authn::spark_authn_service_server::SparkAuthnService;
use tinderbox_rpc::proto::spark_authn::{
    Challenge, GetChallengeRequest, GetChallengeResponse, ProtectedChallenge,
    VerifyChallengeRequest, VerifyChallengeResponse,
};
use tinderbox_rpc::server::{Server, Settings, services};
use tinderbox_rpc::tls::Certificate;
use tokio::sync::{mpsc, oneshot};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

/// What a test does with it.
#[derive(Default)]
pub(crate) struct Script {
    /// Tokens that are good.
    tokens: Vec<String>,
    /// Logins so far.
    pub(crate) logins: usize,
    /// Answers to the next calls, before the ordinary ones.
    pub(crate) refuse: VecDeque<(Code, &'static str)>,
    /// Refusals of the next logins.
    pub(crate) refuse_login: VecDeque<(Code, &'static str)>,
    /// Calls of `query_nodes` so far.
    pub(crate) queries: usize,
    /// What `query_nodes` gives.
    pub(crate) nodes: BTreeMap<String, spark::TreeNode>,
    /// Transfers that wait.
    pub(crate) pending: Vec<spark::Transfer>,
    /// The code that claims are refused with.
    pub(crate) refuse_claim: Option<Code>,
    /// What a refused payment is found as later, under its own id.
    pub(crate) adopt: Option<spark::Transfer>,
    /// Refusals of the next payments.
    pub(crate) refuse_start: VecDeque<(Code, &'static str)>,
    /// What `claim_transfer` gives; without it, it is refused.
    pub(crate) claimed: Option<spark::Transfer>,
    /// What `start_transfer_v2` and `_v3` give; without it, they are refused.
    pub(crate) started: Option<spark::Transfer>,
    /// What `query_all_transfers` gives.
    pub(crate) history: Vec<spark::Transfer>,
    /// Claims so far.
    pub(crate) claims: Vec<spark::ClaimTransferRequest>,
    /// Payments so far.
    pub(crate) payments: Vec<spark::StartTransferRequest>,
    /// Open event streams.
    streams: Vec<mpsc::UnboundedSender<Result<spark::SubscribeToEventsResponse, Status>>>,
    /// Streams opened so far.
    pub(crate) subscriptions: usize,
    /// The place of the last event.
    pub(crate) place: u8,
    /// Where the last subscription wanted to go on.
    pub(crate) resumed_after: Vec<u8>,
    /// True: streams go on where wallets want them to.
    pub(crate) resumes: bool,
    /// How far in the past tokens expire, in seconds, to try stale ones.
    pub(crate) lifetime: i64,
}

/// A running operator. Stops when it is dropped.
pub(crate) struct FakeOperator {
    pub(crate) address: SocketAddr,
    script: Arc<Mutex<Script>>,
    _stop: oneshot::Sender<()>,
}

impl FakeOperator {
    pub(crate) async fn start() -> Self {
        let script = Arc::new(Mutex::new(Script {
            lifetime: 900,
            ..Script::default()
        }));
        let settings = Settings::default();
        let certificate = Certificate::self_signed(&[]).unwrap();
        let server = Server::bind(([127, 0, 0, 1], 0).into(), certificate, settings)
            .await
            .unwrap();
        let address = server.address();
        let handler = Handler(script.clone());
        let routes = Routes::new(services::spark(handler.clone(), &settings))
            .add_service(services::authn(handler, &settings));
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(async move {
            let stopped = async move { drop(stopped.await) };
            server.serve(routes, stopped).await.unwrap();
        });
        Self {
            address,
            script,
            _stop: stop,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Script) -> T) -> T {
        work(&mut self.script.lock().unwrap())
    }

    /// Sends an event to everybody who listens.
    pub(crate) fn emit(&self, event: spark::subscribe_to_events_response::Event) {
        self.with(|script| {
            script.place += 1;
            let place = script.place;
            script.streams.retain(|stream| {
                stream
                    .send(Ok(spark::SubscribeToEventsResponse {
                        event: Some(event.clone()),
                        cursor: vec![place],
                        resumed: false,
                    }))
                    .is_ok()
            });
        });
    }

    /// Ends all streams, as a restart does.
    pub(crate) fn end_streams(&self) {
        self.with(|script| script.streams.clear());
    }

    /// No token is good any more, as after a restart with another secret.
    pub(crate) fn forget_sessions(&self) {
        self.with(|script| script.tokens.clear());
    }
}

#[derive(Clone)]
struct Handler(Arc<Mutex<Script>>);

impl Handler {
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let mut script = self.0.lock().unwrap();
        if let Some((code, text)) = script.refuse.pop_front() {
            return Err(Status::new(code, text));
        }
        let token = request
            .metadata()
            .get("authorization")
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        let token = token.strip_prefix("Bearer ").unwrap_or(token);
        if script.tokens.iter().any(|good| good == token) {
            Ok(())
        } else {
            Err(Status::unauthenticated(
                "the token has expired; log in again",
            ))
        }
    }
}

#[tonic::async_trait]
impl SparkAuthnService for Handler {
    async fn get_challenge(
        &self,
        request: Request<GetChallengeRequest>,
    ) -> Result<Response<GetChallengeResponse>, Status> {
        let challenge = Challenge {
            version: 1,
            timestamp: 1_700_000_000,
            nonce: vec![7; 32],
            public_key: request.into_inner().public_key,
        };
        let protected = ProtectedChallenge {
            version: 1,
            challenge: Some(challenge),
            server_hmac: vec![1; 32],
        };
        Ok(Response::new(GetChallengeResponse {
            protected_challenge: Some(protected),
        }))
    }

    async fn verify_challenge(
        &self,
        request: Request<VerifyChallengeRequest>,
    ) -> Result<Response<VerifyChallengeResponse>, Status> {
        let request = request.into_inner();
        let mut script = self.0.lock().unwrap();
        if let Some((code, text)) = script.refuse_login.pop_front() {
            return Err(Status::new(code, text));
        }
        let challenge = request.protected_challenge.unwrap().challenge.unwrap();
        let digest = Signed {
            version: challenge.version,
            timestamp: challenge.timestamp,
            nonce: challenge.nonce,
            public_key: challenge.public_key,
        }
        .digest();
        let key = PublicKey::from_slice(&request.public_key).unwrap();
        verify_der(&key, &digest, &request.signature, "the login")
            .map_err(|e| Status::unauthenticated(e.to_string()))?;
        script.logins += 1;
        let token = format!("token-{}", script.logins);
        script.tokens.push(token.clone());
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs() as i64;
        Ok(Response::new(VerifyChallengeResponse {
            session_token: token,
            expiration_timestamp: now + script.lifetime,
        }))
    }
}

#[tonic::async_trait]
impl SparkService for Handler {
    async fn query_nodes(
        &self,
        request: Request<spark::QueryNodesRequest>,
    ) -> Result<Response<spark::QueryNodesResponse>, Status> {
        self.admit(&request)?;
        let mut script = self.0.lock().unwrap();
        script.queries += 1;
        let nodes = match request.into_inner().source {
            Some(spark::query_nodes_request::Source::NodeIds(ids)) => script
                .nodes
                .iter()
                .filter(|(id, _)| ids.node_ids.contains(id))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
            _ => script.nodes.clone(),
        };
        Ok(Response::new(spark::QueryNodesResponse {
            nodes,
            offset: -1,
        }))
    }

    async fn get_signing_commitments(
        &self,
        request: Request<spark::GetSigningCommitmentsRequest>,
    ) -> Result<Response<spark::GetSigningCommitmentsResponse>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        let nodes = request.node_ids.len() as u32 + request.node_id_count;
        let entry = || {
            let nonces = (0u16..2).map(|index| {
                let commitment =
                    tinderbox_frost::Nonces::generate(&mut rand::rngs::OsRng).commitment();
                let commitment = tinderbox_rpc::proto::common::SigningCommitment {
                    hiding: commitment.hiding.serialize().to_vec(),
                    binding: commitment.binding.serialize().to_vec(),
                };
                (
                    tinderbox_frost::OperatorIndex(index).identifier(),
                    commitment,
                )
            });
            spark::RequestedSigningCommitments {
                signing_nonce_commitments: nonces.collect(),
            }
        };
        let signing_commitments = (0..nodes * request.count).map(|_| entry()).collect();
        Ok(Response::new(spark::GetSigningCommitmentsResponse {
            signing_commitments,
        }))
    }

    async fn claim_transfer(
        &self,
        request: Request<spark::ClaimTransferRequest>,
    ) -> Result<Response<spark::ClaimTransferResponse>, Status> {
        self.admit(&request)?;
        let mut script = self.0.lock().unwrap();
        script.claims.push(request.into_inner());
        if let Some(code) = script.refuse_claim {
            return Err(Status::new(code, "refused"));
        }
        let transfer = script
            .claimed
            .clone()
            .ok_or_else(|| Status::failed_precondition("not now"))?;
        Ok(Response::new(spark::ClaimTransferResponse {
            transfer: Some(transfer),
        }))
    }

    async fn start_transfer_v2(
        &self,
        request: Request<spark::StartTransferRequest>,
    ) -> Result<Response<spark::StartTransferResponse>, Status> {
        self.admit(&request)?;
        let mut script = self.0.lock().unwrap();
        let request = request.into_inner();
        let id = request.transfer_id.clone();
        script.payments.push(request);
        if let Some((code, text)) = script.refuse_start.pop_front() {
            if let Some(found) = script.adopt.clone() {
                script.history = vec![spark::Transfer { id, ..found }];
            }
            return Err(Status::new(code, text));
        }
        let transfer = script
            .started
            .clone()
            .ok_or_else(|| Status::failed_precondition("not now"))?;
        let transfer = Some(spark::Transfer { id, ..transfer });
        Ok(Response::new(spark::StartTransferResponse {
            transfer,
            signing_results: Vec::new(),
        }))
    }

    async fn query_all_transfers(
        &self,
        request: Request<spark::TransferFilter>,
    ) -> Result<Response<spark::QueryTransfersResponse>, Status> {
        self.admit(&request)?;
        let ids = request.into_inner().transfer_ids;
        let mut transfers = self.0.lock().unwrap().history.clone();
        transfers.retain(|transfer| ids.is_empty() || ids.contains(&transfer.id));
        Ok(Response::new(spark::QueryTransfersResponse {
            transfers,
            offset: -1,
        }))
    }

    async fn subscribe_to_events(
        &self,
        request: Request<spark::SubscribeToEventsRequest>,
    ) -> Result<Response<tonic::codegen::BoxStream<spark::SubscribeToEventsResponse>>, Status> {
        self.admit(&request)?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let connected =
            spark::subscribe_to_events_response::Event::Connected(spark::ConnectedEvent {});
        let mut script = self.0.lock().unwrap();
        script.resumed_after = request.into_inner().resume_after;
        let resumed = script.resumes && !script.resumed_after.is_empty();
        let _ = sender.send(Ok(spark::SubscribeToEventsResponse {
            event: Some(connected),
            cursor: vec![script.place],
            resumed,
        }));
        script.streams.push(sender);
        script.subscriptions += 1;
        let stream = futures::stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|event| (event, receiver))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn query_pending_transfers(
        &self,
        request: Request<spark::TransferFilter>,
    ) -> Result<Response<spark::QueryTransfersResponse>, Status> {
        self.admit(&request)?;
        let transfers = self.0.lock().unwrap().pending.clone();
        Ok(Response::new(spark::QueryTransfersResponse {
            transfers,
            offset: -1,
        }))
    }
}
