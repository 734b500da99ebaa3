//! A real server on loopback: both protocols, limits, faults, shutdown.

mod common;

use std::time::Duration;

use common::{PATIENCE, Running, authorized, key, sign_in};
use prost::Message as _;
use tinderbox_rpc::client::{self, TlsTrust};
use tinderbox_rpc::limit::Rate;
use tinderbox_rpc::proto::spark::{
    ClaimTransferRequest, QueryBalanceRequest, QueryNodesRequest, SubscribeToEventsRequest,
};
use tinderbox_rpc::server::Settings;
use tinderbox_rpc::{Error, Reason, ServiceError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;

/// One HTTP/1.1 exchange over TLS, as a browser would do it; returns head and body.
async fn http1(server: &Running, request: &[u8]) -> (String, Vec<u8>) {
    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::pem::PemObject as _;
    roots
        .add(rustls::pki_types::CertificateDer::from_pem_slice(server.pem.as_bytes()).unwrap())
        .unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(server.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, stream).await.unwrap();
    assert_eq!(
        stream.get_ref().1.alpn_protocol(),
        Some(b"http/1.1".as_slice())
    );
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // The peer may end without a TLS goodbye; what came before counts.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("no answer in time");
    let split = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("no head");
    let head = String::from_utf8(answer[..split].to_vec()).unwrap();
    let mut body = answer[split + 4..].to_vec();
    if head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked")
    {
        body = unchunk(&body);
    }
    (head, body)
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = rest
            .windows(2)
            .position(|two| two == b"\r\n")
            .expect("no chunk size");
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        rest = &rest[line + 2..];
        if size == 0 {
            return body;
        }
        body.extend(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

fn frame(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame
}

fn web_request(method: &str, body: &[u8], extra: &str) -> Vec<u8> {
    let mut request = format!(
        "POST /spark.SparkService/{method} HTTP/1.1\r\nhost: localhost\r\n\
         content-type: application/grpc-web+proto\r\nx-grpc-web: 1\r\n\
         origin: https://wallet.example\r\nconnection: close\r\n{extra}content-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    request
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[tokio::test]
async fn grpc_answers_carry_time_headers_before_any_message() {
    let server = Running::start(Settings::default()).await;
    let mut client = client::spark(server.channel().await);
    let request = SubscribeToEventsRequest {
        identity_public_key: vec![],
        ..SubscribeToEventsRequest::default()
    };
    let stream = timeout(PATIENCE, client.subscribe_to_events(request))
        .await
        .unwrap()
        .unwrap();
    // The stream never ends, so what is here cannot come from trailers.
    let initial = stream.metadata();
    let date = initial.get("date").unwrap().to_str().unwrap();
    let skew = httpdate::parse_http_date(date)
        .unwrap()
        .elapsed()
        .unwrap_or_default();
    assert!(skew < Duration::from_secs(30), "{date}");
    let took: f64 = initial
        .get("x-processing-time-ms")
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((0.0..20_000.0).contains(&took));
    assert_eq!(
        initial.get("x-trace-id").unwrap().to_str().unwrap().len(),
        32
    );
}

#[tokio::test]
async fn method_that_nobody_built_is_unimplemented() {
    let server = Running::start(Settings::default()).await;
    let mut client = client::spark(server.channel().await);
    let status = client
        .claim_transfer(ClaimTransferRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    let status = client::token(server.channel().await)
        .query_token_outputs(tinderbox_rpc::proto::spark_token::QueryTokenOutputsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn grpc_web_over_http1_is_answered_on_the_same_port() {
    let server = Running::start(Settings::default()).await;
    let request = web_request("get_signing_operator_list", &frame(&[]), "");
    let (head, body) = http1(&server, &request).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(
        header(&head, "content-type"),
        Some("application/grpc-web+proto")
    );
    assert_eq!(header(&head, "access-control-allow-origin"), Some("*"));
    let exposed = header(&head, "access-control-expose-headers").unwrap();
    for name in [
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "date",
        "x-processing-time-ms",
        "x-trace-id",
    ] {
        assert!(
            exposed.split(',').any(|one| one.trim() == name),
            "{name} in {exposed}"
        );
    }
    for name in ["date", "x-processing-time-ms", "x-trace-id"] {
        assert!(header(&head, name).is_some(), "{name} in {head}");
    }
    assert_eq!(body[..5], [0, 0, 0, 0, 0], "an empty message comes first");
    assert_eq!(body[5], 0x80, "then the trailers");
    assert!(String::from_utf8_lossy(&body[10..]).contains("grpc-status:0"));
}

#[tokio::test]
async fn browser_may_send_its_authorization_from_any_page() {
    let server = Running::start(Settings::default()).await;
    let request = b"OPTIONS /spark.SparkService/query_balance HTTP/1.1\r\nhost: localhost\r\n\
        origin: https://wallet.example\r\naccess-control-request-method: POST\r\n\
        access-control-request-headers: authorization,x-grpc-web,content-type\r\n\
        connection: close\r\n\r\n";
    let (head, _) = http1(&server, request).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(
        header(&head, "access-control-allow-headers")
            .unwrap()
            .contains("authorization")
    );
    assert!(
        header(&head, "access-control-allow-methods")
            .unwrap()
            .contains("POST")
    );
}

#[tokio::test]
async fn plain_web_request_is_turned_away_and_the_server_goes_on() {
    let server = Running::start(Settings::default()).await;
    let (head, _) = http1(
        &server,
        b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    let mut client = client::spark(server.channel().await);
    assert!(client.get_signing_operator_list(()).await.is_ok());
}

#[tokio::test]
async fn bytes_that_are_no_message_are_the_senders_fault() {
    let server = Running::start(Settings::default()).await;
    // Field 1 says five bytes follow, and one does.
    let request = web_request("query_balance", &frame(&[0x0a, 5, 1]), "");
    let (head, body) = http1(&server, &request).await;
    let all = format!("{head}{}", String::from_utf8_lossy(&body));
    assert!(
        all.contains("grpc-status: 3") || all.contains("grpc-status:3"),
        "{all}"
    );
    assert!(all.contains("malformed"), "{all}");
}

#[tokio::test]
async fn message_over_the_limit_is_refused_and_the_next_one_served() {
    let server = Running::start(Settings {
        request_bytes: 10_000,
        ..Settings::default()
    })
    .await;
    let mut client = client::spark(server.channel().await);
    let large = QueryBalanceRequest {
        identity_public_key: vec![0; 20_000],
        network: 2,
    };
    assert!(large.encoded_len() > 10_000);
    let status = client.query_balance(large).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert!(client.get_signing_operator_list(()).await.is_ok());
}

/// Case 67.
#[tokio::test]
async fn handler_panic_fails_its_request_only() {
    let server = Running::start(Settings {
        in_flight: 1,
        ..Settings::default()
    })
    .await;
    let mut client = client::spark(server.channel().await);
    for _ in 0..3 {
        let request = QueryNodesRequest {
            include_parents: true,
            ..Default::default()
        };
        let status = client.query_nodes(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
        assert_eq!(
            status.message(),
            "Something went wrong.",
            "the cause stays with us"
        );
        assert!(status.details().is_empty());
    }
    // The only place in flight was given back each time.
    assert!(
        client
            .query_nodes(QueryNodesRequest::default())
            .await
            .is_ok()
    );
}

/// Case 67, for answers that are under way.
#[tokio::test]
async fn stream_that_panics_ends_alone() {
    let server = Running::start(Settings::default()).await;
    let mut client = client::spark(server.channel().await);
    let watch = |key: Vec<u8>| SubscribeToEventsRequest {
        identity_public_key: key,
        ..SubscribeToEventsRequest::default()
    };
    let good = client.subscribe_to_events(watch(vec![])).await.unwrap();
    let mut good = good.into_inner();
    assert!(good.message().await.unwrap().is_some());
    let bad = client.subscribe_to_events(watch(vec![0xff])).await;
    let ended = async {
        let Ok(bad) = bad else { return };
        let mut bad = bad.into_inner();
        while let Ok(Some(_)) = bad.message().await {}
    };
    timeout(PATIENCE, ended).await.expect("the stream goes on");
    // The same connection still serves, and its other stream still stands.
    assert!(client.get_signing_operator_list(()).await.is_ok());
    assert!(futures::FutureExt::now_or_never(good.message()).is_none());
}

#[tokio::test]
async fn requests_over_the_rate_wait_for_nobody_and_identities_have_their_own_rate() {
    let once = |burst| Rate {
        burst,
        per_second: 0.001,
    };
    let server = Running::start(Settings {
        address_rate: once(4),
        identity_rate: once(2),
        ..Settings::default()
    })
    .await;
    let channel = server.channel().await;
    let (secret, public) = key(11);
    let token = sign_in(&channel, &secret).await.unwrap();
    let mut client = client::spark(channel);
    // Signing in took two of four.
    for _ in 0..2 {
        assert!(client.get_signing_operator_list(()).await.is_ok());
    }
    let status = client.get_signing_operator_list(()).await.unwrap_err();
    let error = ServiceError::from(status);
    assert_eq!(
        (error.code, error.reason),
        (Code::ResourceExhausted, Some(Reason::RateLimited))
    );
    assert!(error.retry_after.unwrap() > Duration::from_secs(1));
    let ask = || {
        let request = QueryBalanceRequest {
            identity_public_key: public.serialize().to_vec(),
            network: 2,
        };
        authorized(request, &format!("Bearer {token}"))
    };
    for _ in 0..2 {
        assert!(client.query_balance(ask()).await.is_ok());
    }
    assert_eq!(
        client.query_balance(ask()).await.unwrap_err().code(),
        Code::ResourceExhausted
    );
}

#[tokio::test]
async fn wallet_signs_in_is_known_and_signs_in_again_when_the_token_is_old() {
    let server = Running::start(Settings::default()).await;
    let channel = server.channel().await;
    let (secret, public) = key(12);
    let (_, other) = key(13);
    let token = sign_in(&channel, &secret).await.unwrap();
    let second = sign_in(&channel, &secret).await.unwrap();
    assert_ne!(token, second, "a key may have many sessions");
    let mut client = client::spark(channel.clone());
    let ask = |owner: &bitcoin::secp256k1::PublicKey| QueryBalanceRequest {
        identity_public_key: owner.serialize().to_vec(),
        network: 2,
    };
    for value in [token.clone(), format!("Bearer {token}"), second] {
        let answer = client
            .query_balance(authorized(ask(&public), &value))
            .await
            .unwrap();
        assert!(
            answer
                .into_inner()
                .node_balances
                .contains_key(&public.to_string())
        );
    }
    let status = client
        .query_balance(authorized(ask(&other), &token))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let status = client
        .query_balance(authorized(ask(&public), "Bearer undefined"))
        .await;
    assert_eq!(status.unwrap_err().code(), Code::Unauthenticated);
    server.clock.advance(15 * 60);
    let status = client
        .query_balance(authorized(ask(&public), &token))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert!(status.message().contains("token has expired"));
    let token = sign_in(&channel, &secret).await.unwrap();
    assert!(
        client
            .query_balance(authorized(ask(&public), &token))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn request_that_finds_no_place_in_flight_is_refused_after_a_while() {
    let server = Running::start(Settings {
        in_flight: 1,
        queue: Duration::from_millis(20),
        ..Settings::default()
    })
    .await;
    let channel = server.channel().await;
    let mut first = client::spark(channel.clone());
    let held = tokio::spawn(async move {
        first
            .query_nodes(QueryNodesRequest {
                limit: 1,
                ..Default::default()
            })
            .await
    });
    timeout(PATIENCE, server.gate.entered.notified())
        .await
        .unwrap();
    let mut second = client::spark(channel);
    let status = second.get_signing_operator_list(()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    server.gate.open.notify_one();
    assert!(timeout(PATIENCE, held).await.unwrap().unwrap().is_ok());
    assert!(second.get_signing_operator_list(()).await.is_ok());
}

#[tokio::test]
async fn streams_do_not_use_up_the_places_in_flight() {
    let server = Running::start(Settings {
        in_flight: 1,
        ..Settings::default()
    })
    .await;
    let mut client = client::spark(server.channel().await);
    let mut streams = Vec::new();
    for _ in 0..5 {
        let request = SubscribeToEventsRequest {
            identity_public_key: vec![],
            ..SubscribeToEventsRequest::default()
        };
        let stream = client
            .subscribe_to_events(request)
            .await
            .unwrap()
            .into_inner();
        streams.push(stream);
    }
    for stream in &mut streams {
        assert!(
            timeout(PATIENCE, stream.message())
                .await
                .unwrap()
                .unwrap()
                .is_some()
        );
    }
}

#[tokio::test]
async fn connection_that_never_shakes_hands_holds_up_nobody_and_is_dropped() {
    let server = Running::start(Settings {
        handshake: Duration::from_millis(300),
        ..Settings::default()
    })
    .await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut client = client::spark(server.channel().await);
    assert!(client.get_signing_operator_list(()).await.is_ok());
    let mut buffer = [0; 1];
    let ended = timeout(PATIENCE, silent.read(&mut buffer))
        .await
        .expect("was not dropped");
    assert_eq!(ended.unwrap_or(0), 0);
}

#[tokio::test]
async fn shutdown_lets_a_running_request_finish_and_cuts_an_endless_stream() {
    let mut server = Running::start(Settings {
        grace: Duration::from_millis(500),
        ..Settings::default()
    })
    .await;
    let mut client = client::spark(server.channel().await);
    let mut streaming = client::spark(server.channel().await);
    let request = SubscribeToEventsRequest {
        identity_public_key: vec![],
        ..SubscribeToEventsRequest::default()
    };
    let mut stream = streaming
        .subscribe_to_events(request)
        .await
        .unwrap()
        .into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let held = tokio::spawn(async move {
        client
            .query_nodes(QueryNodesRequest {
                limit: 1,
                ..Default::default()
            })
            .await
    });
    timeout(PATIENCE, server.gate.entered.notified())
        .await
        .unwrap();
    server.stop();
    server.gate.open.notify_one();
    assert!(
        timeout(PATIENCE, held).await.unwrap().unwrap().is_ok(),
        "was cut off"
    );
    let served = timeout(PATIENCE, server.serving.take().unwrap())
        .await
        .expect("did not stop");
    assert!(served.unwrap().is_ok());
    let end = timeout(PATIENCE, stream.message())
        .await
        .expect("stream goes on");
    assert!(!matches!(end, Ok(Some(_))));
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "still listening"
    );
}

#[tokio::test]
async fn frequent_pings_are_no_reason_to_hang_up() {
    let server = Running::start(Settings::default()).await;
    let mut roots = rustls::RootCertStore::empty();
    use rustls::pki_types::pem::PemObject as _;
    let root = rustls::pki_types::CertificateDer::from_pem_slice(server.pem.as_bytes()).unwrap();
    roots.add(root).unwrap();
    let tls = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(&server.pem))
        .domain_name("localhost");
    let channel = tonic::transport::Endpoint::from_shared(server.url())
        .unwrap()
        .tls_config(tls)
        .unwrap()
        .http2_keep_alive_interval(Duration::from_millis(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
        .connect()
        .await
        .unwrap();
    let mut client = client::spark(channel);
    let request = SubscribeToEventsRequest {
        identity_public_key: vec![],
        ..SubscribeToEventsRequest::default()
    };
    let mut stream = client
        .subscribe_to_events(request)
        .await
        .unwrap()
        .into_inner();
    assert!(stream.message().await.unwrap().is_some());
    // A hundred pings and more go by; the stream must not end.
    assert!(
        timeout(Duration::from_secs(1), stream.message())
            .await
            .is_err(),
        "hung up"
    );
}

#[tokio::test]
async fn wallet_believes_only_whom_it_was_told_to() {
    let server = Running::start(Settings::default()).await;
    let stranger = tinderbox_rpc::tls::Certificate::self_signed(&[])
        .unwrap()
        .to_pem();
    for trust in [TlsTrust::Pem(stranger), TlsTrust::Roots] {
        let error = client::connect(&server.url(), &trust).await.unwrap_err();
        assert!(matches!(error, Error::Connect { .. }), "{trust:?}: {error}");
    }
    let local = client::connect(&server.url(), &TlsTrust::LocalInsecure)
        .await
        .unwrap();
    assert!(
        client::spark(local)
            .get_signing_operator_list(())
            .await
            .is_ok()
    );
    for url in [
        "https://operator.example",
        "https://localhost.example:1",
        "https://127.0.0.2:1",
    ] {
        let error = client::connect(url, &TlsTrust::LocalInsecure)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Url { .. }), "{url}: {error}");
    }
    for url in [
        "",
        "localhost:1",
        "http://localhost:1",
        "https://",
        "https://localhost/path",
    ] {
        let error = client::connect(url, &TlsTrust::LocalInsecure)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Url { .. }), "{url}: {error}");
    }
}

#[tokio::test]
async fn lazy_channel_to_nobody_says_unavailable() {
    let mut server = Running::start(Settings::default()).await;
    let trust = TlsTrust::Pem(server.pem.clone());
    let channel = client::connect_lazy(&server.url(), &trust).unwrap();
    server.stop();
    let served = timeout(PATIENCE, server.serving.take().unwrap()).await;
    served.expect("did not stop").unwrap().unwrap();
    let status = client::spark(channel)
        .get_signing_operator_list(())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

#[tokio::test]
async fn busy_port_is_named() {
    let server = Running::start(Settings::default()).await;
    let certificate = tinderbox_rpc::tls::Certificate::self_signed(&[]).unwrap();
    let error =
        tinderbox_rpc::server::Server::bind(server.address, certificate, Settings::default())
            .await
            .err()
            .unwrap();
    assert!(
        error.to_string().contains(&server.address.to_string()),
        "{error}"
    );
}
