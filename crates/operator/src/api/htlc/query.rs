//! `query_preimage`, `query_htlc`, `query_user_signed_refunds`.

use std::collections::BTreeSet;

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::record::Index;
use tinderbox_flows::refusal::Refusal;
use tinderbox_flows::rows::{HashLockRow, HashLockState, LockRole};
use tinderbox_protocol::TransferId;
use tinderbox_rpc::Caller;
use tinderbox_store::Scan;

use super::{bytes32, lock_of, no_lock};
use crate::api::paging::{MAX_PAGE, Page};
use crate::api::{Api, ApiError};
use crate::convert::field::{malformed, public_key, transfer_id};
use crate::convert::htlc::{preimage_request, status_number, user_refund};
use crate::convert::spark::{
    PreimageRequestRole, QueryHtlcRequest, QueryHtlcResponse, QueryPreimageRequest,
    QueryPreimageResponse, QueryUserSignedRefundsRequest, QueryUserSignedRefundsResponse,
};

/// Payment hashes or transfer ids that one request may name.
const MAX_NAMED: usize = 1000;
/// Hash locks that one request looks at.
const MAX_SEEN: usize = 10_000;

/// The preimage of a settled hash lock, for its two parties.
pub async fn query_preimage(
    api: Api,
    caller: Caller,
    request: QueryPreimageRequest,
) -> Result<QueryPreimageResponse, ApiError> {
    let identity = caller.require()?;
    let payment_hash = bytes32("payment_hash", &request.payment_hash)?;
    let receiver = public_key(
        "receiver_identity_pubkey",
        &request.receiver_identity_pubkey,
    )?;
    let lock = lock_of(&api, &payment_hash, &receiver)
        .await?
        .filter(|lock| [lock.sender, lock.receiver].contains(&identity))
        .ok_or_else(no_lock)?;
    Ok(QueryPreimageResponse {
        preimage: lock.shared().map(|preimage| preimage.0.to_vec()),
    })
}

/// The plain refunds that the sender half signed, while the preimage is waited for.
pub async fn query_user_signed_refunds(
    api: Api,
    caller: Caller,
    request: QueryUserSignedRefundsRequest,
) -> Result<QueryUserSignedRefundsResponse, ApiError> {
    let receiver = caller.require_key("identity_public_key", &request.identity_public_key)?;
    let payment_hash = bytes32("payment_hash", &request.payment_hash)?;
    let lock = lock_of(&api, &payment_hash, &receiver)
        .await?
        .filter(|lock| lock.state == HashLockState::Waiting && !lock.refunds.is_empty())
        .ok_or_else(no_lock)?;
    let row = api
        .transfer(&lock.transfer)
        .await?
        .filter(|row| row.status.is_staged() && row.held.is_none())
        .filter(|row| row.expiry.is_none_or(|expiry| expiry > api.now()))
        .ok_or_else(no_lock)?;
    let network = api.core.site.network;
    Ok(QueryUserSignedRefundsResponse {
        user_signed_refunds: lock
            .refunds
            .iter()
            .map(|refund| user_refund(refund, network))
            .collect(),
        transfer: Some(api.show_one(row, &receiver).await?),
    })
}

struct Filter {
    identity: PublicKey,
    role: LockRole,
    status: Option<i32>,
    hashes: BTreeSet<[u8; 32]>,
    ids: BTreeSet<TransferId>,
}

impl Filter {
    fn read(identity: PublicKey, request: &QueryHtlcRequest) -> Result<Self, Refusal> {
        if request.payment_hashes.len() > MAX_NAMED || request.transfer_ids.len() > MAX_NAMED {
            return Err(malformed(
                "payment_hashes, transfer_ids",
                format!("{MAX_NAMED} are the most"),
            ));
        }
        Ok(Self {
            identity,
            role: match PreimageRequestRole::try_from(request.match_role) {
                Ok(PreimageRequestRole::Receiver) => LockRole::Receiver,
                Ok(PreimageRequestRole::Sender) => LockRole::Sender,
                Ok(PreimageRequestRole::ReceiverAndSender) => LockRole::Either,
                Err(_) => return Err(malformed("match_role", "unknown")),
            },
            status: request.status,
            hashes: request
                .payment_hashes
                .iter()
                .map(|hash| bytes32("payment_hashes", hash))
                .collect::<Result<_, _>>()?,
            ids: request
                .transfer_ids
                .iter()
                .map(|id| transfer_id("transfer_ids", id))
                .collect::<Result<_, _>>()?,
        })
    }

    fn takes(&self, lock: &HashLockRow) -> bool {
        let has_role = match self.role {
            LockRole::Sender => lock.sender == self.identity,
            LockRole::Receiver => lock.receiver == self.identity,
            LockRole::Either => [lock.sender, lock.receiver].contains(&self.identity),
        };
        has_role
            && (self.hashes.is_empty() || self.hashes.contains(&lock.payment_hash))
            && (self.ids.is_empty() || self.ids.contains(&lock.transfer))
            && self
                .status
                .is_none_or(|status| status == status_number(&lock.state))
    }

    /// What may fit, newest first.
    async fn candidates(&self, api: &Api) -> Result<Vec<HashLockRow>, ApiError> {
        if self.ids.is_empty() {
            let prefix = HashLockRow::party_prefix(&self.identity, self.role);
            let scan = Scan::prefix(Index::HashLockByParty, &prefix)
                .descending()
                .limit(MAX_SEEN);
            let found = api.tables.scan::<HashLockRow>(scan).await?;
            return Ok(found.into_iter().map(|found| found.row).collect());
        }
        let ids = self.ids.iter().map(HashLockRow::id_of);
        let mut rows: Vec<HashLockRow> = api
            .tables
            .get_many(ids)
            .await?
            .into_iter()
            .flatten()
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.created, row.transfer.bytes16())));
        Ok(rows)
    }
}

/// The hash locks of the caller.
pub async fn query_htlc(
    api: Api,
    caller: Caller,
    request: QueryHtlcRequest,
) -> Result<QueryHtlcResponse, ApiError> {
    let identity = caller.require_key("identity_public_key", &request.identity_public_key)?;
    if usize::try_from(request.limit).is_ok_and(|limit| limit > MAX_PAGE) {
        return Err(malformed("limit", format!("{MAX_PAGE} is the most")).into());
    }
    let page = Page::read(request.limit, request.offset)?;
    let filter = Filter::read(identity, &request)?;
    let open = |row: &HashLockRow| {
        matches!(
            row.state,
            HashLockState::Waiting | HashLockState::Revealed(_)
        )
    };
    let mut rows = filter.candidates(&api).await?;
    // What may have gone on without this operator having heard of it.
    let waiting: Vec<TransferId> = rows
        .iter()
        .filter(|row| open(row))
        .take(MAX_PAGE)
        .map(|row| row.transfer)
        .collect();
    if !waiting.is_empty() {
        api.transfers(waiting).await?;
        rows = filter.candidates(&api).await?;
    }
    rows.retain(|row| filter.takes(row));
    let more = rows.len() > page.end();
    let rows = page.of(rows);
    let mut preimage_requests = Vec::with_capacity(rows.len());
    for row in rows {
        let transfer = match api.transfer(&row.transfer).await? {
            Some(transfer) => Some(api.show_one(transfer, &identity).await?),
            None => None,
        };
        preimage_requests.push(preimage_request(&row, transfer));
    }
    Ok(QueryHtlcResponse {
        preimage_requests,
        offset: page.next_if(more),
    })
}
