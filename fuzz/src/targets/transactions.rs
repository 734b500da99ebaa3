use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash as _;
use bitcoin::secp256k1::{PublicKey, SECP256K1, SecretKey};
use bitcoin::{Sequence, Txid};
use tinderbox_protocol::refunds::{LeafTxs, RefundPurpose, expected};
use tinderbox_protocol::tx::connector::ConnectorTx;
use tinderbox_protocol::tx::{TxKind, Utxo, parse_any, parse_unsigned, root};
use tinderbox_protocol::{LeafSequence, Timelock};

fn key() -> PublicKey {
    SecretKey::from_slice(&[1; 32])
        .expect("a key")
        .public_key(SECP256K1)
}

pub(super) fn run(data: &[u8]) {
    let Some((choice, bytes)) = super::chosen(data) else {
        return;
    };
    if let Some(raw) = bytes.first_chunk::<4>() {
        let sequence = u32::from_be_bytes(*raw);
        if let Ok(read) = LeafSequence::from_consensus(sequence) {
            let _: Timelock = read.timelock();
        }
        let _ = LeafSequence::from_bitcoin(Sequence(sequence));
    }
    let kinds = [
        TxKind::Root,
        TxKind::Node,
        TxKind::DirectNode,
        TxKind::CpfpRefund,
        TxKind::DirectRefund,
    ];
    let kind = kinds[choice % kinds.len()];
    let _ = parse_unsigned(bytes, kind);
    if let Ok(tx) = parse_any(bytes, kind) {
        // Nothing is read as what it is not.
        let again = parse_any(&serialize(&tx), kind).expect("it was read before");
        assert_eq!(again, tx);
        for vout in 0..3 {
            if let Ok(utxo) = Utxo::of(&tx, vout) {
                let _ = root::build(std::slice::from_ref(&utxo));
            }
        }
    }
    let _ = ConnectorTx::parse(bytes, Txid::all_zeros(), choice % 5);
    // A leaf of two transactions.
    let at = choice.min(bytes.len());
    let (node, direct) = bytes.split_at(at);
    for (node, direct) in [(bytes, &[][..]), (node, direct)] {
        if let Ok(leaf) = LeafTxs::parse(node, direct) {
            let purpose = RefundPurpose::Initial {
                owner_signing_key: key(),
            };
            let _ = expected(&leaf, &purpose);
        }
    }
}
