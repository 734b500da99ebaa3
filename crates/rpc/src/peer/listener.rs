//! The listener on which operators talk to each other.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::service::Routes;

use super::certificate::{self, PeerCertificate};
use super::verify;
use super::{Directory, OperatorIndex};
use crate::server::{Settings, accept, run};
use crate::{Error, ServiceError};

/// The operator at the other end. A request extension on the operators' listener, and nowhere
/// else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Which operator.
    pub operator: OperatorIndex,
    /// The identity key that vouches for its TLS key.
    pub identity: PublicKey,
    /// Where it connects from.
    pub remote: SocketAddr,
}

impl Peer {
    /// The operator that sent this request.
    ///
    /// # Errors
    /// UNAUTHENTICATED if the request did not come through the operators' listener.
    pub fn of<T>(request: &Request<T>) -> Result<Self, ServiceError> {
        let none = || ServiceError::unauthenticated("only operators may call this");
        request.extensions().get().copied().ok_or_else(none)
    }
}

/// Limits of the operators' listener: few connections, large messages, no rates.
pub fn peer_settings() -> Settings {
    Settings {
        request_bytes: 64 * 1024 * 1024,
        connections: 1024,
        streams_per_connection: 1024,
        // Handlers here call other operators, which may call back: a tight bound could make a
        // circle of waiting.
        in_flight: 4096,
        handler: Duration::from_secs(60),
        limit_rates: false,
        ..Settings::default()
    }
}

/// The operators' listener, open but not serving yet.
pub struct PeerServer {
    listener: TcpListener,
    address: SocketAddr,
    tls: Arc<rustls::ServerConfig>,
    directory: Directory,
    settings: Settings,
}

impl PeerServer {
    /// Opens the listener. Port 0 takes a free one.
    ///
    /// # Errors
    /// [`Error::Listen`] for a busy port.
    pub async fn bind(
        address: SocketAddr,
        own: &PeerCertificate,
        directory: Directory,
        settings: Settings,
    ) -> Result<Self, Error> {
        let tls = verify::server_config(own, directory.clone())?;
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
            directory,
            settings,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` completes; handlers find the caller with [`Peer::of`].
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
            directory,
            settings,
            ..
        } = self;
        let cut = CancellationToken::new();
        let incoming = accept(
            listener,
            tls,
            settings.connections,
            settings.handshake,
            cut.clone(),
            move |remote, stream| describe(&directory, remote, stream),
        );
        run(incoming, routes, settings, cut, stop, None, None).await
    }
}

fn describe(
    directory: &Directory,
    remote: SocketAddr,
    stream: &TlsStream<TcpStream>,
) -> Option<Peer> {
    let (_, session) = stream.get_ref();
    let identity = certificate::voucher(session.peer_certificates()?.first()?).ok()?;
    Some(Peer {
        operator: directory.index(&identity)?,
        identity,
        remote,
    })
}
