//! Statuses, as numbers and as names.

use tinderbox_flows::rows::{ClaimPhase, NodeStatus, TransferKind, TransferRow, TransferStatus};

use super::spark;

/// The contract's number of a node's status.
#[must_use]
pub fn node(status: NodeStatus) -> spark::TreeNodeStatus {
    use spark::TreeNodeStatus as Wire;
    match status {
        NodeStatus::Creating => Wire::Creating,
        NodeStatus::Available => Wire::Available,
        NodeStatus::TransferLocked => Wire::TransferLocked,
        NodeStatus::SplitLocked => Wire::SplitLocked,
        NodeStatus::Splitted => Wire::Splitted,
        NodeStatus::OnChain => Wire::OnChain,
        NodeStatus::Exited => Wire::Exited,
        NodeStatus::RenewLocked => Wire::RenewLocked,
        NodeStatus::ParentExited => Wire::ParentExited,
    }
}

/// The contract's number of a receiver's phase.
#[must_use]
pub fn receiver(phase: ClaimPhase) -> spark::TransferReceiverStatus {
    use spark::TransferReceiverStatus as Wire;
    match phase {
        ClaimPhase::Initiated => Wire::Initiated,
        ClaimPhase::Pending => Wire::ClaimPending,
        ClaimPhase::KeyTweaked => Wire::KeyTweaked,
        ClaimPhase::Locked(_) => Wire::KeyTweakLocked,
        ClaimPhase::KeyTweakApplied => Wire::KeyTweakApplied,
        ClaimPhase::RefundSigned => Wire::RefundSigned,
        ClaimPhase::Completed => Wire::Completed,
        ClaimPhase::Cancelled => Wire::Cancelled,
    }
}

/// The status of a transfer as the receiver at `place` sees it, or as everybody else does.
///
/// With one receiver everybody sees how far it is. With several, each of them sees its own part,
/// and the sender sees a pending transfer until the last has claimed.
#[must_use]
pub fn transfer(row: &TransferRow, place: Option<usize>) -> spark::TransferStatus {
    use spark::TransferStatus as Wire;
    let phase = match (place, row.receivers.as_slice()) {
        (Some(place), _) => row.receivers.get(place).map(|receiver| receiver.phase),
        (None, [only]) => Some(only.phase),
        (None, _) => None,
    };
    match (row.status, phase) {
        (TransferStatus::SenderInitiated, _) => Wire::SenderInitiated,
        (TransferStatus::SenderKeyTweakPending, _) => Wire::SenderKeyTweakPending,
        (TransferStatus::ApplyingSenderKeyTweak, _) => Wire::ApplyingSenderKeyTweak,
        (TransferStatus::Returned, _) | (_, Some(ClaimPhase::Cancelled)) => Wire::Returned,
        (TransferStatus::Completed, _) | (_, Some(ClaimPhase::Completed)) => Wire::Completed,
        (TransferStatus::SenderKeyTweaked, Some(ClaimPhase::KeyTweaked)) => {
            Wire::ReceiverKeyTweaked
        }
        (TransferStatus::SenderKeyTweaked, Some(ClaimPhase::Locked(_))) => {
            Wire::ReceiverKeyTweakLocked
        }
        (TransferStatus::SenderKeyTweaked, Some(ClaimPhase::KeyTweakApplied)) => {
            Wire::ReceiverKeyTweakApplied
        }
        (TransferStatus::SenderKeyTweaked, Some(ClaimPhase::RefundSigned)) => {
            Wire::ReceiverRefundSigned
        }
        (
            TransferStatus::SenderKeyTweaked,
            None | Some(ClaimPhase::Initiated | ClaimPhase::Pending),
        ) => Wire::SenderKeyTweaked,
    }
}

/// The contract's number of a transfer's kind.
#[must_use]
pub fn kind(kind: TransferKind) -> spark::TransferType {
    use spark::TransferType as Wire;
    match kind {
        TransferKind::Transfer => Wire::Transfer,
        TransferKind::PreimageSwap => Wire::PreimageSwap,
        TransferKind::CooperativeExit => Wire::CooperativeExit,
        TransferKind::UtxoSwap => Wire::UtxoSwap,
        TransferKind::PrimarySwap => Wire::PrimarySwapV3,
        TransferKind::CounterSwap => Wire::CounterSwapV3,
        TransferKind::LegacySwap => Wire::Swap,
        TransferKind::LegacyCounterSwap => Wire::CounterSwap,
    }
}
