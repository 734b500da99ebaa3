//! Transfers as their parties see them.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use sha2::{Digest, Sha256};
use tinderbox_flows::flow::Site;
use tinderbox_flows::rows::{KeyshareRow, Millis, NodeRow, TransferLeafRow, TransferRow};
use tinderbox_protocol::{LeafId, TransferId};

use super::node::{tree_node, without_witness};
use super::{field, spark, status};

/// The nodes of transfers' leaves, with their key shares.
pub type Leaves = BTreeMap<LeafId, (NodeRow, KeyshareRow)>;

/// Through whose eyes a transfer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Everything: the sender's.
    Whole,
    /// Only what the receiver at this place gets.
    Receiver(usize),
}

impl View {
    /// The view of `identity`. Whoever receives sees its own leaves only, also if it is the sender:
    /// a wallet opens every leaf of a transfer that it claims, and one of somebody else's would
    /// make it give up.
    #[must_use]
    pub fn of(row: &TransferRow, identity: &PublicKey) -> Self {
        row.receiver(identity).map_or(Self::Whole, Self::Receiver)
    }

    fn place(self) -> Option<usize> {
        match self {
            Self::Whole => None,
            Self::Receiver(place) => Some(place),
        }
    }

    fn shows(self, leaf: &TransferLeafRow) -> bool {
        match self {
            Self::Whole => true,
            Self::Receiver(place) => usize::try_from(leaf.receiver) == Ok(place),
        }
    }
}

/// The leaves of `row` that `view` shows.
pub fn shown(row: &TransferRow, view: View) -> impl Iterator<Item = &TransferLeafRow> {
    row.leaves.iter().filter(move |leaf| view.shows(leaf))
}

/// A transfer as `view` shows it. Leaves whose nodes are not in `leaves` are left out.
#[must_use]
pub fn transfer(row: &TransferRow, view: View, leaves: &Leaves, site: &Site) -> spark::Transfer {
    let place = view.place();
    let value_of = |wanted: &dyn Fn(&TransferLeafRow) -> bool| {
        row.leaves
            .iter()
            .zip(&row.values)
            .filter(|(leaf, _)| wanted(leaf))
            .fold(0u64, |sum, (_, value)| sum.saturating_add(value.0))
    };
    let primary = place
        .and_then(|place| row.receivers.get(place))
        .or_else(|| row.receivers.first());
    let sender_id = party_id(&row.id, &row.sender, b"sender");
    spark::Transfer {
        id: row.id.to_string(),
        sender_identity_public_key: row.sender.serialize().to_vec(),
        receiver_identity_public_key: primary
            .map(|receiver| receiver.identity.serialize().to_vec())
            .unwrap_or_default(),
        status: status::transfer(row, place).into(),
        total_value: value_of(&|leaf| view.shows(leaf)),
        // Wallets take an absent one for a broken answer.
        expiry_time: Some(field::timestamp(row.expiry.unwrap_or(Millis(0)))),
        leaves: shown(row, view)
            .filter_map(|leaf| {
                let (node, keyshare) = leaves.get(&leaf.leaf)?;
                Some(spark::TransferLeaf {
                    leaf: Some(tree_node(node, keyshare, site)),
                    secret_cipher: leaf.secret_cipher.clone(),
                    signature: leaf.signature.clone(),
                    intermediate_refund_tx: leaf.intermediate.cpfp.clone(),
                    intermediate_direct_refund_tx: without_witness(&leaf.intermediate.direct),
                    intermediate_direct_from_cpfp_refund_tx: without_witness(
                        &leaf.intermediate.direct_from_cpfp,
                    ),
                    pending_key_tweak_public_key: leaf
                        .claim_proofs
                        .first()
                        .or_else(|| leaf.send_proofs.first())
                        .map(|point| point.serialize().to_vec())
                        .unwrap_or_default(),
                    transfer_receiver_id: usize::try_from(leaf.receiver)
                        .ok()
                        .and_then(|place| row.receivers.get(place))
                        .map(|receiver| party_id(&row.id, &receiver.identity, b"receiver"))
                        .unwrap_or_default(),
                    transfer_sender_id: sender_id.clone(),
                })
            })
            .collect(),
        created_time: Some(field::timestamp(row.created)),
        updated_time: Some(field::timestamp(row.updated)),
        r#type: status::kind(row.kind).into(),
        spark_invoice: row.invoice.clone(),
        network: field::network_number(row.network),
        receivers: row
            .receivers
            .iter()
            .enumerate()
            .filter(|(at, _)| place.is_none_or(|place| place == *at))
            .map(|(at, receiver)| spark::TransferReceiver {
                identity_public_key: receiver.identity.serialize().to_vec(),
                amount_sats: value_of(&|leaf| usize::try_from(leaf.receiver) == Ok(at)),
                status: status::receiver(receiver.phase).into(),
                id: party_id(&row.id, &receiver.identity, b"receiver"),
                completion_time: receiver.completed.map(field::timestamp),
            })
            .collect(),
        senders: vec![spark::TransferSender {
            id: sender_id.clone(),
            identity_public_key: row.sender.serialize().to_vec(),
        }],
    }
}

