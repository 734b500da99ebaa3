use tinderbox_protocol::Sats;
use tinderbox_protocol::tx::TxKind;

use super::node::node;
use super::read::{Read, key, optional_tx, timestamp, tx};
use super::spark;
use crate::transfer::{Receiver, Transfer, TransferKind, TransferLeaf, TransferStatus};

/// Reads a transfer.
pub(crate) fn transfer(message: &spark::Transfer) -> Read<Transfer> {
    let id = message
        .id
        .parse()
        .map_err(|e| format!("transfer id: {e}"))?;
    let read = || -> Read<Transfer> {
        Ok(Transfer {
            id,
            sender: key(
                "sender_identity_public_key",
                &message.sender_identity_public_key,
            )?,
            receiver: key(
                "receiver_identity_public_key",
                &message.receiver_identity_public_key,
            )?,
            status: status(message.status()),
            kind: kind(message.r#type()),
            total: Sats(message.total_value),
            leaves: message.leaves.iter().map(leaf).collect::<Read<_>>()?,
            receivers: message
                .receivers
                .iter()
                .map(|receiver| {
                    Ok(Receiver {
                        identity: key(
                            "receivers.identity_public_key",
                            &receiver.identity_public_key,
                        )?,
                        amount: Sats(receiver.amount_sats),
                    })
                })
                .collect::<Read<_>>()?,
            created: timestamp(message.created_time.as_ref()),
            updated: timestamp(message.updated_time.as_ref()),
            invoice: Some(message.spark_invoice.clone()).filter(|text| !text.is_empty()),
        })
    };
    read().map_err(|e| format!("transfer {id}: {e}"))
}

fn leaf(message: &spark::TransferLeaf) -> Read<TransferLeaf> {
    let leaf = message.leaf.as_ref().ok_or("a leaf without its node")?;
    Ok(TransferLeaf {
        node: node(leaf)?,
        secret_cipher: message.secret_cipher.clone(),
        signature: message.signature.clone(),
        refund: tx(&message.intermediate_refund_tx, TxKind::CpfpRefund)?,
        direct_refund: optional_tx(&message.intermediate_direct_refund_tx, TxKind::DirectRefund)?,
        direct_from_cpfp_refund: optional_tx(
            &message.intermediate_direct_from_cpfp_refund_tx,
            TxKind::DirectFromCpfpRefund,
        )?,
    })
}

fn status(status: spark::TransferStatus) -> TransferStatus {
    use spark::TransferStatus as Wire;
    match status {
        Wire::SenderInitiated | Wire::SenderInitiatedCoordinator => TransferStatus::SenderInitiated,
        Wire::SenderKeyTweakPending | Wire::ApplyingSenderKeyTweak => TransferStatus::SenderPending,
        Wire::SenderKeyTweaked => TransferStatus::Claimable,
        Wire::ReceiverKeyTweaked
        | Wire::ReceiverKeyTweakLocked
        | Wire::ReceiverKeyTweakApplied
        | Wire::ReceiverRefundSigned => TransferStatus::Claiming,
        Wire::Completed => TransferStatus::Completed,
        Wire::Expired => TransferStatus::Expired,
        Wire::Returned => TransferStatus::Returned,
    }
}

fn kind(kind: spark::TransferType) -> TransferKind {
    use spark::TransferType as Wire;
    match kind {
        Wire::Transfer => TransferKind::Payment,
        Wire::PreimageSwap => TransferKind::PreimageSwap,
        Wire::CooperativeExit => TransferKind::CooperativeExit,
        Wire::UtxoSwap => TransferKind::UtxoSwap,
        Wire::Swap | Wire::CounterSwap | Wire::PrimarySwapV3 | Wire::CounterSwapV3 => {
            TransferKind::Swap
        }
    }
}
