//! Second leg of a leaf swap by the older protocol: `counter_leaf_swap_v2`.
//!
//! A service provider answers an [offer](crate::swap_legacy) with leaves of the same total, whose
//! refunds are signed under adaptors of its choice. As in [the present
//! protocol](crate::swap_counter), one certificate starts this leg and settles the first one; only
//! now the first leg's refunds are signed.

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::TransferId;

use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::form::{Adaptors, Form};
use crate::legs::Legs;
use crate::package::TweakPackage;
use crate::refusal::Halt;
use crate::request::Request;
use crate::rows::{Details, FlowRow, Millis, TransferKind};
use crate::secret::SealedShare;
use crate::snapshot::Changes;
use crate::start::{self, Settle, Start};
use crate::swap_primary::{fingerprint, receivers};

/// Answer an offer of the older protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyCounterRequest {
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
    /// The points under which the refunds are signed.
    pub adaptors: Adaptors,
    /// The offer.
    pub offer: TransferId,
}

impl LegacyCounterRequest {
    /// Tells a retry from another request under the same id.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let Adaptors {
            cpfp,
            direct,
            direct_from_cpfp,
        } = &self.adaptors;
        let leg = [
            b"tinderbox/swap-legacy-counter/1".as_slice(),
            &self.offer.bytes16(),
            &[
                u8::from(direct.is_some()),
                u8::from(direct_from_cpfp.is_some()),
            ],
        ]
        .concat();
        let mut keys = vec![&self.sender, &self.receiver, cpfp];
        keys.extend(direct.iter().chain(direct_from_cpfp));
        fingerprint(&leg, &self.transfer, &keys, &self.package)
    }

    fn legs(&self) -> Legs {
        Legs {
            now: self.now,
            offer: self.offer,
            field: "swap_id",
            answer: self.transfer,
        }
    }
}

impl Flow for LegacyCounterRequest {
    fn needs(&self, site: &Site) -> Needs {
        start::needs(site, &self.package)
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        let legs = self.legs();
        let kind = TransferKind::LegacySwap;
        let offer = legs.offer(frame, kind, &self.sender, &self.receiver)?;
        let receivers = receivers(&self.package, self.receiver);
        let request = Request::LegacyCounter(Box::new(self.clone())).encode()?;
        let answer = Start {
            now: self.now,
            transfer: self.transfer,
            kind: TransferKind::LegacyCounterSwap,
            details: Details::LegacySwap {
                other: Some(self.offer),
            },
            sender: self.sender,
            receivers: &receivers,
            package: &self.package,
            form: Form::Adaptors(self.adaptors),
            settle: Settle::AtOnce,
            expiry: None,
            invoice: "",
            fingerprint: self.fingerprint(),
        };
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
        vec![Touch::Transfer(self.transfer), Touch::Transfer(self.offer)]
    }

    fn now(&self) -> Millis {
        self.now
    }
}
