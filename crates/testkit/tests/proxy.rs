//! The proxy does what it is told: otherwise tests that rely on it would prove nothing.

use std::net::SocketAddr;
use std::time::Duration;

use tinderbox_testkit::proxy::{Cut, Direction, Proxy};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A TLS record of one byte.
fn record(byte: u8) -> [u8; 6] {
    [23, 3, 3, 0, 1, byte]
}

/// A server that sends back what it gets.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    address
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// Sends a record and reads what comes back; nothing if the connection is over.
async fn ask(socket: &mut TcpStream, byte: u8) -> Option<u8> {
    socket.write_all(&record(byte)).await.ok()?;
    let mut answer = [0; 6];
    let read = tokio::time::timeout(PATIENCE, socket.read_exact(&mut answer));
    read.await.expect("an answer or an end").ok()?;
    Some(answer[5])
}

#[tokio::test]
async fn what_nobody_breaks_passes() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let mut socket = connect(&proxy).await;
    for byte in 0..50 {
        assert_eq!(ask(&mut socket, byte).await, Some(byte));
    }
    assert_eq!(proxy.passed(Direction::ToServer), 50);
    assert_eq!(proxy.passed(Direction::ToClient), 50);
    assert_eq!(proxy.cuts(), 0);
}

/// After every frame in turn, in each direction, in each way; and then never again.
#[tokio::test]
async fn connection_is_cut_after_the_frame_that_was_named_and_once() {
    for cut in [Cut::Close, Cut::Reset] {
        for direction in [None, Some(Direction::ToServer), Some(Direction::ToClient)] {
            for frames in 1..7 {
                let proxy = Proxy::start(echo().await).await.unwrap();
                proxy.cut_after(frames, direction, cut);
                let mut socket = connect(&proxy).await;
                let mut answered = 0;
                for byte in 0..10 {
                    match ask(&mut socket, byte).await {
                        Some(answer) => assert_eq!(answer, byte),
                        None => break,
                    }
                    answered += 1;
                }
                // A close lets what was sent before it arrive; a reset may overtake it.
                let expected = match direction {
                    None => frames / 2,
                    Some(Direction::ToServer) => frames - 1,
                    Some(Direction::ToClient) => frames,
                };
                let least = expected.saturating_sub(u64::from(cut == Cut::Reset));
                assert!(
                    (least..=expected).contains(&answered),
                    "{cut:?} {direction:?} after {frames}: {answered} answers"
                );
                assert_eq!(proxy.cuts(), 1);
                let mut again = connect(&proxy).await;
                for byte in 0..20 {
                    assert_eq!(ask(&mut again, byte).await, Some(byte));
                }
                assert_eq!(proxy.cuts(), 1);
            }
        }
    }
}

#[tokio::test]
async fn half_closed_connection_still_brings_answers() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    proxy.cut_after(2, Some(Direction::ToServer), Cut::HalfClose);
    let mut socket = connect(&proxy).await;
    assert_eq!(ask(&mut socket, 1).await, Some(1));
    assert_eq!(ask(&mut socket, 2).await, Some(2));
    // The third is not carried any more.
    assert_eq!(ask(&mut socket, 3).await, None);
}

#[tokio::test]
async fn silence_swallowing_and_refusal_keep_everything_out() {
    let proxy = Proxy::start(echo().await).await.unwrap();
    let quiet = Duration::from_millis(200);
    proxy.cut_after(1, None, Cut::Silence);
    let mut socket = connect(&proxy).await;
    let silent = tokio::time::timeout(quiet, ask(&mut socket, 1)).await;
    assert!(silent.is_err(), "{silent:?}");
    // Somebody else's connection is not concerned.
    let mut other = connect(&proxy).await;
    assert_eq!(ask(&mut other, 2).await, Some(2));
    proxy.swallow(Some(Direction::ToClient));
    let silent = tokio::time::timeout(quiet, ask(&mut other, 3)).await;
    assert!(silent.is_err(), "{silent:?}");
    proxy.calm();
    assert_eq!(ask(&mut other, 4).await, Some(4));
    proxy.refuse(true);
    let mut refused = connect(&proxy).await;
    assert_eq!(ask(&mut refused, 5).await, None);
    proxy.refuse(false);
    proxy.cut_all();
    assert_eq!(ask(&mut other, 6).await, None);
    let mut last = connect(&proxy).await;
    assert_eq!(ask(&mut last, 7).await, Some(7));
}

/// The same seed breaks at the same places.
#[tokio::test]
async fn seed_breaks_alike_twice() {
    let server = echo().await;
    let play = async || {
        let proxy = Proxy::start(server).await.unwrap();
        proxy.break_by(7, 6, Duration::from_millis(1));
        let mut lives = Vec::new();
        for _ in 0..12 {
            let mut socket = connect(&proxy).await;
            let mut frames = 0;
            // One frame at a time: whether a cut falls on a question or its answer is the seed's.
            while frames < 40 && ask(&mut socket, 1).await.is_some() {
                frames += 1;
            }
            lives.push(frames);
        }
        (lives, proxy.cuts())
    };
    let (first, cuts) = play().await;
    assert!(cuts > 3, "{cuts} cuts in {first:?}");
    let (second, _) = play().await;
    assert_eq!(first, second);
}
