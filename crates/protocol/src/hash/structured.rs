//! Hashes that cannot be mistaken for one another: the meaning is in a list of tags, every value
//! carries its length.
//!
//! ```text
//!  lp(b)     = length of b (64 bits, big-endian) ‖ b
//!  tag       = SHA-256(lp(tag 1) ‖ lp(tag 2) ‖ …)
//!  hash      = SHA-256(tag ‖ tag ‖ lp(value 1) ‖ lp(value 2) ‖ …)
//! ```

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

/// Such a hash in the making. Order and type of the values are part of the meaning.
#[derive(Clone)]
pub struct Structured {
    state: Sha256,
}

impl Structured {
    /// A hash under these tags.
    #[must_use]
    pub fn new(tags: &[&str]) -> Self {
        let mut tag = Self {
            state: Sha256::new(),
        };
        for text in tags {
            tag = tag.string(text);
        }
        let tag = tag.finish();
        Self {
            state: Sha256::new().chain_update(tag).chain_update(tag),
        }
    }

    /// Adds bytes.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        // No memory holds more than 2⁶⁴ bytes, so this never saturates.
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Self {
            state: self
                .state
                .chain_update(length.to_be_bytes())
                .chain_update(bytes),
        }
    }

    /// Adds a text in UTF-8.
    #[must_use]
    pub fn string(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// Adds a number. All widths hash alike, as 64 bits.
    #[must_use]
    pub fn number(self, number: impl Into<u64>) -> Self {
        self.bytes(&number.into().to_be_bytes())
    }

    /// Adds a map: the number of its entries, then key and value of each, ordered by key bytes.
    #[must_use]
    pub fn map(self, map: &BTreeMap<String, Vec<u8>>) -> Self {
        let count = u64::try_from(map.len()).unwrap_or(u64::MAX);
        map.iter().fold(self.number(count), |hash, (key, value)| {
            hash.string(key).bytes(value)
        })
    }

    /// The hash.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        self.state.finalize().into()
    }
}
