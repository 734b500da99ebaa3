//! The faucet's key, and those of the official SDK's test faucet.

use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::key::Keypair;
use bitcoin::secp256k1::{Secp256k1, SecretKey, Signing, Verification};
use bitcoin::{Address, KnownHrp};

use super::{Error, Result};

/// Our own key: from a public sentence, worth nothing.
pub(super) fn own<C: Signing>(secp: &Secp256k1<C>) -> Result<Keypair> {
    let seed = sha256::Hash::hash(b"tinderbox local network faucet key 1");
    Keypair::from_seckey_slice(secp, seed.as_byte_array())
        .map_err(|e| Error::Internal(e.to_string()))
}

/// The two addresses that the official SDK's test suites take coins from. Their keys follow from the suite's
/// namespace, `local` unless its environment says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdkFaucetKeys {
    /// Where the suite looks for coins to split: outputs of at least 1,001,000 sats, 100 blocks deep.
    pub miner: Address,
    /// Where it puts the parts.
    pub faucet: Address,
}

impl SdkFaucetKeys {
    /// The addresses for a namespace.
    ///
    /// Key of a role: SHA-256 over 32 fixed bytes and the text `|spark-sdk:NAMESPACE|ROLE|v1`, hashed again
    /// with `|retry:N` while it is no valid scalar. Address: pay to taproot, key path only.
    pub fn new(namespace: &str) -> Result<Self> {
        let faucet = [
            0xde, 0xad, 0xbe, 0xef, 0x13, 0x37, 0xca, 0xfe, 0x42, 0x42, 0x42, 0x42, 0x42, 0x42,
            0x42, 0x42,
        ];
        let miner = [
            0x13, 0x37, 0xca, 0xfe, 0x42, 0x42, 0xde, 0xad, 0xbe, 0xef, 0x42, 0x42, 0x42, 0x42,
            0x42, 0x42,
        ];
        Ok(Self {
            miner: address(miner, namespace, "miner")?,
            faucet: address(faucet, namespace, "faucet")?,
        })
    }
}

fn address(half: [u8; 16], namespace: &str, role: &str) -> Result<Address> {
    let secp = Secp256k1::new();
    let key = derive(half, namespace, role)?;
    Ok(p2tr(&secp, &key))
}

fn derive(half: [u8; 16], namespace: &str, role: &str) -> Result<SecretKey> {
    let message = |retry: &str| {
        let mut engine = sha256::Hash::engine();
        engine.input(&half);
        engine.input(&half);
        engine.input(format!("|spark-sdk:{namespace}|{role}|v1{retry}").as_bytes());
        sha256::Hash::from_engine(engine)
    };
    // The first hash is a valid key but for one chance in 2^128.
    std::iter::once(String::new())
        .chain((0..16).map(|i| format!("|retry:{i}")))
        .find_map(|retry| SecretKey::from_slice(message(&retry).as_byte_array()).ok())
        .ok_or_else(|| Error::Internal("no valid key for the namespace".into()))
}

fn p2tr<C: Signing + Verification>(secp: &Secp256k1<C>, key: &SecretKey) -> Address {
    Address::p2tr(secp, key.x_only_public_key(secp).0, None, KnownHrp::Regtest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_official_suites_addresses_are_derived() {
        let keys = SdkFaucetKeys::new("local").unwrap();
        assert_eq!(
            keys.miner.to_string(),
            "bcrt1pzcstec45hx996hxq2fjrfmshedzssd07krwjghgm86gywa8t4ucsmfqmpq"
        );
        assert_eq!(
            keys.faucet.to_string(),
            "bcrt1pq304pv7gxug83473nklgxameqgjnr8dehz3sdm9agxv0e6alk8sspleau8"
        );
        assert_ne!(SdkFaucetKeys::new("other").unwrap(), keys);
    }
}
