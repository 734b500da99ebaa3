//! Puts listener, layers and services together and runs them until told to stop.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::server::Connected;
use tonic_web::GrpcWebLayer;

use super::{
    CatchPanicLayer, Connection, ConnectionInfo, IdentifyLayer, ResponseHeadersLayer, Settings,
    accept, cors,
};
use crate::Error;
use crate::limit::{InFlightLayer, RateLimitLayer, RateLimits};
use crate::session::{Clock, Sessions};
use crate::tls::{self, Certificate};

/// A listener that is open but does not serve yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    settings: Settings,
    sessions: Option<(Arc<Sessions>, Clock)>,
}

impl Server {
    /// Opens the listener. Port 0 takes a free one.
    ///
    /// # Errors
    /// [`Error::Listen`] for a busy port, [`Error::Tls`] for a key of another certificate.
    pub async fn bind(
        address: SocketAddr,
        certificate: Certificate,
        settings: Settings,
    ) -> Result<Self, Error> {
        let tls = tls::server_config(certificate)?;
        let listen = |source| Error::Listen {
            address: address.to_string(),
            source,
        };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self {
            listener,
            address,
            tls,
            settings,
            sessions: None,
        })
    }

    /// Takes callers' identities from tokens of these sessions.
    #[must_use]
    pub fn with_sessions(mut self, sessions: Arc<Sessions>, clock: Clock) -> Self {
        self.sessions = Some((sessions, clock));
        self
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` completes, then lets running requests finish for
    /// [`Settings::grace`] and cuts the rest.
    ///
    /// # Errors
    /// [`Error::Serve`] if the transport gave up.
    pub async fn serve(
        self,
        routes: Routes,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        let Self {
            listener,
            tls,
            settings,
            sessions,
            ..
        } = self;
        let cut = CancellationToken::new();
        let incoming = accept(
            listener,
            tls,
            settings.connections,
            settings.handshake,
            cut.clone(),
            |remote, _| Some(ConnectionInfo { remote }),
        );
        let limits = settings.limit_rates.then(|| {
            let (identity, address) = (settings.identity_rate, settings.address_rate);
            Arc::new(RateLimits::new(identity, address, settings.remembered))
        });
        run(incoming, routes, settings, cut, stop, sessions, limits).await
    }
}

/// Serves `incoming`; shared with the operators' own listener, which passes neither sessions nor
/// rate limits.
pub(crate) async fn run<I>(
    incoming: impl Stream<Item = std::io::Result<Connection<I>>>,
    routes: Routes,
    settings: Settings,
    cut: CancellationToken,
    stop: impl Future<Output = ()> + Send,
    sessions: Option<(Arc<Sessions>, Clock)>,
    limits: Option<Arc<RateLimits>>,
) -> Result<(), Error>
where
    Connection<I>: Connected,
    I: Unpin + Send + 'static,
{
    // The first layer added is the outermost.
    let server = tonic::transport::Server::builder()
        .accept_http1(true)
        .max_concurrent_streams(settings.streams_per_connection)
        .http2_keepalive_interval(Some(settings.keep_alive))
        .http2_keepalive_timeout(Some(settings.keep_alive))
        .timeout(settings.handler + settings.queue)
        .layer(ResponseHeadersLayer)
        .layer(cors())
        .layer(GrpcWebLayer::new())
        .layer(CatchPanicLayer)
        .layer(IdentifyLayer::new(sessions))
        .layer(RateLimitLayer::new(limits))
        .layer(InFlightLayer::new(settings.in_flight, settings.queue));
    // When the grace is over the connections are cut, and then serving ends by itself.
    let (stopping, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let signal = async move {
        stop.await;
        let _ = stopping.send(());
    };
    let serving = server.serve_with_incoming_shutdown(routes.prepare(), incoming, signal);
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        outcome = &mut serving => return outcome.map_err(Error::Serve),
        _ = &mut stopped => {}
    }
    if let Ok(outcome) = tokio::time::timeout(settings.grace, &mut serving).await {
        return outcome.map_err(Error::Serve);
    }
    cut.cancel();
    serving.await.map_err(Error::Serve)
}
