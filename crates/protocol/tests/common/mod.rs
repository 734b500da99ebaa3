//! Reading of recorded vectors.
#![allow(dead_code, reason = "every test file uses another part")]

use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use serde_json::Value;
use tinderbox_protocol::Network;
use tinderbox_protocol::tx::{TxKind, UnsignedTx, compare};

/// Vectors of transactions, addresses and invoices.
pub(crate) fn transactions() -> Value {
    serde_json::from_str(include_str!("../vectors/transactions.json")).unwrap()
}

/// Vectors of keys, hashes and packages.
pub(crate) fn crypto() -> Value {
    serde_json::from_str(include_str!("../vectors/crypto.json")).unwrap()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

pub(crate) fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

pub(crate) fn small(value: &Value) -> u32 {
    u32::try_from(number(value)).unwrap()
}

pub(crate) fn list(value: &Value) -> &Vec<Value> {
    let list = value
        .as_array()
        .unwrap_or_else(|| panic!("no list: {value}"));
    assert!(!list.is_empty());
    list
}

pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(text(value)).unwrap()
}

pub(crate) fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

pub(crate) fn public(value: &Value) -> PublicKey {
    text(value).parse().unwrap()
}

pub(crate) fn secret(value: &Value) -> SecretKey {
    text(value).parse().unwrap()
}

pub(crate) fn network(value: &Value) -> Network {
    text(value).parse().unwrap()
}

/// The named key of the transaction vectors.
pub(crate) fn key(vectors: &Value, name: &str) -> PublicKey {
    public(&vectors["keys"][name]["public_key"])
}

/// The named secret key of the transaction vectors.
pub(crate) fn secret_key(vectors: &Value, name: &str) -> SecretKey {
    secret(&vectors["keys"][name]["private_key"])
}

pub(crate) fn public_of(key: &SecretKey) -> PublicKey {
    key.public_key(&Secp256k1::new())
}

/// A recorded transaction.
pub(crate) fn tx(value: &Value) -> Transaction {
    deserialize(&bytes(&value["raw_tx"])).unwrap()
}

pub(crate) fn prevouts(value: &Value) -> Vec<TxOut> {
    list(value)
        .iter()
        .map(|output| TxOut {
            value: Amount::from_sat(number(&output["value"])),
            script_pubkey: ScriptBuf::from_bytes(bytes(&output["script"])),
        })
        .collect()
}

/// Asserts that a built transaction is the recorded one: id, bytes, outputs spent, sighash, and
/// acceptance by the comparison.
pub(crate) fn assert_is(built: &UnsignedTx, recorded: &Value, what: &str) {
    let raw = bytes(&recorded["raw_tx"]);
    assert_eq!(
        hex::encode(built.serialize()),
        hex::encode(&raw),
        "{what}: bytes"
    );
    assert_eq!(
        built.tx.compute_txid().to_string(),
        text(&recorded["txid"]),
        "{what}: id"
    );
    assert_eq!(built.check(&raw).unwrap(), *built, "{what}: comparison");
    assert_eq!(compare(built, &raw, built.kind).unwrap(), built.tx);
    if !recorded["prevouts"].is_null() {
        assert_eq!(
            built.prevouts,
            prevouts(&recorded["prevouts"]),
            "{what}: outputs spent"
        );
        assert_eq!(
            hex::encode(built.sighash().unwrap()),
            text(&recorded["sighash_input0"]),
            "{what}: sighash"
        );
    }
}

/// A made-up confirmed output.
pub(crate) fn outpoint(byte: u8, vout: u32) -> OutPoint {
    OutPoint {
        txid: Txid::from_byte_array([byte; 32]),
        vout,
    }
}

/// Any kind, where only the parsing matters.
pub(crate) const ANY: TxKind = TxKind::Other;
