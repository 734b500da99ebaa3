//! Putting an operator together and setting it going.

use std::future::Future;
use std::sync::Arc;

use tinderbox_chain::{BlockRef, Follower, Rpc};
use tinderbox_protocol::BlockHeight;
use tinderbox_rpc::peer::{self, Directory, PeerCertificate};
use tinderbox_rpc::server::{self, services};
use tinderbox_rpc::session::{AuthnService, Sessions, system_clock};
use tinderbox_rpc::tls::Certificate;
use tinderbox_store::Database;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::parts::{api, certify, connect_node, connect_peers, first_block, open_signer, site};
use super::tasks::{read_tip, refill, retire, sweep, warm};
use super::{Running, StartError};
use crate::api::mock::MockService;
use crate::api::service::SparkService;
use crate::api::ssp::SspService;
use crate::api::token::TokenService;
use crate::api::{Api, authn};
use crate::chain::{Duties, Watchtower, run_flips};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::events::{Log, run_purge};
use crate::exits::Exits;
use crate::lease::Lease;
use crate::metrics::{self, Readiness};
use crate::peer::{Hello, PeerClient, PeerServer};
use crate::returns::Returns;
use crate::{Core, Events};

/// An operator.
pub struct Operator;

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
        let lease = match &config.database {
            Database::Sqlite { .. } => Lease::alone(),
            Database::Postgres { .. } => {
                Lease::shared("duties", core.store.clone(), core.clock.clone())
            }
        };
        let tip = Arc::new(watch::Sender::new(duties.tip().await?));
        let api = api(&config, &core, tip.subscribe());
        let chain = Chain { rpc, first, tip };
        let sessions = authn::sessions(&core).await?;
        let starting = Starting {
            config,
            api,
            duties,
            peers,
            lease,
            stop: CancellationToken::new(),
            last: CancellationToken::new(),
            tasks: JoinSet::new(),
        };
        starting.run(chain, sessions, certificate).await
    }
}

/// What starts has been put together and is about to run.
struct Starting {
    config: Config,
    api: Api,
    duties: Duties,
    peers: Arc<PeerClient>,
    lease: Lease,
    stop: CancellationToken,
    /// Cancelled when the flows of this process have ended.
    last: CancellationToken,
    tasks: JoinSet<()>,
}

/// What it takes to follow the chain.
struct Chain {
    rpc: Rpc,
    first: BlockHeight,
    tip: Arc<watch::Sender<Option<BlockRef>>>,
}

