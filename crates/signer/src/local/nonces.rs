//! Nonces: made ahead, found by their commitment, used for one job.
//!
//! The vault keeps a seed of 32 bytes; both nonces follow from it.

use std::sync::Arc;

use hkdf::Hkdf;
use rand::RngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use tinderbox_frost::{NonceCommitment, Nonces};
use zeroize::Zeroizing;

use super::Core;
use crate::seal::Secret;
use crate::vault::Kind;
use crate::{SignerError, work};

/// More in one call are refused.
const MOST: u32 = 65_536;

/// Slots that are written or destroyed under one hold of the vault's lock.
const BATCH: usize = 512;

impl Core {
    /// Makes `count` nonce pairs; durable when this returns.
    pub(super) async fn make_nonces(
        self: &Arc<Self>,
        count: u32,
    ) -> Result<Vec<NonceCommitment>, SignerError> {
        if count > MOST {
            return Err(SignerError::BadJob(format!(
                "{count} nonces in one call: ask for at most {MOST}"
            )));
        }
        let (commitments, ticket) = self
            .run(move |core| {
                let mut seeds: Vec<Secret> = Vec::new();
                seeds.resize_with(usize::try_from(count).unwrap_or(0), seed);
                let made = work::map(seeds.iter().collect(), core.config.threads, |seed| {
                    let bytes = pair(seed)?;
                    let nonces = Nonces::from_bytes(&bytes).map_err(|_| unusable())?;
                    Ok(nonces.commitment())
                })
                .into_iter()
                .collect::<Result<Vec<NonceCommitment>, SignerError>>()?;
                let now = core.clock.unix_seconds();
                for (seeds, made) in seeds.chunks(BATCH).zip(made.chunks(BATCH)) {
                    let (mut table, flusher) = core.vault.table()?;
                    table.make_room(seeds.len(), flusher)?;
                    for (seed, commitment) in seeds.iter().zip(made) {
                        table.insert(Kind::Nonce, tag(commitment), [0; 32], seed, now, flusher)?;
                    }
                }
                Ok((made, core.vault.ticket()))
            })
            .await?;
        self.vault.durable(ticket).await?;
        Ok(commitments)
    }

    /// Destroys unused nonces that are older than `age` seconds.
    pub(super) fn purge_nonces(&self, age: u64) -> Result<u64, SignerError> {
        let before = self.clock.unix_seconds().saturating_sub(age);
        let old = self.vault.table()?.0.unused_nonces(before);
        let mut destroyed = 0;
        for batch in old.chunks(BATCH) {
            let (mut table, flusher) = self.vault.table()?;
            for at in batch {
                // Between the batches somebody may have bound them.
                if table.is_unused_nonce(*at) && table.created(*at) < before {
                    table.destroy(*at, flusher)?;
                    destroyed += 1;
                }
            }
        }
        Ok(destroyed)
    }
}

fn seed() -> Secret {
    let mut seed = Zeroizing::new([0; 32]);
    OsRng.fill_bytes(seed.as_mut_slice());
    seed
}

/// The pair that follows from `seed` and is announced by `commitment`.
pub(super) fn nonces(seed: &Secret, commitment: NonceCommitment) -> Result<Nonces, SignerError> {
    // The vault found the seed by this commitment, so they belong together.
    Nonces::from_stored(&*pair(seed)?, commitment).map_err(|_| unusable())
}

fn pair(seed: &Secret) -> Result<Zeroizing<[u8; 64]>, SignerError> {
    let mut both = Zeroizing::new([0; 64]);
    Hkdf::<Sha256>::new(None, seed.as_slice())
        .expand(b"tinderbox/signer/nonces/1", both.as_mut_slice())
        .map_err(|_| unusable())?;
    Ok(both)
}

/// A seed that gives zero or a number beyond the group's order: one in 2^127.
fn unusable() -> SignerError {
    SignerError::vault("a nonce seed is unusable; ask again")
}

/// What the vault knows nonces by.
pub(super) fn tag(commitment: &NonceCommitment) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(b"tinderbox/signer/commitment/1");
    hash.update(commitment.hiding.serialize());
    hash.update(commitment.binding.serialize());
    let full: [u8; 32] = hash.finalize().into();
    full.first_chunk::<16>().copied().unwrap_or_default()
}
