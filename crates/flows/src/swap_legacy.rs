//! First leg of a leaf swap by the older protocol: `start_leaf_swap_v2`.
//!
//! A wallet offers leaves to a service provider, as in [the present protocol](crate::swap_primary),
//! but without an adaptor: all refunds are plain ones. A plain refund that were signed now would
//! outlive a return of the offer, so nothing is signed before the [second
//! leg](crate::swap_legacy_counter): the half signatures are kept, with the nonces that they are
//! bound to.

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::TransferId;

use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::legs;
use crate::package::TweakPackage;
use crate::refusal::{Halt, Reason, refuse};
use crate::request::Request;
use crate::rows::{Details, FlowRow, Millis, SwapOfferRow, TransferKind};
use crate::secret::SealedShare;
use crate::snapshot::Changes;
use crate::start::{self, Form, Settle, Start, held};
use crate::swap_primary::{OFFER_MS, WAITS, check_clock, check_provider, fingerprint, receivers};

/// Leaves in one such offer at most.
pub const MAX_LEAVES: usize = 100;
/// Nothing is settled by an offer.
const SETTLE: Settle = Settle::Later(WAITS);

/// Offer leaves for others, without an adaptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacySwapRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// The id that the wallet chose.
    pub transfer: TransferId,
    /// The wallet's identity key.
    pub sender: PublicKey,
    /// The provider's identity key.
    pub receiver: PublicKey,
    /// Refunds and tweaks.
    pub package: TweakPackage,
}

impl LegacySwapRequest {
    /// Tells a retry from another request under the same id.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(
            b"tinderbox/swap-legacy/1",
            &self.transfer,
            &[&self.sender, &self.receiver],
            &self.package,
        )
    }
}

impl Flow for LegacySwapRequest {
    fn needs(&self, site: &Site) -> Needs {
        start::needs(site, &self.package)
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        check_clock(inputs.clock, self.now)?;
        check_provider(frame, inputs, &self.receiver)?;
        if self.package.cpfp.len() > MAX_LEAVES {
            return refuse(
                Reason::LimitExceeded,
                format!("{MAX_LEAVES} leaves are the most that one swap takes"),
            );
        }
        let receivers = receivers(&self.package, self.receiver);
        let request = Request::LegacySwap(Box::new(self.clone())).encode()?;
        let mut started = Start {
            now: self.now,
            transfer: self.transfer,
            kind: TransferKind::LegacySwap,
            details: Details::LegacySwap { other: None },
            sender: self.sender,
            receivers: &receivers,
            package: &self.package,
            form: Form::Plain,
            settle: SETTLE,
            expiry: Some(self.now.plus(OFFER_MS)),
            invoice: "",
            fingerprint: self.fingerprint(),
        }
        .prepare(frame, inputs, &request)?;
        // The nonces are bound now, and used when the offer is settled.
        let kept = SwapOfferRow {
            transfer: self.transfer,
            jobs: std::mem::take(&mut started.jobs),
        };
        frame
            .rows
            .get::<SwapOfferRow>(SwapOfferRow::id_of(&self.transfer))?;
        started.changes.put(frame.rows, &kept)?;
        Ok(started.prepared())
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        held(frame, &self.transfer, row)?;
        Ok(Plan::default())
    }

    fn apply(
        &self,
        _frame: &Frame<'_>,
        _row: &FlowRow,
        _sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        Ok(Changes::new())
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        let (_, changes) = start::finish(frame, row, &self.transfer, SETTLE, self.now, outcome)?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let offer = held(frame, &self.transfer, row)?;
        let mut changes = start::rollback(frame, row, &self.transfer)?;
        legs::forget(frame, &offer, &mut changes)?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::Transfer(self.transfer)]
    }

    fn now(&self) -> Millis {
        self.now
    }
}
