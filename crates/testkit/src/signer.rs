//! A signer in memory, with the rules of the real one and a record of everything that it did.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bitcoin::secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use rand::RngCore;
use rand_chacha::ChaCha20Rng;
use sha2::{Digest, Sha256};
use tinderbox_flows::job::{KeyJob, KeyOutput, OpenedPreimage, OpenedTweak};
use tinderbox_flows::secret::{PreimageShare, SealedPreimage, SealedShare, StagedTweak};
use tinderbox_frost::dkg::Round1Package;
use tinderbox_frost::{
    NonceCommitment, Nonces, OperatorIndex, SecretScalar, SignatureShare, feldman, tweak,
};
use tinderbox_protocol::{LeafId, ecies, package};
use tinderbox_signer::{NewKeyshare, PackageKind, PlainTweak, PreimagePart, Signer, SignerError};
use zeroize::Zeroizing;

/// A nonce pair and what it has signed.
struct Nonce {
    bytes: Zeroizing<[u8; 64]>,
    bound: Option<[u8; 32]>,
    gone: bool,
}

#[derive(Default)]
struct State {
    nonces: BTreeMap<NonceCommitment, Nonce>,
    shares: BTreeMap<u64, ([u8; 16], SecretScalar)>,
    staged: BTreeMap<u64, SecretScalar>,
    preimages: BTreeMap<u64, ([u8; 32], SecretScalar)>,
    next: u64,
    /// Shares that were ever given out for one nonce, by message: more than one is a broken signer.
    signed: BTreeMap<NonceCommitment, BTreeSet<[u8; 32]>>,
}

/// A signer without a disk.
pub struct MemorySigner {
    me: OperatorIndex,
    identity: SecretKey,
    operators: u16,
    threshold: u16,
    rng: Mutex<ChaCha20Rng>,
    state: Mutex<State>,
}

