//! HMAC-SHA-256 with keys of 32 bytes.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

/// The HMAC of `message`, to be finished or compared.
pub(crate) fn hmac_sha256(key: &[u8; 32], message: &[u8]) -> Hmac<Sha256> {
    // HMAC fills keys up to a block with zeros; done here, because a whole block cannot be refused.
    let mut block = Zeroizing::new([0_u8; 64]);
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    let block: &[u8; 64] = &block;
    let mut mac = <Hmac<Sha256> as hmac::digest::KeyInit>::new(block.into());
    mac.update(message);
    mac
}
