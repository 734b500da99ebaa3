//! Transactions as hex text, for `#[serde(with = "tx_hex")]`. The library's own way of reading them
//! panics on an empty text, and a bundle may come from anybody.

use bitcoin::Transaction;
use bitcoin::consensus::{deserialize as decode, encode::serialize_hex};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serializer};

pub(super) fn serialize<S: Serializer>(tx: &Transaction, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&serialize_hex(tx))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Transaction, D::Error> {
    let text = String::deserialize(from)?;
    let bytes = hex::decode(&text)
        .map_err(|error| D::Error::custom(format!("a transaction is not hex: {error}")))?;
    decode(&bytes).map_err(|error| D::Error::custom(format!("no transaction: {error}")))
}

#[cfg(test)]
mod tests {
    use crate::exit::path::HexTx;

    /// Found by the fuzzer.
    #[test]
    fn what_is_no_transaction_is_an_error() {
        for text in ["", "0", "00", "zz", "02000000"] {
            let json = format!("\"{text}\"");
            assert!(serde_json::from_str::<HexTx>(&json).is_err(), "{text:?}");
            // In a list, which ends too early, too.
            let json = format!("[\"{text}\"");
            assert!(serde_json::from_str::<Vec<HexTx>>(&json).is_err());
        }
    }
}
