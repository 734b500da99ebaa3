//! Certificates and TLS set-up for the listener that wallets use.
//!
//! The cryptography provider is named everywhere: two providers may be linked into one process,
//! and then the TLS library's default is a panic.

mod certificate;

use std::sync::Arc;

pub use certificate::{Certificate, not_after};
use rustls::crypto::CryptoProvider;

use crate::Error;

/// Protocols offered to wallets: HTTP/2 for gRPC, HTTP/1.1 for browsers' gRPC-web.
const WALLET_ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The cryptography that all our TLS uses.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// TLS set-up of a server that anyone may connect to.
///
/// # Errors
/// [`Error::Tls`] if the key does not belong to the certificate.
pub fn server_config(certificate: Certificate) -> Result<Arc<rustls::ServerConfig>, Error> {
    let (chain, key) = certificate.into_parts();
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = WALLET_ALPN.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}
