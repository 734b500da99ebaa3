//! One port for several processes: connections go round the processes that take them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::{Error, Result};

/// How long a process may take to accept a connection before the next one is tried.
const PATIENCE: Duration = Duration::from_secs(1);

/// A port that leads to several others. Dropping it closes the port and every connection.
pub(crate) struct Balancer(JoinHandle<()>);

impl Balancer {
    /// Listens at `port` on the loopback address and hands connections to `targets` in turn. One
    /// that does not accept is passed over.
    pub(crate) async fn start(port: u16, targets: Vec<u16>) -> Result<Self> {
        let listen: SocketAddr = ([127, 0, 0, 1], port).into();
        let listener = TcpListener::bind(listen).await.map_err(|_| Error::Busy {
            port,
            what: "an operator's balancer",
        })?;
        Ok(Self(tokio::spawn(accept(listener, targets.into()))))
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn accept(listener: TcpListener, targets: Arc<[u16]>) {
    let turn = AtomicUsize::new(0);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let first = turn.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(carry(client, first, Arc::clone(&targets)));
                }
                Err(error) => {
                    // Out of file descriptors: some will come free.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn carry(mut client: TcpStream, first: usize, targets: Arc<[u16]>) {
    let Some(mut server) = reach(first, &targets).await else {
        // Closing says that nobody is there.
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    // Whichever side ends, ends both.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

async fn reach(first: usize, targets: &[u16]) -> Option<TcpStream> {
    for port in targets
        .iter()
        .cycle()
        .skip(first % targets.len().max(1))
        .take(targets.len())
    {
        let address: SocketAddr = ([127, 0, 0, 1], *port).into();
        if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await {
            return Some(stream);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// A server that says its number to everybody, and its port.
    async fn server(number: u8) -> (u16, JoinHandle<()>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(&[number]).await;
            }
        });
        (port, task)
    }

    async fn free_port() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        listener.local_addr().unwrap().port()
    }

    async fn ask(port: u16) -> Option<u8> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.read_u8().await.ok()
    }

    #[tokio::test]
    async fn connections_go_round_and_pass_over_what_is_down() {
        let (first, first_task) = server(1).await;
        let (second, second_task) = server(2).await;
        let port = free_port().await;
        let _balancer = Balancer::start(port, vec![first, second]).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(ask(port).await.unwrap());
        }
        assert_eq!(seen, [1, 2, 1, 2]);
        first_task.abort();
        let _ = first_task.await;
        for _ in 0..4 {
            assert_eq!(ask(port).await, Some(2));
        }
        second_task.abort();
        let _ = second_task.await;
        assert_eq!(ask(port).await, None, "nobody is there");
    }
}
