use std::time::{Duration, SystemTime};

use bitcoin::Transaction;
use bitcoin::secp256k1::PublicKey;
use tinderbox_protocol::Network;
use tinderbox_protocol::tx::{TxKind, parse_any};

use super::spark;

/// What does not fit, in words; the caller knows who said it.
pub(crate) type Read<T> = std::result::Result<T, String>;

pub(super) fn key(what: &str, bytes: &[u8]) -> Read<PublicKey> {
    if bytes.len() != 33 {
        return Err(format!(
            "{what} is no compressed public key: {} bytes",
            bytes.len()
        ));
    }
    PublicKey::from_slice(bytes).map_err(|_| format!("{what} is no point of the curve"))
}

pub(super) fn tx(raw: &[u8], kind: TxKind) -> Read<Transaction> {
    parse_any(raw, kind).map_err(|e| e.to_string())
}

pub(super) fn optional_tx(raw: &[u8], kind: TxKind) -> Read<Option<Transaction>> {
    if raw.is_empty() {
        Ok(None)
    } else {
        tx(raw, kind).map(Some)
    }
}

/// A point in time; before 1970, and the epoch itself, mean "none".
pub(crate) fn timestamp(stamp: Option<&prost_types::Timestamp>) -> Option<SystemTime> {
    let stamp = stamp?;
    let seconds = u64::try_from(stamp.seconds).ok().filter(|s| *s > 0)?;
    let nanos = u32::try_from(stamp.nanos).unwrap_or(0);
    SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
}

/// The network's number in requests; a local network is regtest to operators.
pub(crate) fn network(network: Network) -> spark::Network {
    match network {
        Network::Mainnet => spark::Network::Mainnet,
        Network::Regtest | Network::Local => spark::Network::Regtest,
        Network::Testnet => spark::Network::Testnet,
        Network::Signet => spark::Network::Signet,
    }
}
