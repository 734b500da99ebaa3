//! What secrets look like outside the signer: AES-256-GCM under keys that live in the vault.
//!
//! ```text
//!  sealed share   1 ‖ slot (4) ‖ generation (8) ‖ ciphertext (32) ‖ tag (16)
//!  staged tweak   1 ‖ leaf (16) ‖ nonce (12)    ‖ ciphertext (32) ‖ tag (16)
//!  preimage share 1 ‖ nonce (12)                ‖ ciphertext (32) ‖ tag (16)
//! ```
//!
//! A sealing key encrypts one share and nothing else, so its nonce is constant. An epoch's key
//! encrypts many tweaks, each under a random nonce; an epoch is minutes long, far from the 2^32
//! messages at which random nonces become unsafe.

use aes_gcm::aead::{AeadInPlace as _, KeyInit as _};
use aes_gcm::{Aes256Gcm, Nonce};
use rand::RngCore;
use rand::rngs::OsRng;
use tinderbox_flows::secret::{SealedPreimage, SealedShare, StagedTweak};
use tinderbox_protocol::LeafId;
use zeroize::Zeroizing;

use crate::SignerError;
use crate::vault::SlotRef;

const FORMAT: u8 = 1;
const SHARE_DOMAIN: &[u8] = b"tinderbox/signer/share/1";
const TWEAK_DOMAIN: &[u8] = b"tinderbox/signer/tweak/1";
const PREIMAGE_DOMAIN: &[u8] = b"tinderbox/signer/preimage/1";

/// A 32-byte secret, wiped when dropped.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// A sealed share, taken apart.
pub(crate) struct ShareParts<'a> {
    /// Where its key is.
    pub(crate) place: SlotRef,
    body: &'a [u8; 32],
    tag: &'a [u8; 16],
}

impl<'a> ShareParts<'a> {
    /// Takes `sealed` apart; `None` if it is of no known form.
    pub(crate) fn read(sealed: &'a SealedShare) -> Option<Self> {
        let (format, rest) = sealed.0.split_first()?;
        let (at, rest) = rest.split_first_chunk::<4>()?;
        let (generation, rest) = rest.split_first_chunk::<8>()?;
        let (body, rest) = rest.split_first_chunk::<32>()?;
        let (tag, rest) = rest.split_first_chunk::<16>()?;
        (*format == FORMAT && rest.is_empty()).then_some(Self {
            place: SlotRef {
                at: u32::from_be_bytes(*at),
                generation: u64::from_be_bytes(*generation),
            },
            body,
            tag,
        })
    }

    /// Opens it; `None` if it was sealed under another key or for another key share.
    pub(crate) fn open(&self, keyshare: &[u8; 16], key: &[u8; 32]) -> Option<Secret> {
        let mut body = Zeroizing::new(*self.body);
        Aes256Gcm::new(key.into())
            .decrypt_in_place_detached(
                &Nonce::default(),
                &share_context(keyshare, self.place),
                body.as_mut_slice(),
                self.tag.into(),
            )
            .ok()?;
        Some(body)
    }
}

/// Seals `share` under the single-use key at `place`.
pub(crate) fn seal_share(
    place: SlotRef,
    keyshare: &[u8; 16],
    key: &[u8; 32],
    share: &[u8; 32],
) -> Result<SealedShare, SignerError> {
    let mut body = Zeroizing::new(*share);
    let tag = Aes256Gcm::new(key.into())
        .encrypt_in_place_detached(
            &Nonce::default(),
            &share_context(keyshare, place),
            body.as_mut_slice(),
        )
        .map_err(|_| SignerError::vault("a share cannot be sealed"))?;
    let mut sealed = Vec::with_capacity(61);
    sealed.push(FORMAT);
    sealed.extend(place.at.to_be_bytes());
    sealed.extend(place.generation.to_be_bytes());
    sealed.extend(body.as_slice());
    sealed.extend(tag);
    Ok(SealedShare(sealed))
}

fn share_context(keyshare: &[u8; 16], place: SlotRef) -> Vec<u8> {
    let at = place.at.to_be_bytes();
    let generation = place.generation.to_be_bytes();
    [SHARE_DOMAIN, keyshare, &at, &generation].concat()
}

/// Seals a share of a tweak of `leaf` under the key of `epoch`.
pub(crate) fn seal_tweak(
    epoch: u64,
    key: &[u8; 32],
    leaf: &LeafId,
    share: &[u8; 32],
) -> Result<StagedTweak, SignerError> {
    let leaf = leaf.bytes16();
    let mut sealed = Vec::with_capacity(77);
    sealed.push(FORMAT);
    sealed.extend(leaf);
    append(&mut sealed, key, &tweak_context(epoch, &leaf), share)
        .ok_or_else(|| SignerError::vault("a tweak cannot be sealed"))?;
    Ok(StagedTweak { epoch, sealed })
}

/// Opens a staged tweak; `None` if it is malformed, changed, or of another key.
pub(crate) fn open_tweak(staged: &StagedTweak, key: &[u8; 32]) -> Option<Secret> {
    let (format, rest) = staged.sealed.split_first()?;
    let (leaf, rest) = rest.split_first_chunk::<16>()?;
    if *format != FORMAT {
        return None;
    }
    open_appended(rest, key, &tweak_context(staged.epoch, leaf))
}

fn tweak_context(epoch: u64, leaf: &[u8; 16]) -> Vec<u8> {
    [TWEAK_DOMAIN, &epoch.to_be_bytes(), leaf].concat()
}

