//! Three signers, and the wallet side of what they sign.

#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bitcoin::secp256k1::{PublicKey, SECP256K1, SecretKey};
use rand::rngs::OsRng;
use rand::{Rng, RngCore};
use tempfile::TempDir;
use tinderbox_flows::job::{KeyJob, SignJob};
use tinderbox_flows::secret::{SealedShare, StagedTweak};
use tinderbox_frost::{
    NonceCommitment, Nonces, OperatorIndex, SecretScalar, SignatureShare, SigningPackage, feldman,
    tweak, verify_signature,
};
use tinderbox_protocol::package::{
    ClaimLeafKeyTweak, ClaimLeafKeyTweaks, SecretShare, SendLeafKeyTweak, SendLeafKeyTweaks,
};
use tinderbox_protocol::{LeafId, ecies};
use tinderbox_signer::{
    Clock, Identity, Local, LocalConfig, Signer, SignerError, SocketServer, SocketSigner, serve,
};

pub const OPERATORS: u16 = 3;
pub const THRESHOLD: u16 = 2;

/// How the signer is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Local,
    Socket,
}

/// A clock that stands still until it is told to go on.
#[derive(Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    pub fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn unix_seconds(&self) -> u64 {
        1_700_000_000 + self.0.load(Ordering::SeqCst)
    }
}

/// One operator's signer, which can be restarted.
pub struct Operator {
    pub index: OperatorIndex,
    pub mode: Mode,
    pub clock: Arc<ManualClock>,
    pub secret: SecretKey,
    pub config: LocalConfig,
    pub folder: TempDir,
    server: Option<SocketServer>,
    signer: Option<Arc<dyn Signer>>,
}

impl Operator {
    async fn start(index: u16, mode: Mode) -> Self {
        let index = OperatorIndex(index);
        let mut config = LocalConfig::new(index, OPERATORS, THRESHOLD);
        config.dkg_runs = 4;
        let mut operator = Self {
            index,
            mode,
            clock: Arc::default(),
            secret: SecretKey::new(&mut OsRng),
            config,
            folder: tempfile::tempdir().unwrap(),
            server: None,
            signer: None,
        };
        operator.restart().await;
        operator
    }

    pub fn vault(&self) -> PathBuf {
        self.folder.path().join("vault")
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("signer.sock")
    }

    pub fn open_local(&self) -> Result<Local, SignerError> {
        Local::open_with_clock(
            Identity::new(self.secret),
            &self.vault(),
            self.config.clone(),
            Arc::clone(&self.clock) as Arc<dyn Clock>,
        )
    }

    /// Opens a sealed share with the key that the vault's file holds, as a thief of both would.
    pub fn open_share(&self, keyshare: [u8; 16], sealed: &SealedShare) -> SecretScalar {
        use aes_gcm::aead::{Aead, KeyInit, Payload};
        let key = self.sealing_key(sealed);
        let payload = Payload {
            msg: &sealed.0[13..],
            aad: &[b"tinderbox/signer/share/1", &keyshare[..], &sealed.0[1..13]].concat(),
        };
        let share = aes_gcm::Aes256Gcm::new(&key.into())
            .decrypt(&aes_gcm::Nonce::default(), payload)
            .unwrap();
        SecretScalar::try_from_be_bytes(&share).unwrap()
    }

    /// Another signer of the same operator, with a vault of its own.
    pub fn open_local_beside(&self) -> Local {
        let vault = self.folder.path().join("beside");
        Local::open(Identity::new(self.secret), &vault, self.config.clone()).unwrap()
    }

    /// Ends the signer; its state in memory is gone.
    pub async fn stop(&mut self) {
        self.signer = None;
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
    }

    pub async fn restart(&mut self) {
        self.stop().await;
        // A thread that still computes for a caller who has gone keeps the vault for a moment.
        let begun = Instant::now();
        let local = loop {
            match self.open_local() {
                Ok(local) => break Arc::new(local),
                Err(error) if begun.elapsed() > Duration::from_secs(20) => panic!("{error}"),
                Err(_) => tokio::task::yield_now().await,
            }
        };
        match self.mode {
            Mode::Local => self.signer = Some(local),
            Mode::Socket => {
                self.server = Some(serve(self.socket(), local).unwrap());
                let client = SocketSigner::connect(self.socket()).await.unwrap();
                self.signer = Some(Arc::new(client));
            }
        }
    }

