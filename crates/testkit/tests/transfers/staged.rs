//! A transfer that waits, with its leaf locked, as a start leaves it.

use tinderbox_flows::refunds;
use tinderbox_flows::rows::{
    ClaimPhase, Details, FlowId, LeafRefunds, Millis, NodeRow, NodeStatus, ReceiverRow,
    TransferKind, TransferLeafRow, TransferRow, TransferStatus,
};
use tinderbox_protocol::TransferId;
use tinderbox_testkit::sim::Scene;

/// Leaf 0, from wallet 0 to wallet 1, without tweaks: it waits for the sender's package.
pub(crate) async fn initiated(
    scene: &mut Scene,
    kind: TransferKind,
    expiry: Option<Millis>,
) -> TransferId {
    let id = scene.transfer_id();
    let now = scene.flow_id().made();
    let node = NodeRow {
        status: NodeStatus::TransferLocked,
        updated: now,
        ..scene.node(0, &scene.leaf(0))
    };
    let row = TransferRow {
        id,
        kind,
        status: TransferStatus::SenderInitiated,
        network: node.network,
        sender: scene.owner(0).identity(),
        receivers: vec![ReceiverRow {
            identity: scene.owner(1).identity(),
            phase: ClaimPhase::Initiated,
            before: ClaimPhase::Initiated,
            completed: None,
        }],
        leaves: vec![TransferLeafRow {
            leaf: node.id,
            receiver: 0,
            secret_cipher: Vec::new(),
            signature: Vec::new(),
            send_tweak: None,
            send_proofs: Vec::new(),
            claim_tweak: None,
            claim_proofs: Vec::new(),
            previous_sequence: refunds::current_sequence(&node).expect("it has a refund"),
            intermediate: LeafRefunds::default(),
            claim_refunds: None,
        }],
        values: vec![node.value],
        expiry,
        invoice: String::new(),
        fingerprint: [0; 32],
        details: Details::Preimage {
            payment_hash: [3; 32],
        },
        started_by: FlowId([0; 16]),
        held: None,
        created: now,
        updated: now,
    };
    scene.plant(&node).await;
    scene.plant(&row).await;
    id
}
