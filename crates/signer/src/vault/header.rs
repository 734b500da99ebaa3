//! The first 4096 bytes of a vault: what it is, of which format, and whose.
//!
//! ```text
//! offset  bytes
//!      0      8  "TINDERVT"
//!      8      4  format, big-endian
//!     12      4  bytes per slot, big-endian
//!     16     16  id of the vault, random
//!     32     33  the operator's identity key
//!     65     31  zero
//!     96     32  SHA-256 of the 96 bytes before
//!    128   3968  zero
//! ```

use std::path::Path;

use bitcoin::secp256k1::PublicKey;
use sha2::{Digest, Sha256};

use super::slot::SLOT_BYTES;
use crate::SignerError;

/// Where the slots begin.
pub(super) const HEADER_BYTES: usize = 4096;

const MAGIC: &[u8; 8] = b"TINDERVT";
const FORMAT: u32 = 1;
const CHECKED: usize = 96;

/// What a header says.
pub(super) struct Header {
    /// Random; part of every slot's checksum.
    pub(super) id: [u8; 16],
    /// Whose vault it is.
    pub(super) identity: PublicKey,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES);
        bytes.extend(MAGIC);
        bytes.extend(FORMAT.to_be_bytes());
        bytes.extend(slot_bytes().to_be_bytes());
        bytes.extend(self.id);
        bytes.extend(self.identity.serialize());
        bytes.resize(CHECKED, 0);
        let sum = Sha256::digest(&bytes);
        bytes.extend(sum);
        bytes.resize(HEADER_BYTES, 0);
        bytes
    }

    /// Reads and checks the header of the vault at `path`.
    pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Self, SignerError> {
        let name = path.display();
        let damaged = || {
            SignerError::vault(format!(
                "the header of {name} is damaged: check the disk; without its vault this operator cannot sign for its leaves"
            ))
        };
        let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
        if magic != MAGIC {
            return Err(SignerError::vault(format!(
                "{name} is not a signer's vault: give the path of the vault"
            )));
        }
        let (format, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        let (size, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        let format = u32::from_be_bytes(*format);
        if format != FORMAT || u32::from_be_bytes(*size) != slot_bytes() {
            return Err(SignerError::vault(format!(
                "{name} has format {format} and this program reads format {FORMAT}: use the program version that wrote it, or a newer one"
            )));
        }
        let checked = bytes.get(..CHECKED).ok_or_else(damaged)?;
        let sum: [u8; 32] = Sha256::digest(checked).into();
        if bytes.get(CHECKED..CHECKED + 32) != Some(sum.as_slice()) {
            return Err(damaged());
        }
        let (id, rest) = rest.split_first_chunk::<16>().ok_or_else(damaged)?;
        let (identity, _) = rest.split_first_chunk::<33>().ok_or_else(damaged)?;
        Ok(Self {
            id: *id,
            identity: PublicKey::from_slice(identity).map_err(|_| damaged())?,
        })
    }
}

fn slot_bytes() -> u32 {
    u32::try_from(SLOT_BYTES).unwrap_or(u32::MAX)
}
