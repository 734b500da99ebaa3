//! What the start of every transfer has in common, whatever it is against.
//!
//! The leaves are checked and locked, the sender's tweaks staged, the refunds that pay the
//! receivers rebuilt, compared and signed. A plain payment applies the tweaks with its
//! certificate ([`Settle::AtOnce`]); whatever waits for something keeps them staged
//! ([`Settle::Later`]) until [`settle`](crate::settle) applies them or
//! [`give_back`](crate::give_back) drops them.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::secp256k1::PublicKey;
use tinderbox_protocol::hash::{self, HashVariant};
use tinderbox_protocol::{LeafId, TransferId};

use crate::checks::{
    KeyPart, check_ecdsa, digest, gone, load_leaves, plan, rotate, tweaked, tweaks_by_leaf,
};
use crate::flow::{Frame, Inputs, Needs, Outcome, Plan, Prepared, Site};
pub use crate::form::Form;
use crate::job::OpenedTweak;
use crate::package::TweakPackage;
use crate::refunds::{self, JobSet};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::rows::{
    ClaimPhase, Details, FlowId, FlowRow, JobRow, KeyshareRow, LeafRefunds, Millis, NodeRow,
    NodeStatus, ReceiverRow, TransferKind, TransferLeafRow, TransferRow, TransferStatus,
};
use crate::secret::{SealedShare, StagedTweak};
use crate::snapshot::Changes;

/// Leaves in one transfer at most.
pub const MAX_LEAVES: usize = 1000;

/// Leaves with their key shares, by id.
pub type Leaves = BTreeMap<LeafId, (NodeRow, KeyshareRow)>;

/// When the sender's tweaks are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// With the certificate of the start.
    AtOnce,
    /// Later; until then the transfer has this status.
    Later(TransferStatus),
}

/// A transfer that is to be started.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// The coordinator's time.
    pub now: Millis,
    /// The id that the wallet chose.
    pub transfer: TransferId,
    /// Kind.
    pub kind: TransferKind,
    /// What it is against.
    pub details: Details,
    /// The sender's identity key.
    pub sender: PublicKey,
    /// Who gets which leaf: the receivers' identity keys.
    pub receivers: &'a BTreeMap<LeafId, PublicKey>,
    /// Refunds and tweaks.
    pub package: &'a TweakPackage,
    /// Which refunds.
    pub form: Form,
    /// When the tweaks are applied.
    pub settle: Settle,
    /// When it lapses if it is not settled.
    pub expiry: Option<Millis>,
    /// The Spark invoice that it pays; empty if none.
    pub invoice: &'a str,
    /// Tells a retry from another request under the same id.
    pub fingerprint: [u8; 32],
}

/// A start that was checked: what to write and to sign.
#[derive(Debug)]
pub struct Started {
    /// The new transfer; part of `changes` already.
    pub transfer: TransferRow,
    /// The leaves as they were before.
    pub leaves: Leaves,
    /// What to write with the vote.
    pub changes: Changes,
    /// Signatures to make, leaf by leaf.
    pub jobs: Vec<JobRow>,
    /// What the signer does at commit.
    pub keys: Vec<crate::job::KeyJob>,
    /// What all operators must find equal.
    pub digest: [u8; 32],
}

impl Started {
    /// As the answer of a flow that does nothing else.
    #[must_use]
    pub fn prepared(self) -> Prepared {
        Prepared {
            changes: self.changes,
            digest: self.digest,
            jobs: self.jobs,
            keys: self.keys,
        }
    }
}

/// What the start of a transfer wants to know.
#[must_use]
pub fn needs(site: &Site, package: &TweakPackage) -> Needs {
    Needs {
        package: Some((true, package.ciphertext(site.me))),
        ..Needs::default()
    }
}

/// Refuses a leaf that its owner cannot spend now.
///
/// # Errors
/// A refusal that names the leaf and its status.
pub fn check_spendable(node: &NodeRow, sender: &PublicKey, site: &Site) -> Result<(), Halt> {
    let id = node.id;
    if node.network != site.network {
        return refuse(
            Reason::MalformedField,
            format!("leaf {id} is on network {}", node.network),
        );
    }
    if node.owner != *sender {
        return Err(Refusal::new(
            Reason::NotOwner,
            format!("leaf {id} is not owned by {sender}"),
        )
        .with("leaf_id", id)
        .into());
    }
    if node.status != NodeStatus::Available || node.lock.is_some() {
        let reason = if node.status == NodeStatus::Creating {
            Reason::LeafUnavailable
        } else {
            Reason::InvalidState
        };
        return Err(Refusal::new(
            reason,
            format!(
                "leaf {id} is not available to transfer: its status is {}",
                node.status.name()
            ),
        )
        .with("leaf_id", id)
        .held_by(node.lock)
        .into());
    }
    if node.renewal.is_some() {
        return Err(Refusal::new(
            Reason::LeafRenewalRequired,
            format!("a renewal of leaf {id} has begun: complete it first"),
        )
        .with("leaf_id", id)
        .into());
    }
    Ok(())
}

