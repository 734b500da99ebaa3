//! A channel over TLS that we set up ourselves, which connects again by itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use crate::Error;

/// How long TCP and TLS together may take.
const CONNECT: Duration = Duration::from_secs(10);

/// How often a connection is asked whether it lives, and how long the answer may take.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Where to connect to, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) url: String,
    /// Host without brackets.
    pub(crate) host: String,
    port: u16,
    authority: String,
}

impl Target {
    /// Parses `https://host[:port]`.
    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let wrong = |problem: &str| Error::Url {
            url: url.into(),
            problem: problem.into(),
        };
        let uri: Uri = url.parse().map_err(|_| wrong("it does not parse"))?;
        if uri.scheme_str() != Some("https") {
            return Err(wrong("operators speak https only"));
        }
        if uri
            .path_and_query()
            .is_some_and(|path| path.as_str() != "/")
        {
            return Err(wrong("it has a path"));
        }
        let host = uri
            .host()
            .filter(|host| !host.is_empty())
            .ok_or_else(|| wrong("no host"))?;
        let bare = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let port = uri.port_u16().unwrap_or(443);
        Ok(Self {
            url: url.to_owned(),
            host: bare.unwrap_or(host).to_owned(),
            port,
            authority: format!("{host}:{port}"),
        })
    }
}

/// A channel that connects when it is first used and again whenever the connection is gone.
pub(crate) fn channel(
    target: &Target,
    tls: rustls::ClientConfig,
    name: ServerName<'static>,
) -> Result<(Endpoint, impl ConnectService + use<>), Error> {
    let wrong = |problem: String| Error::Url {
        url: target.url.clone(),
        problem,
    };
    let origin: Uri = format!("https://{}", target.authority)
        .parse()
        .map_err(|problem: http::uri::InvalidUri| wrong(problem.to_string()))?;
    // The inner URL says http because the TLS is ours and not tonic's; requests carry `origin`.
    let endpoint = Endpoint::from_shared(format!("http://{}", target.authority))
        .map_err(|problem| wrong(problem.to_string()))?
        .origin(origin)
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024);
    let connector = TlsConnector::from(Arc::new(tls));
    let (host, port) = (target.host.clone(), target.port);
    let service = tower::service_fn(move |_: Uri| {
        let (connector, name, host) = (connector.clone(), name.clone(), host.clone());
        async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            let stream = connector.connect(name, stream).await?;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    Ok((endpoint, service))
}

/// What [`Endpoint::connect_with_connector`] takes.
pub(crate) trait ConnectService:
    tower::Service<
        Uri,
        Response = TokioIo<tokio_rustls::client::TlsStream<TcpStream>>,
        Error = io::Error,
        Future: Send,
    > + Send
    + 'static
{
}

impl<S> ConnectService for S where
    S: tower::Service<
            Uri,
            Response = TokioIo<tokio_rustls::client::TlsStream<TcpStream>>,
            Error = io::Error,
            Future: Send,
        > + Send
        + 'static
{
}

/// Waits for the first connection, so that a wrong address shows at once.
pub(crate) async fn established(
    target: &Target,
    endpoint: Endpoint,
    service: impl ConnectService,
) -> Result<Channel, Error> {
    endpoint
        .connect_with_connector(service)
        .await
        .map_err(|source| Error::Connect {
            url: target.url.clone(),
            source,
        })
}
