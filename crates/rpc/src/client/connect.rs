//! A wallet's connection to one operator.

use rustls::pki_types::ServerName;
use tonic::transport::{Channel, Endpoint};

use super::connector::ConnectService;
use super::{Target, TlsTrust, channel, established};
use crate::Error;

/// Connects to an operator at `https://host[:port]`. The channel connects again by itself when
/// the connection is lost later.
///
/// # Errors
/// [`Error::Url`] for an address or trust that cannot be used, [`Error::Connect`] if nobody
/// answers or the answerer is not believed.
pub async fn connect(url: &str, trust: &TlsTrust) -> Result<Channel, Error> {
    let (target, endpoint, service) = prepare(url, trust)?;
    established(&target, endpoint, service).await
}

/// The same without waiting: it connects when it is first used, so an operator that is down is
/// no error here but answers calls with UNAVAILABLE.
///
/// # Errors
/// [`Error::Url`] for an address or trust that cannot be used.
pub fn connect_lazy(url: &str, trust: &TlsTrust) -> Result<Channel, Error> {
    let (_, endpoint, service) = prepare(url, trust)?;
    Ok(endpoint.connect_with_connector_lazy(service))
}

fn prepare(
    url: &str,
    trust: &TlsTrust,
) -> Result<(Target, Endpoint, impl ConnectService + use<>), Error> {
    let target = Target::parse(url)?;
    let config = trust.config(&target)?;
    let name = ServerName::try_from(target.host.clone()).map_err(|problem| Error::Url {
        url: url.into(),
        problem: problem.to_string(),
    })?;
    let (endpoint, service) = channel(&target, config, name)?;
    Ok((target, endpoint, service))
}
