//! A leaf's refunds: what they must be, what was sent, and the signatures that they get.

use std::collections::BTreeMap;

use bitcoin::Transaction;
use bitcoin::consensus::serialize;
use bitcoin::secp256k1::PublicKey;
use tinderbox_protocol::refunds::{ClaimBasis, LeafTxs, RefundPurpose, RefundSet, expected};
use tinderbox_protocol::tx::{TxKind, UnsignedTx};
use tinderbox_protocol::{LeafId, LeafSequence, refunds, tx};

use crate::checks::user_job;
use crate::flow::{Outcome, Site};
use crate::package::{LeafJobs, UserJob};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::rows::{JobRow, LeafRefunds, NodeRow, Part};

/// A refusal for what is wrong with a leaf's transaction.
#[must_use]
pub fn bad_tx(leaf: LeafId, error: &tinderbox_protocol::Error) -> Halt {
    use tinderbox_protocol::Error;
    let refusal = match error {
        Error::LeafRenewalRequired { timelock } => {
            Refusal::new(Reason::LeafRenewalRequired, error.to_string())
                .with("timelock", timelock.0)
        }
        Error::TimelockMismatch {
            expected, provided, ..
        } => Refusal::new(Reason::TimelockMismatch, error.to_string())
            .with("expected_timelock", expected.0)
            .with("provided_timelock", provided.0),
        Error::MissingTx { .. } => Refusal::new(Reason::MissingField, error.to_string()),
        _ => Refusal::new(Reason::MalformedField, error.to_string()),
    };
    Halt::Refuse(refusal.with("leaf_id", leaf))
}

/// Sequence of the leaf's current refund.
///
/// # Errors
/// A refusal if it has none, or it is damaged.
pub fn current_sequence(node: &NodeRow) -> Result<LeafSequence, Halt> {
    refunds::sequence_of_raw(&node.txs.refund, TxKind::CpfpRefund)
        .map_err(|error| bad_tx(node.id, &error))
}

/// The refunds of a leaf that is sent to `receiver`.
///
/// # Errors
/// A refusal if the leaf has no timelock left.
pub fn for_send(node: &NodeRow, receiver: PublicKey) -> Result<RefundSet, Halt> {
    made(
        node,
        &RefundPurpose::Send {
            current: current_sequence(node)?,
            receiver,
        },
    )
}

/// The refunds of a leaf that is claimed: `previous` is the sequence of the refund that the sender
/// had.
///
/// # Errors
/// A refusal if the leaf has no timelock left.
pub fn for_claim(
    node: &NodeRow,
    owner_signing_key: PublicKey,
    previous: LeafSequence,
) -> Result<RefundSet, Halt> {
    made(
        node,
        &RefundPurpose::Claim {
            basis: ClaimBasis::Previous(previous),
            owner_signing_key,
        },
    )
}

/// The refunds of a leaf for a purpose.
///
/// # Errors
/// A refusal if the leaf has no timelock left, or its transactions are damaged.
pub fn made(node: &NodeRow, purpose: &RefundPurpose) -> Result<RefundSet, Halt> {
    LeafTxs::parse(&node.txs.node, &node.txs.direct)
        .and_then(|txs| expected(&txs, purpose))
        .map_err(|error| bad_tx(node.id, &error))
}

/// The refunds with the part that each one is.
pub fn parts(set: &RefundSet) -> impl Iterator<Item = (Part, &UnsignedTx)> {
    std::iter::once((Part::Cpfp, &set.cpfp))
        .chain(set.direct.as_ref().map(|tx| (Part::Direct, tx)))
        .chain(std::iter::once((
            Part::DirectFromCpfp,
            &set.direct_from_cpfp,
        )))
}

/// The refunds, serialized without witnesses.
#[must_use]
pub fn unsigned(set: &RefundSet) -> LeafRefunds {
    LeafRefunds {
        cpfp: set.cpfp.serialize(),
        direct: set
            .direct
            .as_ref()
            .map(UnsignedTx::serialize)
            .unwrap_or_default(),
        direct_from_cpfp: set.direct_from_cpfp.serialize(),
    }
}

/// The half-signed refunds of one leaf as jobs, if they are the expected ones; `adaptor` is the
/// point under which each of them is signed, if there is one.
///
/// # Errors
/// A refusal that names what differs.
pub fn half_signed(
    site: &Site,
    node: &NodeRow,
    public_shares: &[PublicKey],
    user_key: PublicKey,
    set: &RefundSet,
    sent: &LeafJobs<'_>,
    adaptor: impl Fn(Part) -> Option<PublicKey>,
) -> Result<Vec<JobRow>, Halt> {
    set.check(
        &sent.cpfp.tx,
        sent.direct.map(|job| job.tx.as_slice()),
        sent.direct_from_cpfp.map(|job| job.tx.as_slice()),
    )
    .map_err(|error| bad_tx(node.id, &error))?;
    let mut jobs = Vec::new();
    for (part, tx) in parts(set) {
        let job = match part {
            Part::Direct => sent.direct,
            Part::DirectFromCpfp => sent.direct_from_cpfp,
            _ => Some(sent.cpfp),
        };
        if let Some(job) = job {
            jobs.push(half_signed_one(
                site,
                node.id,
                part,
                tx,
                job,
                node.verifying_key,
                user_key,
                public_shares,
                adaptor(part),
            )?);
        }
    }
    Ok(jobs)
}

