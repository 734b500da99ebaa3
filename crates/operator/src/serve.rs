//! Starting and stopping an operator.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use bitcoin::secp256k1::ecdsa::Signature;
use tinderbox_chain::{BlockRef, Follower, Rpc, RpcConfig};
use tinderbox_flows::flow::Site;
use tinderbox_flows::record::Index;
use tinderbox_flows::rows::TransferRow;
use tinderbox_protocol::BlockHeight;
use tinderbox_rpc::peer::{self, Directory, PeerCertificate, UncertifiedKey};
use tinderbox_rpc::server::{self, services};
use tinderbox_rpc::session::{AuthnService, Sessions, system_clock};
use tinderbox_rpc::tls::Certificate;
use tinderbox_signer::{Identity, Local, LocalConfig, Signer, SignerError, SocketSigner};
use tinderbox_store::{Scan, StoreError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::api::events::Hub;
use crate::api::mock::MockService;
use crate::api::service::SparkService;
use crate::api::token::TokenService;
use crate::api::{Api, authn};
use crate::chain::{Duties, Watchtower, run_flips};
use crate::clock::SystemClock;
use crate::config::{BitcoinAuth, Config, ConfigError, SignerConfig};
use crate::engine::Patience;
use crate::limits::StreamLimit;
use crate::metrics::{self, Readiness};
use crate::peer::{PeerClient, PeerServer, PeerTarget};
use crate::tables::{TableError, Tables};
use crate::{Core, Engine, Events, Keyshares, Nonces};

/// How long the node may take to answer at start.
const NODE_PATIENCE: Duration = Duration::from_secs(60);
/// Blocks below the tip at which a new operator begins on networks that others use.
const START_BELOW: u32 = 18;
/// How often the pool of key shares is looked at.
const REFILL: Duration = Duration::from_secs(1);
/// Key shares that are made before all others.
const FIRST_KEYSHARES: u32 = 64;
/// The first pause after a refill that failed.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause after a refill that failed.
const REFILL_PAUSE: Duration = Duration::from_secs(10);
/// How often staged tweaks that nobody needs are made unreadable.
const RETIRE: Duration = Duration::from_secs(60);
/// How long tasks may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// Why an operator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node.
    #[error(transparent)]
    Chain(#[from] tinderbox_chain::Error),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row of it.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The signer.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// A listener or certificate.
    #[error(transparent)]
    Rpc(#[from] tinderbox_rpc::Error),
    /// The metrics listener.
    #[error("cannot listen on {address} for metrics: {why}. Is another process using this port?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        why: std::io::Error,
    },
    /// The key file is another operator's.
    #[error(
        "the signer's identity key is {found}, but operators[{index}].identity is {expected}: correct index, the list, or the key file"
    )]
    WrongIdentity {
        /// The place in the configuration.
        index: u16,
        /// The key there.
        expected: Box<PublicKey>,
        /// The signer's key.
        found: Box<PublicKey>,
    },
}

/// An operator.
pub struct Operator;