/// A transfer's row, if there is one.
///
/// # Errors
/// A miss.
pub fn transfer(frame: &Frame<'_>, id: &TransferId) -> Result<Option<TransferRow>, Halt> {
    Ok(frame.rows.get::<TransferRow>(TransferRow::id_of(id))?)
}

/// A transfer that `frame.flow` holds.
///
/// # Errors
/// A miss, or a refusal if the flow does not hold it any more.
pub fn held(frame: &Frame<'_>, id: &TransferId, row: &FlowRow) -> Result<TransferRow, Halt> {
    match transfer(frame, id)? {
        Some(transfer) if transfer.held == Some(frame.flow) => Ok(transfer),
        _ => gone("the transfer", row),
    }
}

/// The leaves of a transfer with their key shares.
///
/// # Errors
/// As [`load_leaves`].
pub fn leaves_of(frame: &Frame<'_>, transfer: &TransferRow) -> Result<Leaves, Halt> {
    load_leaves(frame, transfer.leaves.iter().map(|leaf| leaf.leaf))
}

/// The key shares of a transfer's leaves as parts of a plan, jobs in the order of [`JobSet`].
pub fn parts<'a>(
    leaves: &'a Leaves,
    set: &JobSet,
    tweak: impl Fn(&LeafId) -> Option<StagedTweak>,
    after_tweak: bool,
) -> Vec<KeyPart<'a>> {
    leaves
        .iter()
        .map(|(leaf, (_, keyshare))| KeyPart {
            keyshare,
            tweak: tweak(leaf),
            after_tweak,
            places: set.places(leaf),
        })
        .collect()
}

/// The staged tweak of a leaf.
#[must_use]
pub fn send_tweak(transfer: &TransferRow, leaf: &LeafId) -> Option<StagedTweak> {
    transfer
        .leaves
        .iter()
        .find(|sent| sent.leaf == *leaf)
        .and_then(|sent| sent.send_tweak.clone())
}

/// Checks that the package has one entry per operator and is signed by the sender.
///
/// # Errors
/// A refusal that names the field.
pub fn check_package(
    site: &Site,
    transfer: &TransferId,
    sender: &PublicKey,
    package: &TweakPackage,
) -> Result<(), Halt> {
    if package.cpfp.len() > MAX_LEAVES {
        return refuse(
            Reason::LimitExceeded,
            format!("{MAX_LEAVES} leaves are the most that one transfer takes"),
        );
    }
    package.check_recipients(site.everyone())?;
    let variant = match package.hash_variant {
        1 => HashVariant::V2,
        0 => HashVariant::Legacy,
        other => {
            return refuse(
                Reason::MalformedField,
                format!("hash_variant {other} is unknown: use 1"),
            );
        }
    };
    check_ecdsa(
        sender,
        &hash::transfer_payload(transfer, &package.tweaks, variant),
        &package.user_signature,
        "transfer_package.user_signature",
    )
}

