//! How each end of an operators' connection checks the other.

use std::sync::Arc;

use bitcoin::secp256k1::PublicKey;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    ServerConfig, SignatureScheme,
};

use super::Directory;
use super::certificate::{self, PeerCertificate};
use crate::{Error, tls};

/// The name that operators' certificates carry; identities are told by keys, not by names.
pub(super) const NAME: &str = "operator.tinderbox.internal";

/// Accepts certificates that one of the allowed identities vouches for.
#[derive(Debug)]
struct Verifier {
    allowed: Allowed,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
enum Allowed {
    Listed(Directory),
    Only(PublicKey),
}

impl Verifier {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let identity = certificate::voucher(certificate).map_err(refuse)?;
        let known = match &self.allowed {
            Allowed::Listed(directory) => directory.index(&identity).is_some(),
            Allowed::Only(expected) => *expected == identity,
        };
        if known {
            return Ok(());
        }
        Err(refuse(Error::PeerCertificate(match self.allowed {
            Allowed::Listed(_) => "its identity key is not listed; check the operators' keys",
            Allowed::Only(_) => "another operator answers here; check address and identity key",
        })))
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn refuse(error: Error) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

/// Only TLS 1.3 is offered, so nobody gets here.
fn too_old() -> rustls::Error {
    rustls::Error::General("operators speak TLS 1.3 only".into())
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

/// TLS of the operators' listener: any listed operator may connect, nobody else.
pub(super) fn server_config(
    own: &PeerCertificate,
    directory: Directory,
) -> Result<Arc<ServerConfig>, Error> {
    let provider = tls::provider();
    let verifier = Arc::new(Verifier {
        allowed: Allowed::Listed(directory),
        provider: provider.clone(),
    });
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(own.chain(), own.key())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Every connection proves both identities anew; they are few and long.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// TLS of a connection to one operator.
pub(super) fn client_config(
    own: &PeerCertificate,
    expected: &PublicKey,
) -> Result<ClientConfig, Error> {
    let provider = tls::provider();
    let verifier = Arc::new(Verifier {
        allowed: Allowed::Only(*expected),
        provider: provider.clone(),
    });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(own.chain(), own.key())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}
