//! Output scripts.

use bitcoin::secp256k1::PublicKey;
use bitcoin::{Address, Amount, ScriptBuf, TxOut};

use crate::Network;
use crate::curve::CURVE;

/// Pay-to-anchor: anybody may spend it.
const ANCHOR: [u8; 4] = [0x51, 0x02, 0x4e, 0x73];
/// Other scripts that older wallets wrote as anchors.
const OLD_ANCHORS: [&[u8]; 3] = [
    &[0x51],
    &[0x01, 0x51],
    &[0x01, 0x51, 0x52, 0x01, 0x4e, 0x01, 0x73],
];

/// The output script that only `key` can spend: taproot key path, no script tree. `key` is the
/// key before the BIP 341 tweak.
#[must_use]
pub fn p2tr(key: &PublicKey) -> ScriptBuf {
    let (internal, _) = key.x_only_public_key();
    ScriptBuf::new_p2tr(&CURVE, internal, None)
}

/// The address of [`p2tr`] on `network`.
#[must_use]
pub fn p2tr_address(key: &PublicKey, network: Network) -> Address {
    let (internal, _) = key.x_only_public_key();
    Address::p2tr(&CURVE, internal, None, network.bitcoin())
}

/// The output, worth nothing, that ends each fee-less transaction: a child spends it to pay.
#[must_use]
pub fn anchor() -> TxOut {
    TxOut {
        value: Amount::ZERO,
        script_pubkey: ScriptBuf::from_bytes(ANCHOR.to_vec()),
    }
}

/// True for an [`anchor`], also in the spellings of older wallets.
#[must_use]
pub fn is_anchor(output: &TxOut) -> bool {
    let script = output.script_pubkey.as_bytes();
    output.value == Amount::ZERO && (script == ANCHOR || OLD_ANCHORS.contains(&script))
}
