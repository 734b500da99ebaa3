//! Settling a hash lock: `provide_preimage`, and what follows a payment from Lightning.
//!
//! The preimage is the authority: whoever shows it makes the transfer go to its receiver, to whom
//! the sender has promised it for the preimage.

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::TransferId;

use super::lock_of;
use crate::checks::{digest, gone};
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::Request;
use crate::rows::{FlowRow, HashLockRow, HashLockState, Millis, NodeStatus, TransferStatus};
use crate::secret::{Preimage, SealedShare};
use crate::settle;
use crate::snapshot::Changes;
use crate::start::{held, transfer};

/// Settle a transfer with its preimage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreimageRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// Which transfer.
    pub transfer: TransferId,
    /// The receiver's identity key.
    pub receiver: PublicKey,
    /// The preimage.
    pub preimage: Preimage,
}

impl PreimageRequest {
    /// The hash lock, if this preimage settles it.
    fn open(&self, frame: &Frame<'_>) -> Result<HashLockRow, Halt> {
        let lock = match lock_of(frame, &self.transfer)? {
            Some(lock) if lock.receiver == self.receiver => lock,
            _ => {
                return refuse(
                    Reason::MissingEntity,
                    format!(
                        "transfer {} waits for no preimage of this receiver",
                        self.transfer
                    ),
                );
            }
        };
        if self.preimage.payment_hash() != lock.payment_hash {
            return refuse(
                Reason::MalformedField,
                "invalid preimage: it has another hash than payment_hash",
            );
        }
        match lock.state {
            HashLockState::Waiting | HashLockState::Revealed(_) => Ok(lock),
            HashLockState::Shared(_) => Err(Refusal::new(
                Reason::DuplicateOperation,
                format!("transfer {} is settled: query it", self.transfer),
            )
            .into()),
            HashLockState::Returned => refuse(
                Reason::Expired,
                format!(
                    "transfer {} is RETURNED: its time was over before the preimage came",
                    self.transfer
                ),
            ),
        }
    }

    fn lock(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<HashLockRow, Halt> {
        match lock_of(frame, &self.transfer)? {
            Some(lock) => Ok(lock),
            None => gone("the hash lock", row),
        }
    }
}

impl Flow for PreimageRequest {
    fn needs(&self, _site: &Site) -> Needs {
        Needs::default()
    }

    fn prepare(&self, frame: &Frame<'_>, _inputs: &Inputs) -> Result<Prepared, Halt> {
        let lock = self.open(frame)?;
        let Some(transfer) = transfer(frame, &self.transfer)? else {
            return refuse(
                Reason::MissingEntity,
                format!("transfer {} does not exist", self.transfer),
            );
        };
        let status = TransferStatus::SenderKeyTweakPending;
        let held = settle::hold(frame, transfer, status, &lock.jobs)?;
        // The preimage must not be given away for leaves that the sender has taken on chain.
        if let Some((node, _)) = held
            .leaves
            .values()
            .find(|(node, _)| node.status == NodeStatus::Exited)
        {
            return refuse(
                Reason::InvalidState,
                format!(
                    "leaf {} of transfer {} is {}: its sender has taken it on chain",
                    node.id,
                    self.transfer,
                    node.status.name()
                ),
            );
        }
        let request = Request::Preimage(Box::new(self.clone())).encode()?;
        let digest = digest(&request, held.tweaks(), &lock.jobs);
        let mut changes = Changes::new();
        changes.put(frame.rows, &held.transfer)?;
        Ok(Prepared {
            changes,
            digest,
            jobs: lock.jobs,
            keys: held.keys,
        })
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        let transfer = held(frame, &self.transfer, row)?;
        settle::commit(frame, &transfer, &row.jobs)
    }

    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        let mut transfer = held(frame, &self.transfer, row)?;
        let mut changes = Changes::new();
        settle::apply(frame, row, &mut transfer, sealed, &mut changes)?;
        Ok(changes)
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        let mut transfer = held(frame, &self.transfer, row)?;
        let mut lock = self.lock(frame, row)?;
        settle::sign(&mut transfer, row, outcome)?;
        let mut changes = Changes::new();
        settle::finish(frame, &mut transfer, self.now, &mut changes)?;
        lock.end(HashLockState::Shared(self.preimage.clone()), self.now);
        changes.put(frame.rows, &lock)?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let transfer = held(frame, &self.transfer, row)?;
        let mut changes = Changes::new();
        let status = TransferStatus::SenderKeyTweakPending;
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
