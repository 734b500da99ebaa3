//! The output of a reservation: `claim_instant_static_deposit_utxo_swap`.
//!
//! Once an output of the reserved value at the reserved address is in a block, whichever
//! transaction made it, the provider takes it, and the owner gets the rest of its credit if some
//! was agreed on.

use bitcoin::OutPoint;
use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

use crate::checks::{digest, plan};
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::{Request, SendRequest};
use crate::rows::{
    FlowId, FlowRow, Millis, UtxoHoldRow, UtxoSwapKind, UtxoSwapRow, UtxoSwapStatus,
};
use crate::secret::SealedShare;
use crate::snapshot::Changes;
use crate::start::{self, Settle, Started};
use crate::utxo::{self, Output};
use crate::utxo_swap::{
    ProviderSpend, add_spend, apply_send, check_receiver, held, signed, start, together,
};

/// Confirmations of an output that a provider has paid for already: the risk is its own.
const CONFIRMATIONS: u32 = 1;

/// Take the output of a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UtxoClaimRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// The reservation.
    pub swap: FlowId,
    /// The service provider.
    pub provider: PublicKey,
    /// The output.
    pub outpoint: OutPoint,
    /// The rest of the owner's credit, exactly if one was agreed on.
    pub secondary: Option<SendRequest>,
    /// The transaction that the provider will complete, and its signature (DER) over it.
    pub spend: ProviderSpend,
}

impl UtxoClaimRequest {
    /// The reservation, if this provider may claim it now.
    fn reserved(&self, frame: &Frame<'_>) -> Result<UtxoSwapRow, Halt> {
        let swap = frame
            .rows
            .get::<UtxoSwapRow>(self.swap.0.to_vec())?
            .filter(|swap| swap.kind == UtxoSwapKind::Instant);
        let Some(swap) = swap else {
            return refuse(
                Reason::MissingEntity,
                "utxo_swap_id names no reservation of these operators",
            );
        };
        if swap.provider != Some(self.provider) {
            return refuse(
                Reason::NotOwner,
                "utxo_swap_id names another provider's reservation",
            );
        }
        if swap.held.is_some() {
            return Err(Refusal::new(
                Reason::LockConflict,
                "the reservation is being made or claimed by another call: try again",
            )
            .held_by(swap.held)
            .into());
        }
        if swap.status != UtxoSwapStatus::Created {
            return refuse(
                Reason::DuplicateOperation,
                "the reservation has been claimed: sign_static_deposit_sweep_tx signs other transactions that spend its output",
            );
        }
        Ok(swap)
    }

    fn output(
        &self,
        frame: &Frame<'_>,
        inputs: &Inputs,
        swap: &UtxoSwapRow,
    ) -> Result<Output, Halt> {
        let output = utxo::find(frame, inputs, &self.outpoint, CONFIRMATIONS)?;
        if output.address.script != swap.script || output.value() != swap.value {
            return refuse(
                Reason::MalformedField,
                format!(
                    "on_chain_utxo: {} pays {} sats to {}, which is not what was reserved",
                    self.outpoint,
                    output.value().0,
                    output.address.address
                ),
            );
        }
        let hold = UtxoHoldRow::output(&self.outpoint);
        if let Some(hold) = frame.rows.get::<UtxoHoldRow>(hold)? {
            return Err(utxo::registered(&self.outpoint, &utxo::swap(frame, &hold)?));
        }
        Ok(output)
    }

    /// The start of the second transfer, if there is to be one.
    fn second(
        &self,
        frame: &Frame<'_>,
        inputs: &Inputs,
        swap: &UtxoSwapRow,
        output: &Output,
        request: &[u8],
    ) -> Result<Option<Started>, Halt> {
        let (Some((id, credit)), Some(send)) = (swap.secondary, &self.secondary) else {
            return match (swap.secondary, &self.secondary) {
                (None, None) => Ok(None),
                (Some((id, credit)), None) => refuse(
                    Reason::MissingField,
                    format!("transfer: {id} of {} sats was agreed on", credit.0),
                ),
                _ => refuse(Reason::MalformedField, "transfer: none was agreed on"),
            };
        };
        if send.sender != self.provider || send.transfer != id {
            return refuse(
                Reason::MalformedField,
                format!("transfer.transfer_id must be {id}, of the provider"),
            );
        }
        check_receiver(send, &output.address)?;
        let started = start(send, swap.id).prepare(frame, inputs, request)?;
        if started.transfer.total() != credit {
            return refuse(
                Reason::MalformedField,
                format!(
                    "transfer: its leaves hold {} sats, {} were agreed on",
                    started.transfer.total().0,
                    credit.0
                ),
            );
        }
        Ok(Some(started))
    }

