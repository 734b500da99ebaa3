//! Which servers a wallet believes.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::Target;
use crate::{Error, tls};

/// Hosts that [`TlsTrust::LocalInsecure`] may be used with.
const LOCAL: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Which servers a wallet believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsTrust {
    /// Those that the public certificate authorities vouch for.
    Roots,
    /// Those that the certificates in this PEM text vouch for.
    Pem(String),
    /// Any, but only on this machine: anything else is refused before a connection is made.
    LocalInsecure,
}

impl TlsTrust {
    pub(super) fn config(&self, target: &Target) -> Result<ClientConfig, Error> {
        let builder = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()?;
        let mut config = match self {
            Self::Roots => {
                let mut roots = RootCertStore::empty();
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            Self::Pem(text) => builder
                .with_root_certificates(roots(target, text)?)
                .with_no_client_auth(),
            Self::LocalInsecure => {
                if !LOCAL.contains(&target.host.as_str()) {
                    return Err(Error::Url {
                        url: target.url.clone(),
                        problem: "certificates go unchecked only for localhost".into(),
                    });
                }
                let verifier = Arc::new(Unchecked(tls::provider()));
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(verifier)
                    .with_no_client_auth()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

fn roots(target: &Target, text: &str) -> Result<RootCertStore, Error> {
    let wrong = |problem: String| Error::Url {
        url: target.url.clone(),
        problem: format!("the trusted certificates cannot be used: {problem}"),
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate = certificate.map_err(|problem| wrong(problem.to_string()))?;
        roots
            .add(certificate)
            .map_err(|problem| wrong(problem.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("there is none in the text".into()));
    }
    Ok(roots)
}

/// Believes any certificate, but still checks that its holder signs the handshake.
#[derive(Debug)]
struct Unchecked(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
