//! The parts of an operator, made as the configuration says.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use bitcoin::secp256k1::ecdsa::Signature;
use tinderbox_chain::{BlockRef, Rpc, RpcConfig};
use tinderbox_flows::flow::Site;
use tinderbox_protocol::BlockHeight;
use tinderbox_rpc::peer::{self, PeerCertificate, UncertifiedKey};
use tinderbox_signer::{Identity, Local, LocalConfig, Signer, SignerError, SocketSigner};
use tokio::sync::watch;

use super::StartError;
use crate::api::Api;
use crate::api::events::Hub;
use crate::chain::Duties;
use crate::config::{BitcoinAuth, Config, SignerConfig};
use crate::engine::Patience;
use crate::limits::StreamLimit;
use crate::peer::{PeerClient, PeerTarget};
use crate::tables::Tables;
use crate::{Core, Engine, Keyshares, Nonces};

/// How long the node may take to answer at start.
const NODE_PATIENCE: Duration = Duration::from_secs(60);
/// Blocks below the tip at which a new operator begins on networks that others use.
const START_BELOW: u32 = 18;

pub(super) fn site(config: &Config) -> Site {
    Site {
        me: config.me,
        operators: config
            .operators
            .iter()
            .map(|operator| operator.identity)
            .collect(),
        threshold: config.threshold,
        network: config.network,
        deposit_confirmations: config.deposit_confirmations,
        exit_confirmations: config.exit_confirmations,
        providers: config.ssps.clone(),
    }
}

pub(super) fn api(config: &Config, core: &Core, tip: watch::Receiver<Option<BlockRef>>) -> Api {
    Api {
        engine: Engine::new(core.clone(), Patience::default()),
        keyshares: Keyshares::new(core.clone()),
        nonces: Nonces::new(core.clone()),
        tables: Tables::new(core.store.clone()),
        hide_balances: config.hide_balances,
        limits: Arc::new(config.limits.clone()),
        streams: StreamLimit::new(&config.limits),
        hub: Hub::default(),
        operators: config.operators.clone().into(),
        ssps: config.ssps.clone().into(),
        legacy_receive: config.mock && config.is_local(),
        tip,
        core: core.clone(),
    }
}

pub(super) async fn connect_node(config: &Config) -> Result<Rpc, StartError> {
    let url = &config.bitcoin.url;
    let rpc = Rpc::new(match &config.bitcoin.auth {
        BitcoinAuth::Password(user, password) => RpcConfig::with_password(url, user, &password.0),
        BitcoinAuth::Cookie(path) => RpcConfig::with_cookie(url, path),
    })?;
    rpc.wait_until_ready(NODE_PATIENCE).await?;
    rpc.check(Some(config.network.bitcoin())).await?;
    Ok(rpc)
}

pub(super) async fn open_signer(config: &Config) -> Result<Arc<dyn Signer>, StartError> {
    let signer: Arc<dyn Signer> = match &config.signer {
        SignerConfig::Embedded {
            identity_key,
            vault,
        } => {
            let identity = Identity::load(identity_key)?;
            check_identity(config, identity.public())?;
            let count = u16::try_from(config.operators.len()).unwrap_or(u16::MAX);
            let settings = LocalConfig::new(config.me, count, config.threshold);
            Arc::new(Local::open(identity, vault, settings)?)
        }
        SignerConfig::Socket(path) => Arc::new(SocketSigner::connect(path).await?),
    };
    check_identity(config, signer.identity())?;
    Ok(signer)
}

pub(super) fn check_identity(config: &Config, found: PublicKey) -> Result<(), StartError> {
    match config.own() {
        Some(own) if own.identity != found => Err(StartError::WrongIdentity {
            index: config.me.0,
            expected: Box::new(own.identity),
            found: Box::new(found),
        }),
        _ => Ok(()),
    }
}

/// A TLS key for operator connections, which the identity key vouches for.
pub(super) async fn certify(signer: &dyn Signer) -> Result<PeerCertificate, StartError> {
    let key = UncertifiedKey::generate()?;
    let signature = signer
        .sign(vec![key.digest()])
        .await?
        .pop()
        .unwrap_or_default();
    let signature = Signature::from_der(&signature)
        .map_err(|error| SignerError::Vault(format!("the signer gave no signature: {error}")))?;
    Ok(key.certify(&signer.identity(), &signature)?)
}

pub(super) fn connect_peers(
    config: &Config,
    own: &PeerCertificate,
) -> Result<PeerClient, StartError> {
    let mut targets = Vec::new();
    for (index, operator) in (0u16..).zip(&config.operators) {
        if index == config.me.0 {
            continue;
        }
        let url = format!("https://{}", operator.peer);
        targets.push(PeerTarget {
            operator: tinderbox_frost::OperatorIndex(index),
            channel: peer::peer_client(&url, own, &operator.identity)?,
        });
    }
    Ok(PeerClient::start(targets))
}

/// Where an operator with an empty database begins to follow the chain.
pub(super) async fn first_block(
    config: &Config,
    duties: &Duties,
    rpc: &Rpc,
) -> Result<BlockHeight, StartError> {
    if let Some(height) = config.bitcoin.start_height {
        return Ok(height);
    }
    if config.is_local() || duties.tip().await?.is_some() {
        return Ok(BlockHeight(0));
    }
    let tip = rpc.best_block().await?;
    Ok(BlockHeight(tip.height.0.saturating_sub(START_BELOW)))
}