    pub fn signer(&self) -> &dyn Signer {
        &**self.signer.as_ref().unwrap()
    }

    pub fn shared(&self) -> Arc<dyn Signer> {
        Arc::clone(self.signer.as_ref().unwrap())
    }

    /// All bytes of the vault's folder.
    pub fn files(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                all.extend(std::fs::read(entry.path()).unwrap());
            }
        }
        all
    }

    /// The bytes of the key under which `sealed` is sealed, as the vault's file holds them.
    pub fn sealing_key(&self, sealed: &SealedShare) -> [u8; 32] {
        let slot = u32::from_be_bytes(sealed.0[1..5].try_into().unwrap()) as usize;
        let file = std::fs::read(self.vault()).unwrap();
        let begin = 4096 + 128 * slot + 72;
        file[begin..begin + 32].try_into().unwrap()
    }
}

/// Three operators.
pub struct Network {
    pub operators: Vec<Operator>,
}

/// A key share at all operators, as their databases hold it.
#[derive(Clone)]
pub struct Keyshare {
    pub id: [u8; 16],
    pub group_key: PublicKey,
    pub public_shares: BTreeMap<OperatorIndex, PublicKey>,
    pub sealed: Vec<SealedShare>,
}

/// A leaf: a key share, and the owner's secret.
pub struct Leaf {
    pub id: LeafId,
    pub keyshare: Keyshare,
    pub owner: SecretScalar,
    pub verifying_key: PublicKey,
}

/// A tweak as dealt by a wallet.
pub struct Dealt {
    pub leaf: LeafId,
    pub new_owner: SecretScalar,
    pub proofs: Vec<PublicKey>,
    pub shares: Vec<SecretScalar>,
    pub public_shares: BTreeMap<String, Vec<u8>>,
}

impl Dealt {
    /// The tweak from `old` to a random new owner.
    pub fn new(leaf: LeafId, old: &SecretScalar) -> Self {
        let new_owner = SecretScalar::random(&mut OsRng);
        let secret = old.sub(&new_owner).unwrap();
        Self::of(leaf, new_owner, &secret)
    }

    pub fn of(leaf: LeafId, new_owner: SecretScalar, secret: &SecretScalar) -> Self {
        let dealt = feldman::split(secret, THRESHOLD, OPERATORS, &mut OsRng).unwrap();
        let public_shares = (0..)
            .zip(&dealt.shares)
            .map(|(index, share)| {
                let identifier = OperatorIndex(index).identifier();
                (identifier, share.public_key().serialize().to_vec())
            })
            .collect();
        Self {
            leaf,
            new_owner,
            proofs: dealt.proofs,
            shares: dealt.shares,
            public_shares,
        }
    }

    pub fn send_leaf(&self, operator: usize) -> SendLeafKeyTweak {
        SendLeafKeyTweak {
            leaf_id: self.leaf.to_string(),
            secret_share_tweak: Some(self.share(operator)),
            pubkey_shares_tweak: self.public_shares.clone(),
            secret_cipher: vec![1, 2, 3],
            signature: vec![4, 5, 6],
            ..SendLeafKeyTweak::default()
        }
    }

    pub fn claim_leaf(&self, operator: usize) -> ClaimLeafKeyTweak {
        ClaimLeafKeyTweak {
            leaf_id: self.leaf.to_string(),
            secret_share_tweak: Some(self.share(operator)),
            pubkey_shares_tweak: self.public_shares.clone(),
        }
    }

    fn share(&self, operator: usize) -> SecretShare {
        let mut share = SecretShare::default();
        share.secret_share = self.shares[operator].to_be_bytes().to_vec();
        share.proofs = self
            .proofs
            .iter()
            .map(|point| point.serialize().to_vec())
            .collect();
        share
    }
}

