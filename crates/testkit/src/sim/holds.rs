//! What must hold of rows beside transfers and leaves: operators agree on all of them, nothing is
//! held by a flow that has ended, and what was promised once was promised once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use bitcoin::OutPoint;
use tinderbox_flows::record::Row;
use tinderbox_flows::rows::{
    AddressRow, ClaimPhase, DefaultAddressRow, Details, ExitRow, ExitState, HashSlotRow,
    InvoiceRow, KeptTweaksRow, KeyshareRow, NodeRow, NodeStatus, PreimageShareRow, SettingRow,
    TransferRow, TransferStatus, TreeRow, UtxoHoldRow, UtxoRow, UtxoSwapKind, UtxoSwapRow,
    UtxoSwapStatus,
};
use tinderbox_flows::secret::{SealedPreimage, SealedShare};
use tinderbox_protocol::{LeafId, Sats, TransferId, TreeId};

use super::cluster::Cluster;

/// Everything here; says what does not hold.
pub(super) fn check(cluster: &Cluster) -> Result<(), String> {
    agreed(cluster)?;
    held(cluster)?;
    trees(cluster)?;
    outputs(cluster)?;
    exits(cluster)?;
    invoices(cluster)
}

/// The rows of one kind, which are the same everywhere but for what `own` takes away.
fn alike<R: Row + PartialEq + Debug>(
    cluster: &Cluster,
    what: &str,
    own: impl Fn(&mut R),
) -> Result<(), String> {
    // Mostly they are the same to the byte.
    let stored = |operator: usize| {
        let table = cluster.machines[operator].store.table(R::TABLE);
        let rows = table.into_iter().map(|(key, stored)| (key, stored.body));
        rows.collect::<BTreeMap<_, _>>()
    };
    let bytes = stored(0);
    let rows = |operator| -> BTreeMap<Vec<u8>, R> {
        let rows = cluster.rows::<R>(operator).into_iter();
        rows.map(|mut row| {
            own(&mut row);
            (row.id(), row)
        })
        .collect()
    };
    let mut first = None;
    for operator in 1..cluster.machines.len() {
        if stored(operator) == bytes {
            continue;
        }
        let (first, other) = (first.get_or_insert_with(|| rows(0)), rows(operator));
        let ids: BTreeSet<&Vec<u8>> = first.keys().chain(other.keys()).collect();
        if let Some(id) = ids.into_iter().find(|id| first.get(*id) != other.get(*id)) {
            return Err(format!(
                "operators 0 and {operator} differ on {what}: {:?} / {:?}",
                first.get(id),
                other.get(id)
            ));
        }
    }
    Ok(())
}

fn agreed(cluster: &Cluster) -> Result<(), String> {
    alike::<NodeRow>(cluster, "a node", |_| {})?;
    alike::<TreeRow>(cluster, "a tree", |_| {})?;
    alike::<AddressRow>(cluster, "an address", |_| {})?;
    alike::<DefaultAddressRow>(cluster, "the address that is shown", |_| {})?;
    alike::<UtxoRow>(cluster, "an output", |_| {})?;
    alike::<UtxoSwapRow>(cluster, "a swap of an output", |_| {})?;
    alike::<UtxoHoldRow>(cluster, "who has an output", |_| {})?;
    settings(cluster)?;
    alike::<InvoiceRow>(cluster, "an invoice", |_| {})?;
    alike::<HashSlotRow>(cluster, "a payment hash", |_| {})?;
    // What an operator has of a secret, or has seen of the chain, is its own.
    alike::<ExitRow>(cluster, "an exit", |row| row.seen = None)?;
    alike::<PreimageShareRow>(cluster, "a deposited preimage", |row| {
        row.sealed = SealedPreimage(Vec::new());
    })?;
    alike::<KeyshareRow>(cluster, "a key", |row| row.sealed = SealedShare(Vec::new()))
}

