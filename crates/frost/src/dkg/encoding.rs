//! The byte form of packages that other implementations of this ciphersuite use.
//!
//! `00 ‖ CRC-32 of the context string ‖ number of commitments (LEB128) ‖ commitments ‖ 64 ‖ proof`.

use bitcoin::secp256k1::PublicKey;

use super::proof::ProofOfKnowledge;
use super::round1::Round1Package;
use crate::error::{Error, Result};

/// Version byte and CRC-32 of the context string.
const HEADER: [u8; 5] = [0x00, 0x23, 0x0f, 0x8a, 0xb3];
/// Length of a proof.
const PROOF: u8 = 64;

impl Round1Package {
    /// Bytes of this package.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = HEADER.to_vec();
        let mut count = self.commitments.len();
        loop {
            let low = u8::try_from(count & 0x7f).unwrap_or_default();
            count >>= 7;
            if count == 0 {
                bytes.push(low);
                break;
            }
            bytes.push(low | 0x80);
        }
        for commitment in &self.commitments {
            bytes.extend_from_slice(&commitment.serialize());
        }
        bytes.push(PROOF);
        bytes.extend_from_slice(&self.proof.nonce);
        bytes.extend_from_slice(&self.proof.response);
        bytes
    }

    /// Reads a package.
    ///
    /// # Errors
    /// [`Error::DkgEncoding`] for anything but exactly one well-formed package.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let bad = |why| Error::DkgEncoding { why };
        let mut rest = bytes;
        if take(&mut rest, HEADER.len()) != Some(&HEADER[..]) {
            return Err(bad("unknown header"));
        }
        let count = length(&mut rest).ok_or_else(|| bad("length of the commitments"))?;
        // Never reserve what the bytes cannot hold.
        let commitments = (0..count)
            .map(|_| {
                take(&mut rest, 33)
                    .and_then(|point| PublicKey::from_slice(point).ok())
                    .ok_or_else(|| bad("a commitment is missing or not a point"))
            })
            .collect::<Result<Vec<_>>>()?;
        if take(&mut rest, 1) != Some(&[PROOF]) {
            return Err(bad("length of the proof"));
        }
        let half = |rest: &mut &[u8]| {
            take(rest, 32)
                .and_then(|half| <[u8; 32]>::try_from(half).ok())
                .ok_or_else(|| bad("the proof is too short"))
        };
        let proof = ProofOfKnowledge {
            nonce: half(&mut rest)?,
            response: half(&mut rest)?,
        };
        if rest.is_empty() {
            Ok(Self { commitments, proof })
        } else {
            Err(bad("bytes after the proof"))
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

/// LEB128 of at most three bytes.
fn length(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0usize;
    for shift in [0u32, 7, 14] {
        let byte = *take(rest, 1)?.first()?;
        value |= usize::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