pub fn send_package(to: &dyn Signer, leaves: Vec<SendLeafKeyTweak>) -> Vec<u8> {
    let package = SendLeafKeyTweaks {
        leaves_to_send: leaves,
    };
    ecies::encrypt(&to.identity(), &package.to_bytes(), &mut OsRng).unwrap()
}

pub fn claim_package(to: &dyn Signer, leaves: Vec<ClaimLeafKeyTweak>) -> Vec<u8> {
    let package = ClaimLeafKeyTweaks {
        leaves_to_receive: leaves,
    };
    ecies::encrypt(&to.identity(), &package.to_bytes(), &mut OsRng).unwrap()
}

/// A signature in the making: the package, and what the owner needs to sign its half.
pub struct Job {
    pub package: SigningPackage,
    user_nonces: Nonces,
}

impl Network {
    pub async fn start(mode: Mode) -> Self {
        let mut operators = Vec::new();
        for index in 0..OPERATORS {
            operators.push(Operator::start(index, mode).await);
        }
        Self { operators }
    }

    /// Makes `count` keys with a whole key generation.
    pub async fn keyshares(&self, count: u32) -> Vec<Keyshare> {
        let run: [u8; 16] = OsRng.r#gen();
        let mut packages = BTreeMap::new();
        for operator in &self.operators {
            packages.insert(
                operator.index,
                operator.signer().dkg_round1(run, count).await.unwrap(),
            );
        }
        let mut inbox: BTreeMap<OperatorIndex, BTreeMap<_, _>> = BTreeMap::new();
        for operator in &self.operators {
            let out = operator
                .signer()
                .dkg_round2(run, packages.clone())
                .await
                .unwrap();
            for (peer, shares) in out {
                inbox
                    .entry(peer)
                    .or_default()
                    .insert(operator.index, shares);
            }
        }
        let ids: Vec<[u8; 16]> = (0..count).map(|_| OsRng.r#gen()).collect();
        let mut keys: Vec<Keyshare> = Vec::new();
        for operator in &self.operators {
            let shares = inbox.remove(&operator.index).unwrap();
            let made = operator
                .signer()
                .dkg_finish(run, ids.clone(), shares)
                .await
                .unwrap();
            for (place, made) in made.into_iter().enumerate() {
                let public_shares: BTreeMap<_, _> =
                    (0..).map(OperatorIndex).zip(made.public_shares).collect();
                if let Some(key) = keys.get_mut(place) {
                    assert_eq!(key.group_key, made.group_key);
                    assert_eq!(key.public_shares, public_shares);
                    key.sealed.push(made.sealed);
                } else {
                    keys.push(Keyshare {
                        id: ids[place],
                        group_key: made.group_key,
                        public_shares,
                        sealed: vec![made.sealed],
                    });
                }
            }
        }
        keys
    }

    pub async fn leaf(&self) -> Leaf {
        let keyshare = self.keyshares(1).await.remove(0);
        let owner = SecretScalar::random(&mut OsRng);
        let verifying_key = tweak::add_points(&owner.public_key(), &keyshare.group_key).unwrap();
        Leaf {
            id: leaf_id(),
            keyshare,
            owner,
            verifying_key,
        }
    }

    /// Fresh commitments of `signers`, for a random message of `leaf`.
    pub async fn job(&self, leaf: &Leaf, signers: &[usize]) -> Job {
        let mut operators = BTreeMap::new();
        for signer in signers {
            let made = self.operators[*signer].signer().nonces(1).await.unwrap();
            operators.insert(self.operators[*signer].index, made[0]);
        }
        let user_nonces = Nonces::generate(&mut OsRng);
        Job {
            package: SigningPackage {
                verifying_key: leaf.verifying_key,
                message: message(),
                operators,
                user: Some(user_nonces.commitment()),
                adaptor: None,
                threshold: THRESHOLD,
            },
            user_nonces,
        }
    }

    /// The key job of one operator.
    pub fn key_job(
        &self,
        leaf: &Leaf,
        operator: usize,
        tweak: Option<StagedTweak>,
        jobs: Vec<SignJob>,
    ) -> KeyJob {
        KeyJob {
            keyshare: leaf.keyshare.id,
            sealed: leaf.keyshare.sealed[operator].clone(),
            tweak,
            jobs,
        }
    }

    /// Every operator opens its package of `dealt`.
    pub async fn open(&self, dealt: &Dealt, send: bool) -> Vec<StagedTweak> {
        let mut all = Vec::new();
        for (place, operator) in self.operators.iter().enumerate() {
            let signer = operator.signer();
            let (kind, package) = if send {
                let leaves = vec![dealt.send_leaf(place)];
                (
                    tinderbox_signer::PackageKind::Send,
                    send_package(signer, leaves),
                )
            } else {
                let leaves = vec![dealt.claim_leaf(place)];
                (
                    tinderbox_signer::PackageKind::Claim,
                    claim_package(signer, leaves),
                )
            };
            let opened = signer.open(kind, package).await.unwrap();
            assert_eq!(opened.len(), 1);
            assert_eq!(opened[0].leaf, dealt.leaf);
            assert_eq!(opened[0].proofs, dealt.proofs);
            if send {
                assert_eq!(opened[0].secret_cipher, [1, 2, 3]);
                assert_eq!(opened[0].signature, [4, 5, 6]);
            }
            all.push(opened[0].staged.clone());
        }
        all
    }
}

impl Job {
    pub fn sign_job(&self, after_tweak: bool) -> SignJob {
        SignJob {
            package: self.package.clone(),
            after_tweak,
        }
    }

