//! An operator that runs, until it is told to stop.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Operator, StartError};
use crate::api::Api;
use crate::config::Config;
use crate::metrics::Readiness;

/// How long flows may take to end.
const DRAIN_PATIENCE: Duration = Duration::from_secs(10);
/// How long tasks may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// An operator that runs.
pub struct Running {
    pub(super) public: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) metrics: Option<SocketAddr>,
    pub(super) api: Api,
    pub(super) readiness: Readiness,
    pub(super) stop: CancellationToken,
    pub(super) served: CancellationToken,
    pub(super) last: CancellationToken,
    pub(super) tasks: JoinSet<()>,
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

    /// Stops: no new requests, running ones come to their end, also the flows of wallets that hung
    /// up; only then operators are not answered any more and background tasks end. Whatever is cut
    /// off is finished after the next start, or by another process of this operator.
    pub async fn stop(mut self) {
        self.stop.cancel();
        // Streams have no end of their own.
        self.api.hub.close();
        let drained = async {
            self.served.cancelled().await;
            self.api.engine.idle().await;
        };
        if tokio::time::timeout(DRAIN_PATIENCE, drained).await.is_err() {
            tracing::warn!("some flows did not end in time; they are finished later");
        }
        self.last.cancel();
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
