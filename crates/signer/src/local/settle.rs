//! Destroying what a commit made obsolete.

use std::collections::{BTreeMap, BTreeSet};

use tinderbox_flows::secret::SealedShare;
use tinderbox_frost::NonceCommitment;

use super::Core;
use super::nonces::tag;
use crate::SignerError;
use crate::seal::ShareParts;

impl Core {
    /// Destroys the keys of `shares`, and `nonces`. The overwriting reaches the disk within a
    /// second, with the next sync; nobody waits for it.
    pub(super) fn settle(
        &self,
        shares: &[SealedShare],
        nonces: &[NonceCommitment],
    ) -> Result<(), SignerError> {
        let (mut table, flusher) = self.vault.table()?;
        let mut obsolete: BTreeMap<[u8; 16], BTreeSet<u32>> = BTreeMap::new();
        for sealed in shares {
            let parts = ShareParts::read(sealed).ok_or_else(|| {
                SignerError::BadJob("a settled share is of no form that this program knows".into())
            })?;
            if table.is_damaged(parts.place.at) {
                table.scrub(parts.place, flusher)?;
                continue;
            }
            let Some(slot) = table.seal(parts.place)? else {
                continue;
            };
            let id = hex::encode(slot.tag);
            if parts.open(&slot.tag, &slot.secret).is_none() {
                return Err(SignerError::BadJob(format!(
                    "a settled share names the sealing key of key share {id} and is not sealed under it"
                )));
            }
            let named = obsolete.entry(slot.tag).or_default();
            named.insert(parts.place.at);
            if table.seals_of(&slot.tag).len() <= named.len() {
                return Err(SignerError::BadJob(format!(
                    "the share of key share {id} would be lost with this one: settle only what was replaced"
                )));
            }
        }
        for at in obsolete.into_values().flatten() {
            table.destroy(at, flusher)?;
        }
        for commitment in nonces {
            if let Some((at, _)) = table.nonce(&tag(commitment))? {
                table.destroy(at, flusher)?;
            }
        }
        Ok(())
    }

    /// Keeps `current` and destroys all other sealing keys of the same key shares that are older
    /// than `age` seconds.
    pub(super) fn collect(
        &self,
        current: &[([u8; 16], SealedShare)],
        age: u64,
    ) -> Result<u64, SignerError> {
        let before = self.clock.unix_seconds().saturating_sub(age);
        let (mut table, flusher) = self.vault.table()?;
        let mut obsolete = BTreeSet::new();
        for (keyshare, sealed) in current {
            let stale = || SignerError::Stale(*keyshare);
            let parts = ShareParts::read(sealed).ok_or_else(stale)?;
            let slot = table.seal(parts.place)?.ok_or_else(stale)?;
            parts.open(keyshare, &slot.secret).ok_or_else(stale)?;
            let others = table.seals_of(keyshare).iter();
            obsolete.extend(others.filter(|at| **at != parts.place.at));
        }
        let mut destroyed = 0;
        for at in obsolete {
            if table.created(at) < before {
                table.destroy(at, flusher)?;
                destroyed += 1;
            }
        }
        Ok(destroyed)
    }
}
