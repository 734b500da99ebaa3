//! A connection to another operator.

use bitcoin::secp256k1::PublicKey;
use rustls::pki_types::ServerName;
use tonic::transport::Channel;

use super::certificate::PeerCertificate;
use super::verify;
use crate::Error;
use crate::client::{Target, channel};

/// A channel to the operator with this identity key at `https://host[:port]`.
///
/// It connects when it is first used and again whenever the connection is gone, so an operator
/// that is down now is no error here: calls answer UNAVAILABLE until it is back.
///
/// # Errors
/// [`Error::Url`] for an address that cannot be used.
pub fn peer_client(
    url: &str,
    own: &PeerCertificate,
    expected: &PublicKey,
) -> Result<Channel, Error> {
    let target = Target::parse(url)?;
    let config = verify::client_config(own, expected)?;
    let name = ServerName::try_from(verify::NAME).map_err(|problem| Error::Url {
        url: url.into(),
        problem: problem.to_string(),
    })?;
    let (endpoint, service) = channel(&target, config, name)?;
    Ok(endpoint.connect_with_connector_lazy(service))
}
