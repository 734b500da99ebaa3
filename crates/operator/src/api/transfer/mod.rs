//! Transfers: sending leaves, claiming them at once, claiming them in three steps.

mod claim;
mod finalize;
mod finish;
mod sign;
mod start;
mod stuck;
mod tweak;

pub use claim::claim_transfer;
pub use finalize::finalize_transfer_with_transfer_package;
pub use finish::finalize_node_signatures_v2;
pub use sign::claim_transfer_sign_refunds_v2;
pub(in crate::api) use start::started;
pub use start::{start_transfer_v2, start_transfer_v3};
pub use stuck::return_stuck_transfer;
pub use tweak::claim_transfer_tweak_keys;

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::rows::TransferRow;
use tinderbox_protocol::TransferId;

use super::Api;

/// A transfer that `identity` receives, with its place among the receivers.
async fn received(
    api: &Api,
    id: &TransferId,
    identity: &PublicKey,
) -> Result<(TransferRow, usize), Refusal> {
    let row = api.transfer(id).await?.ok_or_else(|| {
        Refusal::new(
            Reason::MissingEntity,
            format!("transfer {id} is not known here: check the id"),
        )
    })?;
    match row.receiver(identity) {
        Some(place) => Ok((row, place)),
        None => Err(Refusal::new(
            Reason::NotOwner,
            format!("{identity} does not receive transfer {id}"),
        )),
    }
}

fn claimed(id: &TransferId) -> Refusal {
    Refusal::new(
        Reason::DuplicateOperation,
        format!("transfer {id} has been claimed: query it"),
    )
}
