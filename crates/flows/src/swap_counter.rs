//! Second leg of a leaf swap: `initiate_counter_transfer`.
//!
//! A service provider answers an [offer](crate::swap_primary) with leaves of the same total, under
//! the same adaptor point. One certificate starts this leg and settles the first one; every
//! operator applies the tweaks of both in one write, so there is no moment at which one party has
//! given and not received.

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::TransferId;

use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::legs::Legs;
use crate::package::TweakPackage;
use crate::refusal::{Halt, Reason, refuse};
use crate::request::Request;
use crate::rows::{Details, FlowRow, Millis, TransferKind, TransferRow};
use crate::secret::SealedShare;
use crate::snapshot::Changes;
use crate::start::{self, Form, Settle, Start};
use crate::swap_primary::{fingerprint, receivers};

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
            &[&self.sender, &self.receiver, &self.adaptor],
            &self.package,
        )
    }

    fn legs(&self) -> Legs {
        Legs {
            now: self.now,
            offer: self.primary,
            field: "primary_transfer_id",
            answer: self.transfer,
        }
    }

    /// The offer, if this answer fits it.
    fn offer(&self, frame: &Frame<'_>) -> Result<TransferRow, Halt> {
        let kind = TransferKind::PrimarySwap;
        let legs = self.legs();
        let offer = legs.offer(frame, kind, &self.sender, &self.receiver)?;
        match offer.details {
            Details::Swap { adaptor, .. } if adaptor == self.adaptor => Ok(offer),
            _ => refuse(
                Reason::MalformedField,
                format!(
                    "adaptor_public_key is not the one of transfer {}: use the same",
                    self.primary
                ),
            ),
        }
    }
}

impl Flow for SwapCounterRequest {
    fn needs(&self, site: &Site) -> Needs {
        start::needs(site, &self.package)
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        let offer = self.offer(frame)?;
        let receivers = receivers(&self.package, self.receiver);
        let request = Request::SwapCounter(Box::new(self.clone())).encode()?;
        let answer = Start {
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
        };
        let legs = self.legs();
        legs.prepare(frame, inputs, offer, &answer, &request)
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        self.legs().commit(frame, row)
    }

    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        self.legs().apply(frame, row, sealed)
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        self.legs().finish(frame, row, outcome)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        self.legs().rollback(frame, row)
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
