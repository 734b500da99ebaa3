//! Accepts TCP connections and does each TLS handshake in a task of its own, so that one slow
//! handshake holds up nobody.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::Connection;

/// Pause after the system refused to accept, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections whose handshake is done. Dropping it closes the listener.
pub struct Accepted<I> {
    ready: mpsc::Receiver<Connection<I>>,
    listener: JoinHandle<()>,
}

impl<I> Drop for Accepted<I> {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl<I> Stream for Accepted<I> {
    type Item = io::Result<Connection<I>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.ready.poll_recv(context).map(|next| next.map(Ok))
    }
}

/// Accepts on `listener`, at most `connections` at once, each handshake within `patience`.
/// `describe` makes what handlers are told; `None` turns the connection away. Cancelling `cut`
/// ends every connection at once.
pub fn accept<I, F>(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    connections: usize,
    patience: Duration,
    cut: CancellationToken,
    describe: F,
) -> Accepted<I>
where
    I: Clone + Send + Sync + 'static,
    F: Fn(SocketAddr, &TlsStream<TcpStream>) -> Option<I> + Send + Sync + 'static,
{
    let (sender, ready) = mpsc::channel(64);
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(connections));
    let describe = Arc::new(describe);
    let listener = tokio::spawn(async move {
        loop {
            // The place is taken before the connection, so that more of them wait in the
            // system's queue and not in our memory.
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let (stream, remote) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(problem) => {
                    tracing::warn!(%problem, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            let (describe, cut) = (describe.clone(), cut.clone());
            tokio::spawn(async move {
                let handshake = tokio::time::timeout(patience, acceptor.accept(stream));
                let outcome = tokio::select! {
                    outcome = handshake => outcome,
                    () = cut.cancelled() => return,
                };
                match outcome {
                    Ok(Ok(stream)) => {
                        if let Some(info) = describe(remote, &stream) {
                            let connection = Connection::new(stream, info, cut, place);
                            // Fails only when the server stopped: then nobody wants it.
                            let _ = sender.send(connection).await;
                        }
                    }
                    Ok(Err(problem)) => {
                        tracing::debug!(%remote, %problem, "TLS handshake failed");
                    }
                    Err(_) => tracing::debug!(%remote, "TLS handshake took too long"),
                }
            });
        }
    });
    Accepted { ready, listener }
}
