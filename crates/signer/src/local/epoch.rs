//! Epochs: staged tweaks are sealed under a key that lives for some minutes and is destroyed as a
//! whole, because a tweak that was staged and then dropped has nobody who would settle it.

use std::sync::Mutex;

use rand::RngCore;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

use super::Core;
use crate::SignerError;
use crate::seal::Secret;
use crate::vault::{Kind, Ticket, epoch_tag};

/// When the current epoch's key is on disk.
#[derive(Default)]
pub(super) struct Epochs {
    made: Mutex<Ticket>,
}

/// The epoch under which tweaks are staged now.
pub(super) struct Epoch {
    pub(super) number: u64,
    pub(super) key: Secret,
    /// Nothing that is sealed under the key may leave before this is durable.
    pub(super) ticket: Ticket,
}

impl Core {
    /// The current epoch; begins a new one if there is none, or it is too old.
    pub(super) fn current_epoch(&self) -> Result<Epoch, SignerError> {
        let now = self.clock.unix_seconds();
        let mut made = self
            .epochs
            .made
            .lock()
            .map_err(|_| SignerError::poisoned())?;
        let (mut table, flusher) = self.vault.table()?;
        let last = table
            .epochs()
            .last_key_value()
            .map(|(number, at)| (*number, table.created(*at)));
        if let Some((number, created)) = last
            && created.saturating_add(self.config.epoch_seconds) > now
            && let Some(slot) = table.epoch(number)?
        {
            return Ok(Epoch {
                number,
                key: slot.secret,
                ticket: *made,
            });
        }
        let number = last.map_or(1, |(number, _)| number.saturating_add(1));
        let mut key = Zeroizing::new([0; 32]);
        OsRng.fill_bytes(key.as_mut_slice());
        table.insert(Kind::Epoch, epoch_tag(number), [0; 32], &key, now, flusher)?;
        *made = flusher.ticket();
        Ok(Epoch {
            number,
            key,
            ticket: *made,
        })
    }

    /// Destroys the keys of epochs below `epoch` that ended long enough ago.
    pub(super) fn retire(&self, epoch: u64) -> Result<(), SignerError> {
        let now = self.clock.unix_seconds();
        let (mut table, flusher) = self.vault.table()?;
        let all: Vec<(u64, u32)> = table.epochs().iter().map(|(n, at)| (*n, *at)).collect();
        for pair in all.windows(2) {
            let [(number, at), (_, next)] = pair else {
                continue;
            };
            // An epoch ended when the next one began.
            let ended = table.created(*next);
            if *number < epoch && ended.saturating_add(self.config.epoch_grace_seconds) <= now {
                table.destroy(*at, flusher)?;
            }
        }
        Ok(())
    }
}
