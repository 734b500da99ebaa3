//! A server with a handler that does what the tests need, and ways to reach it.
#![allow(dead_code, unreachable_pub)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bitcoin::secp256k1::{Keypair, Message, PublicKey, Secp256k1, SecretKey};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tinderbox_rpc::client::{self, TlsTrust};
use tinderbox_rpc::proto::spark::spark_service_server::SparkService;
use tinderbox_rpc::proto::spark::{
    ConnectedEvent, GetSigningOperatorListResponse, QueryBalanceRequest, QueryBalanceResponse,
    QueryNodesRequest, QueryNodesResponse, SubscribeToEventsRequest, SubscribeToEventsResponse,
    subscribe_to_events_response::Event,
};
use tinderbox_rpc::proto::spark_authn::VerifyChallengeRequest;
use tinderbox_rpc::server::{Server, Settings, services};
use tinderbox_rpc::session::{
    AuthnService, Clock, InMemoryNonces, Lifetimes, SessionKeys, Sessions,
};
use tinderbox_rpc::tls::Certificate;
use tinderbox_rpc::{Caller, Error, ServiceError, validate};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tonic::codegen::BoxStream;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// Every wait in these tests ends with this.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Lets a test hold a handler and know that it is held.
#[derive(Default)]
pub struct Gate {
    pub entered: Notify,
    pub open: Notify,
}

/// A handler of which each method does one thing that a test looks at.
#[derive(Clone, Default)]
pub struct Probe {
    pub gate: Arc<Gate>,
}

#[tonic::async_trait]
impl SparkService for Probe {
    async fn get_signing_operator_list(
        &self,
        _request: Request<()>,
    ) -> Result<Response<GetSigningOperatorListResponse>, Status> {
        Ok(Response::new(GetSigningOperatorListResponse::default()))
    }

    /// Needs a session; the answer is keyed by the caller.
    async fn query_balance(
        &self,
        request: Request<QueryBalanceRequest>,
    ) -> Result<Response<QueryBalanceResponse>, Status> {
        let caller = Caller::of(&request);
        validate::check(request.get_ref())?;
        let key = caller.require_key(
            "identity_public_key",
            &request.get_ref().identity_public_key,
        )?;
        let node_balances = [(key.to_string(), 1)].into();
        Ok(Response::new(QueryBalanceResponse {
            balance: 1,
            node_balances,
        }))
    }

    /// Panics on request, waits at the gate on request.
    async fn query_nodes(
        &self,
        request: Request<QueryNodesRequest>,
    ) -> Result<Response<QueryNodesResponse>, Status> {
        assert!(!request.get_ref().include_parents, "asked to panic");
        if request.get_ref().limit == 1 {
            self.gate.entered.notify_one();
            self.gate.open.notified().await;
        }
        Ok(Response::new(QueryNodesResponse::default()))
    }

    /// Says that it is connected and then nothing, for ever; asked about key 0xff it panics then.
    async fn subscribe_to_events(
        &self,
        request: Request<SubscribeToEventsRequest>,
    ) -> Result<Response<BoxStream<SubscribeToEventsResponse>>, Status> {
        let panics = request.get_ref().identity_public_key == [0xff];
        let connected = SubscribeToEventsResponse {
            event: Some(Event::Connected(ConnectedEvent {})),
            ..SubscribeToEventsResponse::default()
        };
        let stream = futures::StreamExt::chain(
            futures::stream::iter([Ok(connected)]),
            futures::stream::poll_fn(move |_| {
                assert!(!panics, "asked to panic");
                std::task::Poll::Pending
            }),
        );
        Ok(Response::new(Box::pin(stream)))
    }
}

/// A clock that tests turn.
#[derive(Clone)]
pub struct TestClock(pub Arc<AtomicU64>);

impl TestClock {
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }

    pub fn clock(&self) -> Clock {
        let now = self.0.clone();
        Arc::new(move || now.load(Ordering::SeqCst))
    }
}

pub struct Running {
    pub address: SocketAddr,
    pub pem: String,
    pub gate: Arc<Gate>,
    pub clock: TestClock,
    stop: Option<oneshot::Sender<()>>,
    pub serving: Option<JoinHandle<Result<(), Error>>>,
}

impl Running {
    pub async fn start(settings: Settings) -> Self {
        let certificate = Certificate::self_signed(&[]).unwrap();
        let pem = certificate.to_pem();
        let address = "127.0.0.1:0".parse().unwrap();
        let clock = TestClock(Arc::new(AtomicU64::new(1_800_000_000)));
        let sessions = Arc::new(Sessions::new(
            SessionKeys::derive(&[7; 32]),
            Arc::new(InMemoryNonces::default()),
            Lifetimes::default(),
        ));
        let server = Server::bind(address, certificate, settings)
            .await
            .unwrap()
            .with_sessions(sessions.clone(), clock.clock());
        let address = server.address();
        let probe = Probe::default();
        let gate = probe.gate.clone();
        let authn = AuthnService::new(sessions, clock.clock());
        let routes = Routes::new(services::spark(probe, &settings))
            .add_service(services::authn(authn, &settings));
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.serve(routes, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            pem,
            gate,
            clock,
            stop: Some(stop),
            serving: Some(serving),
        }
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    pub async fn channel(&self) -> Channel {
        client::connect(&self.url(), &TlsTrust::Pem(self.pem.clone()))
            .await
            .unwrap()
    }

    pub fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }
}

/// Proves a key and returns the token.
pub async fn sign_in(channel: &Channel, key: &SecretKey) -> Result<String, ServiceError> {
    let curve = Secp256k1::new();
    let public_key = key.public_key(&curve).serialize().to_vec();
    let mut client = client::authn(channel.clone());
    let protected = client
        .get_challenge(tinderbox_rpc::proto::spark_authn::GetChallengeRequest {
            public_key: public_key.clone(),
        })
        .await
        .map_err(ServiceError::from)?
        .into_inner()
        .protected_challenge
        .unwrap();
    let bytes = protected.challenge.as_ref().unwrap().encode_to_vec();
    let digest = Message::from_digest(Sha256::digest(bytes).into());
    let signature = curve.sign_ecdsa(&digest, key).serialize_der().to_vec();
    let request = VerifyChallengeRequest {
        protected_challenge: Some(protected),
        signature,
        public_key,
    };
    let answer = client
        .verify_challenge(request)
        .await
        .map_err(ServiceError::from)?;
    Ok(answer.into_inner().session_token)
}

pub fn key(seed: u8) -> (SecretKey, PublicKey) {
    let pair = Keypair::from_seckey_slice(&Secp256k1::new(), &[seed; 32]).unwrap();
    (pair.secret_key(), pair.public_key())
}

pub fn authorized<T>(message: T, value: &str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", value.parse().unwrap());
    request
}
