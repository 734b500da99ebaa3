//! Networks and what differs between them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A network. [`Local`](Self::Local) exists only in wallets: it is a regtest network on the
/// developer's own machine, with an address prefix and an account number of its own, and is
/// regtest to everybody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Bitcoin.
    Mainnet,
    /// A regtest network that somebody hosts.
    Regtest,
    /// Testnet 3.
    Testnet,
    /// Signet.
    Signet,
    /// A regtest network on this machine.
    Local,
}

impl Network {
    /// All networks.
    pub const ALL: [Self; 5] = [
        Self::Mainnet,
        Self::Regtest,
        Self::Testnet,
        Self::Signet,
        Self::Local,
    ];

    /// The chain it lives on.
    #[must_use]
    pub const fn bitcoin(self) -> bitcoin::Network {
        match self {
            Self::Mainnet => bitcoin::Network::Bitcoin,
            Self::Regtest | Self::Local => bitcoin::Network::Regtest,
            Self::Testnet => bitcoin::Network::Testnet,
            Self::Signet => bitcoin::Network::Signet,
        }
    }

    /// The name inside signed messages; `regtest` for [`Local`](Self::Local).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mainnet => "mainnet",
            Self::Regtest | Self::Local => "regtest",
            Self::Testnet => "testnet",
            Self::Signet => "signet",
        }
    }

    /// What goes over the wire: itself, but regtest for [`Local`](Self::Local).
    #[must_use]
    pub const fn on_wire(self) -> Self {
        match self {
            Self::Local => Self::Regtest,
            other => other,
        }
    }

    /// True if both are the same network to operators.
    #[must_use]
    pub fn same_chain(self, other: Self) -> bool {
        self.on_wire() == other.on_wire()
    }

    /// The number that invoices hash: the chain's four magic bytes read as a big-endian number.
    #[must_use]
    pub const fn magic(self) -> u32 {
        match self {
            Self::Mainnet => 0xd9b4_bef9,
            Self::Regtest | Self::Local => 0xdab5_bffa,
            Self::Testnet => 0x0709_110b,
            Self::Signet => 0x40cf_030a,
        }
    }

    /// Prefix of Spark addresses and invoices.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Mainnet => "spark",
            Self::Regtest => "sparkrt",
            Self::Testnet => "sparkt",
            Self::Signet => "sparks",
            Self::Local => "sparkl",
        }
    }

    /// Older prefix of Spark addresses, still read.
    #[must_use]
    pub const fn legacy_prefix(self) -> &'static str {
        match self {
            Self::Mainnet => "sp",
            Self::Regtest => "sprt",
            Self::Testnet => "spt",
            Self::Signet => "sps",
            Self::Local => "spl",
        }
    }

    /// Account number of a wallet that names none: 0 on regtest, 1 on every other network.
    #[must_use]
    pub const fn default_account(self) -> u32 {
        match self {
            Self::Regtest => 0,
            Self::Mainnet | Self::Testnet | Self::Signet | Self::Local => 1,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Local => "local",
            other => other.name(),
        })
    }
}

impl FromStr for Network {
    type Err = Error;

    /// Reads the names that [`Display`](fmt::Display) writes, in any case.
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|network| network.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| Error::UnknownNetwork {
                text: text.chars().take(64).collect(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_is_regtest_to_everybody_else() {
        assert_eq!(Network::Local.on_wire(), Network::Regtest);
        assert_eq!(Network::Local.name(), "regtest");
        assert_eq!(Network::Local.bitcoin(), bitcoin::Network::Regtest);
        assert_eq!(Network::Local.magic(), Network::Regtest.magic());
        assert!(Network::Local.same_chain(Network::Regtest));
        assert!(!Network::Local.same_chain(Network::Signet));
        assert_ne!(Network::Local.prefix(), Network::Regtest.prefix());
    }

    #[test]
    fn every_network_reads_its_own_name() {
        for network in Network::ALL {
            assert_eq!(network.to_string().parse::<Network>().unwrap(), network);
            assert_eq!(
                network
                    .to_string()
                    .to_uppercase()
                    .parse::<Network>()
                    .unwrap(),
                network
            );
            let json = serde_json::to_string(&network).unwrap();
            assert_eq!(json, format!("\"{network}\""));
        }
        assert!("moonnet".parse::<Network>().is_err());
    }

    #[test]
    fn magic_is_the_chains_magic() {
        for network in Network::ALL {
            let mut bytes = network.bitcoin().magic().to_bytes();
            bytes.reverse();
            assert_eq!(network.magic().to_be_bytes(), bytes, "{network}");
        }
    }
}
