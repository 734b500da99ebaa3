//! Carrying frames from one side to the other.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::frame::Frames;
use super::{Cut, Direction, Shared, Verdict};

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// Accepts connections for as long as the proxy lives.
pub(super) async fn accept(listener: TcpListener, target: SocketAddr, shared: Shared) {
    // Connections end with the task that accepts them.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        if shared.state().refuse {
            reset(&client);
            continue;
        }
        connections.spawn(carry(client, target, shared.clone()));
    }
}

/// A socket that is dropped after this sends a reset instead of an end.
fn reset(socket: &TcpStream) {
    let _ = socket.set_zero_linger();
}

/// How one direction of a connection came to its end.
enum End {
    /// Its sender has finished.
    Finished,
    /// It was cut.
    Cut(Cut),
    /// A socket failed.
    Broken,
}

async fn carry(client: TcpStream, target: SocketAddr, shared: Shared) {
    let Ok(server) = TcpStream::connect(target).await else {
        // As if nobody listened.
        reset(&client);
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let mut age = shared.age.subscribe();
    age.mark_unchanged();
    let (mut client_in, mut client_out) = client.into_split();
    let (mut server_in, mut server_out) = server.into_split();
    let how = {
        let there = pump(
            &mut client_in,
            &mut server_out,
            Direction::ToServer,
            &shared,
        );
        let back = pump(
            &mut server_in,
            &mut client_out,
            Direction::ToClient,
            &shared,
        );
        both(there, back, age).await
    };
    if how == Some(Cut::Reset) {
        for socket in [&client_out, &server_out] {
            reset(socket.as_ref());
        }
    }
}

/// Runs both directions until the connection is over. Tells how it was cut, if it was.
async fn both(
    there: impl Future<Output = End>,
    back: impl Future<Output = End>,
    mut age: watch::Receiver<u64>,
) -> Option<Cut> {
    tokio::pin!(there, back);
    let (mut there_over, mut back_over) = (false, false);
    while !(there_over && back_over) {
        let end = tokio::select! {
            end = &mut there, if !there_over => { there_over = true; end }
            end = &mut back, if !back_over => { back_over = true; end }
            _ = age.changed() => return Some(Cut::Close),
        };
        match end {
            End::Finished | End::Cut(Cut::HalfClose) => {}
            End::Cut(Cut::Silence) => {
                // The sockets stay open and nobody reads them.
                let _ = age.changed().await;
                return Some(Cut::Close);
            }
            End::Cut(cut) => return Some(cut),
            End::Broken => return None,
        }
    }
    None
}

async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    direction: Direction,
    shared: &Shared,
) -> End {
    let mut frames = Frames::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = match from.read(&mut chunk).await {
            Ok(0) => {
                let _ = to.shutdown().await;
                return End::Finished;
            }
            Ok(read) => read,
            Err(_) => return End::Broken,
        };
        for frame in frames.feed(&chunk[..read]) {
            let Some(verdict) = shared.judge(direction) else {
                continue;
            };
            if let Verdict::Pass(delay) = verdict
                && delay > Duration::ZERO
            {
                tokio::time::sleep(delay).await;
            }
            if to.write_all(&frame).await.is_err() {
                return End::Broken;
            }
            if let Verdict::Last(cut) = verdict {
                if cut == Cut::HalfClose {
                    let _ = to.shutdown().await;
                }
                return End::Cut(cut);
            }
        }
    }
}