    /// Adds the owner's share and checks the signature.
    pub fn finish(
        self,
        owner: &SecretScalar,
        public_shares: &BTreeMap<OperatorIndex, PublicKey>,
        shares: &BTreeMap<OperatorIndex, SignatureShare>,
    ) {
        let prepared = self.package.prepare().unwrap();
        let public: BTreeMap<_, _> = public_shares
            .iter()
            .filter(|(index, _)| self.package.operators.contains_key(index))
            .map(|(index, point)| (*index, *point))
            .collect();
        let user = prepared.sign_user(owner, self.user_nonces).unwrap();
        let signature = prepared
            .aggregate(shares, Some(&user), &public, Some(&owner.public_key()))
            .unwrap();
        verify_signature(
            &self.package.verifying_key,
            &self.package.message,
            &signature,
        )
        .unwrap();
    }
}

impl Leaf {
    /// What every database does when a tweak applies.
    pub fn tweaked(&mut self, dealt: Dealt, sealed: Vec<SealedShare>) {
        for (index, point) in &mut self.keyshare.public_shares {
            let tweak = &dealt.shares[usize::from(index.0)].public_key();
            *point = tweak::apply_public(point, tweak).unwrap();
        }
        self.keyshare.group_key =
            tweak::apply_public(&self.keyshare.group_key, &dealt.proofs[0]).unwrap();
        self.keyshare.sealed = sealed;
        self.owner = dealt.new_owner;
        let sum = tweak::add_points(&self.owner.public_key(), &self.keyshare.group_key).unwrap();
        assert_eq!(sum, self.verifying_key);
    }
}

pub fn leaf_id() -> LeafId {
    LeafId::from_bytes16(OsRng.r#gen())
}

pub fn message() -> [u8; 32] {
    let mut message = [0; 32];
    OsRng.fill_bytes(&mut message);
    message
}

/// An operator's own commitment in a package.
pub fn own(package: &SigningPackage, operator: u16) -> NonceCommitment {
    package.operators[&OperatorIndex(operator)]
}

pub fn identity_of(secret: &SecretKey) -> PublicKey {
    secret.public_key(SECP256K1)
}

/// Makes each claim a test against the signer in process and one over a socket.
#[macro_export]
macro_rules! for_both {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        mod in_process {
            $($(#[$doc])* #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::common::Mode::Local).await;
            })+
        }
        mod over_a_socket {
            $($(#[$doc])* #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::common::Mode::Socket).await;
            })+
        }
    };
}
