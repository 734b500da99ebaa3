//! Settings of a wallet, on all operators: reads may go anywhere.
//!
//! There is no signature of the wallet in such a request: that its session is the wallet's own is
//! the coordinator's word. Settings say who may look, and move nothing.

use crate::checks::{digest, gone};
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::refusal::{Halt, Reason, refuse};
use crate::request::{Request, SettingRequest};
use crate::rows::{FlowRow, Millis, Privacy, SettingRow};
use crate::secret::SealedShare;
use crate::snapshot::Changes;

impl SettingRequest {
    fn row(&self, frame: &Frame<'_>) -> Result<SettingRow, Halt> {
        let row = frame.rows.get::<SettingRow>(self.owner.serialize())?;
        Ok(row.unwrap_or_else(|| SettingRow::of(self.owner)))
    }

    fn changed(&self, current: Privacy) -> Privacy {
        Privacy {
            private: self.private.unwrap_or(current.private),
            master: self.master.unwrap_or(current.master),
        }
    }

    /// The row as this flow left it.
    fn held(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<(SettingRow, Privacy), Halt> {
        let setting = self.row(frame)?;
        match setting.pending {
            Some((flow, next)) if flow == frame.flow => Ok((setting, next)),
            _ => gone("the settings", row),
        }
    }
}

impl Flow for SettingRequest {
    fn needs(&self, _site: &Site) -> Needs {
        Needs::default()
    }

    fn prepare(&self, frame: &Frame<'_>, _inputs: &Inputs) -> Result<Prepared, Halt> {
        if self.private.is_none() && self.master.is_none() {
            return refuse(
                Reason::MissingField,
                "private_enabled or master_identity_public_key: say what to change",
            );
        }
        let mut row = self.row(frame)?;
        if row.pending.is_some() {
            return refuse(
                Reason::LockConflict,
                "the settings of this wallet are being changed: try again",
            );
        }
        row.pending = Some((frame.flow, self.changed(row.current)));
        let mut changes = Changes::new();
        changes.put(frame.rows, &row)?;
        let request = Request::Setting(Box::new(self.clone())).encode()?;
        Ok(Prepared {
            changes,
            digest: digest(&request, std::iter::empty(), &[]),
            jobs: Vec::new(),
            keys: Vec::new(),
        })
    }

    fn commit(&self, _frame: &Frame<'_>, _row: &FlowRow) -> Result<Plan, Halt> {
        Ok(Plan::default())
    }

    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        _sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        self.held(frame, row)?;
        Ok(Changes::new())
    }

    fn finish(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        _outcome: &Outcome,
    ) -> Result<Changes, Halt> {
        let (mut setting, next) = self.held(frame, row)?;
        setting.current = next;
        setting.pending = None;
        let mut changes = Changes::new();
        changes.put(frame.rows, &setting)?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let (mut setting, _) = self.held(frame, row)?;
        setting.pending = None;
        let mut changes = Changes::new();
        changes.put(frame.rows, &setting)?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::Setting(self.owner)]
    }

    fn now(&self) -> Millis {
        self.now
    }
}
