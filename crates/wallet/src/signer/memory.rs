use bitcoin::CompressedPublicKey;
use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::key::TapTweak;
use bitcoin::secp256k1::{All, Keypair, Message, PublicKey, Secp256k1, SecretKey, ecdsa, schnorr};
use rand::rngs::OsRng;
use tinderbox_frost::{Nonces, SecretScalar, SigningPackage, feldman};
use tinderbox_protocol::keys::SigningKey;
use tinderbox_protocol::{LeafId, Network, WalletKeys, ecies};
use zeroize::Zeroizing;

use super::{HandOver, KeyTweak, ShareRequest, UserShare, WalletSigner};
use crate::error::{Error, Result};
use crate::exit::RefundKey;

/// All keys in this process' memory, derived from one seed. Wiped when dropped.
pub struct MemorySigner {
    keys: WalletKeys,
    funding: SigningKey,
    curve: Secp256k1<All>,
}

impl MemorySigner {
    /// From BIP-39 words (English, no passphrase).
    ///
    /// # Errors
    /// [`Error::Words`] if they are not valid words; a protocol error for an absurd account.
    pub fn from_words(words: &str, network: Network, account: Option<u32>) -> Result<Self> {
        let mnemonic =
            bip39::Mnemonic::parse_in(bip39::Language::English, words.trim()).map_err(|e| {
                Error::Words {
                    reason: e.to_string(),
                }
            })?;
        let seed = Zeroizing::new(mnemonic.to_seed(""));
        Self::from_seed(seed.as_slice(), network, account)
    }

    /// From a seed of 16 to 64 bytes.
    ///
    /// # Errors
    /// A protocol error for another length or an absurd account.
    pub fn from_seed(seed: &[u8], network: Network, account: Option<u32>) -> Result<Self> {
        let keys = WalletKeys::from_seed(seed, network, account)?;
        let funding = funding(seed, network)?;
        Ok(Self {
            keys,
            funding,
            curve: Secp256k1::new(),
        })
    }

    fn leaf_scalar(&self, leaf: &LeafId) -> Result<SecretScalar> {
        scalar(&self.keys.leaf(leaf)?)
    }

    fn open(&self, secret_cipher: &[u8]) -> Result<SigningKey> {
        let plain = ecies::decrypt(self.keys.identity().secret_key(), secret_cipher)?;
        Ok(SigningKey::from_slice(&plain)?)
    }
}

fn scalar(key: &SigningKey) -> Result<SecretScalar> {
    Ok(SecretScalar::try_from_be_bytes(&*key.to_be_bytes())?)
}

/// `m/84'/coin'/0'/0/0` (BIP 84).
fn funding(seed: &[u8], network: Network) -> Result<SigningKey> {
    let curve = Secp256k1::new();
    let coin = if network == Network::Mainnet { 0 } else { 1 };
    let hardened = |index| ChildNumber::Hardened { index };
    let normal = |index| ChildNumber::Normal { index };
    let path = [
        hardened(84),
        hardened(coin),
        hardened(0),
        normal(0),
        normal(0),
    ];
    let failed = |e: bitcoin::bip32::Error| Error::Words {
        reason: e.to_string(),
    };
    let mut master = Xpriv::new_master(network.bitcoin(), seed).map_err(failed)?;
    let derived = master.derive_priv(&curve, &path);
    master.private_key.non_secure_erase();
    let mut derived = derived.map_err(failed)?;
    let key = SigningKey::from(derived.private_key);
    derived.private_key.non_secure_erase();
    Ok(key)
}

fn tweak(difference: &SecretScalar, threshold: u16, operators: u16) -> Result<KeyTweak> {
    let shares = feldman::split(difference, threshold, operators, &mut OsRng)?;
    Ok(KeyTweak {
        proofs: shares.proofs,
        shares: shares.shares,
    })
}

impl WalletSigner for MemorySigner {
    fn identity(&self) -> PublicKey {
        self.keys.identity().public_key()
    }

    fn leaf_key(&self, leaf: &LeafId) -> Result<PublicKey> {
        Ok(self.keys.leaf(leaf)?.public_key())
    }

    fn static_deposit_key(&self, index: u32) -> Result<PublicKey> {
        Ok(self.keys.static_deposit(index)?.public_key())
    }

    fn sign_identity(&self, digest: [u8; 32]) -> ecdsa::Signature {
        self.curve.sign_ecdsa(
            &Message::from_digest(digest),
            self.keys.identity().secret_key(),
        )
    }

    fn sign_identity_schnorr(&self, digest: [u8; 32]) -> schnorr::Signature {
        let mut pair = Keypair::from_secret_key(&self.curve, self.keys.identity().secret_key());
        let signature = self
            .curve
            .sign_schnorr(&Message::from_digest(digest), &pair);
        pair.non_secure_erase();
        signature
    }

    fn sign_share(&self, request: &ShareRequest) -> Result<UserShare> {
        let nonces = Nonces::generate(&mut OsRng);
        let commitment = nonces.commitment();
        let package = SigningPackage {
            verifying_key: request.verifying_key,
            message: request.message,
            operators: request.operators.clone(),
            user: Some(commitment),
            adaptor: None,
            threshold: request.threshold,
        };
        let share = package
            .prepare()?
            .sign_user(&self.leaf_scalar(&request.leaf)?, nonces)?;
        Ok(UserShare { commitment, share })
    }

