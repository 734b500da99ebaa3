//! The vault's slots and the index over them. Secrets stay in the file and are read when needed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::FileExt;

use rand::RngCore;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

use super::flush::Flusher;
use super::hash::RandomKeyMap;
use super::header::HEADER_BYTES;
use super::slot::{Kind, SLOT_BYTES, Slot};
use crate::{SignerError, work};

/// The file grows by this many slots (one mebibyte) of zeros, so that the sync after a write has
/// no file size to record.
const GROWTH: u32 = 8192;

/// What is kept in memory of a slot.
#[derive(Clone, Copy)]
struct Meta {
    generation: u64,
    /// Seconds since 1970; enough until 2106.
    created: u32,
    kind: Kind,
    bound: bool,
}

/// The slots of one key share: nearly always one.
enum Seals {
    One(u32),
    Many(Vec<u32>),
}

impl Seals {
    fn as_slice(&self) -> &[u32] {
        match self {
            Self::One(at) => std::slice::from_ref(at),
            Self::Many(all) => all,
        }
    }
}

/// A place and the generation that it had: opens nothing once the slot has been reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotRef {
    pub(crate) at: u32,
    pub(crate) generation: u64,
}

/// All slots. Behind a lock; every method leaves file and index equal.
pub(crate) struct Table {
    file: File,
    id: [u8; 16],
    metas: Vec<Meta>,
    free: Vec<u32>,
    nonces: RandomKeyMap<u32>,
    seals: RandomKeyMap<Seals>,
    unsettled: BTreeSet<[u8; 16]>,
    epochs: BTreeMap<u64, u32>,
    damaged: BTreeSet<u32>,
    broken: bool,
}

impl Table {
    /// Reads all slots of `file`.
    pub(super) fn load(file: File, id: [u8; 16]) -> Result<Self, SignerError> {
        let mut table = Self {
            file,
            id,
            metas: Vec::new(),
            free: Vec::new(),
            nonces: RandomKeyMap::default(),
            seals: RandomKeyMap::default(),
            unsettled: BTreeSet::new(),
            epochs: BTreeMap::new(),
            damaged: BTreeSet::new(),
            broken: false,
        };
        let length = table
            .file
            .metadata()
            .map_err(|error| failed("read", &error))?
            .len();
        let slots = length.saturating_sub(offset(0)) / SLOT_BYTES as u64;
        let slots = u32::try_from(slots)
            .map_err(|_| SignerError::vault("the file has more slots than this program can use"))?;
        table.metas.reserve(slots as usize);
        table.nonces.reserve(slots as usize / 2);
        let mut buffer = Zeroizing::new(vec![0; GROWTH as usize * SLOT_BYTES]);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut at = 0;
        while at < slots {
            let count = GROWTH.min(slots - at);
            let bytes = buffer
                .get_mut(..count as usize * SLOT_BYTES)
                .unwrap_or_default();
            table
                .file
                .read_exact_at(bytes, offset(at))
                .map_err(|error| failed("read", &error))?;
            let places: Vec<_> = (at..).zip(bytes.as_chunks::<SLOT_BYTES>().0).collect();
            let slots = work::map(places, threads, |(at, bytes)| {
                (at, Slot::decode(&table.id, at, bytes))
            });
            for (at, slot) in slots {
                table.index(at, slot);
            }
            at += count;
        }
        // Low places first, so that the used part of the file stays together.
        table.free.reverse();
        Ok(table)
    }

    fn index(&mut self, at: u32, slot: Option<Slot>) {
        let Some(slot) = slot else {
            self.damaged.insert(at);
            self.metas.push(Meta {
                generation: 0,
                created: 0,
                kind: Kind::Free,
                bound: false,
            });
            return;
        };
        self.metas.push(meta(&slot));
        match slot.kind {
            Kind::Free => self.free.push(at),
            _ => self.enter(at, &slot),
        }
    }

    fn enter(&mut self, at: u32, slot: &Slot) {
        match slot.kind {
            Kind::Free => {}
            Kind::Nonce => {
                self.nonces.insert(slot.tag, at);
            }
            Kind::Epoch => {
                self.epochs.insert(epoch_of(&slot.tag), at);
            }
            Kind::Seal => {
                let seals = self
                    .seals
                    .entry(slot.tag)
                    .and_modify(|seals| {
                        let mut all = seals.as_slice().to_vec();
                        all.push(at);
                        *seals = Seals::Many(all);
                    })
                    .or_insert(Seals::One(at));
                if seals.as_slice().len() > 1 {
                    self.unsettled.insert(slot.tag);
                }
            }
        }
    }

    fn leave(&mut self, at: u32, kind: Kind, tag: &[u8; 16]) {
        match kind {
            Kind::Free => {}
            Kind::Nonce => {
                if self.nonces.get(tag) == Some(&at) {
                    self.nonces.remove(tag);
                }
            }
            Kind::Epoch => {
                self.epochs.remove(&epoch_of(tag));
            }
            Kind::Seal => {
                let mut all = self.seals_of(tag).to_vec();
                all.retain(|other| *other != at);
                if all.len() < 2 {
                    self.unsettled.remove(tag);
                }
                match all.as_slice() {
                    [] => self.seals.remove(tag),
                    [one] => self.seals.insert(*tag, Seals::One(*one)),
                    _ => self.seals.insert(*tag, Seals::Many(all)),
                };
            }
        }
    }