/// Settings are the same; a wallet without a row has set nothing.
fn settings(cluster: &Cluster) -> Result<(), String> {
    for owner in &cluster.owners {
        let id = owner.identity();
        let of = |operator| {
            let row = cluster.row::<SettingRow>(operator, &id.serialize());
            row.unwrap_or_else(|| SettingRow::of(id))
        };
        if let Some(other) = (1..cluster.machines.len()).find(|other| of(*other) != of(0)) {
            return Err(format!(
                "operators 0 and {other} differ on settings: {:?} / {:?}",
                of(0),
                of(other)
            ));
        }
    }
    Ok(())
}

/// All flows have ended, so nothing may be held.
fn held(cluster: &Cluster) -> Result<(), String> {
    let by = |what: &str, flow| match flow {
        Some(flow) => Err(format!("{what} is held by flow {flow}, which has ended")),
        None => Ok(()),
    };
    for node in cluster.rows::<NodeRow>(0) {
        by("a leaf", node.lock)?;
    }
    for transfer in cluster.rows::<TransferRow>(0) {
        by("a transfer", transfer.held)?;
        for receiver in transfer.receivers {
            if let ClaimPhase::Locked(flow) = receiver.phase {
                by("a claim", Some(flow))?;
            }
        }
    }
    for address in cluster.rows::<AddressRow>(0) {
        by("an address", address.pending)?;
        if address.proof.is_none() {
            return Err(format!("address {} is half made", address.address));
        }
    }
    for share in cluster.rows::<PreimageShareRow>(0) {
        by("a preimage", share.held)?;
    }
    for setting in cluster.rows::<SettingRow>(0) {
        by("a setting", setting.pending.map(|(flow, _)| flow))?;
    }
    for swap in cluster.rows::<UtxoSwapRow>(0) {
        by("an output", swap.held)?;
    }
    for operator in 0..cluster.machines.len() {
        let kept = cluster.rows::<KeptTweaksRow>(operator).pop();
        by("a rolled back claim", kept.map(|kept| kept.flow))?;
    }
    Ok(())
}

/// A tree holds what was deposited, whoever its leaves belong to.
fn trees(cluster: &Cluster) -> Result<(), String> {
    let nodes = cluster.rows::<NodeRow>(0);
    let parents: BTreeSet<LeafId> = nodes.iter().filter_map(|node| node.parent).collect();
    let mut sums: BTreeMap<TreeId, (u64, u64)> = BTreeMap::new();
    for node in &nodes {
        let (top, leaves) = sums.entry(node.tree).or_default();
        if node.parent.is_none() {
            *top += node.value.0;
        }
        if !parents.contains(&node.id) && node.status != NodeStatus::SplitLocked {
            *leaves += node.value.0;
        }
    }
    match sums.into_iter().find(|(_, (top, leaves))| top != leaves) {
        Some((tree, (top, leaves))) => {
            Err(format!("tree {tree} holds {top} sats, its leaves {leaves}"))
        }
        None => Ok(()),
    }
}