    fn claimed(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<UtxoSwapRow, Halt> {
        held(frame, row, self.swap)
    }
}

impl Flow for UtxoClaimRequest {
    fn needs(&self, site: &Site) -> Needs {
        let transfer = self.secondary.as_ref();
        Needs {
            outputs: vec![self.outpoint],
            package: transfer.and_then(|send| start::needs(site, &send.package).package),
        }
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        let swap = self.reserved(frame)?;
        let output = self.output(frame, inputs, &swap)?;
        utxo::check_signable(frame, &output)?;
        let request = Request::UtxoClaim(Box::new(self.clone())).encode()?;
        let second = self.second(frame, inputs, &swap, &output, &request)?;
        let spend = self.spend.check(frame, &output, &self.provider)?;
        let mut prepared = match second {
            Some(started) => together(frame.site, started, &request, &output.keyshare, spend),
            None => {
                let jobs = vec![spend];
                let key = utxo::key_part(&output.keyshare, 0);
                Prepared {
                    changes: Changes::new(),
                    digest: digest(&request, [(&output.keyshare, &[][..])].into_iter(), &jobs),
                    keys: plan(frame.site, &jobs, vec![key]).keys,
                    jobs,
                }
            }
        };
        let hold = UtxoHoldRow {
            what: UtxoHoldRow::output(&self.outpoint),
            swap: swap.id,
        };
        prepared.changes.put(frame.rows, &hold)?;
        prepared.changes.put(
            frame.rows,
            &UtxoSwapRow {
                held: Some(frame.flow),
                ..swap
            },
        )?;
        Ok(prepared)
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        let swap = self.claimed(frame, row)?;
        let mut plan = match &self.secondary {
            Some(send) => start::commit(frame, row, &send.transfer, Settle::AtOnce)?,
            None => Plan::default(),
        };
        add_spend(frame, row, &swap, &mut plan)?;
        Ok(plan)
    }

    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        let mut changes = match &self.secondary {
            Some(send) => apply_send(frame, row, send, sealed)?,
            None => Changes::new(),
        };
        let swap = self.claimed(frame, row)?;
        // The next output of this value is free again, now that this one is not.
        let slot = UtxoHoldRow::slot(&swap.script, swap.value);
        changes.delete::<UtxoHoldRow>(frame.rows, slot)?;
        changes.put(
            frame.rows,
            &UtxoSwapRow {
                status: UtxoSwapStatus::Completed,
                outpoint: Some(self.outpoint),
                ..swap
            },
        )?;
        Ok(changes)
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        let mut changes = match &self.secondary {
            Some(send) => {
                let id = &send.transfer;
                start::finish(frame, row, id, Settle::AtOnce, self.now, outcome)?.1
            }
            None => Changes::new(),
        };
        let swap = UtxoSwapRow {
            held: None,
            signed: signed(row, outcome),
            updated: self.now,
            ..self.claimed(frame, row)?
        };
        changes.put(frame.rows, &swap)?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let swap = self.claimed(frame, row)?;
        let mut changes = match &self.secondary {
            Some(send) => start::rollback(frame, row, &send.transfer)?,
            None => Changes::new(),
        };
        changes.put(frame.rows, &UtxoSwapRow { held: None, ..swap })?;
        changes.delete::<UtxoHoldRow>(frame.rows, UtxoHoldRow::output(&self.outpoint))?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        self.secondary
            .iter()
            .map(|send| Touch::Transfer(send.transfer))
            .collect()
    }

    fn now(&self) -> Millis {
        self.now
    }
}