    /// The slot at `at`, checked.
    fn read(&self, at: u32) -> Result<Slot, SignerError> {
        if self.broken {
            return Err(broken());
        }
        let mut bytes = Zeroizing::new([0; SLOT_BYTES]);
        self.file
            .read_exact_at(bytes.as_mut_slice(), offset(at))
            .map_err(|error| failed("read", &error))?;
        Slot::decode(&self.id, at, &bytes).ok_or_else(|| damaged(at))
    }

    fn write(&mut self, at: u32, slot: &Slot, flusher: &Flusher) -> Result<(), SignerError> {
        if self.broken {
            return Err(broken());
        }
        let bytes = slot.encode(&self.id, at);
        if let Err(error) = self.file.write_all_at(bytes.as_slice(), offset(at)) {
            // How much of it reached the file is unknown.
            self.broken = true;
            return Err(failed("write", &error));
        }
        flusher.wrote();
        if let Some(old) = self.metas.get_mut(at as usize) {
            *old = meta(slot);
        }
        Ok(())
    }

    /// Makes sure that `count` slots can be taken without growing the file in between.
    pub(crate) fn make_room(&mut self, count: usize, flusher: &Flusher) -> Result<(), SignerError> {
        while self.free.len() < count {
            let from = self.slots();
            let to = from
                .checked_add(GROWTH)
                .ok_or_else(|| SignerError::vault("it is full: it has as many slots as it can"))?;
            let zeros = vec![0; GROWTH as usize * SLOT_BYTES];
            self.file
                .write_all_at(&zeros, offset(from))
                .map_err(|error| failed("grow", &error))?;
            flusher.wrote();
            self.metas.resize(
                to as usize,
                Meta {
                    generation: 0,
                    created: 0,
                    kind: Kind::Free,
                    bound: false,
                },
            );
            let mut fresh: Vec<u32> = (from..to).rev().collect();
            fresh.append(&mut self.free);
            self.free = fresh;
        }
        Ok(())
    }

    fn slots(&self) -> u32 {
        u32::try_from(self.metas.len()).unwrap_or(u32::MAX)
    }

    /// Writes a secret into a free slot.
    pub(crate) fn insert(
        &mut self,
        kind: Kind,
        tag: [u8; 16],
        binding: [u8; 32],
        secret: &[u8; 32],
        now: u64,
        flusher: &Flusher,
    ) -> Result<SlotRef, SignerError> {
        self.make_room(1, flusher)?;
        let at = self.free.last().copied().ok_or_else(broken)?;
        let generation = self
            .metas
            .get(at as usize)
            .map_or(0, |meta| meta.generation)
            + 1;
        let slot = Slot {
            kind,
            bound: false,
            generation,
            created: now,
            tag,
            binding,
            secret: Zeroizing::new(*secret),
        };
        self.write(at, &slot, flusher)?;
        self.free.pop();
        self.enter(at, &slot);
        Ok(SlotRef { at, generation })
    }