/// An operator that runs.
pub struct Running {
    public: SocketAddr,
    peer: SocketAddr,
    metrics: Option<SocketAddr>,
    api: Api,
    readiness: Readiness,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Operator {
    /// Starts an operator. When this returns, both listeners are open.
    ///
    /// # Errors
    /// [`StartError`], which says what to do.
    pub async fn start(config: Config) -> Result<Running, StartError> {
        let _ = metrics::recorder();
        let rpc = connect_node(&config).await?;
        let store = tinderbox_store::open(&config.database).await?;
        let signer = open_signer(&config).await?;
        let certificate = certify(&*signer).await?;
        let peers = Arc::new(connect_peers(&config, &certificate)?);
        let core = Core {
            site: Arc::new(site(&config)),
            store,
            signer,
            chain: Arc::new(rpc.clone()),
            clock: Arc::new(SystemClock),
            peers: peers.clone(),
            events: Events::default(),
        };
        let duties = Duties::new(&core);
        let first = first_block(&config, &duties, &rpc).await?;
        let follower = Follower::new(rpc, duties.clone(), first);
        let api = api(&config, &core, follower.tip());
        let sessions = authn::sessions(&core).await?;
        let starting = Starting {
            config,
            api,
            duties,
            peers,
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
        };
        starting.run(follower, sessions, certificate).await
    }
}

/// What starts has been put together and is about to run.
struct Starting {
    config: Config,
    api: Api,
    duties: Duties,
    peers: Arc<PeerClient>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Starting {
    async fn run(
        mut self,
        follower: Follower<Rpc, Duties>,
        sessions: Arc<Sessions>,
        certificate: PeerCertificate,
    ) -> Result<Running, StartError> {
        let settings = self.config.limits.settings();
        let public =
            server::Server::bind(self.config.public, self.certificate()?, settings).await?;
        let directory = Directory::new(
            self.config
                .operators
                .iter()
                .map(|operator| operator.identity)
                .zip(self.api.core.site.everyone()),
        );
        let peer_settings = peer::peer_settings();
        let peer = peer::PeerServer::bind(self.config.peer, &certificate, directory, peer_settings)
            .await?;
        let observed = match self.config.metrics {
            Some(address) => {
                let failed = |why| StartError::Listen { address, why };
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                let address = listener.local_addr().map_err(failed)?;
                Some((listener, address))
            }
            None => None,
        };
        let addresses = (public.address(), peer.address());
        let readiness = Readiness {
            api: self.api.clone(),
            peers: self.peers.clone(),
        };

        let tip = follower.tip();
        self.follow(follower);
        let stop = self.stop.clone();
        self.spawn(
            "watchtower",
            Watchtower::new(&self.api.core).run(tip, stop.clone().cancelled_owned()),
        );
        self.spawn(
            "deposits",
            run_flips(self.duties.clone(), stop.clone().cancelled_owned()),
        );
        let changes = self.api.core.events.listen();
        self.spawn(
            "events",
            self.api
                .hub
                .clone()
                .run(self.api.clone(), changes, stop.clone().cancelled_owned()),
        );
        self.spawn(
            "purge",
            authn::run_purge(
                self.api.core.clone(),
                self.config.pool.nonce_lifetime,
                stop.clone().cancelled_owned(),
            ),
        );
        self.until_stop("recovery", self.api.engine.clone().run_recovery());
        self.until_stop("pool", refill(self.api.clone(), self.config.pool.keyshares));
        self.until_stop("epochs", retire(self.api.core.clone()));
        self.until_stop("streams", sweep(self.api.hub.clone()));

        let spark = SparkService::new(self.api.clone());
        let mut routes = Routes::new(services::spark(spark, &settings))
            .add_service(services::authn(
                AuthnService::new(sessions.clone(), system_clock()),
                &settings,
            ))
            .add_service(services::token(TokenService, &settings));
        if self.config.mock && self.config.is_local() {
            tracing::warn!("the test-only mock service is served: local networks only");
            routes = routes.add_service(services::mock(
                MockService::new(self.api.clone()),
                &settings,
            ));
        }
        let public = public.with_sessions(sessions, system_clock());
        let ended = stop.clone().cancelled_owned();
        self.spawn("wallets", async move {
            report("wallets", public.serve(routes, ended).await)
        });
        let handler = PeerServer::new(self.api.engine.clone(), self.api.keyshares.clone());
        let routes = Routes::new(services::peer(handler, &peer_settings));
        // Operators may still need answers while wallets' requests come to their end.
        let ended = stop.clone().cancelled_owned();
        self.spawn("operators", async move {
            report("operators", peer.serve(routes, ended).await)
        });
        let metrics = observed.map(|(listener, address)| {
            let serving =
                metrics::serve(listener, readiness.clone(), stop.clone().cancelled_owned());
            self.spawn("metrics", async move { report("metrics", serving.await) });
            address
        });
        tracing::info!(
            operator = self.config.me.0,
            network = %self.config.network,
            public = %addresses.0,
            peer = %addresses.1,
            "operator started"
        );
        Ok(Running {
            public: addresses.0,
            peer: addresses.1,
            metrics,
            api: self.api,
            readiness,
            stop: self.stop,
            tasks: self.tasks,
        })
    }

    fn certificate(&self) -> Result<Certificate, StartError> {
        let tls = &self.config.tls;
        Ok(match (&tls.certificate, &tls.key) {
            (Some(chain), Some(key)) => Certificate::from_pem_files(chain, key)?,
            _ => Certificate::self_signed(&tls.names)?,
        })
    }

    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(async move {
            task.await;
            tracing::debug!(task = name, "ended");
        });
    }

