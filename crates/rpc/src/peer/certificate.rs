//! Certificates that an operator's identity key vouches for.

use bitcoin::secp256k1::ecdsa::Signature;
use bitcoin::secp256k1::{Message, PublicKey, Secp256k1};
use rcgen::PublicKeyData as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::Error;

/// Separates these signatures from all others that an identity key makes.
const TAG: &[u8] = b"tinderbox/operator-tls-key/v1";

/// Where the statement stands in a certificate: an object identifier of the kind that needs no
/// registration (2.25 and a number drawn at random).
const EXTENSION: [u64; 3] = [2, 25, 7_246_190_351_848_602_713];

/// version ‖ identity key (33) ‖ compact signature (64), inside a DER octet string.
const STATEMENT: usize = 1 + 33 + 64;
const VERSION: u8 = 1;
const OCTET_STRING: u8 = 4;

/// A fresh TLS key for which the identity key has not signed yet.
pub struct UncertifiedKey {
    key: rcgen::KeyPair,
}

impl UncertifiedKey {
    /// Makes a P-256 key.
    ///
    /// # Errors
    /// [`Error::Certificate`] if the system gives no randomness.
    pub fn generate() -> Result<Self, Error> {
        Ok(Self {
            key: rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?,
        })
    }

    /// What the identity key has to sign (ECDSA, over this digest as it is).
    pub fn digest(&self) -> [u8; 32] {
        digest(&self.key.subject_public_key_info())
    }

    /// Makes the certificate.
    ///
    /// # Errors
    /// [`Error::IdentitySignature`] if the signature does not verify.
    pub fn certify(
        self,
        identity: &PublicKey,
        signature: &Signature,
    ) -> Result<PeerCertificate, Error> {
        let mut signature = *signature;
        signature.normalize_s();
        if !vouches(identity, &signature, self.digest()) {
            return Err(Error::IdentitySignature {
                identity: *identity,
            });
        }
        let mut statement = vec![OCTET_STRING, STATEMENT as u8, VERSION];
        statement.extend(identity.serialize());
        statement.extend(signature.serialize_compact());
        let mut parameters = rcgen::CertificateParams::new(vec![super::verify::NAME.to_owned()])?;
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, "tinderbox operator");
        parameters.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(
            &EXTENSION, statement,
        )];
        let certificate = parameters.self_signed(&self.key)?;
        Ok(PeerCertificate {
            identity: *identity,
            chain: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(self.key.serialize_der()).into(),
        })
    }
}

/// The certificate and TLS key of one process of an operator.
pub struct PeerCertificate {
    identity: PublicKey,
    chain: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl PeerCertificate {
    /// Makes a TLS key and has it certified by `sign`, which signs a digest with the identity
    /// key.
    ///
    /// # Errors
    /// What `sign` fails with, or [`Error`].
    pub fn issue<E: From<Error>>(
        identity: &PublicKey,
        sign: impl FnOnce([u8; 32]) -> Result<Signature, E>,
    ) -> Result<Self, E> {
        let key = UncertifiedKey::generate()?;
        let signature = sign(key.digest())?;
        Ok(key.certify(identity, &signature)?)
    }

    /// The operator that vouches for it.
    pub fn identity(&self) -> &PublicKey {
        &self.identity
    }

    pub(super) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.chain.clone()]
    }

    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

