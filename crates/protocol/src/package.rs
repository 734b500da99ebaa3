//! The messages inside the ciphertexts of key tweak packages.
//!
//! A sender deals its tweak (old key less new key) to the operators as shares of a polynomial,
//! one ciphertext each. Only the shares differ between operators.

use std::collections::BTreeMap;

use prost::Message;

use crate::keys::wipe;
use crate::{Error, Result};

/// A share of a secret, with the polynomial's public points. Wiped when dropped; not printable.
#[derive(Message)]
#[prost(skip_debug)]
pub struct SecretShare {
    /// Big-endian number; wallets may strip leading zeros.
    #[prost(bytes = "vec", tag = "1")]
    pub secret_share: Vec<u8>,
    /// One compressed point per coefficient, the secret's own first.
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub proofs: Vec<Vec<u8>>,
}

impl Drop for SecretShare {
    fn drop(&mut self) {
        wipe(&mut self.secret_share);
    }
}

/// One leaf of a [`SendLeafKeyTweaks`].
#[derive(Message)]
#[prost(skip_debug)]
pub struct SendLeafKeyTweak {
    /// The leaf.
    #[prost(string, tag = "1")]
    pub leaf_id: String,
    /// This operator's share of the tweak.
    #[prost(message, optional, tag = "2")]
    pub secret_share_tweak: Option<SecretShare>,
    /// Public points of all operators' shares, by identifier.
    #[prost(btree_map = "string, bytes", tag = "3")]
    pub pubkey_shares_tweak: BTreeMap<String, Vec<u8>>,
    /// The new key, encrypted to the receiver.
    #[prost(bytes = "vec", tag = "4")]
    pub secret_cipher: Vec<u8>,
    /// The sender's signature over leaf, transfer and ciphertext (64 bytes).
    #[prost(bytes = "vec", tag = "5")]
    pub signature: Vec<u8>,
    /// Finished signature of the refund; older wallets only.
    #[prost(bytes = "vec", tag = "6")]
    pub refund_signature: Vec<u8>,
    /// Finished signature of the direct refund; older wallets only.
    #[prost(bytes = "vec", tag = "7")]
    pub direct_refund_signature: Vec<u8>,
    /// Finished signature of the direct-from-cpfp refund; older wallets only.
    #[prost(bytes = "vec", tag = "8")]
    pub direct_from_cpfp_refund_signature: Vec<u8>,
}

/// What a sender encrypts to one operator.
#[derive(Message)]
#[prost(skip_debug)]
pub struct SendLeafKeyTweaks {
    /// One entry per leaf.
    #[prost(message, repeated, tag = "1")]
    pub leaves_to_send: Vec<SendLeafKeyTweak>,
}

/// One leaf of a [`ClaimLeafKeyTweaks`].
#[derive(Message)]
#[prost(skip_debug)]
pub struct ClaimLeafKeyTweak {
    /// The leaf.
    #[prost(string, tag = "1")]
    pub leaf_id: String,
    /// This operator's share of the tweak.
    #[prost(message, optional, tag = "2")]
    pub secret_share_tweak: Option<SecretShare>,
    /// Public points of all operators' shares, by identifier.
    #[prost(btree_map = "string, bytes", tag = "3")]
    pub pubkey_shares_tweak: BTreeMap<String, Vec<u8>>,
}

/// What a receiver encrypts to one operator.
#[derive(Message)]
#[prost(skip_debug)]
pub struct ClaimLeafKeyTweaks {
    /// One entry per leaf.
    #[prost(message, repeated, tag = "1")]
    pub leaves_to_receive: Vec<ClaimLeafKeyTweak>,
}

macro_rules! codec {
    ($($name:ident: $what:literal),+) => {$(
        impl $name {
            /// Reads the message.
            ///
            /// # Errors
            /// [`Error::MalformedMessage`].
            pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
                Self::decode(bytes).map_err(|error| Error::MalformedMessage {
                    what: $what,
                    reason: error.to_string(),
                })
            }

            /// Its bytes. They hold a secret.
            #[must_use]
            pub fn to_bytes(&self) -> zeroize::Zeroizing<Vec<u8>> {
                zeroize::Zeroizing::new(self.encode_to_vec())
            }
        }
    )+};
}

codec!(
    SecretShare: "the secret share",
    SendLeafKeyTweaks: "the sender's key tweaks",
    ClaimLeafKeyTweaks: "the receiver's key tweaks"
);