    fn hand_over(
        &self,
        leaf: &LeafId,
        receiver: &PublicKey,
        threshold: u16,
        operators: u16,
    ) -> Result<HandOver> {
        let old = self.leaf_scalar(leaf)?;
        // A fresh key that is never stored: only the receiver can read it.
        let new = SigningKey::from(SecretKey::new(&mut OsRng));
        let secret_cipher = ecies::encrypt(receiver, &*new.to_be_bytes(), &mut OsRng)?;
        let tweak = tweak(&old.sub(&scalar(&new)?)?, threshold, operators)?;
        Ok(HandOver {
            tweak,
            secret_cipher,
        })
    }

    fn received_key(&self, secret_cipher: &[u8]) -> Result<PublicKey> {
        Ok(self.open(secret_cipher)?.public_key())
    }

    fn take_over(
        &self,
        leaf: &LeafId,
        secret_cipher: &[u8],
        threshold: u16,
        operators: u16,
    ) -> Result<KeyTweak> {
        let received = scalar(&self.open(secret_cipher)?)?;
        tweak(
            &received.sub(&self.leaf_scalar(leaf)?)?,
            threshold,
            operators,
        )
    }

    fn sign_refund_output(
        &self,
        leaf: &LeafId,
        key: RefundKey,
        sighash: [u8; 32],
    ) -> Result<schnorr::Signature> {
        let derived;
        let key = match key {
            RefundKey::Leaf => {
                derived = self.keys.leaf(leaf)?;
                &derived
            }
            RefundKey::Identity => self.keys.identity(),
        };
        let mut pair = Keypair::from_secret_key(&self.curve, key.secret_key());
        let mut tweaked = pair.tap_tweak(&self.curve, None).to_keypair();
        let signature = self
            .curve
            .sign_schnorr(&Message::from_digest(sighash), &tweaked);
        pair.non_secure_erase();
        tweaked.non_secure_erase();
        Ok(signature)
    }

    fn funding_key(&self) -> CompressedPublicKey {
        CompressedPublicKey(self.funding.public_key())
    }

    fn sign_funding(&self, sighash: [u8; 32]) -> ecdsa::Signature {
        self.curve
            .sign_ecdsa(&Message::from_digest(sighash), self.funding.secret_key())
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::secp256k1::XOnlyPublicKey;
    use tinderbox_protocol::deposit;

    use super::*;

    const WORDS: &str = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";

    fn signer() -> MemorySigner {
        MemorySigner::from_words(WORDS, Network::Local, None).unwrap()
    }

    fn leaf() -> LeafId {
        "0195d5ae-1f2b-7c3d-8e4f-5a6b7c8d9e0f".parse().unwrap()
    }

    #[test]
    fn bad_words_are_refused_with_a_hint() {
        let error = MemorySigner::from_words("abandon abandon", Network::Local, None)
            .err()
            .unwrap();
        assert!(error.to_string().contains("Check spelling"), "{error}");
        let typo = WORDS.replace("about", "abaut");
        assert!(MemorySigner::from_words(&typo, Network::Local, None).is_err());
    }

    #[test]
    fn words_are_found_again_after_a_restart() {
        assert_eq!(signer().identity(), signer().identity());
        assert_eq!(
            signer().leaf_key(&leaf()).unwrap(),
            signer().leaf_key(&leaf()).unwrap()
        );
    }

    #[test]
    fn the_funding_address_is_the_one_of_bip84() {
        // First address of the mnemonic in BIP 84's own test vectors.
        let signer = MemorySigner::from_words(WORDS, Network::Mainnet, None).unwrap();
        let address = signer.funding_address(Network::Mainnet).to_string();
        assert_eq!(address, "bc1qcr8te4kr609gcawutmrza0j4xv80jy8z306fyu");
    }

    #[test]
    fn a_handed_over_key_is_read_by_the_receiver_alone() {
        let receiver = MemorySigner::from_seed(&[7; 32], Network::Local, None).unwrap();
        let stranger = MemorySigner::from_seed(&[8; 32], Network::Local, None).unwrap();
        let hand_over = signer()
            .hand_over(&leaf(), &receiver.identity(), 2, 3)
            .unwrap();
        assert!(stranger.received_key(&hand_over.secret_cipher).is_err());
        // old key = new key + tweak
        let new = receiver.received_key(&hand_over.secret_cipher).unwrap();
        let old = signer().leaf_key(&leaf()).unwrap();
        deposit::check_halves(&old, &new, &hand_over.tweak.proofs[0]).unwrap();
        assert_eq!(
            (hand_over.tweak.proofs.len(), hand_over.tweak.shares.len()),
            (2, 3)
        );
        let take_over = receiver
            .take_over(&leaf(), &hand_over.secret_cipher, 2, 3)
            .unwrap();
        let own = receiver.leaf_key(&leaf()).unwrap();
        deposit::check_halves(&new, &own, &take_over.proofs[0]).unwrap();
    }

    #[test]
    fn refund_outputs_are_signed_with_their_taproot_key() {
        let signer = signer();
        for (key, public) in [
            (RefundKey::Leaf, signer.leaf_key(&leaf()).unwrap()),
            (RefundKey::Identity, signer.identity()),
        ] {
            let signature = signer.sign_refund_output(&leaf(), key, [3; 32]).unwrap();
            let script = tinderbox_protocol::tx::p2tr(&public);
            let output = XOnlyPublicKey::from_slice(&script.as_bytes()[2..]).unwrap();
            Secp256k1::new()
                .verify_schnorr(&signature, &Message::from_digest([3; 32]), &output)
                .unwrap();
        }
    }
}
