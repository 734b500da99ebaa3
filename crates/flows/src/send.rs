//! Sending leaves: `start_transfer_v2` and `start_transfer_v3`.
//!
//! One sender, one or more receivers, all leaves or none. With the certificate every operator
//! tweaks its share of every leaf, so that the sender's key is worth nothing from then on; until a
//! receiver claims, the leaves' refunds pay its identity key.

use sha2::{Digest, Sha256};

use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::invoice;
use crate::refusal::Halt;
use crate::request::{Request, SendRequest};
use crate::rows::{Details, FlowRow, Millis, TransferKind};
use crate::secret::SealedShare;
use crate::snapshot::Changes;
use crate::start::{self, Form, Settle, Start};

/// Tells a retry of a request from another request under the same id: hash of the sender, who gets
/// what, the sender's signature over the tweaks, and the invoice that is paid.
#[must_use]
pub fn fingerprint(request: &SendRequest) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"tinderbox/send/1");
    hash.update(request.transfer.bytes16());
    hash.update(request.sender.serialize());
    for (leaf, receiver) in &request.receivers {
        hash.update(leaf.bytes16());
        hash.update(receiver.serialize());
    }
    hash.update(&request.package.user_signature);
    hash.update(&request.invoice);
    hash.finalize().into()
}

impl SendRequest {
    fn start(&self) -> Start<'_> {
        Start {
            now: self.now,
            transfer: self.transfer,
            kind: TransferKind::Transfer,
            details: Details::None,
            sender: self.sender,
            receivers: &self.receivers,
            package: &self.package,
            form: Form::Plain,
            settle: Settle::AtOnce,
            expiry: self.expiry,
            invoice: &self.invoice,
            fingerprint: fingerprint(self),
        }
    }
}

impl Flow for SendRequest {
    fn needs(&self, site: &Site) -> Needs {
        start::needs(site, &self.package)
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        let request = Request::Send(Box::new(self.clone())).encode()?;
        let place = invoice::place(frame, &self.invoice, &self.transfer)?;
        let mut started = self.start().prepare(frame, inputs, &request)?;
        if let Some(place) = place {
            place.take(frame, inputs, self.now, &mut started)?;
        }
        Ok(started.prepared())
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        start::commit(frame, row, &self.transfer, Settle::AtOnce)
    }

    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        start::apply(frame, row, &self.transfer, Settle::AtOnce, sealed)
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        let (_, changes) = start::finish(
            frame,
            row,
            &self.transfer,
            Settle::AtOnce,
            self.now,
            outcome,
        )?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let mut changes = start::rollback(frame, row, &self.transfer)?;
        invoice::release(frame, &self.invoice, &self.transfer, &mut changes)?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::Transfer(self.transfer)]
    }

    fn now(&self) -> Millis {
        self.now
    }
}
