//! Hash locks as their parties see them.

use tinderbox_flows::rows::{HashLockRow, HashLockState, UserRefund};
use tinderbox_protocol::Network;

use super::field::{by_identifier, commitment_to_wire, network_number, timestamp};
use super::spark;

/// The contract's number of a hash lock's state. A preimage that only operators know is waited for
/// still.
#[must_use]
pub fn status_number(state: &HashLockState) -> i32 {
    use spark::PreimageRequestStatus as Wire;
    match state {
        HashLockState::Waiting | HashLockState::Revealed(_) => Wire::WaitingForPreimage,
        HashLockState::Shared(_) => Wire::PreimageShared,
        HashLockState::Returned => Wire::Returned,
    }
    .into()
}

/// A hash lock with its transfer.
#[must_use]
pub fn preimage_request(
    row: &HashLockRow,
    transfer: Option<spark::Transfer>,
) -> spark::PreimageRequestWithTransfer {
    spark::PreimageRequestWithTransfer {
        payment_hash: row.payment_hash.to_vec(),
        receiver_identity_pubkey: row.receiver.serialize().to_vec(),
        status: status_number(&row.state),
        created_time: Some(timestamp(row.created)),
        transfer,
        preimage: row.shared().map(|preimage| preimage.0.to_vec()),
        sender_identity_pubkey: row.sender.serialize().to_vec(),
    }
}

/// A half-signed refund.
#[must_use]
pub fn user_refund(refund: &UserRefund, network: Network) -> spark::UserSignedRefund {
    spark::UserSignedRefund {
        node_id: refund.leaf.to_string(),
        refund_tx: refund.tx.clone(),
        user_signature: refund.share.share.0.to_vec(),
        signing_commitments: Some(spark::SigningCommitments {
            signing_commitments: by_identifier(&refund.share.operators, commitment_to_wire),
        }),
        user_signature_commitment: Some(commitment_to_wire(&refund.share.commitment)),
        network: network_number(network),
    }
}
