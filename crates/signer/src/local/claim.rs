//! Jobs against the vault: shares opened, tweaks applied, nonces bound, in one go.
//!
//! Everything that can be refused is checked before the first write, so that a refused batch
//! leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::RngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use tinderbox_flows::job::KeyJob;
use tinderbox_flows::secret::StagedTweak;
use tinderbox_frost::{NonceCommitment, SecretScalar, tweak};
use zeroize::Zeroizing;

use super::Core;
use super::nonces::tag;
use super::packages::Ready;
use crate::SignerError;
use crate::seal::{Secret, ShareParts, open_tweak};
use crate::vault::{Kind, Slot, SlotRef, Table};

/// A sealing key is taken again for the same tweak of the same share if it is younger than this,
/// in seconds: so a commit that is retried leaves no garbage. Older ones may be collected any
/// moment.
const REUSE_SECONDS: u64 = 60;

/// An adaptor signature takes nonces that are at most this old, in seconds, when it is voted on.
///
/// Binding factors do not cover the adaptor: who knows the nonces of hundreds of signatures with
/// one key could choose the adaptors so that the signatures add up to one more (a forgery by the
/// ROS problem). It needs all of them open at once. A leaf that is offered in a swap is held for
/// longer than this, or changes its owner: so no two of a key's adaptor signatures can be open with
/// nonces that were known together.
const ADAPTOR_SECONDS: u64 = 180;

/// A key job, ready to be computed.
pub(super) struct Claimed {
    /// The share as it was.
    pub(super) share: SecretScalar,
    /// The share after the tweak, and the key to seal it with.
    pub(super) tweaked: Option<Tweaked>,
    /// What to sign.
    pub(super) signs: Vec<Sign>,
}

/// A tweaked share.
pub(super) struct Tweaked {
    pub(super) share: SecretScalar,
    binding: [u8; 32],
    /// Where the new sealing key is; none before it is written.
    pub(super) key: Option<(SlotRef, Secret)>,
}

/// One signature share to make.
pub(super) struct Sign {
    pub(super) ready: Arc<Ready>,
    pub(super) seed: Secret,
    pub(super) commitment: NonceCommitment,
    pub(super) after_tweak: bool,
}

/// A binding that is still to be written.
struct Bind {
    at: u32,
    slot: Slot,
    binding: [u8; 32],
}

impl Core {
    /// Binds the nonces of `jobs` and checks that they could be executed.
    pub(super) fn reserve(&self, jobs: &[KeyJob]) -> Result<(), SignerError> {
        let ready = self.ready(jobs)?;
        let since = self.clock.unix_seconds().saturating_sub(ADAPTOR_SECONDS);
        let (mut table, flusher) = self.vault.table()?;
        let (_, binds) = self.check_jobs(&table, jobs, ready, since)?;
        for bind in binds {
            table.bind(bind.at, bind.slot, bind.binding, flusher)?;
        }
        Ok(())
    }

    /// As [`Core::reserve`], and makes a new sealing key for each tweak.
    pub(super) fn claim(
        &self,
        jobs: &[KeyJob],
        ready: Vec<Vec<Arc<Ready>>>,
    ) -> Result<Vec<Claimed>, SignerError> {
        let now = self.clock.unix_seconds();
        let (mut table, flusher) = self.vault.table()?;
        // However long it took to decide: they were young when this operator voted.
        let (mut claimed, binds) = self.check_jobs(&table, jobs, ready, 0)?;
        table.make_room(claimed.len(), flusher)?;
        for bind in binds {
            table.bind(bind.at, bind.slot, bind.binding, flusher)?;
        }
        for (job, claimed) in jobs.iter().zip(&mut claimed) {
            let Some(tweaked) = &mut claimed.tweaked else {
                continue;
            };
            let since = now.saturating_sub(REUSE_SECONDS);
            let (place, key) = match table.successor(&job.keyshare, &tweaked.binding, since)? {
                Some((place, slot)) => (place, slot.secret),
                None => {
                    let mut key = Zeroizing::new([0; 32]);
                    OsRng.fill_bytes(key.as_mut_slice());
                    let place = table.insert(
                        Kind::Seal,
                        job.keyshare,
                        tweaked.binding,
                        &key,
                        now,
                        flusher,
                    )?;
                    (place, key)
                }
            };
            tweaked.key = Some((place, key));
        }
        Ok(claimed)
    }

    fn check_jobs(
        &self,
        table: &Table,
        jobs: &[KeyJob],
        ready: Vec<Vec<Arc<Ready>>>,
        since: u64,
    ) -> Result<(Vec<Claimed>, Vec<Bind>), SignerError> {
        let mut batch = Batch {
            since,
            ..Batch::default()
        };
        let mut claimed = Vec::with_capacity(jobs.len());
        for (job, ready) in jobs.iter().zip(ready) {
            claimed.push(self.check_job(table, job, ready, &mut batch)?);
        }
        Ok((claimed, batch.binds))
    }

