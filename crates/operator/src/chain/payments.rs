//! Confirmed outputs that pay our addresses.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, ScriptBuf};
use tinderbox_chain::{BlockRef, ConnectedBlock};
use tinderbox_flows::record::{Key, Row, Table};
use tinderbox_flows::rows::{AddressRow, UtxoRow};
use tinderbox_protocol::Sats;

use super::state::Duties;
use super::work::Work;
use crate::tables::TableError;

/// A confirmed output that may pay one of our addresses.
struct Payment {
    outpoint: OutPoint,
    value: Sats,
    at: BlockRef,
}

/// All taproot outputs of the blocks, by script.
fn outputs(blocks: &[ConnectedBlock]) -> BTreeMap<ScriptBuf, Vec<Payment>> {
    let mut paid: BTreeMap<ScriptBuf, Vec<Payment>> = BTreeMap::new();
    for block in blocks {
        for tx in &block.block.txdata {
            let mut txid = None;
            for (vout, output) in (0u32..).zip(&tx.output) {
                // All our addresses are taproot.
                if output.script_pubkey.is_p2tr() {
                    let txid = *txid.get_or_insert_with(|| tx.compute_txid());
                    paid.entry(output.script_pubkey.clone())
                        .or_default()
                        .push(Payment {
                            outpoint: OutPoint::new(txid, vout),
                            value: Sats(output.value.to_sat()),
                            at: block.at,
                        });
                }
            }
        }
    }
    paid
}

impl Duties {
    /// Notes outputs that pay our addresses; [`Duties::take_transactions`] comes first.
    pub(super) async fn take_payments(
        &self,
        blocks: &[ConnectedBlock],
        work: &mut Work,
    ) -> Result<(), TableError> {
        let paid = outputs(blocks);
        let scripts: Vec<Vec<u8>> = paid.keys().map(|script| script.to_bytes()).collect();
        let ours: Vec<Option<AddressRow>> = self.tables.get_many(scripts).await?;
        let payments: Vec<(ScriptBuf, Payment)> = paid
            .into_iter()
            .zip(ours)
            .filter(|(_, row)| row.is_some())
            .flat_map(|((script, list), _)| {
                list.into_iter()
                    .map(move |payment| (script.clone(), payment))
            })
            .filter(|(_, payment)| !work.ours.contains(&payment.outpoint.txid))
            .collect();
        let keys: Vec<Key> = payments
            .iter()
            .map(|(_, payment)| Key::new(Table::Utxo, UtxoRow::id_of(&payment.outpoint)))
            .collect();
        self.tables.load(&mut work.rows, keys).await?;
        for (script, payment) in payments {
            let id = UtxoRow::id_of(&payment.outpoint);
            // A claim may have come before the block.
            let mut utxo = work.rows.get::<UtxoRow>(id.clone())?.unwrap_or(UtxoRow {
                outpoint: payment.outpoint,
                network: self.site.network,
                value: payment.value,
                script,
                block: None,
                tree: None,
            });
            utxo.block = Some((payment.at.height, payment.at.hash));
            work.undo_at(payment.at.height).utxos.push(utxo.id());
            work.utxos.insert(id, utxo);
            metrics::counter!("tinderbox_chain_deposits_total").increment(1);
        }
        Ok(())
    }
}
