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
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}
