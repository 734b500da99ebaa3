//! Spark addresses: an identity key with the network in the prefix, in bech32m.

use std::fmt;
use std::str::FromStr;

use bech32::primitives::decode::CheckedHrpstring;
use bech32::{Bech32m, Hrp};
use bitcoin::address::AddressData;
use bitcoin::secp256k1::PublicKey;
use bitcoin::{Address, WitnessVersion};
use serde::{Deserialize, Serialize};

use crate::{Error, Network, Result};

/// Field 1 of the payload: 33 bytes.
const IDENTITY_FIELD: [u8; 2] = [0x0a, 33];

/// To whom one pays in Spark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SparkAddress {
    /// Network.
    pub network: Network,
    /// The payee's identity key.
    pub identity: PublicKey,
}

impl SparkAddress {
    /// The address of an identity key.
    #[must_use]
    pub const fn new(network: Network, identity: PublicKey) -> Self {
        Self { network, identity }
    }

    /// Reads an address and checks that it is one of `network`.
    ///
    /// # Errors
    /// [`Error::InvalidAddress`], [`Error::WrongNetwork`].
    pub fn parse_for(text: &str, network: Network) -> Result<Self> {
        let address: Self = text.parse()?;
        if address.network != network {
            return Err(Error::WrongNetwork {
                expected: network,
                actual: address.network,
            });
        }
        Ok(address)
    }

    /// The bytes inside.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        [IDENTITY_FIELD.as_slice(), &self.identity.serialize()].concat()
    }

    /// With the shorter prefix of older wallets.
    ///
    /// # Errors
    /// [`Error::InvalidAddress`], which does not happen.
    pub fn to_legacy(&self) -> Result<String> {
        encode(self.network.legacy_prefix(), &self.payload())
    }

    /// The address that a taproot address stands for between chains: its output key, taken as the
    /// even point.
    ///
    /// # Errors
    /// [`Error::InvalidAddress`] if it is no taproot address, [`Error::InvalidPublicKey`] if it
    /// holds no point of the curve.
    pub fn from_taproot(text: &str) -> Result<Self> {
        let invalid = |reason: String| Error::InvalidAddress { reason };
        let address: Address<_> = text
            .parse::<Address<bitcoin::address::NetworkUnchecked>>()
            .map_err(|error| invalid(error.to_string()))?;
        let network = [Network::Mainnet, Network::Testnet, Network::Regtest]
            .into_iter()
            .find(|network| address.is_valid_for_network(network.bitcoin()))
            .ok_or_else(|| invalid("it is of an unknown network".to_owned()))?;
        let address = address.assume_checked();
        let AddressData::Segwit { witness_program } = address.to_address_data() else {
            return Err(invalid("it is no taproot address".to_owned()));
        };
        let program = witness_program.program().as_bytes();
        if witness_program.version() != WitnessVersion::V1 || program.len() != 32 {
            return Err(invalid("it is no taproot address".to_owned()));
        }
        let identity = PublicKey::from_slice(&[&[2], program].concat()).map_err(|_| {
            Error::InvalidPublicKey {
                what: "the taproot address",
            }
        })?;
        Ok(Self { network, identity })
    }
}

impl fmt::Display for SparkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = encode(self.network.prefix(), &self.payload()).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

impl FromStr for SparkAddress {
    type Err = Error;

    /// Reads an address with its prefix of today or of older wallets. Invoices are refused.
    fn from_str(text: &str) -> Result<Self> {
        let (prefix, payload) = decode(text)?;
        let network = network_of(&prefix, true)?;
        let invalid = |reason: &str| Error::InvalidAddress {
            reason: reason.to_owned(),
        };
        let key = payload
            .strip_prefix(&IDENTITY_FIELD)
            .ok_or_else(|| invalid("it holds no identity key"))?;
        let (key, rest) = key
            .split_at_checked(33)
            .ok_or_else(|| invalid("its identity key is cut off"))?;
        if !rest.is_empty() {
            return Err(invalid("it is an invoice, not an address: pay it as one"));
        }
        let identity = PublicKey::from_slice(key).map_err(|_| Error::InvalidPublicKey {
            what: "the identity key of the address",
        })?;
        Ok(Self { network, identity })
    }
}

impl TryFrom<String> for SparkAddress {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<SparkAddress> for String {
    fn from(address: SparkAddress) -> Self {
        address.to_string()
    }
}

/// Rewrites a regtest address or invoice for a local network, and the reverse; anything else
/// stays as it is.
///
/// # Errors
/// [`Error::InvalidAddress`] if the text is not bech32m.
pub fn normalize(text: &str, network: Network) -> Result<String> {
    let (prefix, payload) = decode(text)?;
    let (local, regtest) = (Network::Local.prefix(), Network::Regtest.prefix());
    match network {
        Network::Local if prefix == regtest => encode(local, &payload),
        Network::Regtest if prefix == local => encode(regtest, &payload),
        _ => Ok(text.to_owned()),
    }
}

/// The network of a prefix.
pub(crate) fn network_of(prefix: &str, legacy: bool) -> Result<Network> {
    Network::ALL
        .into_iter()
        .find(|network| prefix == network.prefix() || (legacy && prefix == network.legacy_prefix()))
        .ok_or_else(|| Error::InvalidAddress {
            reason: format!("{prefix:?} is the prefix of no Spark network"),
        })
}

/// bech32m.
pub(crate) fn encode(prefix: &str, payload: &[u8]) -> Result<String> {
    let failed = |reason: String| Error::InvalidAddress { reason };
    let prefix = Hrp::parse(prefix).map_err(|error| failed(error.to_string()))?;
    bech32::encode::<Bech32m>(prefix, payload).map_err(|error| failed(error.to_string()))
}

/// bech32m: the prefix in lowercase and the payload.
pub(crate) fn decode(text: &str) -> Result<(String, Vec<u8>)> {
    let decoded =
        CheckedHrpstring::new::<Bech32m>(text).map_err(|error| Error::InvalidAddress {
            reason: error.to_string(),
        })?;
    let prefix = decoded.hrp().to_lowercase();
    let payload: Vec<u8> = decoded.byte_iter().collect();
    // Bits after the last whole byte must be zero: otherwise there were several texts for one
    // address.
    if encode(&prefix, &payload)? != text.to_lowercase() {
        return Err(Error::InvalidAddress {
            reason: "it has stray bits at its end".to_owned(),
        });
    }
    Ok((prefix, payload))
}
