//! What can go wrong at this edge, apart from the refusals that go to callers.

use std::io;
use std::path::PathBuf;

/// Failures of sockets, certificates and field decoding.
///
/// Refusals of requests are [`ServiceError`](crate::ServiceError); the field variants here turn
/// into one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field that must be set is not.
    #[error("{field} is missing: set it")]
    MissingField {
        /// Path of the field inside the message.
        field: String,
    },
    /// A field holds something that it cannot hold.
    #[error("{field} is malformed: {problem}")]
    MalformedField {
        /// Path of the field inside the message.
        field: String,
        /// What was expected and what came.
        problem: String,
    },
    /// Something that may stand once stands twice.
    #[error("{field} is given twice: {value}")]
    DuplicateField {
        /// Path of the field inside the message.
        field: String,
        /// The repeated value.
        value: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}; check that the file exists and that this user may use it")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A certificate or key file holds something else.
    #[error("{path}: {problem}; give a PEM file")]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}; check the host names that it is for")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refused the certificate, the key or the set-up.
    #[error("TLS: {0}; check that certificate and key belong together")]
    Tls(#[from] rustls::Error),
    /// A certificate that an operator would not accept.
    #[error("not an operator's certificate: {0}")]
    PeerCertificate(&'static str),
    /// An identity signature that its key did not make.
    #[error("the identity signature does not verify under {identity}: sign the digest as given")]
    IdentitySignature {
        /// The identity key that should have signed.
        identity: bitcoin::secp256k1::PublicKey,
    },
    /// An address that is no usable `https://` URL.
    #[error("{url}: {problem}; give a URL like https://operator.example:443")]
    Url {
        /// What was given.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The connection could not be made.
    #[error("cannot connect to {url}: {source}; check the address and that the server runs")]
    Connect {
        /// The address.
        url: String,
        /// The transport's reason.
        source: tonic::transport::Error,
    },
    /// The server stopped serving.
    #[error("the server stopped: {0}")]
    Serve(tonic::transport::Error),
    /// The listener could not be opened.
    #[error("cannot listen on {address}: {source}; is another process using this port?")]
    Listen {
        /// The address.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
}

impl Error {
    /// A malformed field.
    pub fn malformed(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::MalformedField {
            field: field.into(),
            problem: problem.into(),
        }
    }

    /// A missing field.
    pub fn missing(field: impl Into<String>) -> Self {
        Self::MissingField {
            field: field.into(),
        }
    }

    /// Puts `prefix.` before the path of the field, if this is a field error.
    pub fn under(mut self, prefix: &str) -> Self {
        if let Self::MissingField { field }
        | Self::MalformedField { field, .. }
        | Self::DuplicateField { field, .. } = &mut self
        {
            let dot = if field.is_empty() || field.starts_with('[') {
                ""
            } else {
                "."
            };
            *field = format!("{prefix}{dot}{field}");
        }
        self
    }
}
