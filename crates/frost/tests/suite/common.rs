//! Helpers: vectors, fixed random numbers, a ready group of operators.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use rand::{CryptoRng, Error as RngError, RngCore, SeedableRng};
use rand_chacha::ChaCha20Rng;
use serde_json::Value;
use tinderbox_frost::feldman::{self, Shares};
use tinderbox_frost::{
    NonceCommitment, Nonces, OperatorIndex, Prepared, SecretScalar, SignatureShare, SigningPackage,
    tweak,
};

/// Reads one of the vector files.
macro_rules! vectors {
    ($name:literal) => {
        serde_json::from_str::<serde_json::Value>(include_str!(concat!(
            "../vectors/",
            $name,
            ".json"
        )))
        .expect("a vector file is JSON")
    };
}
pub(crate) use vectors;

pub(crate) fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

pub(crate) fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not a text: {value}"))
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(text(value)).expect("hex")
}

pub(crate) fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().expect("length")
}

pub(crate) fn number(value: &Value) -> u16 {
    value
        .as_u64()
        .and_then(|number| number.try_into().ok())
        .expect("a small number")
}

pub(crate) fn point(value: &Value) -> PublicKey {
    PublicKey::from_slice(&bytes(value)).expect("a point")
}

pub(crate) fn points(value: &Value) -> Vec<PublicKey> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(point)
        .collect()
}

pub(crate) fn secret(value: &Value) -> SecretScalar {
    SecretScalar::try_from_be_bytes(&bytes(value)).expect("a scalar")
}

pub(crate) fn hex_of(secret: &SecretScalar) -> String {
    hex::encode(*secret.to_be_bytes())
}

pub(crate) fn operator(identifier: &str) -> OperatorIndex {
    OperatorIndex::from_identifier(identifier).expect("an identifier")
}

pub(crate) fn commitment(value: &Value) -> NonceCommitment {
    NonceCommitment {
        hiding: point(&value["hiding"]),
        binding: point(&value["binding"]),
    }
}

pub(crate) fn nonces(value: &Value) -> Nonces {
    Nonces::new(secret(&value["hiding"]), secret(&value["binding"]))
}

/// A "random" source that hands out given scalars, then ordinary random bytes.
pub(crate) struct Scripted {
    scalars: Vec<[u8; 32]>,
    rest: ChaCha20Rng,
}

impl Scripted {
    pub(crate) fn new(scalars: impl IntoIterator<Item = [u8; 32]>) -> Self {
        let mut scalars: Vec<_> = scalars.into_iter().collect();
        scalars.reverse();
        Self {
            scalars,
            rest: rng(0),
        }
    }
}

impl RngCore for Scripted {
    fn next_u32(&mut self) -> u32 {
        self.rest.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.rest.next_u64()
    }

    fn fill_bytes(&mut self, to: &mut [u8]) {
        match self.scalars.pop() {
            Some(scalar) => to.copy_from_slice(&scalar),
            None => self.rest.fill_bytes(to),
        }
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), RngError> {
        self.fill_bytes(to);
        Ok(())
    }
}

impl CryptoRng for Scripted {}

/// Operators with a shared key, and an owner.
pub(crate) struct Group {
    pub(crate) threshold: u16,
    pub(crate) count: u16,
    pub(crate) secret: SecretScalar,
    pub(crate) dealt: Shares,
    pub(crate) user: SecretScalar,
    pub(crate) rng: ChaCha20Rng,
}

/// A package with everybody's nonces.
pub(crate) struct Session {
    pub(crate) package: SigningPackage,
    pub(crate) nonces: BTreeMap<OperatorIndex, Nonces>,
    pub(crate) user_nonces: Option<Nonces>,
}

impl Group {
    pub(crate) fn new(seed: u64, threshold: u16, count: u16) -> Self {
        let mut rng = rng(seed);
        let secret = SecretScalar::random(&mut rng);
        let dealt = feldman::split(&secret, threshold, count, &mut rng).expect("a valid group");
        let user = SecretScalar::random(&mut rng);
        Self {
            threshold,
            count,
            secret,
            dealt,
            user,
            rng,
        }
    }

    pub(crate) fn verifying_key(&self) -> PublicKey {
        tweak::add_points(&self.secret.public_key(), &self.user.public_key()).expect("no identity")
    }

    pub(crate) fn share(&self, index: OperatorIndex) -> &SecretScalar {
        &self.dealt.shares[usize::from(index.0)]
    }

    pub(crate) fn public_shares(&self) -> BTreeMap<OperatorIndex, PublicKey> {
        feldman::evaluate_all(&self.dealt.proofs, self.count).expect("no identity")
    }

    /// A session of these operators with the owner.
    pub(crate) fn session(&mut self, signers: &[u16], message: [u8; 32]) -> Session {
        let verifying_key = self.verifying_key();
        let user = Nonces::generate(&mut self.rng);
        let mut session = self.session_of(signers, message, verifying_key);
        session.package.user = Some(user.commitment());
        session.user_nonces = Some(user);
        session
    }

    /// A session of the operators alone, under their own key.
    pub(crate) fn operators_only(&mut self, signers: &[u16], message: [u8; 32]) -> Session {
        let verifying_key = self.secret.public_key();
        self.session_of(signers, message, verifying_key)
    }

    fn session_of(
        &mut self,
        signers: &[u16],
        message: [u8; 32],
        verifying_key: PublicKey,
    ) -> Session {
        let nonces: BTreeMap<_, _> = signers
            .iter()
            .map(|number| (OperatorIndex(*number), Nonces::generate(&mut self.rng)))
            .collect();
        let package = SigningPackage {
            verifying_key,
            message,
            operators: nonces
                .iter()
                .map(|(index, own)| (*index, own.commitment()))
                .collect(),
            user: None,
            adaptor: None,
            threshold: self.threshold,
        };
        Session {
            package,
            nonces,
            user_nonces: None,
        }
    }
}

/// All shares of a session.
pub(crate) struct Signed {
    pub(crate) prepared: Prepared,
    pub(crate) shares: BTreeMap<OperatorIndex, SignatureShare>,
    pub(crate) user_share: Option<SignatureShare>,
}

impl Session {
    pub(crate) fn sign(self, group: &Group) -> Signed {
        let prepared = self.package.prepare().expect("a valid package");
        let shares = self
            .nonces
            .into_iter()
            .map(|(index, nonces)| {
                let share = prepared.sign_operator(&index, group.share(index), nonces);
                (index, share.expect("a signer with its own nonces"))
            })
            .collect();
        let user_share = self.user_nonces.map(|nonces| {
            prepared
                .sign_user(&group.user, nonces)
                .expect("the user signs")
        });
        Signed {
            prepared,
            shares,
            user_share,
        }
    }
}

impl Signed {
    pub(crate) fn aggregate(&self, group: &Group) -> tinderbox_frost::Result<[u8; 64]> {
        self.prepared.aggregate(
            &self.shares,
            self.user_share.as_ref(),
            &group.public_shares(),
            Some(&group.user.public_key()),
        )
    }
}
