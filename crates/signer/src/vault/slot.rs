//! One slot of the vault: 128 bytes that hold one 32-byte secret.
//!
//! ```text
//! offset  bytes
//!      0      1  kind: 0 free, 1 sealing key, 2 epoch key, 3 nonces
//!      1      1  1 if bound (nonces), else 0
//!      2      6  zero
//!      8      8  generation, big-endian
//!     16      8  created, seconds since 1970, big-endian
//!     24     16  tag: whose it is
//!     40     32  binding: the one job (nonces) or the tweak (sealing key) that it belongs to
//!     72     32  secret
//!    104      8  zero
//!    112     16  checksum
//! ```
//!
//! A slot lies within one sector of a disk, so a power cut leaves either the old or the new one;
//! should a disk do worse, the checksum tells.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Size of a slot in the file.
pub(crate) const SLOT_BYTES: usize = 128;

/// A slot's bytes; wiped when dropped because they hold the secret.
pub(crate) type SlotBytes = Zeroizing<[u8; SLOT_BYTES]>;

const CHECKED: usize = 112;

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: noise, or zeros if it was never used.
    Free,
    /// The key under which one key share is sealed. Tag: the key share's id.
    Seal,
    /// The key under which an epoch's tweaks are staged. Tag: the epoch.
    Epoch,
    /// The seed of a nonce pair. Tag: a hash of its commitment.
    Nonce,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Free => 0,
            Self::Seal => 1,
            Self::Epoch => 2,
            Self::Nonce => 3,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Free),
            1 => Some(Self::Seal),
            2 => Some(Self::Epoch),
            3 => Some(Self::Nonce),
            _ => None,
        }
    }
}

/// A slot's content. No `Debug`, no `Clone`: it carries the secret.
pub(crate) struct Slot {
    pub(crate) kind: Kind,
    pub(crate) bound: bool,
    pub(crate) generation: u64,
    pub(crate) created: u64,
    pub(crate) tag: [u8; 16],
    pub(crate) binding: [u8; 32],
    pub(crate) secret: Zeroizing<[u8; 32]>,
}

impl Slot {
    /// The bytes at place `at` of the vault with this id.
    pub(crate) fn encode(&self, vault: &[u8; 16], at: u32) -> SlotBytes {
        let mut bytes = Zeroizing::new([0; SLOT_BYTES]);
        let parts: [&[u8]; 9] = [
            &[self.kind.byte()],
            &[u8::from(self.bound)],
            &[0; 6],
            &self.generation.to_be_bytes(),
            &self.created.to_be_bytes(),
            &self.tag,
            &self.binding,
            self.secret.as_slice(),
            &[0; 8],
        ];
        for (to, from) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        let sum = checksum(vault, at, &bytes);
        for (to, from) in bytes.iter_mut().skip(CHECKED).zip(sum) {
            *to = from;
        }
        bytes
    }

    /// Reads a slot; `None` if its checksum does not fit this vault and place. A slot of zeros is
    /// one that was never used.
    pub(crate) fn decode(vault: &[u8; 16], at: u32, bytes: &[u8; SLOT_BYTES]) -> Option<Self> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Some(Self {
                kind: Kind::Free,
                bound: false,
                generation: 0,
                created: 0,
                tag: [0; 16],
                binding: [0; 32],
                secret: Zeroizing::new([0; 32]),
            });
        }
        let (_, sum) = bytes.split_last_chunk::<16>()?;
        if *sum != checksum(vault, at, bytes) {
            return None;
        }
        let (kind, rest) = bytes.split_first()?;
        let (bound, rest) = rest.split_first()?;
        let (_, rest) = rest.split_first_chunk::<6>()?;
        let (generation, rest) = rest.split_first_chunk::<8>()?;
        let (created, rest) = rest.split_first_chunk::<8>()?;
        let (tag, rest) = rest.split_first_chunk::<16>()?;
        let (binding, rest) = rest.split_first_chunk::<32>()?;
        let (secret, _) = rest.split_first_chunk::<32>()?;
        Some(Self {
            kind: Kind::from_byte(*kind)?,
            bound: *bound == 1,
            generation: u64::from_be_bytes(*generation),
            created: u64::from_be_bytes(*created),
            tag: *tag,
            binding: *binding,
            secret: Zeroizing::new(*secret),
        })
    }
}

fn checksum(vault: &[u8; 16], at: u32, bytes: &[u8; SLOT_BYTES]) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(vault);
    hash.update(at.to_be_bytes());
    hash.update(bytes.get(..CHECKED).unwrap_or_default());
    let full: [u8; 32] = hash.finalize().into();
    full.first_chunk::<16>().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot(kind: Kind, bound: bool, numbers: (u64, u64), fill: u8) -> Slot {
        Slot {
            kind,
            bound,
            generation: numbers.0,
            created: numbers.1,
            tag: [fill; 16],
            binding: [fill.wrapping_add(1); 32],
            secret: Zeroizing::new([fill.wrapping_add(2); 32]),
        }
    }

    proptest! {
        #[test]
        fn a_slot_reads_back_as_it_was_written(
            kind in 0u8..4, bound: bool, generation: u64, created: u64, fill: u8, at: u32, id: [u8; 16],
        ) {
            let kind = Kind::from_byte(kind).unwrap();
            let slot = slot(kind, bound, (generation, created), fill);
            let back = Slot::decode(&id, at, &slot.encode(&id, at)).unwrap();
            prop_assert_eq!(back.kind, kind);
            prop_assert_eq!(back.bound, bound);
            prop_assert_eq!((back.generation, back.created), (generation, created));
            prop_assert_eq!(back.tag, slot.tag);
            prop_assert_eq!(back.binding, slot.binding);
            prop_assert_eq!(*back.secret, *slot.secret);
        }

        #[test]
        fn a_changed_bit_a_moved_slot_and_another_vault_are_noticed(
            byte in 0usize..SLOT_BYTES, bit in 0u8..8, at in 0u32..1000,
        ) {
            let id = [7; 16];
            let good = slot(Kind::Seal, false, (3, 4), 9).encode(&id, at);
            let mut torn = good.clone();
            torn[byte] ^= 1 << bit;
            prop_assert!(Slot::decode(&id, at, &torn).is_none());
            prop_assert!(Slot::decode(&id, at + 1, &good).is_none());
            prop_assert!(Slot::decode(&[8; 16], at, &good).is_none());
        }
    }

    #[test]
    fn the_layout_stays_as_documented() {
        let bytes = slot(Kind::Nonce, true, (0x0102, 0x0304), 0x10).encode(&[0; 16], 0);
        assert_eq!(bytes[..8], [3, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(
            bytes[8..24],
            [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3, 4]
        );
        assert_eq!(bytes[24..40], [0x10; 16]);
        assert_eq!(bytes[40..72], [0x11; 32]);
        assert_eq!(bytes[72..104], [0x12; 32]);
        assert_eq!(bytes[104..112], [0; 8]);
    }
}
