//! The trait behind which all keys of an operator live.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_flows::job::{KeyJob, KeyOutput, OpenedPreimage, OpenedTweak};
use tinderbox_flows::secret::{PreimageShare, SealedPreimage, SealedShare, StagedTweak};
use tinderbox_frost::dkg::Round1Package;
use tinderbox_frost::{NonceCommitment, OperatorIndex};
use zeroize::Zeroizing;

use crate::SignerError;

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

/// How a wallet hands in an operator's share of a preimage.
pub enum PreimagePart {
    /// A `SecretShare`, encrypted to the operator.
    Encrypted(Vec<u8>),
    /// In the clear, by the older protocol: big-endian scalar, possibly without leading zeros, and
    /// Feldman commitments.
    Plain(Zeroizing<Vec<u8>>, Vec<PublicKey>),
}

/// A key share that the DKG made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKeyshare {
    /// The operators' group key.
    pub group_key: PublicKey,
    /// Public share of every operator, in order of their index.
    pub public_shares: Vec<PublicKey>,
    /// This operator's share.
    pub sealed: SealedShare,
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

    /// Checks this operator's share of the preimage of `payment_hash`: exactly `threshold` proofs,
    /// and the share fits them. Seals it under a key that follows from the identity key, as the
    /// wallet's ciphertext was; it opens for that payment hash only.
    async fn keep_preimage(
        &self,
        payment_hash: [u8; 32],
        part: PreimagePart,
    ) -> Result<OpenedPreimage, SignerError>;

    /// Opens a share that [`Signer::keep_preimage`] sealed. Only for flows that have their
    /// certificate.
    async fn preimage_share(
        &self,
        payment_hash: [u8; 32],
        sealed: SealedPreimage,
    ) -> Result<PreimageShare, SignerError>;

    /// Makes nonces and remembers them durably; returns their commitments.
    async fn nonces(&self, count: u32) -> Result<Vec<NonceCommitment>, SignerError>;

    /// Checks that `jobs` could be executed now: shares are current, nonces are known and not
    /// bound to anything else; binds them. Survives a crash of the process. Idempotent.
    ///
    /// All or nothing: when one of the jobs is refused, no nonce of the others is bound. A power
    /// cut may undo the last second's bindings; that is safe, since nothing was signed yet.
    async fn reserve(&self, jobs: Vec<KeyJob>) -> Result<(), SignerError>;

    /// Signs and tweaks. Bindings and new sealing keys are on disk before this returns; old
    /// sealing keys stay valid until [`Signer::settle`]. Idempotent: the same jobs give the same
    /// signature shares.
    async fn execute(&self, jobs: Vec<KeyJob>) -> Result<Vec<KeyOutput>, SignerError>;

    /// After the commit is durable in the database: destroys what it made obsolete. Idempotent:
    /// what is gone already is passed over. The only share of a key share is never destroyed.
    async fn settle(
        &self,
        shares: Vec<SealedShare>,
        nonces: Vec<NonceCommitment>,
    ) -> Result<(), SignerError>;

    /// Destroys the sealing keys of every epoch below `epoch`. The current epoch is kept, and one
    /// that ended a moment ago, whose tweaks may still be on their way to the database.
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

    /// Keeps the second-round shares that operator `from` sent, one per key, until the last round:
    /// whichever of an operator's processes they reached. The first that come count.
    ///
    /// # Errors
    /// [`SignerError::Dkg`] if the run is unknown, or has another number of keys.
    async fn dkg_take(
        &self,
        run: [u8; 16],
        from: OperatorIndex,
        shares: Vec<Zeroizing<[u8; 32]>>,
    ) -> Result<(), SignerError> {
        let _ = (run, from, shares);
        Err(SignerError::Dkg("this signer keeps no shares".into()))
    }

    /// How many operators' shares [`Signer::dkg_take`] has kept for a run.
    ///
    /// # Errors
    /// [`SignerError::Dkg`] if the run is unknown.
    async fn dkg_taken(&self, run: [u8; 16]) -> Result<u64, SignerError> {
        let _ = run;
        Err(SignerError::Dkg("this signer keeps no shares".into()))
    }

    /// Last round: the shares that the others sent to this operator; none means those that
    /// [`Signer::dkg_take`] kept. `ids` name the new key shares.
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

    /// Ids of key shares that have more than one sealing key, at most `limit` of them: their last
    /// tweak has not been settled, or a crash fell between it and the settling. An operator asks
    /// at start, looks up which sealed share its database holds, and says so with
    /// [`Signer::collect`].
    ///
    /// A signer without a store of its own has none.
    async fn unsettled(&self, limit: u32) -> Result<Vec<[u8; 16]>, SignerError> {
        let _ = limit;
        Ok(Vec::new())
    }

    /// For each key share named, `current` is what the database holds, durably: destroys every
    /// other sealing key of it that was made more than `age_seconds` ago; returns how many.
    ///
    /// Only for key shares that no undecided flow holds. `age_seconds` must be longer than
    /// anything between an `execute` and its commit in the database can take.
    ///
    /// # Errors
    /// [`SignerError::Stale`] if one of `current` does not open; then nothing is destroyed.
    async fn collect(
        &self,
        current: Vec<([u8; 16], SealedShare)>,
        age_seconds: u64,
    ) -> Result<u64, SignerError> {
        let _ = (current, age_seconds);
        Ok(0)
    }
}
