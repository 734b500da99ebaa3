//! Giving a transfer that waits for something back to its sender.
//!
//! A flow like any other: from its votes on nobody can settle the transfer, and it happens on all
//! operators or on none. Keys stay as they are: what was staged was never applied.

use serde::{Deserialize, Serialize};
use tinderbox_protocol::TransferId;

use crate::checks::digest;
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::give_back;
use crate::refusal::{Halt, Reason, Refusal};
use crate::request::Request;
use crate::return_rule::{self, Why};
use crate::rows::{FlowRow, Millis};
use crate::secret::SealedShare;
use crate::settle;
use crate::snapshot::Changes;
use crate::start::{held, leaves_of, transfer};

/// Give a transfer back to its sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// Which transfer.
    pub transfer: TransferId,
    /// Why.
    pub why: Why,
}

impl Flow for ReturnRequest {
    fn needs(&self, _site: &Site) -> Needs {
        Needs::default()
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        let Some(row) = transfer(frame, &self.transfer)? else {
            return Err(Refusal::new(
                Reason::MissingEntity,
                format!("transfer {} is not known here: check the id", self.transfer),
            )
            .into());
        };
        settle::check_free(&row)?;
        let leaves = leaves_of(frame, &row)?;
        return_rule::check(inputs, &row, &self.why)?;
        let proofs = |leaf| {
            row.leaves
                .iter()
                .find(|sent| sent.leaf == leaf)
                .map_or(&[][..], |sent| &sent.send_proofs)
        };
        let request = Request::Return(Box::new(self.clone())).encode()?;
        let digest = digest(
            &request,
            leaves
                .iter()
                .map(|(leaf, (_, keyshare))| (keyshare, proofs(*leaf))),
            &[],
        );
        let mut changes = Changes::new();
        give_back::hold(frame, row, self.now, &mut changes)?;
        Ok(Prepared {
            changes,
            digest,
            jobs: Vec::new(),
            keys: Vec::new(),
        })
    }

    fn commit(&self, _frame: &Frame<'_>, _row: &FlowRow) -> Result<Plan, Halt> {
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

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, _: &Outcome) -> Result<Changes, Halt> {
        let mut transfer = held(frame, &self.transfer, row)?;
        let mut changes = Changes::new();
        give_back::finish(frame, &mut transfer, self.now, &mut changes)?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let transfer = held(frame, &self.transfer, row)?;
        let status = transfer.status;
        let mut changes = Changes::new();
        settle::rollback(frame, transfer, status, &mut changes)?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::Transfer(self.transfer)]
    }

    fn now(&self) -> Millis {
        self.now
    }
}
