//! Second leg of a leaf swap: `initiate_counter_transfer`.
//!
//! A service provider answers an [offer](crate::swap_primary) with leaves of the same total, under
//! the same adaptor point. One certificate starts this leg and settles the first one; every
//! operator applies the tweaks of both in one write, so there is no moment at which one party has
//! given and not received.

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::TransferId;

use crate::checks::digest;
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::package::TweakPackage;
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::Request;
use crate::rows::{
    Details, FlowRow, Millis, NodeStatus, TransferKind, TransferRow, TransferStatus,
};
use crate::secret::SealedShare;
use crate::settle::{self, Settlement};
use crate::snapshot::Changes;
use crate::start::{self, Form, Settle, Start, Started};
use crate::swap_primary::{WAITS, check_clock, fingerprint, receivers};

/// What an offer must have left to be answered, in milliseconds, by the coordinator's time.
pub const MARGIN_MS: u64 = 120_000;

/// Answer an offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapCounterRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// The id that the provider chose.
    pub transfer: TransferId,
    /// The provider's identity key.
    pub sender: PublicKey,
    /// The wallet's identity key.
    pub receiver: PublicKey,
    /// Refunds and tweaks.
    pub package: TweakPackage,
    /// The offer's adaptor point.
    pub adaptor: PublicKey,
    /// The offer.
    pub primary: TransferId,
}

impl SwapCounterRequest {
    /// Tells a retry from another request under the same id.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let leg = [
            b"tinderbox/swap-counter/1".as_slice(),
            &self.primary.bytes16(),
        ]
        .concat();
        fingerprint(
            &leg,
            &self.transfer,
            [&self.sender, &self.receiver],
            &self.adaptor,
            &self.package,
        )
    }

    /// The offer, if this answer fits it.
    fn offer(&self, frame: &Frame<'_>) -> Result<TransferRow, Halt> {
        let id = self.primary;
        let Some(offer) = start::transfer(frame, &id)? else {
            return refuse(
                Reason::MissingEntity,
                format!("primary_transfer_id: transfer {id} does not exist"),
            );
        };
        let Details::Swap { adaptor, .. } = &offer.details else {
            return no_offer(id);
        };
        if offer.kind != TransferKind::PrimarySwap {
            return no_offer(id);
        }
        let mirrored = offer.sender == self.receiver
            && matches!(offer.receivers.as_slice(), [only] if only.identity == self.sender);
        if !mirrored {
            return refuse(
                Reason::NotOwner,
                format!(
                    "transfer {id} is not an offer of {} to {}: answer only what was offered to you, and to its sender",
                    self.receiver, self.sender
                ),
            );
        }
        if *adaptor != self.adaptor {
            return refuse(
                Reason::MalformedField,
                format!("adaptor_public_key is not the one of transfer {id}: use the same"),
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

    /// Both legs, the first one held.
    fn settled(&self, frame: &Frame<'_>, offer: TransferRow) -> Result<Settlement, Halt> {
        let shown = TransferStatus::ApplyingSenderKeyTweak;
        let mut settlement = settle::hold(frame, offer, shown)?;
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
                    self.primary,
                    node.status.name()
                ),
            )
            .with("leaf_id", node.id)
            .into());
        }
        settlement.transfer.details = Details::Swap {
            adaptor: self.adaptor,
            other: Some(self.transfer),
        };
        Ok(settlement)
    }

    fn started(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Started, Halt> {
        let receivers = receivers(&self.package, self.receiver);
        let request = Request::SwapCounter(Box::new(self.clone())).encode()?;
        Start {
            now: self.now,
            transfer: self.transfer,
            kind: TransferKind::CounterSwap,
            details: Details::Swap {
                adaptor: self.adaptor,
                other: Some(self.primary),
            },
            sender: self.sender,
            receivers: &receivers,
            package: &self.package,
            form: Form::Adaptor(self.adaptor),
            settle: Settle::AtOnce,
            expiry: None,
            invoice: "",
            fingerprint: self.fingerprint(),
        }
        .prepare(frame, inputs, &request)
    }

    /// How many of the plan's keys are of this leg; the first leg's come after them.
    fn own_keys(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<usize, Halt> {
        Ok(start::held(frame, &self.transfer, row)?.leaves.len())
    }
}

fn no_offer<T>(id: TransferId) -> Result<T, Halt> {
    refuse(
        Reason::MalformedField,
        format!("primary_transfer_id: transfer {id} is not the first leg of a swap"),
    )
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

impl Flow for SwapCounterRequest {
    fn needs(&self, site: &Site) -> Needs {
        start::needs(site, &self.package)
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        check_clock(inputs.clock, self.now)?;
        // Each operator by its own list, unless there is a certificate: no coordinator makes up a
        // provider.
        if inputs.clock.is_some() && !frame.site.providers.contains(&self.sender) {
            return refuse(
                Reason::Disagreement,
                format!(
                    "{} is not a service provider of operator {}: all operators must list it under ssps",
                    self.sender,
                    frame.site.me.identifier()
                ),
            );
        }
        let offer = self.offer(frame)?;
        let mut started = self.started(frame, inputs)?;
        check_totals(&offer, &started.transfer)?;
        let settlement = self.settled(frame, offer)?;
        started.changes.put(frame.rows, &settlement.transfer)?;
        Ok(Prepared {
            digest: digest(&started.digest, settlement.tweaks(), &[]),
            changes: started.changes,
            jobs: started.jobs,
            keys: [started.keys, settlement.keys].concat(),
        })
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        let mut plan = start::commit(frame, row, &self.transfer, Settle::AtOnce)?;
        let offer = start::held(frame, &self.primary, row)?;
        let other = settle::commit(frame, &offer)?;
        plan.keys.extend(other.keys);
        plan.places.extend(other.places);
        Ok(plan)
    }

    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        let Some((own, other)) = sealed.split_at_checked(self.own_keys(frame, row)?) else {
            return refuse(Reason::Internal, "the signer gave too few tweaked shares");
        };
        let mut changes = start::apply(frame, row, &self.transfer, Settle::AtOnce, own)?;
        let mut offer = start::held(frame, &self.primary, row)?;
        settle::apply(frame, row, &mut offer, other, &mut changes)?;
        Ok(changes)
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        let settle = Settle::AtOnce;
        let (_, mut changes) =
            start::finish(frame, row, &self.transfer, settle, self.now, outcome)?;
        let mut offer = start::held(frame, &self.primary, row)?;
        settle::finish(frame, &mut offer, self.now, &mut changes)?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let mut changes = start::rollback(frame, row, &self.transfer)?;
        let mut offer = start::held(frame, &self.primary, row)?;
        offer.details = Details::Swap {
            adaptor: self.adaptor,
            other: None,
        };
        settle::rollback(frame, offer, WAITS, &mut changes)?;
        Ok(changes)
    }

    /// The answer first: whoever sees the offer go must see what came for it.
    fn touches(&self) -> Vec<Touch> {
        vec![
            Touch::Transfer(self.transfer),
            Touch::Transfer(self.primary),
        ]
    }

    fn now(&self) -> Millis {
        self.now
    }
}