    fn check_job(
        &self,
        table: &Table,
        job: &KeyJob,
        ready: Vec<Arc<Ready>>,
        batch: &mut Batch,
    ) -> Result<Claimed, SignerError> {
        let bad = |text: String| {
            SignerError::BadJob(format!("key share {}: {text}", hex::encode(job.keyshare)))
        };
        let parts = ShareParts::read(&job.sealed)
            .ok_or_else(|| bad("its sealed share is of no form that this program knows".into()))?;
        let stale = || SignerError::Stale(job.keyshare);
        let slot = table.seal(parts.place)?.ok_or_else(stale)?;
        let plain = parts.open(&job.keyshare, &slot.secret).ok_or_else(stale)?;
        let share = SecretScalar::try_from_be_bytes(plain.as_slice())
            .map_err(|error| bad(error.to_string()))?;
        let tweaked = match &job.tweak {
            None => None,
            Some(staged) => {
                if !batch.tweaked.insert(job.keyshare) {
                    return Err(bad("it is tweaked twice at once".into()));
                }
                let key = table.epoch(staged.epoch)?.ok_or_else(|| {
                    bad(format!(
                        "its tweak was staged in epoch {}, which is retired: send the tweak again",
                        staged.epoch
                    ))
                })?;
                let plain = open_tweak(staged, &key.secret)
                    .ok_or_else(|| bad("its staged tweak does not open".into()))?;
                let scalar = SecretScalar::try_from_be_bytes(plain.as_slice())
                    .map_err(|error| bad(error.to_string()))?;
                let share =
                    tweak::apply_secret(&share, &scalar).map_err(|error| bad(error.to_string()))?;
                Some(Tweaked {
                    share,
                    binding: successor_binding(job, staged),
                    key: None,
                })
            }
        };
        let mut signs = Vec::with_capacity(ready.len());
        for (sign, ready) in job.jobs.iter().zip(ready) {
            let used = match (sign.after_tweak, &tweaked) {
                (false, _) => &share,
                (true, Some(tweaked)) => &tweaked.share,
                (true, None) => {
                    return Err(bad("it is to sign after a tweak that is not there".into()));
                }
            };
            let own = sign
                .package
                .operators
                .get(&self.config.operator)
                .ok_or_else(|| bad("this operator is not among the signers".into()))?;
            let (at, slot) = table.nonce(&tag(own))?.ok_or(SignerError::UnknownNonce)?;
            if sign.package.adaptor.is_some() && slot.created < batch.since {
                return Err(SignerError::UnknownNonce);
            }
            let seed = slot.secret.clone();
            let binding = nonce_binding(&seed, &ready.fingerprint, &job.keyshare, used);
            batch.bind(at, slot, binding)?;
            signs.push(Sign {
                ready,
                seed,
                commitment: *own,
                after_tweak: sign.after_tweak,
            });
        }
        Ok(Claimed {
            share,
            tweaked,
            signs,
        })
    }
}

/// What the jobs of one batch have claimed so far.
#[derive(Default)]
struct Batch {
    /// Nonces of adaptor signatures are not older than this.
    since: u64,
    bound: BTreeMap<u32, [u8; 32]>,
    binds: Vec<Bind>,
    tweaked: BTreeSet<[u8; 16]>,
}

impl Batch {
    fn bind(&mut self, at: u32, slot: Slot, binding: [u8; 32]) -> Result<(), SignerError> {
        let before = self
            .bound
            .get(&at)
            .copied()
            .or(slot.bound.then_some(slot.binding));
        match before {
            Some(before) if before == binding => Ok(()),
            Some(_) => Err(SignerError::NonceReuse),
            None => {
                self.bound.insert(at, binding);
                self.binds.push(Bind { at, slot, binding });
                Ok(())
            }
        }
    }
}

/// What nonces are bound to: the whole package, and the very share that signs it. The same package
/// under another share would give away the difference of the two. Keyed by the nonces' own seed,
/// so that it tells nothing to who reads the vault's file after they are gone.
fn nonce_binding(
    seed: &Secret,
    fingerprint: &[u8; 32],
    keyshare: &[u8; 16],
    share: &SecretScalar,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"tinderbox/signer/binding/1");
    hash.update(seed.as_slice());
    hash.update(fingerprint);
    hash.update(keyshare);
    hash.update(share.to_be_bytes().as_slice());
    hash.finalize().into()
}

/// What a new sealing key is for: this tweak of this sealed share.
fn successor_binding(job: &KeyJob, staged: &StagedTweak) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"tinderbox/signer/successor/1");
    hash.update(job.keyshare);
    for part in [&job.sealed.0, &staged.sealed] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(staged.epoch.to_be_bytes());
    hash.finalize().into()
}
