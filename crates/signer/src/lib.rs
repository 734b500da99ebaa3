//! Key custody: the only place where key shares, nonces and the identity key are in the clear.
//!
//! The rest of an operator hands in sealed shares and gets back sealed shares, signature shares
//! and public points. The same trait is served in the operator's process and over a Unix socket.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_flows::job::{KeyJob, KeyOutput, OpenedTweak};
use tinderbox_flows::secret::{SealedShare, StagedTweak};
use tinderbox_frost::dkg::Round1Package;
use tinderbox_frost::{NonceCommitment, OperatorIndex};
use zeroize::Zeroizing;

/// Which kind of key tweak package a ciphertext holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PackageKind {
    /// A sender's `SendLeafKeyTweaks`.
    Send,
    /// A receiver's `ClaimLeafKeyTweaks`.
    Claim,
}

/// One operator's part of a tweak, as a wallet of the three-step claim hands it to each operator.
/// The secret is wiped when this is dropped.
pub struct PlainTweak {
    /// The leaf.
    pub leaf: tinderbox_protocol::LeafId,
    /// Big-endian scalar, possibly without leading zeros.
    pub share: Zeroizing<Vec<u8>>,
    /// Feldman commitments.
    pub proofs: Vec<PublicKey>,
    /// Each operator's public share of the tweak.
    pub public_shares: BTreeMap<OperatorIndex, PublicKey>,
}

/// A key share that the DKG made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewKeyshare {
    /// The operators' group key.
    pub group_key: PublicKey,
    /// Public share of every operator, in order of their index.
    pub public_shares: Vec<PublicKey>,
    /// This operator's share.
    pub sealed: SealedShare,
}

/// Why the signer refused. No text carries secret material.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum SignerError {
    /// The ciphertext or its content is malformed, or a share does not fit its proofs.
    #[error("key tweak package: {0}")]
    BadPackage(String),
    /// The sealed share was rotated away, or belongs to another key share or database.
    #[error(
        "key share {} is not the current one: this database is older than the signer's keys; do not restore backups over a live operator",
        hex::encode(.0)
    )]
    Stale([u8; 16]),
    /// The nonces are unknown: never handed out, lapsed, or used up.
    #[error("signing nonces are unknown or used: fetch new signing commitments")]
    UnknownNonce,
    /// The nonces are bound to another job.
    #[error("signing nonces are bound to another message: fetch new signing commitments")]
    NonceReuse,
    /// A signing package was wrong.
    #[error("signing job: {0}")]
    BadJob(String),
    /// The DKG was aborted; culprits are named.
    #[error("key generation failed: {0}")]
    Dkg(String),
    /// The vault cannot be read or written.
    #[error("the signer's vault failed: {0}")]
    Vault(String),
    /// The signer process does not answer.
    #[error("the signer does not answer: {0}")]
    Unreachable(String),
}

/// Key custody of one operator.
#[async_trait]
pub trait Signer: Send + Sync + 'static {
    /// The operator's identity key.
    fn identity(&self) -> PublicKey;

    /// ECDSA by the identity key over 32-byte digests: DER, low-S, deterministic.
    async fn sign(&self, digests: Vec<[u8; 32]>) -> Result<Vec<Vec<u8>>, SignerError>;

    /// A secret of the operator that only depends on its identity key and `label`
    /// (session and challenge keys): `SHA256(identity secret ‖ label)`.
    async fn derive(&self, label: &str) -> Result<Zeroizing<[u8; 32]>, SignerError>;

    /// Decrypts this operator's slice of a key tweak package, checks per leaf that there are
    /// exactly `threshold` proofs, that the share fits them, and that every operator's public
    /// share is the one that follows from them; stages the shares.
    async fn open(
        &self,
        kind: PackageKind,
        ciphertext: Vec<u8>,
    ) -> Result<Vec<OpenedTweak>, SignerError>;

    /// The same for shares that arrive in the clear.
    async fn stage(&self, tweaks: Vec<PlainTweak>) -> Result<Vec<OpenedTweak>, SignerError>;

    /// Makes nonces and remembers them durably; returns their commitments.
    async fn nonces(&self, count: u32) -> Result<Vec<NonceCommitment>, SignerError>;

    /// Checks that `jobs` could be executed now: shares are current, nonces are known and not
    /// bound to anything else; binds them. Survives a crash of the process. Idempotent.
    async fn reserve(&self, jobs: Vec<KeyJob>) -> Result<(), SignerError>;

    /// Signs and tweaks. Bindings and new sealing keys are on disk before this returns; old
    /// sealing keys stay valid until [`Signer::settle`]. Idempotent: the same jobs give the same
    /// signature shares.
    async fn execute(&self, jobs: Vec<KeyJob>) -> Result<Vec<KeyOutput>, SignerError>;

    /// After the commit is durable in the database: destroys what it made obsolete.
    async fn settle(
        &self,
        shares: Vec<SealedShare>,
        nonces: Vec<NonceCommitment>,
    ) -> Result<(), SignerError>;

    /// Destroys the sealing keys of every epoch below `epoch`. The current epoch is kept.
    async fn retire(&self, epoch: u64) -> Result<(), SignerError>;

    /// The epoch under which tweaks are staged now.
    async fn epoch(&self) -> Result<u64, SignerError>;

    /// Destroys unused nonces that were made more than `age_seconds` ago; returns how many.
    async fn purge_nonces(&self, age_seconds: u64) -> Result<u64, SignerError>;

    /// DKG, first round: this operator's packages for `count` keys of run `run`.
    async fn dkg_round1(
        &self,
        run: [u8; 16],
        count: u32,
    ) -> Result<Vec<Round1Package>, SignerError>;

    /// Second round: everyone's first-round packages in (by operator, then key), shares out (for
    /// each other operator, then key; 32 bytes each). Only after all operators have confirmed that
    /// they saw the same packages.
    async fn dkg_round2(
        &self,
        run: [u8; 16],
        packages: BTreeMap<OperatorIndex, Vec<Round1Package>>,
    ) -> Result<BTreeMap<OperatorIndex, Vec<Zeroizing<[u8; 32]>>>, SignerError>;

    /// Last round: the shares that the others sent to this operator. `ids` name the new key shares.
    async fn dkg_finish(
        &self,
        run: [u8; 16],
        ids: Vec<[u8; 16]>,
        shares: BTreeMap<OperatorIndex, Vec<Zeroizing<[u8; 32]>>>,
    ) -> Result<Vec<NewKeyshare>, SignerError>;

    /// A staged share that is no longer needed is forgotten when its epoch is retired; this names
    /// the lowest epoch that `staged` needs.
    fn lowest_epoch(&self, staged: &[StagedTweak]) -> Option<u64> {
        staged.iter().map(|tweak| tweak.epoch).min()
    }
}
