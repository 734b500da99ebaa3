//! What is particular to the socket.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Mode, Network};
use futures::future::join_all;
use tinderbox_signer::{Signer, SignerError, SocketOptions, SocketSigner, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

fn impatient() -> SocketOptions {
    SocketOptions {
        reconnect: Duration::from_millis(50),
        answer: Duration::from_secs(20),
    }
}

fn unreachable<T>(result: Result<T, SignerError>) -> String {
    match result.err().unwrap() {
        SignerError::Unreachable(text) => text,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_and_many_requests_share_one_signer() {
    let network = Network::start(Mode::Socket).await;
    let operator = &network.operators[0];
    let mut tasks = Vec::new();
    for client in 0..4u8 {
        let signer = Arc::new(SocketSigner::connect(operator.socket()).await.unwrap());
        for request in 0..50u8 {
            let signer = Arc::clone(&signer);
            tasks.push(tokio::spawn(async move {
                let label = format!("{client}/{request}");
                let derived = signer.derive(&label).await.unwrap();
                let nonces = signer.nonces(1).await.unwrap();
                (label, derived, nonces[0])
            }));
        }
    }
    let mut commitments = std::collections::BTreeSet::new();
    for done in join_all(tasks).await {
        let (label, derived, nonce) = done.unwrap();
        // Each answer went to who asked.
        assert_eq!(derived, operator.signer().derive(&label).await.unwrap());
        assert!(commitments.insert(nonce));
    }
    assert_eq!(commitments.len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_finds_its_signer_again_after_a_restart() {
    let mut network = Network::start(Mode::Socket).await;
    let path = network.operators[0].socket();
    let client = SocketSigner::connect(&path).await.unwrap();
    let before = client.epoch().await.unwrap();
    network.operators[0].restart().await;
    assert_eq!(client.epoch().await.unwrap(), before);
    // A call that begins while nobody serves waits for the next one.
    network.operators[0].stop().await;
    assert!(!path.exists());
    let waiting = tokio::spawn(async move { client.epoch().await });
    network.operators[0].restart().await;
    assert_eq!(waiting.await.unwrap().unwrap(), before);
}

#[tokio::test]
async fn a_missing_signer_is_a_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nobody");
    let text = unreachable(SocketSigner::connect_with(&path, impatient()).await);
    assert!(
        text.contains("nobody") && text.contains("check that the signer runs"),
        "{text}"
    );
    let mut network = Network::start(Mode::Socket).await;
    let client = SocketSigner::connect_with(network.operators[0].socket(), impatient())
        .await
        .unwrap();
    network.operators[0].stop().await;
    unreachable(client.epoch().await);
}

#[tokio::test]
async fn another_operators_signer_is_not_taken_for_ours() {
    let mut network = Network::start(Mode::Socket).await;
    let path = network.operators[0].socket();
    let client = SocketSigner::connect(&path).await.unwrap();
    network.operators[0].stop().await;
    let other = Arc::new(network.operators[1].open_local_beside());
    let server = serve(&path, other).unwrap();
    let text = unreachable(client.epoch().await);
    assert!(text.contains("is the signer of operator"), "{text}");
    server.stop().await;
}

#[tokio::test]
async fn two_servers_do_not_share_a_path() {
    let network = Network::start(Mode::Socket).await;
    let path = network.operators[0].socket();
    let other = Arc::new(network.operators[1].open_local_beside());
    let shared: Arc<dyn Signer> = other;
    let text = unreachable(serve(&path, Arc::clone(&shared)));
    assert!(text.contains("another signer serves there"), "{text}");
    let plain = network.operators[0].folder.path().join("plain");
    std::fs::write(&plain, b"precious").unwrap();
    let text = unreachable(serve(&plain, Arc::clone(&shared)));
    assert!(text.contains("no socket"), "{text}");
    assert_eq!(std::fs::read(&plain).unwrap(), b"precious");
    // What a dead server left is replaced.
    let stale = network.operators[0].folder.path().join("stale");
    drop(UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    let server = serve(&stale, shared).unwrap();
    SocketSigner::connect(&stale).await.unwrap();
    server.stop().await;
    assert!(!stale.exists());
}

#[tokio::test]
async fn only_the_own_user_may_open_the_socket() {
    use std::os::unix::fs::PermissionsExt;
    let network = Network::start(Mode::Socket).await;
    let meta = std::fs::metadata(network.operators[0].socket()).unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn what_speaks_something_else_is_turned_away_on_both_sides() {
    let network = Network::start(Mode::Socket).await;
    let path = network.operators[0].socket();
    for greeting in [&b"GET / HTTP/1"[..], b"TINDERSG\x09\0\0\0"] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(greeting).await.unwrap();
        let mut reply = Vec::new();
        // The greeting tells the other side which version is spoken here; then it is closed.
        let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut reply));
        closed.await.unwrap().unwrap();
        assert_eq!(reply.len(), 45);
    }
    // A client is not fooled either.
    let folder = tempfile::tempdir().unwrap();
    for (reply, expected) in [
        (vec![7; 45], "no signer"),
        (
            [&b"TINDERSG\x09\0\0\0"[..], &[2; 33]].concat(),
            "it speaks version 9",
        ),
        (vec![7; 3], "check that the signer runs"),
    ] {
        let path = folder
            .path()
            .join(hex::encode(&reply[..2]) + &reply.len().to_string());
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&reply).await.unwrap();
        });
        let text = unreachable(SocketSigner::connect_with(&path, impatient()).await);
        assert!(text.contains(expected), "{text}");
        server.await.unwrap();
    }
}

#[tokio::test]
async fn a_garbled_request_ends_its_connection_and_nothing_else() {
    let network = Network::start(Mode::Socket).await;
    let operator = &network.operators[0];
    for body in [
        &[0xff; 30][..],
        &[0xff, 0xff, 0xff, 0xff],
        &[4, 0, 0, 0, 1, 99, 0, 0],
    ] {
        let mut stream = UnixStream::connect(operator.socket()).await.unwrap();
        stream.write_all(b"TINDERSG\x01\0\0\0").await.unwrap();
        stream.write_all(body).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut reply = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut reply));
        // Closed with bytes unread, the system says "reset"; an end all the same.
        if let Err(error) = closed.await.unwrap() {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    operator.signer().epoch().await.unwrap();
}

#[tokio::test]
async fn errors_cross_the_socket_whole() {
    let network = Network::start(Mode::Socket).await;
    let leaf = network.leaf().await;
    let mut job = network.key_job(&leaf, 0, None, Vec::new());
    job.keyshare = [3; 16];
    let refused = network.operators[0]
        .signer()
        .execute(vec![job])
        .await
        .unwrap_err();
    assert_eq!(refused, SignerError::Stale([3; 16]));
}
