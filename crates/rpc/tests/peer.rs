//! Operators let each other in, and nobody else.

mod common;

use std::net::SocketAddr;

use bitcoin::secp256k1::{Message, PublicKey, Secp256k1, SecretKey};
use common::{PATIENCE, Running, key};
use tinderbox_rpc::client::{self, TlsTrust};
use tinderbox_rpc::peer::{
    Directory, OperatorIndex, Peer, PeerCertificate, PeerServer, UncertifiedKey, peer_client,
    peer_settings,
};
use tinderbox_rpc::proto::peer::Envelope;
use tinderbox_rpc::proto::peer::peer_service_server::PeerService;
use tinderbox_rpc::server::{Settings, services};
use tinderbox_rpc::{Error, Reason, ServiceError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

/// Answers with the caller's index.
struct WhoIsIt;

#[tonic::async_trait]
impl PeerService for WhoIsIt {
    async fn agree(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
        let peer = Peer::of(&request)?;
        let body = peer.operator.0.to_be_bytes().to_vec();
        Ok(Response::new(Envelope { version: 1, body }))
    }
}

fn certificate(secret: &SecretKey) -> PeerCertificate {
    let curve = Secp256k1::new();
    let sign = |digest| Ok::<_, Error>(curve.sign_ecdsa(&Message::from_digest(digest), secret));
    PeerCertificate::issue(&secret.public_key(&curve), sign).unwrap()
}

fn directory(seeds: &[u8]) -> Directory {
    Directory::new(
        seeds
            .iter()
            .enumerate()
            .map(|(at, seed)| (key(*seed).1, OperatorIndex(at as u16))),
    )
}

struct Operator {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), Error>>,
}

impl Operator {
    async fn start(seed: u8, listed: &[u8], address: &str) -> Self {
        let server = PeerServer::bind(
            address.parse().unwrap(),
            &certificate(&key(seed).0),
            directory(listed),
            peer_settings(),
        )
        .await
        .unwrap();
        let address = server.address();
        let routes = Routes::new(services::peer(WhoIsIt, &peer_settings()));
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server.serve(routes, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            stop,
            serving,
        }
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        timeout(PATIENCE, self.serving)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

async fn ask(url: &str, own: &SecretKey, expected: &PublicKey) -> Result<u16, Status> {
    let channel = peer_client(url, &certificate(own), expected).unwrap();
    let answer = timeout(PATIENCE, client::peer(channel).agree(Envelope::default())).await;
    let body = answer.expect("no answer in time")?.into_inner().body;
    Ok(u16::from_be_bytes(body.try_into().unwrap()))
}

#[tokio::test]
async fn listed_operators_are_told_apart() {
    let operator = Operator::start(1, &[1, 2, 3], "127.0.0.1:0").await;
    let (_, expected) = key(1);
    assert_eq!(ask(&operator.url(), &key(2).0, &expected).await.unwrap(), 1);
    assert_eq!(ask(&operator.url(), &key(3).0, &expected).await.unwrap(), 2);
    assert_eq!(ask(&operator.url(), &key(1).0, &expected).await.unwrap(), 0);
}

#[tokio::test]
async fn unlisted_operator_does_not_get_in() {
    let operator = Operator::start(1, &[1, 2], "127.0.0.1:0").await;
    let status = ask(&operator.url(), &key(9).0, &key(1).1)
        .await
        .unwrap_err();
    assert!(
        matches!(status.code(), Code::Unavailable | Code::Unknown),
        "{status:?}"
    );
    assert!(ask(&operator.url(), &key(2).0, &key(1).1).await.is_ok());
}

#[tokio::test]
async fn operator_that_answers_for_another_is_not_spoken_to() {
    // Both are listed: being an operator is not enough, it must be the right one.
    let operator = Operator::start(1, &[1, 2, 3], "127.0.0.1:0").await;
    let status = ask(&operator.url(), &key(2).0, &key(3).1)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

#[tokio::test]
async fn wallet_without_a_certificate_does_not_get_in() {
    let operator = Operator::start(1, &[1, 2], "127.0.0.1:0").await;
    let outcome = async {
        let channel = client::connect(&operator.url(), &TlsTrust::LocalInsecure)
            .await
            .map_err(|error| error.to_string())?;
        client::peer(channel)
            .agree(Envelope::default())
            .await
            .map_err(|error| error.to_string())
    };
    assert!(timeout(PATIENCE, outcome).await.unwrap().is_err());
}

#[tokio::test]
async fn public_certificate_is_no_operators_certificate() {
    let wallets = Running::start(Settings::default()).await;
    let status = ask(&wallets.url(), &key(2).0, &key(1).1).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

#[tokio::test]
async fn operators_service_refuses_whoever_comes_by_another_door() {
    let request = Request::new(Envelope::default());
    let error = ServiceError::from(WhoIsIt.agree(request).await.unwrap_err());
    assert_eq!(
        (error.code, error.reason),
        (Code::Unauthenticated, Some(Reason::Unauthenticated))
    );
}

#[tokio::test]
async fn channel_finds_an_operator_that_was_down_and_came_back() {
    let operator = Operator::start(1, &[1, 2], "127.0.0.1:0").await;
    let address = operator.address.to_string();
    let channel = peer_client(&operator.url(), &certificate(&key(2).0), &key(1).1).unwrap();
    let mut client = client::peer(channel);
    assert!(client.agree(Envelope::default()).await.is_ok());
    operator.stop().await;
    let status = timeout(PATIENCE, client.agree(Envelope::default()))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let _operator = Operator::start(1, &[1, 2], &address).await;
    let back = async {
        while client.agree(Envelope::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, back)
        .await
        .expect("did not connect again");
}

#[test]
fn signature_of_another_key_makes_no_certificate() {
    let fresh = UncertifiedKey::generate().unwrap();
    let other = UncertifiedKey::generate().unwrap();
    assert_ne!(fresh.digest(), other.digest());
    let curve = Secp256k1::new();
    let (secret, public) = key(1);
    let wrong_digest = curve.sign_ecdsa(&Message::from_digest(other.digest()), &secret);
    assert!(matches!(
        fresh.certify(&public, &wrong_digest),
        Err(Error::IdentitySignature { identity }) if identity == public
    ));
    let wrong_key = curve.sign_ecdsa(&Message::from_digest(other.digest()), &key(2).0);
    assert!(other.certify(&public, &wrong_key).is_err());
}

#[tokio::test]
async fn large_envelopes_travel_between_operators() {
    struct Echo;
    #[tonic::async_trait]
    impl PeerService for Echo {
        async fn dkg(&self, request: Request<Envelope>) -> Result<Response<Envelope>, Status> {
            Ok(Response::new(request.into_inner()))
        }
    }
    let own = certificate(&key(1).0);
    let address = "127.0.0.1:0".parse().unwrap();
    let server = PeerServer::bind(address, &own, directory(&[1]), peer_settings())
        .await
        .unwrap();
    let url = format!("https://{}", server.address());
    let routes = Routes::new(services::peer(Echo, &peer_settings()));
    let serving = tokio::spawn(server.serve(routes, std::future::pending()));
    let mut client = client::peer(peer_client(&url, &own, &key(1).1).unwrap());
    let sent = Envelope {
        version: 7,
        body: vec![5; 30_000_000],
    };
    let back = timeout(PATIENCE, client.dkg(sent.clone()))
        .await
        .unwrap()
        .unwrap();
    assert!(back.into_inner() == sent);
    serving.abort();
}
