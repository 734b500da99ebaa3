//! Confirmed outputs that pay our addresses.
//!
//! A tree's transactions pay the key of its deposit, so they look like payments to its address. A
//! transaction that spends a deposit of a tree, or an output of such a transaction, is the tree's
//! own, also one that a renewal has replaced.

use std::collections::BTreeMap;

use bitcoin::{OutPoint, ScriptBuf, Transaction};
use tinderbox_chain::{BlockRef, ConnectedBlock};
use tinderbox_flows::record::{Key, Row, Table};
use tinderbox_flows::rows::{AddressRow, UtxoRow};
use tinderbox_protocol::Sats;

use super::state::Duties;
use super::work::Work;
use crate::tables::TableError;

/// A confirmed output that may pay one of our addresses.
struct Payment<'a> {
    tx: &'a Transaction,
    outpoint: OutPoint,
    value: Sats,
    at: BlockRef,
}

/// All taproot outputs of the blocks, by script, in order of confirmation.
fn outputs(blocks: &[ConnectedBlock]) -> BTreeMap<ScriptBuf, Vec<Payment<'_>>> {
    let mut paid: BTreeMap<ScriptBuf, Vec<Payment<'_>>> = BTreeMap::new();
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
                            tx,
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
        let payments: Vec<(ScriptBuf, Payment<'_>)> = paid
            .into_iter()
            .zip(ours)
            .filter(|(_, row)| row.is_some())
            .flat_map(|((script, list), _)| {
                list.into_iter()
                    .map(move |payment| (script.clone(), payment))
            })
            .collect();
        let keys: Vec<Key> = payments
            .iter()
            .flat_map(|(_, payment)| {
                let spent = payment.tx.input.iter().map(|input| &input.previous_output);
                std::iter::once(&payment.outpoint).chain(spent)
            })
            .map(|outpoint| Key::new(Table::Utxo, UtxoRow::id_of(outpoint)))
            .collect();
        self.tables.load(&mut work.rows, keys).await?;
        for (script, payment) in payments {
            let id = UtxoRow::id_of(&payment.outpoint);
            let of_tree = work.ours.contains(&payment.outpoint.txid)
                || spends_tree(payment.tx, &script, work)?;
            // A claim may have come before the block.
            let mut utxo = work.rows.get::<UtxoRow>(id.clone())?.unwrap_or(UtxoRow {
                outpoint: payment.outpoint,
                network: self.site.network,
                value: payment.value,
                script,
                block: None,
                tree: None,
                of_tree,
            });
            utxo.of_tree |= of_tree;
            utxo.block = Some((payment.at.height, payment.at.hash));
            work.undo_at(payment.at.height).utxos.push(utxo.id());
            work.utxos.insert(id, utxo);
            if !of_tree {
                metrics::counter!("tinderbox_chain_deposits_total").increment(1);
            }
        }
        Ok(())
    }
}

/// True if the transaction spends an output at `script` that belongs to a tree.
fn spends_tree(tx: &Transaction, script: &ScriptBuf, work: &Work) -> Result<bool, TableError> {
    for input in &tx.input {
        let id = UtxoRow::id_of(&input.previous_output);
        let known = match work.utxos.get(&id) {
            Some(utxo) => Some(utxo.clone()),
            None => work.rows.get::<UtxoRow>(id)?,
        };
        if known.is_some_and(|utxo| utxo.script == *script && (utxo.tree.is_some() || utxo.of_tree))
        {
            return Ok(true);
        }
    }
    Ok(false)
}
