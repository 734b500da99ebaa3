//! Hash locks: Lightning in both directions, and transfers between wallets against a preimage.

mod initiate;
mod query;
mod settle;
mod store;

pub use initiate::initiate_preimage_swap;
pub use query::{query_htlc, query_preimage, query_user_signed_refunds};
pub use settle::provide_preimage;
pub use store::{store_preimage_share, store_preimage_share_v2};

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::record::Index;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::rows::{HashLockRow, HashLockState};
use tinderbox_store::Scan;

use super::Api;
use crate::convert::field::{malformed, missing};

/// 32 bytes.
fn bytes32(field: &str, bytes: &[u8]) -> Result<[u8; 32], Refusal> {
    if bytes.is_empty() {
        return Err(missing(field));
    }
    bytes
        .try_into()
        .map_err(|_| malformed(field, format!("{} bytes, it has 32", bytes.len())))
}

/// The hash lock of a payment hash and a receiver that is not returned; else the last that was.
/// Settled before it is read, so that no old state is shown.
async fn lock_of(
    api: &Api,
    payment_hash: &[u8; 32],
    receiver: &PublicKey,
) -> Result<Option<HashLockRow>, Refusal> {
    let mut prefix = HashLockRow::hash_prefix(payment_hash);
    prefix.extend(receiver.serialize());
    let scan = || Scan::prefix(Index::HashLockByHash, &prefix).descending();
    let newest = |rows: Vec<crate::tables::Listed<HashLockRow>>| {
        let mut rows = rows.into_iter().map(|found| found.row);
        let first = rows.next()?;
        if first.state != HashLockState::Returned {
            return Some(first);
        }
        Some(
            rows.find(|row| row.state != HashLockState::Returned)
                .unwrap_or(first),
        )
    };
    let Some(found) = newest(api.tables.scan(scan()).await?) else {
        return Ok(None);
    };
    if matches!(found.state, HashLockState::Shared(_)) {
        return Ok(Some(found));
    }
    // A flow whose end this operator has not heard of is asked about.
    api.transfer(&found.transfer).await?;
    Ok(newest(api.tables.scan(scan()).await?))
}

fn no_lock() -> Refusal {
    Refusal::new(
        Reason::MissingEntity,
        "no preimage request with this payment hash and receiver is known here",
    )
}