impl Starting {
    async fn run(
        mut self,
        chain: Chain,
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

        let stop = self.stop.clone();
        let lease = self.lease.clone().run(self.last.clone().cancelled_owned());
        self.spawn("lease", lease);
        self.follow(chain);
        let (core, tip) = (self.api.core.clone(), self.api.tip.clone());
        self.duty("watchtower", move |stop| {
            Watchtower::new(&core).run(tip.clone(), stop.cancelled_owned())
        });
        let duties = self.duties.clone();
        self.duty("deposits", move |stop| {
            run_flips(duties.clone(), stop.cancelled_owned())
        });
        let engine = self.api.engine.clone();
        self.duty("returns", move |stop| {
            Returns::new(engine.clone()).run(stop.cancelled_owned())
        });
        let exits = Exits::new(self.api.engine.clone(), self.api.core.clone());
        let tip = self.api.tip.clone();
        self.duty("exits", move |stop| {
            exits.clone().run(tip.clone(), stop.cancelled_owned())
        });
        let changes = self.api.core.events.listen();
        let log = Log::new(&self.api.core);
        self.spawn(
            "events",
            self.api.hub.clone().run(
                self.api.clone(),
                log.clone(),
                changes,
                stop.clone().cancelled_owned(),
            ),
        );
        self.duty("notices", move |stop| {
            run_purge(log.clone(), stop.cancelled_owned())
        });
        let (core, lifetime) = (self.api.core.clone(), self.config.pool.nonce_lifetime);
        self.duty("purge", move |stop| {
            authn::run_purge(core.clone(), lifetime, stop.cancelled_owned())
        });
        self.until_last("recovery", self.api.engine.clone().run_recovery());
        let (api, target) = (self.api.clone(), self.config.pool.keyshares);
        self.duty("pool", move |stop| until(stop, refill(api.clone(), target)));
        let core = self.api.core.clone();
        self.duty("epochs", move |stop| until(stop, retire(core.clone())));
        self.until_last("nonces", warm(self.api.clone()));
        self.until_last("streams", sweep(self.api.hub.clone()));

        let spark = SparkService::new(self.api.clone());
        let mut routes = Routes::new(services::spark(spark, &settings))
            .add_service(services::authn(
                AuthnService::new(sessions.clone(), system_clock()),
                &settings,
            ))
            .add_service(services::token(TokenService, &settings))
            .add_service(services::ssp(SspService::new(self.api.clone()), &settings));
        if self.config.mock && self.config.is_local() {
            tracing::warn!("the test-only mock service is served: local networks only");
            routes = routes.add_service(services::mock(
                MockService::new(self.api.clone()),
                &settings,
            ));
        }
        let public = public.with_sessions(sessions, system_clock());
        let ended = stop.clone().cancelled_owned();
        let served = CancellationToken::new();
        let guard = served.clone().drop_guard();
        self.spawn("wallets", async move {
            report("wallets", public.serve(routes, ended).await);
            drop(guard);
        });
        let handler = PeerServer::new(
            self.api.engine.clone(),
            self.api.keyshares.clone(),
            Hello::of(&self.config, self.api.now()),
        );
        let routes = Routes::new(services::peer(handler, &peer_settings));
        // Operators may still need answers while wallets' requests come to their end.
        let ended = self.last.clone().cancelled_owned();
        self.spawn("operators", async move {
            report("operators", peer.serve(routes, ended).await)
        });
        let metrics = observed.map(|(listener, address)| {
            let serving = metrics::serve(
                listener,
                readiness.clone(),
                self.last.clone().cancelled_owned(),
            );
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
            served,
            last: self.last,
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

    /// A task without an end of its own, which goes on until flows have ended.
    fn until_last(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let last = self.last.clone();
        self.spawn(name, until(last, task));
    }

    /// A task that one of the operator's processes does.
    fn duty<F>(
        &mut self,
        name: &'static str,
        make: impl FnMut(CancellationToken) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let lease = self.lease.clone();
        self.spawn(name, lease.while_held(self.stop.clone(), make));
    }

    /// Follows the chain; if that is impossible the operator stops, since everything that it says
    /// about deposits and exits would be wrong. While another process follows, its progress is
    /// read from the database.
    fn follow(&mut self, chain: Chain) {
        let Chain { rpc, first, tip } = chain;
        let (duties, all, told) = (self.duties.clone(), self.stop.clone(), Arc::clone(&tip));
        self.duty("chain", move |stop| {
            let (duties, all, told) = (duties.clone(), all.clone(), Arc::clone(&told));
            let mut follower = Follower::new(rpc.clone(), duties, first);
            async move {
                let mut seen = follower.tip();
                let telling = async {
                    while seen.changed().await.is_ok() {
                        told.send_replace(*seen.borrow_and_update());
                    }
                };
                let following = follower.run(stop.cancelled_owned());
                tokio::select! {
                    outcome = following => if let Err(error) = outcome {
                        tracing::error!(%error, "the chain cannot be followed; stopping");
                        all.cancel();
                    },
                    () = telling => {}
                }
            }
        });
        let (duties, held) = (self.duties.clone(), self.lease.held());
        let stop = self.stop.clone();
        self.spawn("tip", until(stop, read_tip(duties, held, tip)));
    }
}

async fn until(stop: CancellationToken, task: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = task => {}
    }
}

fn report<E: std::fmt::Display>(listener: &str, outcome: Result<(), E>) {
    if let Err(error) = outcome {
        tracing::error!(listener, %error, "a listener ended");
    }
}