/// An id for a party of a transfer: the same on all operators, without one having been stored.
fn party_id(transfer: &TransferId, identity: &PublicKey, role: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"tinderbox/party/1");
    hash.update(role);
    hash.update(transfer.bytes16());
    hash.update(identity.serialize());
    let digest: [u8; 32] = hash.finalize().into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes)
        .into_uuid()
        .to_string()
}

#[cfg(test)]
mod tests {
    use bitcoin::secp256k1::{SECP256K1, SecretKey};
    use tinderbox_flows::rows::{
        ClaimPhase, Details, FlowId, LeafRefunds, ReceiverRow, TransferKind, TransferStatus,
    };
    use tinderbox_flows::rows::{KeyshareId, KeyshareStatus, NodeStatus, NodeTxs};
    use tinderbox_flows::secret::SealedShare;
    use tinderbox_frost::OperatorIndex;
    use tinderbox_protocol::{LeafSequence, Network, Sats, TreeId};

    use super::*;
    use crate::convert::spark::TransferStatus as Wire;

    fn key(byte: u8) -> PublicKey {
        SecretKey::from_slice(&[byte; 32])
            .unwrap()
            .public_key(SECP256K1)
    }

    fn leaf(byte: u8) -> LeafId {
        LeafId::from_bytes16([byte; 16])
    }

    fn site() -> Site {
        Site {
            me: OperatorIndex(0),
            operators: vec![key(31), key(32), key(33)],
            threshold: 2,
            network: Network::Local,
            deposit_confirmations: 3,
            exit_confirmations: 1,
            providers: Vec::new(),
        }
    }

    fn receiver(identity: u8, phase: ClaimPhase) -> ReceiverRow {
        ReceiverRow {
            identity: key(identity),
            phase,
            before: phase,
            completed: None,
        }
    }

    fn row(receivers: Vec<ReceiverRow>) -> TransferRow {
        let leaves = (0u32..)
            .zip(&receivers)
            .map(|(at, _)| TransferLeafRow {
                leaf: leaf(u8::try_from(at).unwrap() + 1),
                receiver: at,
                secret_cipher: vec![1],
                signature: vec![2],
                send_tweak: None,
                send_proofs: Vec::new(),
                claim_tweak: None,
                claim_proofs: Vec::new(),
                previous_sequence: LeafSequence::INITIAL,
                intermediate: LeafRefunds::default(),
                claim_refunds: None,
            })
            .collect::<Vec<_>>();
        TransferRow {
            id: TransferId::from_bytes16([7; 16]),
            kind: TransferKind::Transfer,
            status: TransferStatus::SenderKeyTweaked,
            network: Network::Local,
            sender: key(1),
            values: (1..=leaves.len()).map(|at| Sats(at as u64 * 100)).collect(),
            receivers,
            leaves,
            expiry: None,
            invoice: "invoice".into(),
            fingerprint: [0; 32],
            details: Details::None,
            started_by: FlowId([0; 16]),
            held: None,
            created: Millis(5),
            updated: Millis(6),
        }
    }

