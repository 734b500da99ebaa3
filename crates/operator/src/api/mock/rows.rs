//! Rows as a test wants them, at this operator only.

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::{Sequence, Transaction, Witness};
use tinderbox_flows::record::{Index, Key, Row, Table};
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::rows::{HashLockRow, HashSlotRow, NodeRow, NodeStatus, PreimageShareRow};
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_protocol::timelock::DIRECT_OFFSET;
use tinderbox_store::Scan;

use crate::api::Api;
use crate::convert::field::{leaf_id, malformed};
use crate::tables::TableError;

/// Attempts at a write whose rows keep changing.
const ATTEMPTS: usize = 12;

fn table(error: impl Into<TableError>) -> Refusal {
    Refusal::from(error.into())
}

/// Deletes everything that is stored about a payment hash.
pub(super) async fn forget_preimage(api: &Api, payment_hash: &[u8]) -> Result<(), Refusal> {
    let scan = Scan::prefix(Index::HashLockByHash, payment_hash);
    let locks = api.tables.scan::<HashLockRow>(scan).await?;
    let locks: Vec<HashLockRow> = locks
        .into_iter()
        .map(|found| found.row)
        .filter(|row| row.payment_hash == payment_hash)
        .collect();
    let slots: Vec<Vec<u8>> = locks
        .iter()
        .map(|lock| HashSlotRow::id_of(&lock.payment_hash, &lock.receiver))
        .collect();
    for _ in 0..ATTEMPTS {
        let mut snapshot = Snapshot::new();
        let share = Key::new(Table::PreimageShare, payment_hash);
        let slot_keys = slots.iter().map(|id| Key::new(Table::HashLock, id.clone()));
        let keys = locks.iter().map(Row::key).chain(slot_keys).chain([share]);
        api.tables.load(&mut snapshot, keys).await?;
        let mut changes = Changes::new();
        for lock in &locks {
            let id = HashLockRow::id_of(&lock.transfer);
            changes
                .delete::<HashLockRow>(&snapshot, id)
                .map_err(table)?;
        }
        for slot in &slots {
            changes
                .delete::<HashSlotRow>(&snapshot, slot.clone())
                .map_err(table)?;
        }
        changes
            .delete::<PreimageShareRow>(&snapshot, payment_hash)
            .map_err(table)?;
        match api.tables.write(&snapshot, changes).await {
            Err(TableError::Conflict) => {}
            result => return result.map_err(table),
        }
    }
    Err(table(TableError::Conflict))
}

/// Changes one node.
async fn change(
    api: &Api,
    id: &str,
    change: impl Fn(&mut NodeRow) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let leaf = leaf_id("node_id", id)?;
    for _ in 0..ATTEMPTS {
        let mut snapshot = Snapshot::new();
        let key = Key::new(Table::Node, NodeRow::id_of(&leaf));
        api.tables.load(&mut snapshot, [key]).await?;
        let row = snapshot.get::<NodeRow>(NodeRow::id_of(&leaf));
        let Some(mut row) = row.map_err(table)? else {
            return Err(Refusal::new(
                Reason::MissingEntity,
                format!("node {leaf} does not exist"),
            ));
        };
        change(&mut row)?;
        let mut changes = Changes::new();
        changes.put(&snapshot, &row).map_err(table)?;
        match api.tables.write(&snapshot, changes).await {
            Err(TableError::Conflict) => {}
            result => return result.map_err(table),
        }
    }
    Err(table(TableError::Conflict))
}

/// The status with this name.
fn status(name: &str) -> Result<NodeStatus, Refusal> {
    [
        NodeStatus::Creating,
        NodeStatus::Available,
        NodeStatus::TransferLocked,
        NodeStatus::SplitLocked,
        NodeStatus::Splitted,
        NodeStatus::OnChain,
        NodeStatus::Exited,
        NodeStatus::RenewLocked,
        NodeStatus::ParentExited,
    ]
    .into_iter()
    .find(|status| status.name() == name)
    .ok_or_else(|| malformed("status", format!("\"{name}\" is no status of a node")))
}

/// Sets a status, whatever it was, and takes locks away.
pub(super) async fn force_status(api: &Api, ids: &[String], name: &str) -> Result<(), Refusal> {
    let status = status(name)?;
    for id in ids {
        change(api, id, |row| {
            row.status = status;
            row.lock = None;
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// A transaction with another timelock in its first input, and without witnesses, which would be
/// wrong.
fn with_timelock(raw: &[u8], timelock: u32) -> Result<Vec<u8>, Refusal> {
    if raw.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx: Transaction = deserialize(raw)
        .map_err(|_| Refusal::new(Reason::Internal, "a stored transaction is damaged"))?;
    for input in &mut tx.input {
        input.witness = Witness::new();
    }
    if let Some(input) = tx.input.first_mut() {
        let kept = input.sequence.to_consensus_u32() & 0xffff_0000;
        input.sequence = Sequence(kept | (timelock & 0xffff));
    }
    Ok(serialize(&tx))
}

/// Sets the timelocks of a node and of its refunds; the direct ones lie the usual distance above.
pub(super) async fn force_timelocks(
    api: &Api,
    id: &str,
    node: u32,
    refund: u32,
) -> Result<(), Refusal> {
    let offset = u32::from(DIRECT_OFFSET);
    for (field, timelock) in [("node_timelock", node), ("refund_timelock", refund)] {
        if timelock.saturating_add(offset) > 0xffff {
            return Err(malformed(field, "too long"));
        }
    }
    change(api, id, |row| {
        let before = row.txs.clone();
        row.txs.node = with_timelock(&before.node, node)?;
        row.txs.direct = with_timelock(&before.direct, node + offset)?;
        row.txs.refund = with_timelock(&before.refund, refund)?;
        row.txs.direct_refund = with_timelock(&before.direct_refund, refund + offset)?;
        row.txs.direct_from_cpfp_refund =
            with_timelock(&before.direct_from_cpfp_refund, refund + offset)?;
        Ok(())
    })
    .await
}
