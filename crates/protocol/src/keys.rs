//! The keys of a wallet.
//!
//! All derive from one seed by BIP 32, every level hardened, below `m/8797555'/account'`:
//!
//! | path | key |
//! |---|---|
//! | `0'` | identity: authentication, addresses, decryption |
//! | `1'/i'` | the user's half of a leaf's key; `i` from the hash of the leaf's id |
//! | `2'` | single-use deposits of older wallets |
//! | `3'/k'` | static deposit address `k` |
//! | `4'` | key of the HMAC that makes preimages |

use bip39::{Language, Mnemonic};
use bitcoin::NetworkKind;
use bitcoin::bip32::{ChildNumber, Xpriv};
use bitcoin::secp256k1::{PublicKey, SecretKey};
use hmac::Mac as _;
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::curve::CURVE;
use crate::mac::hmac_sha256;
use crate::{Error, LeafId, Network, Result, TransferId};

/// First level of every path.
const PURPOSE: u32 = 8_797_555;
const IDENTITY: u32 = 0;
const LEAVES: u32 = 1;
const DEPOSIT: u32 = 2;
const STATIC_DEPOSIT: u32 = 3;
const HTLC: u32 = 4;

/// A secret key that is wiped when it goes out of scope. Not printable, not copied by accident.
pub struct SigningKey(SecretKey);

impl SigningKey {
    /// Takes 32 big-endian bytes.
    ///
    /// # Errors
    /// [`Error::InvalidSecretKey`] for zero, numbers from the order of the curve on, and other
    /// lengths.
    pub fn from_slice(bytes: &[u8]) -> Result<Self> {
        SecretKey::from_slice(bytes)
            .map(Self)
            .map_err(|_| Error::InvalidSecretKey { what: "this" })
    }

    /// Its public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.0.public_key(&CURVE)
    }

    /// For functions that sign or decrypt. Do not keep copies.
    #[must_use]
    pub const fn secret_key(&self) -> &SecretKey {
        &self.0
    }

    /// 32 big-endian bytes.
    #[must_use]
    pub fn to_be_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.secret_bytes())
    }
}

impl From<SecretKey> for SigningKey {
    fn from(key: SecretKey) -> Self {
        Self(key)
    }
}

impl Drop for SigningKey {
    fn drop(&mut self) {
        self.0.non_secure_erase();
    }
}

/// All keys of one account of a wallet.
pub struct WalletKeys {
    account: Xpriv,
    identity: SigningKey,
    network: Network,
    number: u32,
}

impl WalletKeys {
    /// From BIP 39 words (English, no passphrase).
    ///
    /// # Errors
    /// [`Error::InvalidSeed`] if the words or their checksum are wrong.
    pub fn from_mnemonic(words: &str, network: Network, account: Option<u32>) -> Result<Self> {
        let mnemonic =
            Mnemonic::parse_in(Language::English, words).map_err(|error| Error::InvalidSeed {
                reason: error.to_string(),
            })?;
        let seed = Zeroizing::new(mnemonic.to_seed(""));
        Self::from_seed(seed.as_slice(), network, account)
    }

    /// From a BIP 32 seed.
    ///
    /// # Errors
    /// [`Error::InvalidSeed`] unless it has 16 to 64 bytes, [`Error::Derivation`] for an account
    /// number from 2³¹ on.
    pub fn from_seed(seed: &[u8], network: Network, account: Option<u32>) -> Result<Self> {
        if !(16..=64).contains(&seed.len()) {
            return Err(Error::InvalidSeed {
                reason: format!("it has {} bytes; 16 to 64 are a seed", seed.len()),
            });
        }
        let number = account.unwrap_or_else(|| network.default_account());
        // The network only marks exported keys; these are never exported.
        let mut master =
            Xpriv::new_master(NetworkKind::Main, seed).map_err(|error| Error::InvalidSeed {
                reason: error.to_string(),
            })?;
        let account = derive(&master, &[PURPOSE, number]);
        master.private_key.non_secure_erase();
        let account = account?;
        let identity = signing(&account, &[IDENTITY])?;
        Ok(Self {
            account,
            identity,
            network,
            number,
        })
    }

