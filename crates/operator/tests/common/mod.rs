//! Three operators and a node, in this process.
#![allow(unreachable_pub)]

use std::time::Duration;

use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use prost::Message as _;
use tempfile::TempDir;
use tinderbox_chain::RegtestNode;
use tinderbox_operator::config::{
    BitcoinSection, ConfigFile, DatabaseSection, Hidden, ListenSection, OperatorSection,
    PoolSection, SignerSection, TlsSection,
};
use tinderbox_operator::limits::Limits;
use tinderbox_operator::serve::{Operator, Running};
use tinderbox_rpc::client::{self, TlsTrust};
use tinderbox_rpc::proto::spark::spark_service_client::SparkServiceClient;
use tinderbox_rpc::proto::spark_authn::{GetChallengeRequest, VerifyChallengeRequest};
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub fn secret(byte: u8) -> SecretKey {
    SecretKey::from_slice(&[byte; 32]).unwrap()
}

pub fn public(byte: u8) -> PublicKey {
    secret(byte).public_key(SECP256K1)
}

/// Ports that were free a moment ago.
fn free_ports(count: usize) -> Vec<u16> {
    let ports = (0..count).map(|_| tinderbox_chain::regtest::free_port().unwrap());
    ports.collect()
}

pub struct Network {
    pub node: RegtestNode,
    pub folder: TempDir,
    pub files: Vec<ConfigFile>,
}

impl Network {
    /// A node, and configurations for three operators on it.
    pub async fn plan() -> Self {
        let node = RegtestNode::temporary().await.unwrap();
        let folder = TempDir::new().unwrap();
        let ports = free_ports(3);
        let operators: Vec<OperatorSection> = (0u8..3)
            .map(|index| OperatorSection {
                identity: public(index + 1).to_string(),
                address: "https://localhost:1".into(),
                peer: format!("127.0.0.1:{}", ports[usize::from(index)]),
            })
            .collect();
        let files = (0u8..3)
            .map(|index| {
                let place = folder.path().join(format!("operator-{index}"));
                std::fs::create_dir_all(&place).unwrap();
                let key = place.join("identity");
                std::fs::write(&key, hex::encode([index + 1; 32])).unwrap();
                let (user, password) = node.credentials();
                ConfigFile {
                    network: "local".into(),
                    index: u16::from(index),
                    threshold: 2,
                    deposit_confirmations: 3,
                    exit_confirmations: None,
                    mock: true,
                    hide_balances: false,
                    ssps: Vec::new(),
                    listen: ListenSection {
                        public: "127.0.0.1:0".into(),
                        peer: operators[usize::from(index)].peer.clone(),
                        metrics: Some("127.0.0.1:0".into()),
                    },
                    tls: TlsSection::default(),
                    database: DatabaseSection {
                        sqlite: Some(place.join("rows.db")),
                        ..DatabaseSection::default()
                    },
                    signer: SignerSection {
                        identity_key: Some(key),
                        vault: Some(place.join("vault")),
                        socket: None,
                    },
                    bitcoin: BitcoinSection {
                        url: node.url(),
                        user: Some(user.into()),
                        password: Some(Hidden(password.into())),
                        cookie: None,
                        start_height: None,
                    },
                    pool: PoolSection {
                        keyshares: 20,
                        ..PoolSection::default()
                    },
                    limits: Limits::default(),
                    operators: operators.clone(),
                }
            })
            .collect();
        Self {
            node,
            folder,
            files,
        }
    }

    pub async fn start(&self) -> Vec<Running> {
        let mut running = Vec::new();
        for file in &self.files {
            running.push(Operator::start(file.check().unwrap()).await.unwrap());
        }
        for operator in &running {
            operator.ready(PATIENCE).await.unwrap();
        }
        running
    }
}

/// A wallet's connection to one operator.
pub struct Wallet {
    pub channel: Channel,
    token: String,
}

impl Wallet {
    pub async fn connect(operator: &Running, identity: &SecretKey) -> Self {
        let url = format!("https://localhost:{}", operator.public_address().port());
        let channel = client::connect(&url, &TlsTrust::LocalInsecure)
            .await
            .unwrap();
        let mut authn = client::authn(channel.clone());
        let public_key = identity.public_key(SECP256K1).serialize().to_vec();
        let challenge = authn
            .get_challenge(GetChallengeRequest {
                public_key: public_key.clone(),
            })
            .await
            .unwrap()
            .into_inner()
            .protected_challenge;
        let encoded = challenge
            .as_ref()
            .unwrap()
            .challenge
            .as_ref()
            .unwrap()
            .encode_to_vec();
        let digest = sha256::Hash::hash(&encoded).to_byte_array();
        let signature = SECP256K1.sign_ecdsa(&Message::from_digest(digest), identity);
        let session = authn
            .verify_challenge(VerifyChallengeRequest {
                protected_challenge: challenge,
                signature: signature.serialize_der().to_vec(),
                public_key,
            })
            .await
            .unwrap()
            .into_inner();
        Self {
            channel,
            token: session.session_token,
        }
    }

    pub fn spark(&self) -> SparkServiceClient<Channel> {
        client::spark(self.channel.clone())
    }

    /// A request with this wallet's session.
    pub fn with<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let value: MetadataValue<_> = format!("Bearer {}", self.token).parse().unwrap();
        request.metadata_mut().insert("authorization", value);
        request
    }
}
