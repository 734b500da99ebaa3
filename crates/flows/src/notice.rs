//! Whom a change concerns: decided from the rows as they are after it, and written with it.

use bitcoin::secp256k1::PublicKey;

use crate::flow::Touch;
use crate::rows::{
    ClaimPhase, FreshNotices, Millis, NodeRow, NodeStatus, Notice, Role, Subject, Told,
    TransferRow, TransferStatus, TreeRow,
};
use crate::snapshot::{Changes, ReadError, Snapshot};

/// Adds what wallets are to be told of `touches` to `changes`. `id` must be new; `rows` is what
/// the changes are based on.
///
/// # Errors
/// [`ReadError`] if a touched row has not been read.
pub fn note(
    changes: &mut Changes,
    rows: &Snapshot,
    id: [u8; 16],
    made: Millis,
    touches: &[Touch],
) -> Result<(), ReadError> {
    let mut notices = Vec::new();
    for touch in touches {
        notices.extend(notice(changes, rows, touch)?);
    }
    if notices.is_empty() {
        return Ok(());
    }
    changes
        .put_new(&FreshNotices { id, made, notices })
        .map_err(ReadError::Unreadable)
}

fn notice(changes: &Changes, rows: &Snapshot, touch: &Touch) -> Result<Option<Notice>, ReadError> {
    match touch {
        Touch::Transfer(id) => {
            let row = changes.after::<TransferRow>(rows, TransferRow::id_of(id))?;
            Ok(row.map(|row| of_transfer(&row)))
        }
        Touch::Deposit(leaf) => {
            let node = changes.after::<NodeRow>(rows, NodeRow::id_of(leaf))?;
            Ok(node.map(|node| of_deposit(&node)))
        }
        Touch::Tree(tree) => {
            let Some(tree) = changes.after::<TreeRow>(rows, tree.bytes16())? else {
                return Ok(None);
            };
            let node = changes.after::<NodeRow>(rows, NodeRow::id_of(&tree.root))?;
            Ok(node.map(|node| of_deposit(&node)))
        }
        Touch::Leaf(leaf) => {
            let node = changes.after::<NodeRow>(rows, NodeRow::id_of(leaf))?;
            Ok(node.map(|node| Notice {
                subject: Subject::Leaf(node.id),
                told: vec![owner(node.owner, false)],
            }))
        }
        Touch::Setting(wallet) => Ok(Some(Notice {
            subject: Subject::Setting,
            told: vec![owner(*wallet, false)],
        })),
    }
}

const fn owner(identity: PublicKey, contract: bool) -> Told {
    Told {
        identity,
        role: Role::Owner,
        contract,
    }
}

fn of_deposit(node: &NodeRow) -> Notice {
    // Wallets believe that a leaf of this event can be spent.
    if node.status == NodeStatus::Available {
        Notice {
            subject: Subject::Deposit(node.id),
            told: vec![owner(node.owner, true)],
        }
    } else {
        Notice {
            subject: Subject::Leaf(node.id),
            told: vec![owner(node.owner, false)],
        }
    }
}

fn of_transfer(row: &TransferRow) -> Notice {
    let (sender, receivers) = concerned(row);
    let mut told = vec![Told {
        identity: row.sender,
        role: Role::Sender,
        contract: sender,
    }];
    told.extend(row.receivers.iter().map(|receiver| Told {
        identity: receiver.identity,
        role: Role::Receiver,
        contract: receivers,
    }));
    Notice {
        subject: Subject::Transfer(row.id, row.status),
        told,
    }
}

/// Whether the contract has an event for the sender and for the receivers of a transfer in this
/// state. Claims are no news to anybody but the claimer, who made them.
fn concerned(row: &TransferRow) -> (bool, bool) {
    match row.status {
        TransferStatus::SenderInitiated
        | TransferStatus::SenderKeyTweakPending
        | TransferStatus::Returned => (true, false),
        TransferStatus::SenderKeyTweaked => {
            let fresh = row
                .receivers
                .iter()
                .all(|receiver| receiver.phase == ClaimPhase::Pending);
            (fresh, fresh)
        }
        // Over in a moment, with an event of its own.
        TransferStatus::ApplyingSenderKeyTweak | TransferStatus::Completed => (false, false),
    }
}