    /// From what a person enters: words if they are valid ones, else a seed in hex digits.
    ///
    /// # Errors
    /// [`Error::InvalidSeed`] if it is neither.
    pub fn from_text(text: &str, network: Network, account: Option<u32>) -> Result<Self> {
        match Self::from_mnemonic(text.trim(), network, account) {
            Err(Error::InvalidSeed { reason }) => {
                let seed = hex::decode(text.trim()).map(Zeroizing::new).map_err(|_| {
                    Error::InvalidSeed {
                        reason: format!("{reason}, nor is it hex digits"),
                    }
                })?;
                Self::from_seed(&seed, network, account)
            }
            other => other,
        }
    }

    /// The network that these keys are for.
    #[must_use]
    pub const fn network(&self) -> Network {
        self.network
    }

    /// The account number.
    #[must_use]
    pub const fn account(&self) -> u32 {
        self.number
    }

    /// The identity key.
    #[must_use]
    pub const fn identity(&self) -> &SigningKey {
        &self.identity
    }

    /// The user's half of the key of a leaf. The same id gives the same key for ever.
    ///
    /// # Errors
    /// [`Error::Derivation`], with negligible probability.
    pub fn leaf(&self, leaf: &LeafId) -> Result<SigningKey> {
        signing(&self.account, &[LEAVES, leaf_index(leaf)])
    }

    /// The user's half of the key of single-use deposits without leaf id.
    ///
    /// # Errors
    /// [`Error::Derivation`], with negligible probability.
    pub fn deposit(&self) -> Result<SigningKey> {
        signing(&self.account, &[DEPOSIT])
    }

    /// The user's half of the key of static deposit address `index`; the first is 0.
    ///
    /// # Errors
    /// [`Error::Derivation`] for an index from 2³¹ on.
    pub fn static_deposit(&self, index: u32) -> Result<SigningKey> {
        signing(&self.account, &[STATIC_DEPOSIT, index])
    }

    /// The key that [`htlc_preimage`](Self::htlc_preimage) is made with.
    ///
    /// # Errors
    /// [`Error::Derivation`], with negligible probability.
    pub fn htlc_key(&self) -> Result<SigningKey> {
        signing(&self.account, &[HTLC])
    }

    /// The preimage of a hash-locked transfer: HMAC-SHA-256 of the id's 32 hex digits.
    ///
    /// # Errors
    /// [`Error::Derivation`], with negligible probability.
    pub fn htlc_preimage(&self, transfer: &TransferId) -> Result<Zeroizing<[u8; 32]>> {
        let key = self.htlc_key()?.to_be_bytes();
        let message = hex::encode(transfer.bytes16());
        let hmac = hmac_sha256(&key, message.as_bytes());
        Ok(Zeroizing::new(hmac.finalize().into_bytes().into()))
    }
}

impl Drop for WalletKeys {
    fn drop(&mut self) {
        self.account.private_key.non_secure_erase();
    }
}

/// The hardened child number of a leaf: the first four bytes of the hash of its id, below 2³¹.
#[must_use]
pub fn leaf_index(leaf: &LeafId) -> u32 {
    let digest: [u8; 32] = Sha256::digest(leaf.to_string()).into();
    let [a, b, c, d, ..] = digest;
    u32::from_be_bytes([a, b, c, d]) & 0x7fff_ffff
}

fn derive(parent: &Xpriv, path: &[u32]) -> Result<Xpriv> {
    let failed = || {
        let levels: Vec<String> = path.iter().map(|level| format!("{level}'")).collect();
        Error::Derivation {
            path: levels.join("/"),
        }
    };
    let children: Vec<ChildNumber> = path
        .iter()
        .map(|level| ChildNumber::from_hardened_idx(*level))
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| failed())?;
    parent.derive_priv(&CURVE, &children).map_err(|_| failed())
}

fn signing(parent: &Xpriv, path: &[u32]) -> Result<SigningKey> {
    let mut child = derive(parent, path)?;
    let key = SigningKey(child.private_key);
    child.private_key.non_secure_erase();
    Ok(key)
}

/// Wipes a buffer of secret bytes that a library wants as `Vec`.
pub(crate) fn wipe(bytes: &mut Vec<u8>) {
    bytes.zeroize();
}
