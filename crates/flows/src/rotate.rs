//! Rotation of a wallet's static address: `rotate_static_deposit_address`.
//!
//! A flow that makes a new static address and, with its proof complete, shows that one to the
//! wallet from then on. In this order: whatever goes wrong, the wallet has a static address. The
//! old one stays what it was: it is watched, listed, and its outputs can be claimed and refunded.

use bitcoin::ScriptBuf;
use serde::{Deserialize, Serialize};

use crate::checks::gone;
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::{AddressRequest, Request};
use crate::rows::{AddressRow, DefaultAddressRow, FlowRow, Millis};
use crate::secret::SealedShare;
use crate::snapshot::Changes;

/// Replace the static address that a wallet is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotateRequest {
    /// The new address: static, without a leaf id.
    pub address: AddressRequest,
    /// The address that the wallet is shown now, as a script.
    pub replaces: ScriptBuf,
}

impl RotateRequest {
    fn default(&self, frame: &Frame<'_>) -> Result<DefaultAddressRow, Halt> {
        let id = DefaultAddressRow::id_of(&self.address.owner, frame.site.network);
        match frame.rows.get::<DefaultAddressRow>(id)? {
            Some(default) if default.script == self.replaces => Ok(default),
            Some(_) => refuse(
                Reason::LockConflict,
                "the static address has been replaced meanwhile: try again",
            ),
            None => refuse(
                Reason::MissingEntity,
                "this wallet has no static deposit address yet: generate one",
            ),
        }
    }

    fn old(&self, frame: &Frame<'_>) -> Result<AddressRow, Halt> {
        match frame.rows.get::<AddressRow>(self.replaces.to_bytes())? {
            Some(old) => Ok(old),
            None => refuse(Reason::Internal, "the static address is missing"),
        }
    }

    /// The old address while this flow holds it.
    fn held(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<AddressRow, Halt> {
        let old = self.old(frame)?;
        if old.pending == Some(frame.flow) {
            Ok(old)
        } else {
            gone("the static address", row)
        }
    }

    /// The old address is let go, the new one was never there.
    fn give_up(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let old = self.held(frame, row)?;
        let new = self.address.current(frame, row)?;
        let mut changes = Changes::new();
        changes.put(
            frame.rows,
            &AddressRow {
                pending: None,
                ..old
            },
        )?;
        changes.delete::<AddressRow>(frame.rows, new.script.to_bytes())?;
        Ok(changes)
    }
}

impl Flow for RotateRequest {
    fn needs(&self, _site: &Site) -> Needs {
        Needs::default()
    }

    fn prepare(&self, frame: &Frame<'_>, _inputs: &Inputs) -> Result<Prepared, Halt> {
        if !self.address.is_static || self.address.leaf.is_some() {
            return refuse(Reason::MalformedField, "only static addresses are replaced");
        }
        self.default(frame)?;
        let old = self.old(frame)?;
        if old.pending.is_some() || old.proof.is_none() {
            return Err(Refusal::new(
                Reason::LockConflict,
                "the static address is being made or replaced by another call: try again",
            )
            .held_by(old.pending)
            .into());
        }
        let mut changes = Changes::new();
        changes.put(
            frame.rows,
            &AddressRow {
                pending: Some(frame.flow),
                ..old
            },
        )?;
        let request = Request::Rotate(Box::new(self.clone()));
        self.address.stage(frame, &request, false, changes)
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        self.held(frame, row)?;
        self.address.commit(frame, row)
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
        let old = self.held(frame, row)?;
        let default = self.default(frame)?;
        let Some(new) = self.address.complete(frame, row, outcome)? else {
            return self.give_up(frame, row);
        };
        let mut changes = Changes::new();
        changes.put(
            frame.rows,
            &DefaultAddressRow {
                script: new.script.clone(),
                ..default
            },
        )?;
        changes.put(
            frame.rows,
            &AddressRow {
                is_default: true,
                ..new
            },
        )?;
        changes.put(
            frame.rows,
            &AddressRow {
                is_default: false,
                pending: None,
                ..old
            },
        )?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let mut changes = self.give_up(frame, row)?;
        self.address.release(frame, &mut changes)?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        Vec::new()
    }

    fn now(&self) -> Millis {
        self.address.now
    }
}