/// An output goes to its owner or to one provider, which gave leaves for it; never both.
fn outputs(cluster: &Cluster) -> Result<(), String> {
    let transfers: BTreeMap<TransferId, TransferRow> = cluster
        .rows::<TransferRow>(0)
        .into_iter()
        .map(|row| (row.id, row))
        .collect();
    // The leaves of a swap have gone to the output's owner, and make up its credit.
    let paid = |swap: &UtxoSwapRow, id: Option<TransferId>, credit: Sats| {
        let transfer = id.and_then(|id| transfers.get(&id));
        transfer.is_some_and(|transfer| {
            let of = matches!(&transfer.details, Details::Utxo { swap: of } if *of == swap.id.0);
            of && matches!(
                transfer.status,
                TransferStatus::SenderKeyTweaked | TransferStatus::Completed
            ) && transfer.total() == credit
                && transfer.receiver(&swap.owner) == Some(0)
                && transfer.receivers.len() == 1
        })
    };
    let deposited: BTreeSet<OutPoint> = cluster
        .rows::<NodeRow>(0)
        .into_iter()
        .flat_map(|node| node.deposits)
        .collect();
    let mut taken = BTreeSet::new();
    let mut expected = BTreeMap::new();
    for swap in cluster.rows::<UtxoSwapRow>(0) {
        let id = swap.id;
        if let Some(outpoint) = swap.outpoint {
            if !taken.insert(outpoint) || deposited.contains(&outpoint) {
                return Err(format!(
                    "output {outpoint} is given away twice, by {id} too"
                ));
            }
            expected.insert(UtxoHoldRow::output(&outpoint), id);
        } else {
            expected.insert(UtxoHoldRow::slot(&swap.script, swap.value), id);
        }
        let completed = swap.status == UtxoSwapStatus::Completed;
        let whole = match swap.kind {
            UtxoSwapKind::Refund => completed && swap.transfer.is_none() && swap.provider.is_none(),
            UtxoSwapKind::Fixed => completed && paid(&swap, swap.transfer, swap.credit),
            UtxoSwapKind::Instant => {
                let second = match swap.secondary {
                    Some((id, credit)) if completed => paid(&swap, Some(id), credit),
                    Some((id, _)) => !transfers.contains_key(&id),
                    None => true,
                };
                paid(&swap, swap.transfer, swap.credit)
                    && second
                    && completed == swap.outpoint.is_some()
            }
        };
        if !whole {
            return Err(format!("swap {id} of an output is half done: {swap:?}"));
        }
    }
    let held: BTreeMap<Vec<u8>, _> = cluster
        .rows::<UtxoHoldRow>(0)
        .into_iter()
        .filter(|hold| hold.what.first() != Some(&b'c'))
        .map(|hold| (hold.what, hold.swap))
        .collect();
    if held != expected {
        return Err(format!(
            "outputs are held otherwise: {held:?} / {expected:?}"
        ));
    }
    let legs = transfers.values().filter_map(|row| match &row.details {
        Details::Utxo { swap } => Some((row.id, swap)),
        _ => None,
    });
    for (id, swap) in legs {
        if cluster.row::<UtxoSwapRow>(0, swap).is_none() {
            return Err(format!("transfer {id} pays for no output"));
        }
    }
    Ok(())
}

/// An exit waits, is settled, or is returned, and its transfer with it.
fn exits(cluster: &Cluster) -> Result<(), String> {
    let mut known = BTreeSet::new();
    for exit in cluster.rows::<ExitRow>(0) {
        known.insert(exit.transfer);
        let id = TransferRow::id_of(&exit.transfer);
        let status = cluster.row::<TransferRow>(0, &id).map(|row| row.status);
        let fits = match exit.state {
            ExitState::Open => status == Some(TransferStatus::SenderKeyTweakPending),
            ExitState::Settled => matches!(
                status,
                Some(TransferStatus::SenderKeyTweaked | TransferStatus::Completed)
            ),
            ExitState::Returned => status == Some(TransferStatus::Returned),
        };
        if !fits {
            return Err(format!(
                "the exit of transfer {} is {:?} and that is {status:?}",
                exit.transfer, exit.state
            ));
        }
    }
    let lost = cluster
        .rows::<TransferRow>(0)
        .into_iter()
        .find(|row| matches!(row.details, Details::Exit { .. }) && !known.contains(&row.id));
    match lost {
        Some(row) => Err(format!("transfer {} is of no exit", row.id)),
        None => Ok(()),
    }
}

/// An invoice is paid by at most one transfer, and its place is taken by that one.
fn invoices(cluster: &Cluster) -> Result<(), String> {
    let mut paid: BTreeMap<String, TransferId> = BTreeMap::new();
    for transfer in cluster.rows::<TransferRow>(0) {
        if transfer.invoice.is_empty() || transfer.status == TransferStatus::Returned {
            continue;
        }
        if let Some(other) = paid.insert(transfer.invoice, transfer.id) {
            return Err(format!(
                "transfers {other} and {} pay one invoice",
                transfer.id
            ));
        }
    }
    let places: BTreeMap<String, TransferId> = cluster
        .rows::<InvoiceRow>(0)
        .into_iter()
        .map(|row| (row.text, row.transfer))
        .collect();
    if paid == places {
        Ok(())
    } else {
        Err(format!(
            "invoices are paid by {paid:?}, their places taken by {places:?}"
        ))
    }
}