/// The identity key that vouches for this certificate.
pub(super) fn voucher(certificate: &CertificateDer<'_>) -> Result<PublicKey, Error> {
    let (rest, parsed) = X509Certificate::from_der(certificate)
        .map_err(|_| Error::PeerCertificate("it does not parse"))?;
    if !rest.is_empty() {
        return Err(Error::PeerCertificate("something follows it"));
    }
    let mut found = parsed
        .extensions()
        .iter()
        .filter(|extension| extension.oid.iter().is_some_and(|oid| oid.eq(EXTENSION)));
    let extension = found
        .next()
        .ok_or(Error::PeerCertificate("no identity key vouches for it"))?;
    if found.next().is_some() {
        return Err(Error::PeerCertificate("two statements stand in it"));
    }
    let statement = match extension.value {
        [OCTET_STRING, length, VERSION, statement @ ..]
            if usize::from(*length) == STATEMENT && statement.len() + 1 == STATEMENT =>
        {
            statement
        }
        _ => {
            return Err(Error::PeerCertificate(
                "the statement of identity is malformed",
            ));
        }
    };
    let (identity, signature) = statement.split_at(33);
    let identity = PublicKey::from_slice(identity)
        .map_err(|_| Error::PeerCertificate("the identity key is malformed"))?;
    let signature = Signature::from_compact(signature)
        .map_err(|_| Error::PeerCertificate("the identity signature is malformed"))?;
    if !vouches(&identity, &signature, digest(parsed.public_key().raw)) {
        return Err(Error::PeerCertificate(
            "the identity signature is for another TLS key",
        ));
    }
    Ok(identity)
}

fn vouches(identity: &PublicKey, signature: &Signature, digest: [u8; 32]) -> bool {
    Secp256k1::verification_only()
        .verify_ecdsa(&Message::from_digest(digest), signature, identity)
        .is_ok()
}

/// SHA-256(t ‖ t ‖ TLS public key as DER), t = SHA-256(tag).
fn digest(public_key: &[u8]) -> [u8; 32] {
    let tag = Sha256::digest(TAG);
    let mut hash = Sha256::new();
    hash.update(tag);
    hash.update(tag);
    hash.update(public_key);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use bitcoin::secp256k1::SecretKey;
    use proptest::prelude::*;

    use super::*;

    fn issue(seed: u8) -> PeerCertificate {
        let curve = Secp256k1::new();
        let secret = SecretKey::from_slice(&[seed; 32]).unwrap();
        PeerCertificate::issue(&secret.public_key(&curve), |digest| {
            Ok::<_, Error>(curve.sign_ecdsa(&Message::from_digest(digest), &secret))
        })
        .unwrap()
    }

    fn statement_of(certificate: &CertificateDer<'_>) -> Vec<u8> {
        let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
        let ours = |oid: &x509_parser::oid_registry::Oid<'_>| {
            oid.iter().is_some_and(|oid| oid.eq(EXTENSION))
        };
        let found = parsed
            .extensions()
            .iter()
            .find(|extension| ours(&extension.oid));
        found.unwrap().value.to_vec()
    }

    fn with_statements(statements: Vec<Vec<u8>>) -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(vec!["x".into()]).unwrap();
        parameters.custom_extensions = statements
            .into_iter()
            .map(|one| rcgen::CustomExtension::from_oid_content(&EXTENSION, one))
            .collect();
        parameters.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn certificate_names_its_voucher() {
        let certificate = issue(1);
        assert_eq!(
            voucher(&certificate.chain).unwrap(),
            *certificate.identity()
        );
    }

    #[test]
    fn statement_copied_into_another_certificate_vouches_for_nothing() {
        let copied = with_statements(vec![statement_of(&issue(1).chain)]);
        let error = voucher(&copied).unwrap_err();
        assert!(error.to_string().contains("another TLS key"), "{error}");
    }

    #[test]
    fn statements_of_other_shapes_are_refused() {
        let good = statement_of(&issue(1).chain);
        let changed = |change: fn(&mut Vec<u8>)| {
            let mut statement = good.clone();
            change(&mut statement);
            with_statements(vec![statement])
        };
        for certificate in [
            with_statements(vec![]),
            with_statements(vec![vec![]]),
            with_statements(vec![good.clone(), good.clone()]),
            changed(|statement| statement[2] = 2),
            changed(|statement| statement.truncate(50)),
            changed(|statement| statement.push(0)),
            changed(|statement| statement[3] = 9),
            changed(|statement| statement[36..68].fill(0xff)),
        ] {
            assert!(matches!(
                voucher(&certificate),
                Err(Error::PeerCertificate(_))
            ));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            at in any::<proptest::sample::Index>(),
            byte: u8,
            rubbish in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut bytes = issue(1).chain.to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = voucher(&bytes.into());
            prop_assert!(voucher(&rubbish.into()).is_err());
        }
    }
}