impl Start<'_> {
    fn receiver_rows(&self) -> Vec<ReceiverRow> {
        let identities: BTreeSet<PublicKey> = self.receivers.values().copied().collect();
        identities
            .into_iter()
            .map(|identity| ReceiverRow {
                identity,
                phase: ClaimPhase::Initiated,
                before: ClaimPhase::Initiated,
                completed: None,
            })
            .collect()
    }

    fn new_row(
        &self,
        frame: &Frame<'_>,
        leaves: &Leaves,
        tweaks: &BTreeMap<LeafId, &OpenedTweak>,
        intermediate: &mut BTreeMap<LeafId, LeafRefunds>,
    ) -> Result<TransferRow, Halt> {
        let receivers = self.receiver_rows();
        let mut rows = Vec::new();
        let mut values = Vec::new();
        for (leaf, (node, _)) in leaves {
            let place = self
                .receivers
                .get(leaf)
                .and_then(|identity| {
                    receivers
                        .iter()
                        .position(|receiver| receiver.identity == *identity)
                })
                .and_then(|place| u32::try_from(place).ok());
            let (Some(receiver), Some(tweak)) = (place, tweaks.get(leaf)) else {
                return no_receiver(*leaf);
            };
            rows.push(TransferLeafRow {
                leaf: *leaf,
                receiver,
                secret_cipher: tweak.secret_cipher.clone(),
                signature: tweak.signature.clone(),
                send_tweak: Some(tweak.staged.clone()),
                send_proofs: tweak.proofs.clone(),
                claim_tweak: None,
                claim_proofs: Vec::new(),
                previous_sequence: refunds::current_sequence(node)?,
                intermediate: intermediate.remove(leaf).unwrap_or_default(),
                claim_refunds: None,
            });
            values.push(node.value);
        }
        Ok(TransferRow {
            id: self.transfer,
            kind: self.kind,
            status: match self.settle {
                Settle::AtOnce => TransferStatus::SenderKeyTweakPending,
                Settle::Later(status) => status,
            },
            network: frame.site.network,
            sender: self.sender,
            receivers,
            leaves: rows,
            values,
            expiry: self.expiry,
            invoice: self.invoice.to_owned(),
            fingerprint: self.fingerprint,
            details: self.details.clone(),
            started_by: frame.flow,
            held: Some(frame.flow),
            created: self.now,
            updated: self.now,
        })
    }

    /// Checks everything, locks the leaves, stages the tweaks. `request` is the encoded request of
    /// the flow: it goes into the digest.
    ///
    /// # Errors
    /// A miss, or a refusal that says what is wrong.
    pub fn prepare(
        &self,
        frame: &Frame<'_>,
        inputs: &Inputs,
        request: &[u8],
    ) -> Result<Started, Halt> {
        let jobs_by_leaf = self.package.by_leaf()?;
        let ids = || jobs_by_leaf.keys().copied();
        if let Some(leaf) = self
            .receivers
            .keys()
            .find(|leaf| !jobs_by_leaf.contains_key(leaf))
        {
            return refuse(
                Reason::MalformedField,
                format!("receiver_identity_public_keys names leaf {leaf}, which is not sent"),
            );
        }
        if let Some(existing) = transfer(frame, &self.transfer)? {
            return Err(Refusal::new(
                Reason::DuplicateOperation,
                format!("transfer {} exists already", existing.id),
            )
            .into());
        }
        let leaves = load_leaves(frame, ids())?;
        // Every row is there: from here on it is arithmetic, done once.
        check_package(frame.site, &self.transfer, &self.sender, self.package)?;
        let tweaks = tweaks_by_leaf(&inputs.opened, ids())?;
        let mut jobs = Vec::new();
        let mut intermediate = BTreeMap::new();
        for (leaf, (node, keyshare)) in &leaves {
            check_spendable(node, &self.sender, frame.site)?;
            let (Some(sent), Some(tweak), Some(receiver)) = (
                jobs_by_leaf.get(leaf),
                tweaks.get(leaf),
                self.receivers.get(leaf),
            ) else {
                return no_receiver(*leaf);
            };
            check_ecdsa(
                &self.sender,
                &hash::leaf_signature_digest(leaf, &self.transfer, &tweak.secret_cipher),
                &tweak.signature,
                "leaves_to_send.signature",
            )?;
            tweaked(node, keyshare, &tweak.proofs)?;
            let (unsigned, made) = self
                .form
                .jobs(frame.site, node, keyshare, *receiver, sent)?;
            intermediate.insert(*leaf, unsigned);
            jobs.extend(made);
        }
        let set = JobSet::of(&jobs);
        let digest = digest(
            request,
            leaves.iter().map(|(leaf, (_, keyshare))| {
                let proofs = tweaks.get(leaf).map_or(&[][..], |tweak| &tweak.proofs);
                (keyshare, proofs)
            }),
            &jobs,
        );
        let now = |leaf: &LeafId| match self.settle {
            Settle::AtOnce => tweaks.get(leaf).map(|tweak| tweak.staged.clone()),
            Settle::Later(_) => None,
        };
        let keys = plan(frame.site, &jobs, parts(&leaves, &set, now, false)).keys;
        let mut changes = Changes::new();
        let transfer = self.new_row(frame, &leaves, &tweaks, &mut intermediate)?;
        changes.put(frame.rows, &transfer)?;
        for (node, _) in leaves.values() {
            // The time of its last change stays: after a refusal it must be the same everywhere,
            // whoever held it.
            let node = NodeRow {
                status: NodeStatus::TransferLocked,
                lock: Some(frame.flow),
                ..node.clone()
            };
            changes.put(frame.rows, &node)?;
        }
        Ok(Started {
            transfer,
            leaves,
            changes,
            jobs,
            keys,
            digest,
        })
    }
}

fn no_receiver<T>(leaf: LeafId) -> Result<T, Halt> {
    refuse(
        Reason::MissingField,
        format!("receiver_identity_public_keys has no entry for leaf {leaf}"),
    )
}