    fn nodes(row: &TransferRow) -> Leaves {
        row.leaves
            .iter()
            .map(|sent| {
                let node = NodeRow {
                    id: sent.leaf,
                    tree: TreeId::from_bytes16([9; 16]),
                    parent: None,
                    network: Network::Local,
                    value: Sats(100),
                    status: NodeStatus::TransferLocked,
                    lock: None,
                    verifying_key: key(3),
                    owner: key(1),
                    owner_signing: key(4),
                    keyshare: KeyshareId([3; 16]),
                    txs: NodeTxs::default(),
                    deposits: Vec::new(),
                    created: Millis(1),
                    updated: Millis(2),
                    node_confirmed: None,
                    refund_confirmed: None,
                    before_chain: None,
                    renewal: None,
                };
                let keyshare = KeyshareRow {
                    id: KeyshareId([3; 16]),
                    coordinator: OperatorIndex(0),
                    status: KeyshareStatus::Available,
                    generation: 0,
                    group_key: key(5),
                    public_shares: vec![key(6), key(7), key(8)],
                    sealed: SealedShare(Vec::new()),
                };
                (sent.leaf, (node, keyshare))
            })
            .collect()
    }

    #[test]
    fn receiver_sees_its_own_leaves_and_nobody_elses() {
        let row = row(vec![
            receiver(1, ClaimPhase::Pending),
            receiver(2, ClaimPhase::Completed),
        ]);
        let leaves = nodes(&row);
        let seen = transfer(&row, View::of(&row, &key(2)), &leaves, &site());
        assert_eq!(seen.leaves.len(), 1);
        assert_eq!(
            seen.leaves[0].leaf.as_ref().unwrap().id,
            leaf(2).to_string()
        );
        assert_eq!((seen.total_value, seen.receivers.len()), (200, 1));
        assert_eq!(seen.status(), Wire::Completed);
        // The sender receives a part itself: it sees that part.
        assert_eq!(View::of(&row, &key(1)), View::Receiver(0));
        let seen = transfer(&row, View::Whole, &leaves, &site());
        assert_eq!((seen.leaves.len(), seen.total_value), (2, 300));
        assert_eq!(
            seen.status(),
            Wire::SenderKeyTweaked,
            "not all have claimed"
        );
    }

    #[test]
    fn single_receivers_phase_is_everybodys_status() {
        for (phase, status) in [
            (ClaimPhase::Pending, Wire::SenderKeyTweaked),
            (ClaimPhase::KeyTweaked, Wire::ReceiverKeyTweaked),
            (
                ClaimPhase::Locked(FlowId([1; 16])),
                Wire::ReceiverKeyTweakLocked,
            ),
            (ClaimPhase::KeyTweakApplied, Wire::ReceiverKeyTweakApplied),
            (ClaimPhase::RefundSigned, Wire::ReceiverRefundSigned),
            (ClaimPhase::Completed, Wire::Completed),
            (ClaimPhase::Cancelled, Wire::Returned),
        ] {
            let row = row(vec![receiver(2, phase)]);
            assert_eq!(status::transfer(&row, None), status, "{phase:?}");
            assert_eq!(status::transfer(&row, Some(0)), status, "{phase:?}");
        }
    }

    #[test]
    fn nothing_that_wallets_need_is_left_out() {
        let row = row(vec![receiver(2, ClaimPhase::Pending)]);
        let seen = transfer(&row, View::Whole, &nodes(&row), &site());
        assert_eq!(
            seen.expiry_time,
            Some(field::timestamp(Millis(0))),
            "epoch, not absent"
        );
        assert_eq!(seen.spark_invoice, "invoice");
        assert_eq!(seen.network, 2);
        let node = seen.leaves[0].leaf.as_ref().unwrap();
        assert_eq!(
            (node.status.as_str(), node.treenode_status),
            ("TRANSFER_LOCKED", 3)
        );
        let keyshare = node.signing_keyshare.as_ref().unwrap();
        assert_eq!(keyshare.owner_identifiers.len(), 3);
        assert_eq!(keyshare.owner_identifiers[0], OperatorIndex(0).identifier());
        assert_eq!(keyshare.public_shares.len(), 3);
        assert_eq!(seen.leaves[0].transfer_receiver_id, seen.receivers[0].id);
        assert_eq!(seen.leaves[0].transfer_sender_id, seen.senders[0].id);
        assert!(uuid::Uuid::parse_str(&seen.senders[0].id).is_ok());
    }
}