    /// A task without an end of its own.
    fn until_stop(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.spawn(name, async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = task => {}
            }
        });
    }

    /// Follows the chain; if that is impossible the operator stops, since everything that it says
    /// about deposits and exits would be wrong.
    fn follow(&mut self, mut follower: Follower<Rpc, Duties>) {
        let stop = self.stop.clone();
        self.spawn("chain", async move {
            if let Err(error) = follower.run(stop.clone().cancelled_owned()).await {
                tracing::error!(%error, "the chain cannot be followed; stopping");
                stop.cancel();
            }
        });
    }
}

impl Running {
    /// Where wallets connect.
    #[must_use]
    pub const fn public_address(&self) -> SocketAddr {
        self.public
    }

    /// Where operators connect.
    #[must_use]
    pub const fn peer_address(&self) -> SocketAddr {
        self.peer
    }

    /// Where metrics, health and readiness are.
    #[must_use]
    pub const fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// What handlers work with.
    #[must_use]
    pub const fn api(&self) -> &Api {
        &self.api
    }

    /// Waits until wallets can be served: database and node answer, the chain is followed, other
    /// operators answer, there are key shares.
    ///
    /// # Errors
    /// After `limit`, what is still missing.
    pub async fn ready(&self, limit: Duration) -> Result<(), Vec<String>> {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let missing = self.readiness.all().await;
            if missing.is_empty() {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline || self.stop.is_cancelled() {
                return Err(missing);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Completes when the operator has been told to stop, or stops by itself.
    pub async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Stops: no new requests, running ones come to their end, background tasks end. Whatever is
    /// cut off is finished after the next start.
    pub async fn stop(mut self) {
        self.stop.cancel();
        // Streams have no end of their own.
        self.api.hub.close();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_PATIENCE, all).await.is_err() {
            tracing::warn!("some tasks did not end in time; cutting them off");
            self.tasks.shutdown().await;
        }
    }
}

/// Runs an operator until SIGINT or SIGTERM.
///
/// # Errors
/// [`StartError`] if it does not start.
pub async fn run(config: Config) -> Result<(), StartError> {
    let running = Operator::start(config).await?;
    tokio::select! {
        () = asked_to_stop() => tracing::info!("stopping"),
        () = running.stopped() => {}
    }
    running.stop().await;
    Ok(())
}

async fn asked_to_stop() {
    let interrupted = async {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "cannot listen for SIGINT");
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminated) => tokio::select! {
                () = interrupted => {}
                _ = terminated.recv() => {}
            },
            Err(error) => {
                tracing::error!(%error, "cannot listen for SIGTERM");
                interrupted.await;
            }
        }
    }
    #[cfg(not(unix))]
    interrupted.await;
}

fn report<E: std::fmt::Display>(listener: &str, outcome: Result<(), E>) {
    if let Err(error) = outcome {
        tracing::error!(listener, %error, "a listener ended");
    }
}

fn site(config: &Config) -> Site {
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
    }
}

