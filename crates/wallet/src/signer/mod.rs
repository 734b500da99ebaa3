//! Who holds the keys.
//!
//! A wallet never sees a secret: it asks a [`WalletSigner`]. [`MemorySigner`] derives everything
//! from BIP-39 words; a hardware signer can take its place.

mod memory;

use std::collections::BTreeMap;

use bitcoin::secp256k1::{PublicKey, ecdsa, schnorr};
use bitcoin::{Address, CompressedPublicKey, ScriptBuf};
use tinderbox_frost::{NonceCommitment, OperatorIndex, SecretScalar, SignatureShare};
use tinderbox_protocol::{LeafId, Network};
use zeroize::Zeroizing;

pub use memory::MemorySigner;

use crate::error::Result;
use crate::exit::RefundKey;

/// What a signature share is asked for.
#[derive(Debug, Clone)]
pub struct ShareRequest {
    /// The leaf whose user key signs.
    pub leaf: LeafId,
    /// The whole key, before the taproot tweak.
    pub verifying_key: PublicKey,
    /// What is signed.
    pub message: [u8; 32],
    /// The operators that sign, with their nonces.
    pub operators: BTreeMap<OperatorIndex, NonceCommitment>,
    /// How many operators sign.
    pub threshold: u16,
}

/// The user's half of a signature. The nonces behind the commitment are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UserShare {
    /// Public nonces.
    pub commitment: NonceCommitment,
    /// The share.
    pub share: SignatureShare,
}

/// A change of key, dealt to the operators: a polynomial whose value at zero is the difference of
/// the old and the new key.
pub struct KeyTweak {
    /// Commitments to the polynomial, as many as the threshold.
    pub proofs: Vec<PublicKey>,
    /// One secret share per operator, by index.
    pub shares: Vec<SecretScalar>,
}

/// A [`KeyTweak`] that hands a leaf to somebody.
pub struct HandOver {
    /// What operators get.
    pub tweak: KeyTweak,
    /// The new key, encrypted to the receiver.
    pub secret_cipher: Vec<u8>,
}

/// Holds a wallet's keys and uses them.
///
/// Everything is computed at once, without I/O. Digests are signed as they are.
pub trait WalletSigner: Send + Sync {
    /// The identity key: the wallet's Spark address, its login, the receiver of ciphertexts.
    fn identity(&self) -> PublicKey;

    /// The user's half of a leaf's key.
    ///
    /// # Errors
    /// A protocol error if the key cannot be derived.
    fn leaf_key(&self, leaf: &LeafId) -> Result<PublicKey>;

    /// The user's half of a static deposit address' key.
    ///
    /// # Errors
    /// As [`leaf_key`](WalletSigner::leaf_key).
    fn static_deposit_key(&self, index: u32) -> Result<PublicKey>;

    /// Signs a digest with the identity key (low-S).
    fn sign_identity(&self, digest: [u8; 32]) -> ecdsa::Signature;

    /// Signs a digest with the identity key, as BIP 340 says: an invoice of this wallet's.
    fn sign_identity_schnorr(&self, digest: [u8; 32]) -> schnorr::Signature;

    /// The user's half of a threshold signature, with fresh nonces that are used once.
    ///
    /// # Errors
    /// A signing error for commitments that make no signature.
    fn sign_share(&self, request: &ShareRequest) -> Result<UserShare>;

    /// Changes a leaf's user key to a fresh one, which only `receiver` can decrypt.
    ///
    /// # Errors
    /// As [`leaf_key`](WalletSigner::leaf_key).
    fn hand_over(
        &self,
        leaf: &LeafId,
        receiver: &PublicKey,
        threshold: u16,
        operators: u16,
    ) -> Result<HandOver>;

    /// The public half of the key in a ciphertext to this wallet.
    ///
    /// # Errors
    /// A protocol error if it cannot be decrypted, or holds no key.
    fn received_key(&self, secret_cipher: &[u8]) -> Result<PublicKey>;

    /// Changes a received leaf's user key from the one in the ciphertext to this wallet's own.
    ///
    /// # Errors
    /// As [`received_key`](WalletSigner::received_key).
    fn take_over(
        &self,
        leaf: &LeafId,
        secret_cipher: &[u8],
        threshold: u16,
        operators: u16,
    ) -> Result<KeyTweak>;

    /// Signs a taproot key-path spend of a refund's output.
    ///
    /// # Errors
    /// As [`leaf_key`](WalletSigner::leaf_key).
    fn sign_refund_output(
        &self,
        leaf: &LeafId,
        key: RefundKey,
        sighash: [u8; 32],
    ) -> Result<schnorr::Signature>;

    /// The key whose P2WPKH address holds coins that pay for exits:
    /// `m/84'/0'/0'/0/0` on mainnet, `m/84'/1'/0'/0/0` elsewhere (BIP 84), so that any wallet
    /// that knows the words finds what is left there.
    fn funding_key(&self) -> CompressedPublicKey;

    /// Signs a spend of a coin of the funding address.
    fn sign_funding(&self, sighash: [u8; 32]) -> ecdsa::Signature;

    /// The funding address' script.
    fn funding_script(&self) -> ScriptBuf {
        ScriptBuf::new_p2wpkh(&self.funding_key().wpubkey_hash())
    }

    /// The funding address.
    fn funding_address(&self, network: Network) -> Address {
        Address::p2wpkh(&self.funding_key(), network.bitcoin())
    }
}

/// A fresh wallet's words: 12 of the English list, 128 bits of entropy.
///
/// # Errors
/// Never in practice; the operating system's randomness is checked by its own means.
pub fn new_words() -> Result<Zeroizing<String>> {
    use rand::RngCore;
    let mut entropy = Zeroizing::new([0u8; 16]);
    rand::rngs::OsRng.fill_bytes(&mut *entropy);
    let mnemonic = bip39::Mnemonic::from_entropy(&*entropy).map_err(|e| crate::Error::Words {
        reason: e.to_string(),
    })?;
    Ok(Zeroizing::new(mnemonic.to_string()))
}
