//! `query_all_transfers`, `query_pending_transfers`.

use std::collections::BTreeSet;

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::record::Index;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::rows::{ClaimPhase, Millis, TransferRow, TransferStatus};
use tinderbox_protocol::TransferId;

use super::walk::{Span, Walk};
use crate::api::paging::Page;
use crate::api::{Api, ApiError};
use crate::convert::field::{check_network, instant, malformed, missing, public_key, transfer_id};
use crate::convert::spark::transfer_filter::{Participant, TimeFilter};
use crate::convert::spark::{Order, QueryTransfersResponse, TransferFilter};
use crate::convert::status;
use crate::convert::transfer::View;
use tinderbox_rpc::Caller;

/// Ids that one request may name.
const MAX_IDS: usize = 1000;

/// In which role the asker takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Receiver,
    Sender,
    Either,
}

/// A filter that has been read.
struct Filter {
    participant: Option<(Role, PublicKey)>,
    ids: BTreeSet<TransferId>,
    span: Span,
    descending: bool,
    page: Page,
    types: BTreeSet<i32>,
    statuses: BTreeSet<i32>,
    /// Only what waits for the participant.
    pending: bool,
    now: Millis,
}

impl Filter {
    fn read(api: &Api, wire: &TransferFilter, pending: bool) -> Result<Self, Refusal> {
        check_network(wire.network, api.core.site.network)?;
        if pending && !wire.statuses.is_empty() {
            return Err(malformed(
                "statuses",
                "pending transfers are asked for without",
            ));
        }
        let key = |role, field, bytes: &[u8]| Ok::<_, Refusal>((role, public_key(field, bytes)?));
        let participant = match &wire.participant {
            None => None,
            Some(Participant::ReceiverIdentityPublicKey(bytes)) => {
                Some(key(Role::Receiver, "receiver_identity_public_key", bytes)?)
            }
            Some(Participant::SenderIdentityPublicKey(bytes)) => {
                Some(key(Role::Sender, "sender_identity_public_key", bytes)?)
            }
            Some(Participant::SenderOrReceiverIdentityPublicKey(bytes)) => Some(key(
                Role::Either,
                "sender_or_receiver_identity_public_key",
                bytes,
            )?),
        };
        if participant.is_none() && wire.transfer_ids.is_empty() {
            return Err(missing("participant or transfer_ids"));
        }
        if wire.transfer_ids.len() > MAX_IDS {
            return Err(malformed("transfer_ids", format!("{MAX_IDS} are the most")));
        }
        let bound =
            |field, time| Ok::<_, Refusal>(Some(instant(field, Some(time))?.unwrap_or(Millis(0))));
        let span = match &wire.time_filter {
            None => Span::default(),
            Some(TimeFilter::CreatedAfter(time)) => Span {
                after: bound("created_after", time)?,
                before: None,
            },
            Some(TimeFilter::CreatedBefore(time)) => Span {
                after: None,
                before: bound("created_before", time)?,
            },
        };
        Ok(Self {
            participant,
            ids: wire
                .transfer_ids
                .iter()
                .map(|text| transfer_id("transfer_ids", text))
                .collect::<Result<_, _>>()?,
            span,
            descending: wire.order != i32::from(Order::Ascending),
            page: Page::read(wire.limit, wire.offset)?,
            types: wire.types.iter().copied().collect(),
            statuses: wire.statuses.iter().copied().collect(),
            pending,
            now: api.now(),
        })
    }

    /// Through whose eyes a transfer is shown: the participant's, or the caller's.
    fn view(&self, row: &TransferRow, caller: &Caller) -> View {
        match (self.participant, caller.identity()) {
            (Some((Role::Sender, _)), _) => View::Whole,
            (Some((_, identity)), _) => View::of(row, &identity),
            (None, Some(identity)) => View::of(row, identity),
            (None, None) => View::Whole,
        }
    }

    fn in_span(&self, row: &TransferRow) -> bool {
        self.span.after.is_none_or(|after| row.created > after)
            && self.span.before.is_none_or(|before| row.created < before)
    }

    /// True if the participant has the asked role in a transfer, and it waits for it if that is
    /// asked.
    fn concerns(&self, row: &TransferRow) -> bool {
        let as_receiver = |identity: &PublicKey| {
            row.receiver(identity)
                .and_then(|place| row.receivers.get(place))
                .is_some_and(|receiver| {
                    !self.pending || (!row.status.is_staged() && receiver.phase.is_pending())
                })
        };
        // Wallets learn of live outgoing transfers elsewhere; here only of those that lapsed.
        let lapsed = matches!(
            row.status,
            TransferStatus::SenderKeyTweakPending | TransferStatus::SenderInitiated
        ) && row.expiry.is_some_and(|expiry| expiry < self.now);
        let as_sender = |identity: &PublicKey| row.sender == *identity && (!self.pending || lapsed);
        match &self.participant {
            None => {
                !self.pending
                    || lapsed
                    || row
                        .receivers
                        .iter()
                        .any(|receiver| receiver.phase.is_pending())
            }
            Some((Role::Receiver, identity)) => as_receiver(identity),
            Some((Role::Sender, identity)) => as_sender(identity),
            Some((Role::Either, identity)) => as_receiver(identity) || as_sender(identity),
        }
    }