impl MemorySigner {
    /// A signer of operator `me` with this identity key.
    #[must_use]
    pub fn new(
        me: OperatorIndex,
        identity: SecretKey,
        operators: u16,
        threshold: u16,
        rng: ChaCha20Rng,
    ) -> Arc<Self> {
        Arc::new(Self {
            me,
            identity,
            operators,
            threshold,
            rng: Mutex::new(rng),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rng(&self) -> MutexGuard<'_, ChaCha20Rng> {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a key share into custody.
    pub fn import(&self, keyshare: [u8; 16], share: SecretScalar) -> SealedShare {
        let mut state = self.state();
        let slot = state.next;
        state.next += 1;
        state.shares.insert(slot, (keyshare, share));
        SealedShare(slot.to_be_bytes().to_vec())
    }

    /// The public point of a share in custody; `None` if it was destroyed.
    #[must_use]
    pub fn public_share(&self, sealed: &SealedShare) -> Option<PublicKey> {
        let slot = u64::from_be_bytes(sealed.0.as_slice().try_into().ok()?);
        Some(self.state().shares.get(&slot)?.1.public_key())
    }

    /// Nonces that signed more than one message: must be empty.
    #[must_use]
    pub fn nonces_used_twice(&self) -> usize {
        self.state()
            .signed
            .values()
            .filter(|messages| messages.len() > 1)
            .count()
    }

    fn open_share(state: &State, job: &KeyJob) -> Result<SecretScalar, SignerError> {
        let stale = SignerError::Stale(job.keyshare);
        let slot = job
            .sealed
            .0
            .as_slice()
            .try_into()
            .map(u64::from_be_bytes)
            .map_err(|_| stale.clone())?;
        match state.shares.get(&slot) {
            Some((keyshare, share)) if *keyshare == job.keyshare => Ok(share.duplicate()),
            _ => Err(stale),
        }
    }

    fn bind(&self, state: &mut State, job: &KeyJob) -> Result<(), SignerError> {
        Self::open_share(state, job)?;
        for sign in &job.jobs {
            let fingerprint = sign.package.fingerprint();
            let own = sign
                .package
                .operators
                .get(&self.me)
                .ok_or_else(|| SignerError::BadJob("not a signer".into()))?;
            let nonce = state
                .nonces
                .get_mut(own)
                .filter(|nonce| !nonce.gone)
                .ok_or(SignerError::UnknownNonce)?;
            match nonce.bound {
                None => nonce.bound = Some(fingerprint),
                Some(bound) if bound == fingerprint => {}
                Some(_) => return Err(SignerError::NonceReuse),
            }
        }
        Ok(())
    }

    fn sign_one(
        &self,
        state: &mut State,
        job: &tinderbox_flows::job::SignJob,
        share: &SecretScalar,
    ) -> Result<SignatureShare, SignerError> {
        let bad = |error: tinderbox_frost::Error| SignerError::BadJob(error.to_string());
        let own = *job
            .package
            .operators
            .get(&self.me)
            .ok_or_else(|| SignerError::BadJob("not a signer".into()))?;
        let nonce = state.nonces.get(&own).ok_or(SignerError::UnknownNonce)?;
        let nonces = Nonces::from_bytes(&nonce.bytes).map_err(bad)?;
        let prepared = job.package.prepare().map_err(bad)?;
        let made = prepared
            .sign_operator(&self.me, share, nonces)
            .map_err(bad)?;
        state
            .signed
            .entry(own)
            .or_default()
            .insert(job.package.fingerprint());
        Ok(made)
    }

    fn stage_one(
        &self,
        leaf: LeafId,
        share: &[u8],
        proofs: Vec<PublicKey>,
        public: &BTreeMap<OperatorIndex, PublicKey>,
    ) -> Result<OpenedTweak, SignerError> {
        let bad = |why: String| SignerError::BadPackage(format!("leaf {leaf}: {why}"));
        feldman::check_proofs(&proofs, self.threshold).map_err(|error| bad(error.to_string()))?;
        let share =
            SecretScalar::try_from_be_bytes(share).map_err(|error| bad(error.to_string()))?;
        feldman::verify_share(&proofs, self.me, &share).map_err(|error| bad(error.to_string()))?;
        for operator in (0..self.operators).map(OperatorIndex) {
            let expected =
                feldman::evaluate(&proofs, operator).map_err(|error| bad(error.to_string()))?;
            if public.get(&operator) != Some(&expected) {
                return Err(bad("public share of an operator".into()));
            }
        }
        let mut state = self.state();
        let slot = state.next;
        state.next += 1;
        state.staged.insert(slot, share);
        Ok(OpenedTweak {
            leaf,
            staged: StagedTweak {
                epoch: 1,
                sealed: slot.to_be_bytes().to_vec(),
            },
            proofs,
            secret_cipher: Vec::new(),
            signature: Vec::new(),
        })
    }
}

fn points(raw: &[Vec<u8>]) -> Result<Vec<PublicKey>, SignerError> {
    raw.iter()
        .map(|point| {
            PublicKey::from_slice(point)
                .map_err(|_| SignerError::BadPackage("a proof is not a point".into()))
        })
        .collect()
}

fn public_map(
    raw: impl IntoIterator<Item = (String, Vec<u8>)>,
) -> Result<BTreeMap<OperatorIndex, PublicKey>, SignerError> {
    let bad = || SignerError::BadPackage("pubkey_shares_tweak".into());
    raw.into_iter()
        .map(|(operator, point)| {
            Ok((
                OperatorIndex::from_identifier(&operator).map_err(|_| bad())?,
                PublicKey::from_slice(&point).map_err(|_| bad())?,
            ))
        })
        .collect()
}

#[async_trait]
impl Signer for MemorySigner {
    fn identity(&self) -> PublicKey {
        self.identity.public_key(SECP256K1)
    }

    async fn sign(&self, digests: Vec<[u8; 32]>) -> Result<Vec<Vec<u8>>, SignerError> {
        Ok(digests
            .into_iter()
            .map(|digest| {
                SECP256K1
                    .sign_ecdsa(&Message::from_digest(digest), &self.identity)
                    .serialize_der()
                    .to_vec()
            })
            .collect())
    }

    async fn derive(&self, label: &str) -> Result<Zeroizing<[u8; 32]>, SignerError> {
        let mut hash = Sha256::new();
        hash.update(self.identity.secret_bytes());
        hash.update(label);
        Ok(Zeroizing::new(hash.finalize().into()))
    }

    async fn open(
        &self,
        kind: PackageKind,
        ciphertext: Vec<u8>,
    ) -> Result<Vec<OpenedTweak>, SignerError> {
        let bad = |why: &dyn std::fmt::Display| SignerError::BadPackage(why.to_string());
        let plain = ecies::decrypt(&self.identity, &ciphertext).map_err(|error| bad(&error))?;
        let mut opened = Vec::new();
        match kind {
            PackageKind::Send => {
                let tweaks =
                    package::SendLeafKeyTweaks::from_bytes(&plain).map_err(|error| bad(&error))?;
                for tweak in tweaks.leaves_to_send {
                    let leaf = tweak.leaf_id.parse().map_err(|error| bad(&error))?;
                    let secret = tweak
                        .secret_share_tweak
                        .as_ref()
                        .ok_or_else(|| bad(&"no share"))?;
                    let mut one = self.stage_one(
                        leaf,
                        &secret.secret_share,
                        points(&secret.proofs)?,
                        &public_map(tweak.pubkey_shares_tweak.clone())?,
                    )?;
                    one.secret_cipher = tweak.secret_cipher.clone();
                    one.signature = tweak.signature.clone();
                    opened.push(one);
                }
            }
            PackageKind::Claim => {
                let tweaks =
                    package::ClaimLeafKeyTweaks::from_bytes(&plain).map_err(|error| bad(&error))?;
                for tweak in tweaks.leaves_to_receive {
                    let leaf = tweak.leaf_id.parse().map_err(|error| bad(&error))?;
                    let secret = tweak
                        .secret_share_tweak
                        .as_ref()
                        .ok_or_else(|| bad(&"no share"))?;
                    opened.push(self.stage_one(
                        leaf,
                        &secret.secret_share,
                        points(&secret.proofs)?,
                        &public_map(tweak.pubkey_shares_tweak.clone())?,
                    )?);
                }
            }
        }
        Ok(opened)
    }

    async fn stage(&self, tweaks: Vec<PlainTweak>) -> Result<Vec<OpenedTweak>, SignerError> {
        tweaks
            .into_iter()
            .map(|tweak| {
                self.stage_one(tweak.leaf, &tweak.share, tweak.proofs, &tweak.public_shares)
            })
            .collect()
    }

    async fn keep_preimage(
        &self,
        payment_hash: [u8; 32],
        part: PreimagePart,
    ) -> Result<OpenedPreimage, SignerError> {
        let bad = |why: &dyn std::fmt::Display| SignerError::BadPreimage(why.to_string());
        let (share, proofs) = match part {
            PreimagePart::Plain(share, proofs) => (share, proofs),
            PreimagePart::Encrypted(ciphertext) => {
                let plain =
                    ecies::decrypt(&self.identity, &ciphertext).map_err(|error| bad(&error))?;
                let share =
                    package::SecretShare::from_bytes(&plain).map_err(|error| bad(&error))?;
                let proofs = points(&share.proofs)?;
                (Zeroizing::new(share.secret_share.clone()), proofs)
            }
        };
        feldman::check_proofs(&proofs, self.threshold).map_err(|error| bad(&error))?;
        let share = SecretScalar::try_from_be_bytes(&share).map_err(|error| bad(&error))?;
        feldman::verify_share(&proofs, self.me, &share).map_err(|error| bad(&error))?;
        let mut state = self.state();
        let slot = state.next;
        state.next += 1;
        state.preimages.insert(slot, (payment_hash, share));
        Ok(OpenedPreimage {
            sealed: SealedPreimage(slot.to_be_bytes().to_vec()),
            proofs,
        })
    }

    async fn preimage_share(
        &self,
        payment_hash: [u8; 32],
        sealed: SealedPreimage,
    ) -> Result<PreimageShare, SignerError> {
        let slot = sealed.0.as_slice().try_into().map(u64::from_be_bytes);
        let state = self.state();
        match slot.ok().and_then(|slot| state.preimages.get(&slot)) {
            Some((hash, share)) if *hash == payment_hash => Ok(PreimageShare(*share.to_be_bytes())),
            _ => Err(SignerError::BadPreimage("it does not open".into())),
        }
    }

    async fn nonces(&self, count: u32) -> Result<Vec<NonceCommitment>, SignerError> {
        let mut made = Vec::new();
        for _ in 0..count {
            let nonces = Nonces::generate(&mut *self.rng());
            let commitment = nonces.commitment();
            self.state().nonces.insert(
                commitment,
                Nonce {
                    bytes: nonces.to_bytes(),
                    bound: None,
                    gone: false,
                },
            );
            made.push(commitment);
        }
        Ok(made)
    }

    async fn reserve(&self, jobs: Vec<KeyJob>) -> Result<(), SignerError> {
        let mut state = self.state();
        jobs.iter().try_for_each(|job| self.bind(&mut state, job))
    }

    async fn execute(&self, jobs: Vec<KeyJob>) -> Result<Vec<KeyOutput>, SignerError> {
        let mut outputs = Vec::new();
        let mut state = self.state();
        for job in &jobs {
            self.bind(&mut state, job)?;
            let share = Self::open_share(&state, job)?;
            let tweaked = match &job.tweak {
                None => None,
                Some(staged) => {
                    let slot = staged
                        .sealed
                        .as_slice()
                        .try_into()
                        .map(u64::from_be_bytes)
                        .map_err(|_| SignerError::Stale(job.keyshare))?;
                    let delta = state
                        .staged
                        .get(&slot)
                        .ok_or(SignerError::Stale(job.keyshare))?;
                    Some(
                        tweak::apply_secret(&share, delta)
                            .map_err(|error| SignerError::BadJob(error.to_string()))?,
                    )
                }
            };
            let mut shares = Vec::new();
            for sign in &job.jobs {
                let key = match (&tweaked, sign.after_tweak) {
                    (Some(tweaked), true) => tweaked,
                    _ => &share,
                };
                shares.push(self.sign_one(&mut state, sign, key)?);
            }
            let sealed = tweaked.map(|tweaked| {
                let slot = state.next;
                state.next += 1;
                state.shares.insert(slot, (job.keyshare, tweaked));
                SealedShare(slot.to_be_bytes().to_vec())
            });
            outputs.push(KeyOutput { sealed, shares });
        }
        Ok(outputs)
    }

    async fn settle(
        &self,
        shares: Vec<SealedShare>,
        nonces: Vec<NonceCommitment>,
    ) -> Result<(), SignerError> {
        let mut state = self.state();
        for sealed in shares {
            if let Ok(slot) = sealed.0.as_slice().try_into().map(u64::from_be_bytes) {
                state.shares.remove(&slot);
            }
        }
        for commitment in nonces {
            if let Some(nonce) = state.nonces.get_mut(&commitment) {
                nonce.gone = true;
            }
        }
        Ok(())
    }

    async fn retire(&self, _epoch: u64) -> Result<(), SignerError> {
        Ok(())
    }

    async fn epoch(&self) -> Result<u64, SignerError> {
        Ok(1)
    }

    async fn purge_nonces(&self, _age_seconds: u64) -> Result<u64, SignerError> {
        Ok(0)
    }

    async fn dkg_round1(
        &self,
        _run: [u8; 16],
        _count: u32,
    ) -> Result<Vec<Round1Package>, SignerError> {
        Err(SignerError::Dkg(
            "key shares are dealt in simulations".into(),
        ))
    }

    async fn dkg_round2(
        &self,
        _run: [u8; 16],
        _packages: BTreeMap<OperatorIndex, Vec<Round1Package>>,
    ) -> Result<BTreeMap<OperatorIndex, Vec<Zeroizing<[u8; 32]>>>, SignerError> {
        Err(SignerError::Dkg(
            "key shares are dealt in simulations".into(),
        ))
    }

    async fn dkg_finish(
        &self,
        _run: [u8; 16],
        _ids: Vec<[u8; 16]>,
        _shares: BTreeMap<OperatorIndex, Vec<Zeroizing<[u8; 32]>>>,
    ) -> Result<Vec<NewKeyshare>, SignerError> {
        Err(SignerError::Dkg(
            "key shares are dealt in simulations".into(),
        ))
    }
}

/// A deterministic secret key.
#[must_use]
pub fn secret_key(rng: &mut impl RngCore) -> SecretKey {
    loop {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        if let Ok(key) = SecretKey::from_slice(&bytes) {
            return key;
        }
    }
}
