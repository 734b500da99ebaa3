//! Calls to one operator without the wallet's checks.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use bitcoin::secp256k1::ecdsa::Signature;
use tinderbox_devnet::DevNet;
use tinderbox_protocol::LeafId;
use tinderbox_protocol::authn::Challenge;
use tinderbox_rpc::client::{self, TlsTrust};
use tinderbox_rpc::proto::spark::query_nodes_request::Source;
use tinderbox_rpc::proto::spark::spark_service_client::SparkServiceClient;
use tinderbox_rpc::proto::spark::transfer_filter::Participant;
use tinderbox_rpc::proto::spark::{
    Network, QueryNodesRequest, Transfer, TransferFilter, TreeNode, TreeNodeIds,
};
use tinderbox_rpc::proto::spark_authn::{GetChallengeRequest, VerifyChallengeRequest};
use tinderbox_wallet::WalletSigner;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Transfers on one page.
const PAGE: i64 = 100;

/// A session of one identity at one operator.
pub(crate) struct Caller {
    pub(crate) channel: Channel,
    pub(crate) spark: SparkServiceClient<Channel>,
    pub(crate) identity: Vec<u8>,
    token: String,
}

/// A connection without a session.
pub(crate) async fn connect(net: &DevNet, operator: u16) -> Channel {
    let port = net.plan().ports.public[usize::from(operator)];
    client::connect(
        &format!("https://localhost:{port}"),
        &TlsTrust::LocalInsecure,
    )
    .await
    .unwrap_or_else(|error| panic!("operator {operator}: {error}"))
}

impl Caller {
    /// Logs in.
    pub(crate) async fn log_in(net: &DevNet, operator: u16, signer: &dyn WalletSigner) -> Self {
        let sign = |digest| signer.sign_identity(digest);
        Self::enter(net, operator, signer.identity(), sign).await
    }

    /// Logs in with an identity key that signs like this.
    pub(crate) async fn enter(
        net: &DevNet,
        operator: u16,
        identity: PublicKey,
        sign: impl Fn([u8; 32]) -> Signature,
    ) -> Self {
        let channel = connect(net, operator).await;
        let identity = identity.serialize().to_vec();
        let mut authn = client::authn(channel.clone());
        let request = GetChallengeRequest {
            public_key: identity.clone(),
        };
        let protected = authn.get_challenge(request).await.expect("a challenge");
        let protected = protected.into_inner().protected_challenge;
        let challenge = protected.as_ref().and_then(|p| p.challenge.as_ref());
        let challenge = challenge.expect("a challenge");
        let digest = Challenge {
            version: challenge.version,
            timestamp: challenge.timestamp,
            nonce: challenge.nonce.clone(),
            public_key: challenge.public_key.clone(),
        }
        .digest();
        let request = VerifyChallengeRequest {
            signature: sign(digest).serialize_der().to_vec(),
            protected_challenge: protected,
            public_key: identity.clone(),
        };
        let session = authn.verify_challenge(request).await.expect("a session");
        Self {
            spark: client::spark(channel.clone()),
            channel,
            identity,
            token: session.into_inner().session_token,
        }
    }

    /// The session's token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// A request with the session.
    pub(crate) fn with<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let value = format!("Bearer {}", self.token).parse().expect("a header");
        request.metadata_mut().insert("authorization", value);
        request
    }

    /// Nodes by id.
    pub(crate) async fn nodes(
        &mut self,
        ids: impl IntoIterator<Item = LeafId>,
    ) -> Result<BTreeMap<String, TreeNode>, Status> {
        let node_ids = ids.into_iter().map(|id| id.to_string()).collect();
        let request = self.with(QueryNodesRequest {
            source: Some(Source::NodeIds(TreeNodeIds { node_ids })),
            network: Network::Regtest.into(),
            ..QueryNodesRequest::default()
        });
        let reply = self.spark.query_nodes(request).await?.into_inner();
        Ok(reply.nodes.into_iter().collect())
    }

    /// All transfers of this identity, by id.
    pub(crate) async fn transfers(&mut self) -> Result<BTreeMap<String, Transfer>, Status> {
        let mut all = BTreeMap::new();
        let mut offset = 0;
        while offset >= 0 {
            let participant = Participant::SenderOrReceiverIdentityPublicKey(self.identity.clone());
            let request = self.with(TransferFilter {
                participant: Some(participant),
                network: Network::Regtest.into(),
                limit: PAGE,
                offset,
                ..TransferFilter::default()
            });
            let page = self.spark.query_all_transfers(request).await?.into_inner();
            for transfer in page.transfers {
                let twice = all.insert(transfer.id.clone(), transfer);
                assert!(twice.is_none(), "one transfer on two pages: {twice:?}");
            }
            offset = if page.offset > offset {
                page.offset
            } else {
                -1
            };
        }
        Ok(all)
    }
}
