//! The side of the socket that has the keys.

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use zeroize::Zeroizing;

use super::call::{Request, Response};
use super::{MAGIC, VERSION, frame};
use crate::SignerError;
use crate::signer::Signer;

/// Requests of one connection that are worked on at one time; further ones wait in the socket.
const IN_FLIGHT: usize = 256;

/// A client must greet within this time.
const GREETING: Duration = Duration::from_secs(5);

/// A served socket. Dropping it ends the serving, too.
pub struct SocketServer {
    path: PathBuf,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Serves `signer` on a new Unix socket at `path`, until the handle is stopped or dropped. Must be
/// called on a Tokio runtime.
///
/// # Errors
/// [`SignerError::Unreachable`] if somebody serves there already, or the socket cannot be made.
pub fn serve(path: impl AsRef<Path>, signer: Arc<dyn Signer>) -> Result<SocketServer, SignerError> {
    let path = path.as_ref().to_path_buf();
    make_way(&path)?;
    let listen = || -> std::io::Result<(UnixListener, u32)> {
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let user = std::fs::metadata(&path)?.uid();
        Ok((listener, user))
    };
    let (listener, user) = listen().map_err(|error| cannot(&path, &error.to_string()))?;
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(accept(listener, user, signer, stopped));
    Ok(SocketServer { path, stop, task })
}

impl SocketServer {
    /// The socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes all connections, removes the socket, and returns when nothing is being computed any
    /// more. Calls that got no answer may be repeated at the next server, with the same result.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for SocketServer {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes a socket that a dead server left.
fn make_way(path: &Path) -> Result<(), SignerError> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(cannot(path, &error.to_string())),
    };
    if !meta.file_type().is_socket() {
        return Err(cannot(path, "a file that is no socket is there"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(cannot(path, "another signer serves there; stop it first")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| cannot(path, &error.to_string()))
        }
        Err(error) => Err(cannot(path, &error.to_string())),
    }
}

fn cannot(path: &Path, why: &str) -> SignerError {
    SignerError::Unreachable(format!(
        "cannot serve on {} ({why}): check the path and its rights",
        path.display()
    ))
}

async fn accept(
    listener: UnixListener,
    user: u32,
    signer: Arc<dyn Signer>,
    mut stopped: watch::Receiver<bool>,
) {
    let (alive, mut ended) = mpsc::channel::<()>(1);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = asked_to_stop(&mut stopped) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let served = Served {
                        signer: Arc::clone(&signer),
                        _alive: alive.clone(),
                    };
                    connections.spawn(connection(stream, user, served));
                }
                Err(error) => {
                    // Out of file descriptors: some will come free.
                    tracing::warn!(%error, "cannot accept a connection to the signer");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    connections.shutdown().await;
    drop(alive);
    // Nobody sends; this ends when the last request that was being computed has let the signer go.
    let _ = ended.recv().await;
}

/// The signer, as long as somebody needs it. Fields are dropped in this order.
#[derive(Clone)]
struct Served {
    signer: Arc<dyn Signer>,
    _alive: mpsc::Sender<()>,
}

async fn asked_to_stop(stopped: &mut watch::Receiver<bool>) {
    // An error says that the handle is gone, which means the same.
    let _ = stopped.wait_for(|stop| *stop).await;
}

async fn connection(stream: UnixStream, user: u32, served: Served) {
    match stream.peer_cred().map(|peer| peer.uid()) {
        Ok(peer) if peer == user || peer == 0 => {}
        Ok(peer) => {
            tracing::warn!(peer, "another user tried to reach the signer");
            return;
        }
        Err(error) => {
            tracing::warn!(%error, "cannot tell who tried to reach the signer");
            return;
        }
    }
    if let Err(error) = converse(stream, served).await {
        tracing::warn!(%error, "a connection to the signer broke");
    }
}

async fn converse(stream: UnixStream, served: Served) -> std::io::Result<()> {
    let (mut from, mut to) = stream.into_split();
    let mut greeting = [0; 12];
    tokio::time::timeout(GREETING, from.read_exact(&mut greeting))
        .await
        .map_err(|_| std::io::Error::other("no greeting came"))??;
    let mut reply = Vec::with_capacity(45);
    reply.extend(MAGIC);
    reply.extend(VERSION.to_le_bytes());
    reply.extend(served.signer.identity().serialize());
    to.write_all(&reply).await?;
    if greeting != greeting_bytes() {
        return Err(std::io::Error::other("the client speaks another version"));
    }
    let (answers, outgoing) = mpsc::channel(IN_FLIGHT);
    // Ends with its connection: the set is dropped, whatever the way out of here.
    let mut tasks = JoinSet::new();
    tasks.spawn(answer_all(to, outgoing));
    let slots = Arc::new(Semaphore::new(IN_FLIGHT));
    while let Some(body) = frame::read(&mut from).await? {
        let Request { id, call } = frame::decode(&body)?;
        drop(body);
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            break;
        };
        while tasks.try_join_next().is_some() {}
        let served = served.clone();
        let answers = answers.clone();
        tasks.spawn(async move {
            // On its own task, so that a panic ends this request only.
            let work = tokio::spawn(async move { call.make(&*served.signer).await });
            let result = work.await.unwrap_or_else(|_| {
                Err(SignerError::Unreachable(
                    "it failed on this request; see its log".into(),
                ))
            });
            let body = frame::encode(&Response { id, result }).or_else(|error| {
                frame::encode(&Response {
                    id,
                    result: Err(SignerError::BadJob(error.to_string())),
                })
            });
            if let Ok(body) = body {
                let _ = answers.send(body).await;
            }
            drop(slot);
        });
    }
    Ok(())
}

async fn answer_all(
    mut to: tokio::net::unix::OwnedWriteHalf,
    mut outgoing: mpsc::Receiver<Zeroizing<Vec<u8>>>,
) {
    while let Some(body) = outgoing.recv().await {
        if frame::write(&mut to, &body).await.is_err() {
            break;
        }
    }
}

/// What a client of this version sends first.
pub(super) fn greeting_bytes() -> [u8; 12] {
    let mut bytes = [0; 12];
    let parts = MAGIC.iter().copied().chain(VERSION.to_le_bytes());
    for (to, from) in bytes.iter_mut().zip(parts) {
        *to = from;
    }
    bytes
}
