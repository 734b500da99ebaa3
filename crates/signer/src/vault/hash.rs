//! A hasher for keys that are random already.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map whose keys are hashes or random ids, of which the first eight bytes serve as they are.
/// The keys come from this operator and its peers' agreed run ids, not from wallets.
pub(super) type RandomKeyMap<V> = HashMap<[u8; 16], V, BuildHasherDefault<Prefix>>;

#[derive(Default)]
pub(super) struct Prefix(u64);

impl Hasher for Prefix {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Ids of one DKG run differ only in their last bytes, so both halves count.
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.0 = (self.0.rotate_left(23) ^ u64::from_le_bytes(word))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn write_usize(&mut self, _: usize) {
        // The length of a fixed-size key says nothing.
    }
}
