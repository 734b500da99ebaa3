//! A certificate chain and its key: made on the spot, or read from PEM files.

use std::io::{self, Write as _};
use std::path::Path;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::Error;

/// A certificate chain with its private key.
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// A self-signed certificate for `localhost`, the loopback addresses and `names` (host names
    /// or IP addresses).
    ///
    /// # Errors
    /// [`Error::Certificate`] for a name that cannot stand in a certificate.
    pub fn self_signed(names: &[String]) -> Result<Self, Error> {
        let key = rcgen::KeyPair::generate()?;
        let certificate = sign(names, &key)?;
        Ok(Self {
            chain: vec![certificate.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        })
    }

    /// Reads a chain (leaf first) and its key from PEM files.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Pem`] naming the file.
    pub fn from_pem_files(chain: &Path, key: &Path) -> Result<Self, Error> {
        let pem = read(chain)?;
        let chain_der = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|problem| bad_pem(chain, problem))?;
        if chain_der.is_empty() {
            return Err(bad_pem(chain, "there is no certificate in it"));
        }
        let key_der =
            PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|problem| bad_pem(key, problem))?;
        Ok(Self {
            chain: chain_der,
            key: key_der,
        })
    }

    /// Reads the two files, and makes those that do not exist: a key, and a self-signed
    /// certificate for it. The key file is readable by its owner only.
    ///
    /// Several processes may start at once, and one may die half way: a file appears whole or not
    /// at all, and whoever comes second uses what is there.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Pem`] or [`Error::Certificate`].
    pub fn load_or_create(chain: &Path, key: &Path, names: &[String]) -> Result<Self, Error> {
        if !key.exists() {
            create(
                key,
                rcgen::KeyPair::generate()?.serialize_pem().as_bytes(),
                true,
            )?;
        }
        if !chain.exists() {
            let text =
                String::from_utf8(read(key)?).map_err(|_| bad_pem(key, "this is not text"))?;
            let pair = rcgen::KeyPair::from_pem(&text).map_err(|problem| bad_pem(key, problem))?;
            create(chain, sign(names, &pair)?.pem().as_bytes(), false)?;
        }
        Self::from_pem_files(chain, key)
    }

    /// The first certificate, DER.
    pub fn der(&self) -> Option<&[u8]> {
        self.chain.first().map(AsRef::as_ref)
    }

    /// The chain as PEM, for clients that are to trust it.
    pub fn to_pem(&self) -> String {
        use base64::Engine as _;
        let mut text = String::new();
        for certificate in &self.chain {
            text.push_str("-----BEGIN CERTIFICATE-----\n");
            let body = base64::engine::general_purpose::STANDARD.encode(certificate);
            let mut rest = body.as_str();
            while !rest.is_empty() {
                let (line, tail) = rest.split_at(rest.len().min(64));
                text.push_str(line);
                text.push('\n');
                rest = tail;
            }
            text.push_str("-----END CERTIFICATE-----\n");
        }
        text
    }

    pub(crate) fn into_parts(self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain, self.key)
    }
}

/// When the first certificate of a PEM file ends, in unix seconds.
///
/// # Errors
/// [`Error::File`] or [`Error::Pem`] naming the file.
pub fn not_after(chain: &Path) -> Result<u64, Error> {
    let pem = read(chain)?;
    let der = CertificateDer::from_pem_slice(&pem).map_err(|problem| bad_pem(chain, problem))?;
    let (_, certificate) =
        x509_parser::parse_x509_certificate(&der).map_err(|problem| bad_pem(chain, problem))?;
    Ok(u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0))
}

fn sign(names: &[String], key: &rcgen::KeyPair) -> Result<rcgen::Certificate, Error> {
    let mut all: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
    for name in names {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    let mut parameters = rcgen::CertificateParams::new(all)?;
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters
        .distinguished_name
        .push(rcgen::DnType::CommonName, "tinderbox");
    Ok(parameters.self_signed(key)?)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::File {
        path: path.into(),
        source,
    })
}

fn bad_pem(path: &Path, problem: impl ToString) -> Error {
    Error::Pem {
        path: path.into(),
        problem: problem.to_string(),
    }
}

/// Makes a file with this content, unless it exists.
fn create(path: &Path, content: &[u8], secret: bool) -> Result<(), Error> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(if secret { 0o600 } else { 0o644 });
    }
    let draft = path.with_extension(format!("draft-{}", uuid::Uuid::new_v4()));
    let attempt = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = options.open(&draft)?;
        file.write_all(content)?;
        file.sync_all()?;
        // Unlike a rename, a link does not replace a file that another process made meanwhile.
        match std::fs::hard_link(&draft, path) {
            Err(problem) if problem.kind() != io::ErrorKind::AlreadyExists => Err(problem),
            _ => Ok(()),
        }
    };
    let outcome = attempt();
    let _ = std::fs::remove_file(&draft);
    outcome.map_err(|source| Error::File {
        path: path.into(),
        source,
    })
}
