//! Outputs on chain, as the contract writes them.

use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Transaction, Txid};
use tinderbox_flows::refusal::Refusal;
use tinderbox_protocol::Network;

use super::field::{check_network, malformed, missing, network_number};
use super::spark;

/// The output that a caller names: by a transaction id in display order, or, without one, by the
/// transaction itself.
///
/// # Errors
/// A refusal that names the part of `field` that cannot be read.
pub fn outpoint(
    field: &str,
    wire: Option<&spark::Utxo>,
    served: Network,
) -> Result<OutPoint, Refusal> {
    let wire = wire.ok_or_else(|| missing(field))?;
    check_network(wire.network, served)?;
    let txid = if wire.txid.is_empty() && !wire.raw_tx.is_empty() {
        let tx: Transaction = bitcoin::consensus::deserialize(&wire.raw_tx)
            .map_err(|error| malformed(&format!("{field}.raw_tx"), error))?;
        tx.compute_txid()
    } else {
        let mut bytes = <[u8; 32]>::try_from(wire.txid.as_slice()).map_err(|_| {
            malformed(
                &format!("{field}.txid"),
                format!("{} bytes, a transaction id has 32", wire.txid.len()),
            )
        })?;
        bytes.reverse();
        Txid::from_byte_array(bytes)
    };
    Ok(OutPoint::new(txid, wire.vout))
}

/// An output as callers print it: its transaction id in display order.
#[must_use]
pub fn utxo(outpoint: &OutPoint, network: Network) -> spark::Utxo {
    let mut txid = outpoint.txid.to_byte_array();
    txid.reverse();
    spark::Utxo {
        raw_tx: Vec::new(),
        vout: outpoint.vout,
        network: network_number(network),
        txid: txid.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outpoint_survives_both_ways() {
        let outpoint_sent = OutPoint::new(Txid::from_byte_array([7; 32]), 3);
        let wire = utxo(&outpoint_sent, Network::Local);
        assert_eq!(
            outpoint("u", Some(&wire), Network::Local).unwrap(),
            outpoint_sent
        );
        let short = spark::Utxo {
            txid: vec![1; 31],
            ..wire
        };
        let refusal = outpoint("u", Some(&short), Network::Local).unwrap_err();
        assert!(refusal.message.starts_with("u.txid"), "{refusal}");
        assert!(outpoint("u", None, Network::Local).is_err());
    }
}