/// The signer's plan for the certificate of a start.
///
/// # Errors
/// A miss, or a refusal if the transfer is gone.
pub fn commit(
    frame: &Frame<'_>,
    row: &FlowRow,
    id: &TransferId,
    settle: Settle,
) -> Result<Plan, Halt> {
    let transfer = held(frame, id, row)?;
    let leaves = leaves_of(frame, &transfer)?;
    let set = JobSet::of(&row.jobs);
    let tweak = |leaf: &LeafId| match settle {
        Settle::AtOnce => send_tweak(&transfer, leaf),
        Settle::Later(_) => None,
    };
    Ok(plan(
        frame.site,
        &row.jobs,
        parts(&leaves, &set, tweak, false),
    ))
}

/// The rows that change with the certificate. `sealed` are the tweaked shares of the leaves in
/// order of leaf id; without meaning for a start that settles later.
///
/// # Errors
/// A miss, or a refusal if the transfer is gone.
pub fn apply(
    frame: &Frame<'_>,
    row: &FlowRow,
    id: &TransferId,
    settle: Settle,
    sealed: &[Option<SealedShare>],
) -> Result<Changes, Halt> {
    let mut changes = Changes::new();
    if settle == Settle::AtOnce {
        let mut transfer = held(frame, id, row)?;
        apply_tweaks(frame, row, &mut transfer, sealed, &mut changes)?;
        changes.put(frame.rows, &transfer)?;
    }
    Ok(changes)
}

/// Applies the sender's staged tweaks to all leaves: from here on its key is worth nothing.
pub(crate) fn apply_tweaks(
    frame: &Frame<'_>,
    row: &FlowRow,
    transfer: &mut TransferRow,
    sealed: &[Option<SealedShare>],
    changes: &mut Changes,
) -> Result<(), Halt> {
    let leaves = leaves_of(frame, transfer)?;
    if sealed.len() != leaves.len() {
        return refuse(Reason::Internal, "the signer gave too few tweaked shares");
    }
    // Every leaf has a tweak, so the plan left none out: shares come in order of leaf id.
    for ((leaf, (mut node, mut keyshare)), sealed) in leaves.into_iter().zip(sealed) {
        let Some(sent) = transfer.leaves.iter_mut().find(|sent| sent.leaf == leaf) else {
            return gone("a leaf", row);
        };
        rotate(&mut node, &mut keyshare, &sent.send_proofs, sealed.as_ref())?;
        sent.send_tweak = None;
        sent.send_proofs = Vec::new();
        changes.put(frame.rows, &keyshare)?;
        changes.put(frame.rows, &node)?;
    }
    Ok(())
}

/// The rows that change when the refunds are signed.
///
/// # Errors
/// A miss, or a refusal if the transfer is gone.
pub fn finish(
    frame: &Frame<'_>,
    row: &FlowRow,
    id: &TransferId,
    settle: Settle,
    now: Millis,
    outcome: &Outcome,
) -> Result<(TransferRow, Changes), Halt> {
    let mut transfer = held(frame, id, row)?;
    let set = JobSet::of(&row.jobs);
    let mut changes = Changes::new();
    for (leaf, (node, _)) in leaves_of(frame, &transfer)? {
        if let Some(sent) = transfer.leaves.iter_mut().find(|sent| sent.leaf == leaf) {
            // Without a signature the receiver still can claim, which makes a new one.
            sent.intermediate = set.signed(&leaf, &sent.intermediate, outcome)?;
        }
        let node = NodeRow {
            lock: None,
            updated: now,
            ..node
        };
        changes.put(frame.rows, &node)?;
    }
    if settle == Settle::AtOnce {
        let_go(&mut transfer);
    }
    transfer.held = None;
    transfer.updated = now;
    changes.put(frame.rows, &transfer)?;
    Ok((transfer, changes))
}

/// The sender's key is out: receivers may claim.
pub(crate) fn let_go(transfer: &mut TransferRow) {
    transfer.status = TransferStatus::SenderKeyTweaked;
    for receiver in &mut transfer.receivers {
        receiver.phase = ClaimPhase::Pending;
        receiver.before = ClaimPhase::Pending;
    }
}

/// Undoes a start that was refused; nothing of it remains.
///
/// # Errors
/// A miss, or a refusal if the transfer is gone.
pub fn rollback(frame: &Frame<'_>, row: &FlowRow, id: &TransferId) -> Result<Changes, Halt> {
    let transfer = held(frame, id, row)?;
    let mut changes = Changes::new();
    for (node, _) in leaves_of(frame, &transfer)?.into_values() {
        if let Some(node) = unlocked(node, Some(frame.flow)) {
            changes.put(frame.rows, &node)?;
        }
    }
    changes.delete::<TransferRow>(frame.rows, TransferRow::id_of(&transfer.id))?;
    Ok(changes)
}

/// The leaf without the lock of a transfer, if it has it. What the chain said meanwhile stays.
pub(crate) fn unlocked(mut node: NodeRow, lock: Option<FlowId>) -> Option<NodeRow> {
    if node.lock != lock {
        return None;
    }
    node.unlock();
    Some(node)
}
