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
use tokio::sync::oneshot;
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
