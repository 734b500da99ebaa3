//! Both legs of a leaf swap in one flow: the answer is started, the offer settled.
//!
//! One certificate is for both, and every operator applies the tweaks of both in one write. Whoever
//! holds an offer, answer or return, excludes the other, whatever the clocks say. So there is no
//! moment at which one party has given and not received, or could still take back.

use bitcoin::secp256k1::PublicKey;
use tinderbox_protocol::TransferId;

use crate::checks::digest;
use crate::flow::{Frame, Inputs, Outcome, Plan, Prepared};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::rows::{
    FlowRow, JobRow, Millis, NodeStatus, SwapOfferRow, TransferKind, TransferRow, TransferStatus,
};
use crate::secret::SealedShare;
use crate::settle::{self, Settlement};
use crate::snapshot::Changes;
use crate::start::{self, Settle, Start};
use crate::swap_counter::MARGIN_MS;
use crate::swap_primary::{WAITS, check_clock, check_provider};

/// The legs of a swap, as whoever answers names them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Legs {
    /// The coordinator's time.
    pub(crate) now: Millis,
    /// The first leg.
    pub(crate) offer: TransferId,
    /// The name of the field that names it.
    pub(crate) field: &'static str,
    /// The second leg.
    pub(crate) answer: TransferId,
}

impl Legs {
    /// The offer of this kind, if it can be answered now by `provider` with leaves for `user`.
    pub(crate) fn offer(
        &self,
        frame: &Frame<'_>,
        kind: TransferKind,
        provider: &PublicKey,
        user: &PublicKey,
    ) -> Result<TransferRow, Halt> {
        let (id, field) = (self.offer, self.field);
        let Some(offer) = start::transfer(frame, &id)? else {
            return refuse(
                Reason::MissingEntity,
                format!("{field}: transfer {id} does not exist"),
            );
        };
        if offer.kind != kind {
            return refuse(
                Reason::MalformedField,
                format!("{field}: transfer {id} is not the first leg of a swap of this protocol"),
            );
        }
        let mirrored = offer.sender == *user
            && matches!(offer.receivers.as_slice(), [only] if only.identity == *provider);
        if !mirrored {
            return refuse(
                Reason::NotOwner,
                format!(
                    "transfer {id} is not an offer of {user} to {provider}: answer only what was offered to you, and to its sender"
                ),
            );
        }
        if offer.network != frame.site.network {
            return refuse(
                Reason::MalformedField,
                format!("transfer {id} is on network {}", offer.network),
            );
        }
        settle::check_free(&offer)?;
        let left = |expiry: Millis| expiry.0.checked_sub(self.now.0);
        if offer
            .expiry
            .and_then(left)
            .is_none_or(|left| left < MARGIN_MS)
        {
            return Err(Refusal::new(
                Reason::Expired,
                format!(
                    "transfer {id} has less than {} seconds left: its sender gets its leaves back and may offer them again",
                    MARGIN_MS / 1000
                ),
            )
            .into());
        }
        Ok(offer)
    }

    /// The first leg, held.
    fn settled(
        &self,
        frame: &Frame<'_>,
        offer: TransferRow,
        jobs: &[JobRow],
    ) -> Result<Settlement, Halt> {
        let shown = TransferStatus::ApplyingSenderKeyTweak;
        let mut settlement = settle::hold(frame, offer, shown, jobs)?;
        // A leaf that left the state in which it was offered is worth less: its owner, or whoever
        // had it before, is taking it out.
        let moved = settlement
            .leaves
            .values()
            .find(|(node, _)| node.status != NodeStatus::TransferLocked);
        if let Some((node, _)) = moved {
            return Err(Refusal::new(
                Reason::InvalidState,
                format!(
                    "leaf {} of transfer {} is {}: do not answer this offer",
                    node.id,
                    self.offer,
                    node.status.name()
                ),
            )
            .with("leaf_id", node.id)
            .into());
        }
        let details = settlement.transfer.details;
        settlement.transfer.details = details.with_other_leg(Some(self.answer));
        Ok(settlement)
    }