fn api(config: &Config, core: &Core, tip: watch::Receiver<Option<BlockRef>>) -> Api {
    Api {
        engine: Engine::new(core.clone(), Patience::default()),
        keyshares: Keyshares::new(core.clone()),
        nonces: Nonces::new(core.clone()),
        tables: Tables::new(core.store.clone()),
        limits: Arc::new(config.limits.clone()),
        streams: StreamLimit::new(&config.limits),
        hub: Hub::default(),
        operators: config.operators.clone().into(),
        tip,
        core: core.clone(),
    }
}

async fn connect_node(config: &Config) -> Result<Rpc, StartError> {
    let url = &config.bitcoin.url;
    let rpc = Rpc::new(match &config.bitcoin.auth {
        BitcoinAuth::Password(user, password) => RpcConfig::with_password(url, user, &password.0),
        BitcoinAuth::Cookie(path) => RpcConfig::with_cookie(url, path),
    })?;
    rpc.wait_until_ready(NODE_PATIENCE).await?;
    rpc.check(Some(config.network.bitcoin())).await?;
    Ok(rpc)
}

async fn open_signer(config: &Config) -> Result<Arc<dyn Signer>, StartError> {
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

fn check_identity(config: &Config, found: PublicKey) -> Result<(), StartError> {
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
async fn certify(signer: &dyn Signer) -> Result<PeerCertificate, StartError> {
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

fn connect_peers(config: &Config, own: &PeerCertificate) -> Result<PeerClient, StartError> {
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
async fn first_block(
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

/// Keeps the pools full. A few key shares first, so that the first wallets need not wait.
async fn refill(api: Api, target: u32) {
    let mut pause = FIRST_PAUSE;
    let mut wanted = target.min(FIRST_KEYSHARES);
    let mut warm = false;
    loop {
        let limit = usize::try_from(wanted).unwrap_or(usize::MAX);
        let have = api.keyshares.count(limit).await;
        if let Ok(have) = have {
            let have = u32::try_from(have).unwrap_or(u32::MAX);
            ::metrics::gauge!("tinderbox_keyshares_available").set(f64::from(have));
        }
        // One run makes many: it begins when a tenth is gone.
        let enough = limit.saturating_sub(limit / 10);
        let made = match have {
            Ok(have) if have >= enough => Ok(0),
            _ => api.keyshares.refill(wanted).await,
        };
        match made {
            Ok(made) => {
                if made > 0 {
                    tracing::info!(made, "key shares were made");
                }
                if !warm {
                    api.nonces.warm().await;
                    warm = true;
                }
                pause = if wanted == target {
                    REFILL
                } else {
                    Duration::ZERO
                };
                wanted = target;
            }
            Err(refusal) => {
                tracing::warn!(%refusal, "no key shares were made; trying again");
                pause = (pause.max(FIRST_PAUSE) * 2).min(REFILL_PAUSE);
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Makes tweaks unreadable that were staged and that no transfer needs any more.
async fn retire(core: Core) {
    let tables = Tables::new(core.store.clone());
    loop {
        tokio::time::sleep(RETIRE).await;
        let round = async {
            let current = core
                .signer
                .epoch()
                .await
                .map_err(|error| error.to_string())?;
            let mut scan = Scan::prefix(Index::StagedByEpoch, &[]);
            scan.limit = 1;
            let needed = tables
                .scan::<TransferRow>(scan)
                .await
                .map_err(|error| error.to_string())?
                .first()
                .and_then(|found| found.listed.first_chunk::<8>())
                .map(|epoch| u64::from_be_bytes(*epoch));
            let lowest = needed.unwrap_or(current).min(current);
            core.signer
                .retire(lowest)
                .await
                .map_err(|error| error.to_string())
        };
        if let Err(error) = round.await {
            tracing::warn!(%error, "old staged tweaks could not be retired; trying again");
        }
    }
}

/// Forgets event streams whose wallets hung up.
async fn sweep(hub: Hub) {
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        hub.sweep();
    }
}