    fn wants(&self, row: &TransferRow, view: View) -> bool {
        let place = match view {
            View::Whole => None,
            View::Receiver(place) => Some(place),
        };
        (self.ids.is_empty() || self.ids.contains(&row.id))
            && self.in_span(row)
            && self.concerns(row)
            && (self.types.is_empty() || self.types.contains(&i32::from(status::kind(row.kind))))
            && (self.statuses.is_empty()
                || self
                    .statuses
                    .contains(&i32::from(status::transfer(row, place))))
    }
}

/// History: every transfer that the filter lets through.
pub async fn query_all_transfers(
    api: Api,
    caller: Caller,
    filter: TransferFilter,
) -> Result<QueryTransfersResponse, ApiError> {
    let filter = Filter::read(&api, &filter, false)?;
    query(&api, &caller, filter).await
}

/// Transfers that wait for the participant.
pub async fn query_pending_transfers(
    api: Api,
    caller: Caller,
    filter: TransferFilter,
) -> Result<QueryTransfersResponse, ApiError> {
    let filter = Filter::read(&api, &filter, true)?;
    query(&api, &caller, filter).await
}

async fn query(
    api: &Api,
    caller: &Caller,
    filter: Filter,
) -> Result<QueryTransfersResponse, ApiError> {
    if let Some((_, identity)) = &filter.participant
        && !api.may_read(caller, identity).await?
    {
        return Ok(QueryTransfersResponse {
            transfers: Vec::new(),
            offset: -1,
        });
    }
    let rows = if filter.ids.is_empty() {
        walked(api, caller, &filter).await?
    } else {
        named(api, caller, &filter).await?
    };
    let rows = filter.page.of(rows);
    let offset = filter.page.next_if_full(rows.len());
    Ok(QueryTransfersResponse {
        transfers: api.show(&rows).await?,
        offset,
    })
}

/// Transfers by id. Without a participant, only those of which the caller may read a side.
async fn named(
    api: &Api,
    caller: &Caller,
    filter: &Filter,
) -> Result<Vec<(TransferRow, View)>, ApiError> {
    let mut rows = Vec::new();
    for row in api.transfers(filter.ids.iter().copied()).await? {
        let view = filter.view(&row, caller);
        if !filter.wants(&row, view) {
            continue;
        }
        if filter.participant.is_none() && !may_read_side(api, caller, &row).await? {
            continue;
        }
        rows.push((row, view));
    }
    rows.sort_by_key(|(row, _)| (row.created, row.id));
    if filter.descending {
        rows.reverse();
    }
    Ok(rows)
}

async fn may_read_side(api: &Api, caller: &Caller, row: &TransferRow) -> Result<bool, ApiError> {
    let sides =
        std::iter::once(&row.sender).chain(row.receivers.iter().map(|receiver| &receiver.identity));
    for side in sides {
        if api.may_read(caller, side).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Transfers of a participant, as many as the page reaches.
async fn walked(
    api: &Api,
    caller: &Caller,
    filter: &Filter,
) -> Result<Vec<(TransferRow, View)>, ApiError> {
    let network = api.core.site.network;
    let Some((role, identity)) = filter.participant else {
        return Ok(Vec::new());
    };
    let sent = (
        Index::TransferByParty,
        TransferRow::party_prefix(&identity, true, network),
    );
    let received = if filter.pending {
        (
            Index::TransferPending,
            TransferRow::pending_prefix(&identity, network),
        )
    } else {
        (
            Index::TransferByParty,
            TransferRow::party_prefix(&identity, false, network),
        )
    };
    let lists = match role {
        Role::Receiver => vec![received],
        Role::Sender => vec![sent],
        Role::Either => vec![sent, received],
    };
    let mut walk = Walk::new(api.tables.clone(), &lists, filter.span, filter.descending);
    let mut rows = Vec::new();
    while rows.len() < filter.page.end() {
        let Some(row) = walk.next().await? else {
            break;
        };
        let Some(row) = current(api, row).await? else {
            continue;
        };
        let view = filter.view(&row, caller);
        if filter.wants(&row, view) {
            rows.push((row, view));
        }
    }
    Ok(rows)
}

/// The row, settled if its end is not known here.
async fn current(api: &Api, row: TransferRow) -> Result<Option<TransferRow>, Refusal> {
    let open = row.held.is_some()
        || row
            .receivers
            .iter()
            .any(|receiver| matches!(receiver.phase, ClaimPhase::Locked(_)));
    if !open {
        return Ok(Some(row));
    }
    let mut rows = api.settled(vec![row]).await?;
    if rows.len() > 1 {
        return Err(Refusal::new(
            Reason::Internal,
            "one transfer was settled into several",
        ));
    }
    Ok(rows.pop())
}