    /// The sealing key that `place` names, if it is still there. A damaged slot is an error: the
    /// share is lost, not stale.
    pub(crate) fn seal(&self, place: SlotRef) -> Result<Option<Slot>, SignerError> {
        if self.damaged.contains(&place.at) {
            return Err(damaged(place.at));
        }
        match self.metas.get(place.at as usize) {
            Some(meta) if meta.kind == Kind::Seal && meta.generation == place.generation => {
                self.read(place.at).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Places of the sealing keys of a key share.
    pub(crate) fn seals_of(&self, keyshare: &[u8; 16]) -> &[u32] {
        self.seals.get(keyshare).map_or(&[], Seals::as_slice)
    }

    /// Another sealing key of `keyshare` with this binding that was made at or after `since`.
    pub(crate) fn successor(
        &self,
        keyshare: &[u8; 16],
        binding: &[u8; 32],
        since: u64,
    ) -> Result<Option<(SlotRef, Slot)>, SignerError> {
        let all = self.seals_of(keyshare);
        if all.len() < 2 {
            return Ok(None);
        }
        for at in all {
            let slot = self.read(*at)?;
            if slot.binding == *binding && slot.created >= since {
                let place = SlotRef {
                    at: *at,
                    generation: slot.generation,
                };
                return Ok(Some((place, slot)));
            }
        }
        Ok(None)
    }

    /// Key shares with more than one sealing key.
    pub(crate) fn unsettled(&self) -> impl Iterator<Item = &[u8; 16]> {
        self.unsettled.iter()
    }

    /// The nonces whose commitment hashes to `tag`.
    pub(crate) fn nonce(&self, tag: &[u8; 16]) -> Result<Option<(u32, Slot)>, SignerError> {
        match self.nonces.get(tag) {
            Some(at) => Ok(Some((*at, self.read(*at)?))),
            None => Ok(None),
        }
    }

    /// Binds the nonces at `at` to one job for ever.
    pub(crate) fn bind(
        &mut self,
        at: u32,
        mut slot: Slot,
        binding: [u8; 32],
        flusher: &Flusher,
    ) -> Result<(), SignerError> {
        slot.bound = true;
        slot.binding = binding;
        self.write(at, &slot, flusher)
    }

    /// Unbound nonces made before `time`.
    pub(crate) fn unused_nonces(&self, time: u64) -> Vec<u32> {
        (0..)
            .zip(&self.metas)
            .filter(|(_, meta)| {
                meta.kind == Kind::Nonce && !meta.bound && u64::from(meta.created) < time
            })
            .map(|(at, _)| at)
            .collect()
    }

    /// Whether unbound nonces are still at `at`.
    pub(crate) fn is_unused_nonce(&self, at: u32) -> bool {
        self.metas
            .get(at as usize)
            .is_some_and(|meta| meta.kind == Kind::Nonce && !meta.bound)
    }

    /// When the slot at `at` was filled.
    pub(crate) fn created(&self, at: u32) -> u64 {
        self.metas
            .get(at as usize)
            .map_or(0, |meta| u64::from(meta.created))
    }

    /// Epochs that still have their key, and the place of it.
    pub(crate) fn epochs(&self) -> &BTreeMap<u64, u32> {
        &self.epochs
    }

    /// The key of an epoch, if it was not retired.
    pub(crate) fn epoch(&self, epoch: u64) -> Result<Option<Slot>, SignerError> {
        self.epochs.get(&epoch).map(|at| self.read(*at)).transpose()
    }

    /// Overwrites a slot with noise, under the next generation.
    pub(crate) fn destroy(&mut self, at: u32, flusher: &Flusher) -> Result<(), SignerError> {
        let old = self.read(at)?;
        self.write(at, &noise(old.generation + 1), flusher)?;
        self.leave(at, old.kind, &old.tag);
        self.free.push(at);
        Ok(())
    }

    /// Overwrites a damaged slot that held something which is no longer needed.
    pub(crate) fn scrub(&mut self, place: SlotRef, flusher: &Flusher) -> Result<(), SignerError> {
        if !self.damaged.contains(&place.at) {
            return Ok(());
        }
        self.write(place.at, &noise(place.generation + 1), flusher)?;
        self.damaged.remove(&place.at);
        self.free.push(place.at);
        Ok(())
    }

    /// Whether the slot at `at` is damaged.
    pub(crate) fn is_damaged(&self, at: u32) -> bool {
        self.damaged.contains(&at)
    }

    /// How many slots hold what.
    pub(crate) fn count(&self) -> VaultCounts {
        VaultCounts {
            slots: self.metas.len(),
            free: self.free.len(),
            damaged: self.damaged.len(),
            nonces: self.nonces.len(),
            keyshares: self.seals.len(),
            unsettled: self.unsettled.len(),
            epochs: self.epochs.len(),
        }
    }
}

/// How many slots of a vault hold what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VaultCounts {
    /// All slots.
    pub slots: usize,
    /// Slots that hold nothing.
    pub free: usize,
    /// Slots whose checksum is wrong; never reused.
    pub damaged: usize,
    /// Nonce pairs, used or not.
    pub nonces: usize,
    /// Key shares with at least one sealing key.
    pub keyshares: usize,
    /// Key shares with more than one.
    pub unsettled: usize,
    /// Epochs whose key exists.
    pub epochs: usize,
}

fn noise(generation: u64) -> Slot {
    let mut noise = Slot {
        kind: Kind::Free,
        bound: false,
        generation,
        created: 0,
        tag: [0; 16],
        binding: [0; 32],
        secret: Zeroizing::new([0; 32]),
    };
    OsRng.fill_bytes(&mut noise.tag);
    OsRng.fill_bytes(&mut noise.binding);
    OsRng.fill_bytes(noise.secret.as_mut_slice());
    noise
}

fn meta(slot: &Slot) -> Meta {
    Meta {
        generation: slot.generation,
        created: u32::try_from(slot.created).unwrap_or(u32::MAX),
        kind: slot.kind,
        bound: slot.bound,
    }
}

/// An epoch as a slot's tag.
pub(crate) fn epoch_tag(epoch: u64) -> [u8; 16] {
    u128::from(epoch).to_be_bytes()
}

fn epoch_of(tag: &[u8; 16]) -> u64 {
    u64::try_from(u128::from_be_bytes(*tag)).unwrap_or(u64::MAX)
}

fn offset(at: u32) -> u64 {
    HEADER_BYTES as u64 + u64::from(at) * SLOT_BYTES as u64
}

fn failed(what: &str, error: &std::io::Error) -> SignerError {
    SignerError::vault(format!(
        "cannot {what} it ({error}): check the disk and its free space"
    ))
}

fn broken() -> SignerError {
    SignerError::vault("an earlier write failed: check the disk and restart the signer")
}

fn damaged(at: u32) -> SignerError {
    SignerError::vault(format!(
        "slot {at} is damaged, what it held is lost: check the disk; leaves whose key share it held need this operator's share rebuilt"
    ))
}
