//! Putting an operator together and setting it going.

use std::future::Future;
use std::sync::Arc;

use tinderbox_chain::{Follower, Rpc};
use tinderbox_rpc::peer::{self, Directory, PeerCertificate};
use tinderbox_rpc::server::{self, services};
use tinderbox_rpc::session::{AuthnService, Sessions, system_clock};
use tinderbox_rpc::tls::Certificate;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::parts::{api, certify, connect_node, connect_peers, first_block, open_signer, site};
use super::tasks::{refill, retire, sweep};
use super::{Running, StartError};
use crate::api::mock::MockService;
use crate::api::service::SparkService;
use crate::api::ssp::SspService;
use crate::api::token::TokenService;
use crate::api::{Api, authn};
use crate::chain::{Duties, Watchtower, run_flips};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::metrics::{self, Readiness};
use crate::peer::{PeerClient, PeerServer};
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
        self.spawn(
            "returns",
            Returns::new(self.api.engine.clone()).run(stop.clone().cancelled_owned()),
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

fn report<E: std::fmt::Display>(listener: &str, outcome: Result<(), E>) {
    if let Err(error) = outcome {
        tracing::error!(listener, %error, "a listener ended");
    }
}