    /// Checks the answer, `start`, starts it, and holds the offer. `request` is the encoded request
    /// of the flow.
    pub(crate) fn prepare(
        &self,
        frame: &Frame<'_>,
        inputs: &Inputs,
        offer: TransferRow,
        answer: &Start<'_>,
        request: &[u8],
    ) -> Result<Prepared, Halt> {
        check_clock(inputs.clock, self.now)?;
        check_provider(frame, inputs, &answer.sender)?;
        let kept = kept(frame, &offer)?;
        let started = answer.prepare(frame, inputs, request)?;
        check_totals(&offer, &started.transfer)?;
        // Leaves of the answer are free, those of the offer locked: no leaf has jobs of both.
        let jobs = [started.jobs, kept.clone()].concat();
        let settlement = self.settled(frame, offer, &jobs)?;
        let mut changes = started.changes;
        changes.put(frame.rows, &settlement.transfer)?;
        Ok(Prepared {
            digest: digest(&started.digest, settlement.tweaks(), &kept),
            changes,
            jobs,
            keys: [started.keys, settlement.keys].concat(),
        })
    }

    /// How many of the plan's keys are of the answer; the offer's come after them.
    fn own_keys(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<usize, Halt> {
        Ok(start::held(frame, &self.answer, row)?.leaves.len())
    }

    /// What the signer does with the certificate: the answer's keys, then the offer's.
    pub(crate) fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        let mut plan = start::commit(frame, row, &self.answer, Settle::AtOnce)?;
        let offer = start::held(frame, &self.offer, row)?;
        let other = settle::commit(frame, &offer, &row.jobs)?;
        plan.keys.extend(other.keys);
        plan.places.extend(other.places);
        Ok(plan)
    }

    /// The tweaks of both, in one write.
    pub(crate) fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        let Some((own, other)) = sealed.split_at_checked(self.own_keys(frame, row)?) else {
            return refuse(Reason::Internal, "the signer gave too few tweaked shares");
        };
        let mut changes = start::apply(frame, row, &self.answer, Settle::AtOnce, own)?;
        let mut offer = start::held(frame, &self.offer, row)?;
        settle::apply(frame, row, &mut offer, other, &mut changes)?;
        Ok(changes)
    }

    /// Both parties may claim.
    pub(crate) fn finish(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        outcome: &Outcome,
    ) -> Result<Changes, Halt> {
        let settle = Settle::AtOnce;
        let (_, mut changes) = start::finish(frame, row, &self.answer, settle, self.now, outcome)?;
        let mut offer = start::held(frame, &self.offer, row)?;
        settle::sign(&mut offer, row, outcome)?;
        settle::finish(frame, &mut offer, self.now, &mut changes)?;
        forget(frame, &offer, &mut changes)?;
        Ok(changes)
    }

    /// The offer as it was, and nothing of the answer.
    pub(crate) fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let mut changes = start::rollback(frame, row, &self.answer)?;
        let mut offer = start::held(frame, &self.offer, row)?;
        offer.details = offer.details.with_other_leg(None);
        settle::rollback(frame, offer, WAITS, &mut changes)?;
        Ok(changes)
    }
}

/// The signatures that were kept for the settlement of an offer. One under an adaptor has none: its
/// refunds are signed, as far as they ever are, when it is made.
fn kept(frame: &Frame<'_>, offer: &TransferRow) -> Result<Vec<JobRow>, Halt> {
    if offer.kind != TransferKind::LegacySwap {
        return Ok(Vec::new());
    }
    match frame
        .rows
        .get::<SwapOfferRow>(SwapOfferRow::id_of(&offer.id))?
    {
        Some(kept) => Ok(kept.jobs),
        None => refuse(
            Reason::Internal,
            format!("what was signed for transfer {} is gone", offer.id),
        ),
    }
}

/// Drops what was kept for the settlement of an offer. Nothing for a transfer of another kind.
pub(crate) fn forget(
    frame: &Frame<'_>,
    offer: &TransferRow,
    changes: &mut Changes,
) -> Result<(), Halt> {
    let id = SwapOfferRow::id_of(&offer.id);
    if offer.kind == TransferKind::LegacySwap
        && frame.rows.get::<SwapOfferRow>(id.clone())?.is_some()
    {
        changes.delete::<SwapOfferRow>(frame.rows, id)?;
    }
    Ok(())
}

/// Refuses legs of different totals, and totals that are none.
fn check_totals(offer: &TransferRow, answer: &TransferRow) -> Result<(), Halt> {
    let total = |row: &TransferRow| {
        let mut values = row.values.iter();
        values.try_fold(0u64, |sum, value| sum.checked_add(value.0))
    };
    match (total(offer), total(answer)) {
        (Some(offered), Some(answered)) if offered == answered => Ok(()),
        (offered, answered) => refuse(
            Reason::MalformedField,
            format!(
                "leaves_to_send add up to {} sats, transfer {} to {}: both legs must have the same total",
                answered.unwrap_or(u64::MAX),
                offer.id,
                offered.unwrap_or(u64::MAX)
            ),
        ),
    }
}
