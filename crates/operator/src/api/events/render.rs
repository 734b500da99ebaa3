//! From notices to events, with few questions to the database.

use std::collections::{BTreeMap, BTreeSet};

use tinderbox_flows::refusal::Refusal;
use tinderbox_flows::rows::{NodeRow, NodeStatus, Role, Subject, Told, TransferRow};
use tinderbox_protocol::{LeafId, TransferId};

use crate::api::Api;
use crate::convert::spark::subscribe_to_events_response::Event;
use crate::convert::spark::{DepositEvent, TransferEvent};
use crate::convert::transfer::View;
use crate::events::Entry;

/// One notice for one wallet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Its place in the log.
    pub(super) place: u64,
    /// What it is about.
    pub(super) subject: Subject,
    /// Who is told, as what.
    pub(super) told: Told,
}

impl Wanted {
    /// All that an entry tells.
    pub(super) fn of(entry: &Entry) -> impl Iterator<Item = Self> + '_ {
        entry.notice.told.iter().map(|told| Self {
            place: entry.place,
            subject: entry.notice.subject,
            told: *told,
        })
    }
}

/// The events, in the same order; none where the contract has no form for it, or where what
/// happened since makes it wrong to say.
pub(super) async fn render(api: &Api, wanted: &[Wanted]) -> Result<Vec<Option<Event>>, Refusal> {
    let transfers = transfers(api, wanted).await?;
    let nodes = nodes(api, wanted).await?;
    let mut views = Vec::new();
    let mut places = Vec::new();
    for (place, one) in wanted.iter().enumerate() {
        let Subject::Transfer(id, status) = one.subject else {
            continue;
        };
        let Some(row) = transfers.get(&id) else {
            continue;
        };
        let receiver = row
            .receivers
            .iter()
            .position(|receiver| receiver.identity == one.told.identity);
        let view = match (one.told.role, receiver) {
            (Role::Receiver, Some(receiver)) => {
                // A wallet that is told of a payment claims it: only while that makes sense.
                let claimable = row
                    .receivers
                    .get(receiver)
                    .is_some_and(|receiver| receiver.phase.is_pending());
                if one.told.contract && (row.status != status || !claimable) {
                    continue;
                }
                View::Receiver(receiver)
            }
            (Role::Receiver, None) => continue,
            _ => View::of(row, &one.told.identity),
        };
        views.push((row.clone(), view));
        places.push(place);
    }
    let mut events: Vec<Option<Event>> = vec![None; wanted.len()];
    for (place, transfer) in places.into_iter().zip(api.show(&views).await?) {
        let (Some(one), Some(event)) = (wanted.get(place), events.get_mut(place)) else {
            continue;
        };
        let told = TransferEvent {
            transfer: Some(transfer),
            trace_id: String::new(),
        };
        *event = Some(match one.told.role {
            Role::Receiver => Event::ReceiverTransfer(told),
            Role::Sender | Role::Owner => Event::SenderTransfer(told),
        });
    }
    let shown = api.tree_nodes(nodes.values().cloned().collect()).await?;
    for (one, event) in wanted.iter().zip(&mut events) {
        let (id, only_spendable) = match one.subject {
            Subject::Deposit(id) => (id, true),
            Subject::Leaf(id) => (id, false),
            Subject::Transfer(..) | Subject::Setting => continue,
        };
        let Some(node) = nodes.get(&id) else { continue };
        // Wallets believe that a leaf of this event can be spent, and by themselves.
        if node.owner != one.told.identity
            || (only_spendable && node.status != NodeStatus::Available)
        {
            continue;
        }
        *event = shown.get(&id).map(|node| {
            Event::Deposit(DepositEvent {
                deposit: Some(node.clone()),
                trace_id: String::new(),
            })
        });
    }
    Ok(events)
}

async fn transfers(
    api: &Api,
    wanted: &[Wanted],
) -> Result<BTreeMap<TransferId, TransferRow>, Refusal> {
    let ids: BTreeSet<TransferId> = wanted
        .iter()
        .filter_map(|one| match one.subject {
            Subject::Transfer(id, _) => Some(id),
            _ => None,
        })
        .collect();
    let rows = api
        .tables
        .get_many::<TransferRow>(ids.iter().map(TransferRow::id_of))
        .await?;
    Ok(rows
        .into_iter()
        .flatten()
        .map(|row| (row.id, row))
        .collect())
}

async fn nodes(api: &Api, wanted: &[Wanted]) -> Result<BTreeMap<LeafId, NodeRow>, Refusal> {
    let ids: BTreeSet<LeafId> = wanted
        .iter()
        .filter_map(|one| match one.subject {
            Subject::Deposit(id) | Subject::Leaf(id) => Some(id),
            _ => None,
        })
        .collect();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows = api.nodes(ids).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}