/// Seals a share of the preimage of `payment_hash` under `key`, which lives as long as the operator:
/// random nonces are safe up to 2^32 shares.
pub(crate) fn seal_preimage(
    key: &[u8; 32],
    payment_hash: &[u8; 32],
    share: &[u8; 32],
) -> Result<SealedPreimage, SignerError> {
    let mut sealed = Vec::with_capacity(61);
    sealed.push(FORMAT);
    append(&mut sealed, key, &preimage_context(payment_hash), share)
        .ok_or_else(|| SignerError::vault("a share of a preimage cannot be sealed"))?;
    Ok(SealedPreimage(sealed))
}

/// Opens a share of a preimage; `None` if it is malformed, changed, or of another hash or key.
pub(crate) fn open_preimage(
    key: &[u8; 32],
    payment_hash: &[u8; 32],
    sealed: &SealedPreimage,
) -> Option<Secret> {
    let (format, rest) = sealed.0.split_first()?;
    if *format != FORMAT {
        return None;
    }
    open_appended(rest, key, &preimage_context(payment_hash))
}

fn preimage_context(payment_hash: &[u8; 32]) -> Vec<u8> {
    [PREIMAGE_DOMAIN, payment_hash].concat()
}

/// Appends nonce, ciphertext and tag of a secret under a random nonce.
fn append(sealed: &mut Vec<u8>, key: &[u8; 32], context: &[u8], secret: &[u8; 32]) -> Option<()> {
    let mut nonce = [0; 12];
    OsRng.fill_bytes(&mut nonce);
    let mut body = Zeroizing::new(*secret);
    let tag = Aes256Gcm::new(key.into())
        .encrypt_in_place_detached(&nonce.into(), context, body.as_mut_slice())
        .ok()?;
    sealed.extend(nonce);
    sealed.extend(body.as_slice());
    sealed.extend(tag);
    Some(())
}

/// Opens what [`append`] has appended, with nothing behind it.
fn open_appended(sealed: &[u8], key: &[u8; 32], context: &[u8]) -> Option<Secret> {
    let (nonce, rest) = sealed.split_first_chunk::<12>()?;
    let (body, rest) = rest.split_first_chunk::<32>()?;
    let (tag, rest) = rest.split_first_chunk::<16>()?;
    if !rest.is_empty() {
        return None;
    }
    let mut body = Zeroizing::new(*body);
    Aes256Gcm::new(key.into())
        .decrypt_in_place_detached(nonce.into(), context, body.as_mut_slice(), tag.into())
        .ok()?;
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_sealed_share_opens_only_whole_at_its_place_for_its_key_share(
            key: [u8; 32], share: [u8; 32], keyshare: [u8; 16], at: u32, generation: u64,
            byte in 0usize..61, bit in 0u8..8,
        ) {
            let place = SlotRef { at, generation };
            let sealed = seal_share(place, &keyshare, &key, &share).unwrap();
            prop_assert_eq!(sealed.0.len(), 61);
            let parts = ShareParts::read(&sealed).unwrap();
            prop_assert_eq!(parts.place, place);
            prop_assert_eq!(*parts.open(&keyshare, &key).unwrap(), share);
            let mut other = keyshare;
            other[0] ^= 1;
            prop_assert!(parts.open(&other, &key).is_none());
            let mut changed = sealed.clone();
            changed.0[byte] ^= 1 << bit;
            let opened = ShareParts::read(&changed).and_then(|parts| parts.open(&keyshare, &key));
            prop_assert!(opened.is_none());
        }

        #[test]
        fn a_staged_tweak_opens_only_whole_and_under_its_epoch(
            key: [u8; 32], share: [u8; 32], leaf: [u8; 16], epoch in 0u64..u64::MAX,
            byte in 0usize..77, bit in 0u8..8,
        ) {
            let leaf = LeafId::from_bytes16(leaf);
            let staged = seal_tweak(epoch, &key, &leaf, &share).unwrap();
            prop_assert_eq!(staged.sealed.len(), 77);
            prop_assert_eq!(*open_tweak(&staged, &key).unwrap(), share);
            let mut moved = staged.clone();
            moved.epoch += 1;
            prop_assert!(open_tweak(&moved, &key).is_none());
            let mut changed = staged.clone();
            changed.sealed[byte] ^= 1 << bit;
            prop_assert!(open_tweak(&changed, &key).is_none());
        }

        #[test]
        fn a_preimage_share_opens_only_whole_and_for_its_payment_hash(
            key: [u8; 32], share: [u8; 32], hash: [u8; 32], byte in 0usize..61, bit in 0u8..8,
        ) {
            let sealed = seal_preimage(&key, &hash, &share).unwrap();
            prop_assert_eq!(sealed.0.len(), 61);
            prop_assert_eq!(*open_preimage(&key, &hash, &sealed).unwrap(), share);
            let mut other = hash;
            other[31] ^= 1;
            prop_assert!(open_preimage(&key, &other, &sealed).is_none());
            let mut changed = sealed.clone();
            changed.0[byte] ^= 1 << bit;
            prop_assert!(open_preimage(&key, &hash, &changed).is_none());
        }

        #[test]
        fn arbitrary_bytes_are_never_taken_for_a_share_or_a_tweak(bytes: Vec<u8>, key: [u8; 32]) {
            let sealed = SealedShare(bytes.clone());
            let opened = ShareParts::read(&sealed).and_then(|parts| parts.open(&[0; 16], &key));
            prop_assert!(opened.is_none());
            let staged = StagedTweak { epoch: 1, sealed: bytes };
            prop_assert!(open_tweak(&staged, &key).is_none());
        }
    }
}