/// One half-signed transaction as a job; with an adaptor, one that only becomes valid with its
/// secret.
///
/// # Errors
/// A refusal if it is another transaction, of another key, or wrongly signed.
#[allow(clippy::too_many_arguments, reason = "each is a fact of its own")]
pub fn half_signed_one(
    site: &Site,
    leaf: LeafId,
    part: Part,
    expected: &UnsignedTx,
    sent: &UserJob,
    verifying_key: PublicKey,
    user_key: PublicKey,
    public_shares: &[PublicKey],
    adaptor: Option<PublicKey>,
) -> Result<JobRow, Halt> {
    if sent.signing_key != user_key {
        return Err(Refusal::new(
            Reason::MalformedField,
            format!("signing_public_key of leaf {leaf} is not the owner's key: sync and try again"),
        )
        .with("leaf_id", leaf)
        .into());
    }
    if !sent.more.is_empty() && !matches!(part, Part::Root(_)) {
        return refuse(
            Reason::MalformedField,
            "additional_inputs are only for the root of a deposit",
        );
    }
    let checked = expected
        .check(&sent.tx)
        .map_err(|error| bad_tx(leaf, &error))?;
    let message = checked.sighash().map_err(|error| bad_tx(leaf, &error))?;
    let mut package = sent
        .share
        .package(verifying_key, message, site.threshold, site.count())?;
    package.adaptor = adaptor;
    user_job(
        site,
        leaf,
        part,
        package,
        &sent.share,
        user_key,
        public_shares.to_vec(),
    )
}

/// Where each leaf's jobs stand among the jobs of a flow.
#[derive(Clone, Debug, Default)]
pub struct JobSet(BTreeMap<LeafId, Vec<(Part, u32)>>);

impl JobSet {
    /// Of these jobs.
    #[must_use]
    pub fn of(jobs: &[JobRow]) -> Self {
        let mut set = BTreeMap::<LeafId, Vec<(Part, u32)>>::new();
        for (place, job) in (0u32..).zip(jobs) {
            if let Some(leaf) = job.leaf {
                set.entry(leaf).or_default().push((job.part, place));
            }
        }
        Self(set)
    }

    /// The places of a leaf's jobs.
    #[must_use]
    pub fn places(&self, leaf: &LeafId) -> Vec<u32> {
        self.0
            .get(leaf)
            .map(|jobs| jobs.iter().map(|(_, place)| *place).collect())
            .unwrap_or_default()
    }

    /// The leaf's refunds with the signatures that were made; one without stays as it is.
    ///
    /// # Errors
    /// A refusal if a stored refund is damaged.
    pub fn signed(
        &self,
        leaf: &LeafId,
        unsigned: &LeafRefunds,
        outcome: &Outcome,
    ) -> Result<LeafRefunds, Halt> {
        let mut signed = unsigned.clone();
        for (part, place) in self.0.get(leaf).into_iter().flatten() {
            let raw = match part {
                Part::Cpfp => &mut signed.cpfp,
                Part::Direct => &mut signed.direct,
                Part::DirectFromCpfp => &mut signed.direct_from_cpfp,
                _ => continue,
            };
            let signature = usize::try_from(*place)
                .ok()
                .and_then(|place| outcome.signature(place));
            if let Some(signature) = signature {
                let tx = tx::parse_any(raw, TxKind::CpfpRefund)
                    .map_err(|error| bad_tx(*leaf, &error))?;
                *raw = serialize(&with_witness(*leaf, tx, 0, signature)?);
            }
        }
        Ok(signed)
    }
}

/// The transaction with one input's signature in place.
///
/// # Errors
/// A refusal if the signature has not 64 bytes.
pub fn with_witness(
    leaf: LeafId,
    transaction: Transaction,
    input: usize,
    signature: &[u8],
) -> Result<Transaction, Halt> {
    let signature: &[u8; 64] = signature.try_into().map_err(|_| {
        Halt::Refuse(
            Refusal::new(
                Reason::BadSignature,
                format!("a signature of leaf {leaf} has not 64 bytes"),
            )
            .with("leaf_id", leaf),
        )
    })?;
    Ok(tx::finalize(transaction, input, signature))
}
