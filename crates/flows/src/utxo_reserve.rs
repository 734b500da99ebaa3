//! Leaves now for an output that is still to be confirmed:
//! `reserve_instant_static_deposit_utxo_swap`.
//!
//! The output is known by address and value only: until it is in a block another transaction may
//! take its place. So the provider gets the *next* output of that value at that address, once; it
//! carries the risk that none comes. There is no way back after the leaves are sent.

use bitcoin::{OutPoint, ScriptBuf};
use serde::{Deserialize, Serialize};
use tinderbox_protocol::hash::InstantStatement;
use tinderbox_protocol::{Sats, TransferId};

use crate::checks::check_ecdsa;
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::{Request, SendRequest};
use crate::rows::{AddressRow, FlowRow, Millis, UtxoHoldRow, UtxoSwapKind, UtxoSwapRow};
use crate::secret::SealedShare;
use crate::snapshot::Changes;
use crate::start::{self, Settle};
use crate::utxo;
use crate::utxo_swap::{check_receiver, check_static, held, new_swap, start};

/// Pay for an output before it is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UtxoReserveRequest {
    /// The leaves, from the service provider to the address' owner.
    pub send: SendRequest,
    /// The address, as a script.
    pub script: ScriptBuf,
    /// Value of the output.
    pub value: Sats,
    /// What the leaves are worth.
    pub credit: Sats,
    /// What the owner gets beside it when the output is claimed, and by which transfer.
    pub secondary: Option<(TransferId, Sats)>,
    /// The output as the provider has seen it, if it has.
    pub seen: Option<OutPoint>,
    /// The signature of the provider's quote, to which the owner's refers.
    pub quote_signature: Vec<u8>,
    /// The owner's signature (DER) over amounts, address and quote.
    pub user_signature: Vec<u8>,
}

impl UtxoReserveRequest {
    fn address(&self, frame: &Frame<'_>) -> Result<AddressRow, Halt> {
        let address = frame
            .rows
            .get::<AddressRow>(self.script.to_bytes())?
            .filter(|address| address.proof.is_some());
        match address {
            Some(address) => Ok(address),
            None => refuse(
                Reason::MissingEntity,
                "destination_address is not a deposit address of these operators",
            ),
        }
    }

    fn secondary_credit(&self) -> Sats {
        self.secondary.map_or(Sats::ZERO, |(_, credit)| credit)
    }

    /// What the owner signed. It names no output, so it is good for one swap only.
    fn consent(&self, frame: &Frame<'_>, address: &AddressRow) -> [u8; 32] {
        InstantStatement {
            network: frame.site.network,
            credit: self.credit,
            secondary_credit: self.secondary_credit(),
            destination_address: &address.address,
            deposit: self.value,
            quote_signature: &self.quote_signature,
        }
        .digest()
    }

    fn check_amounts(&self, sent: Sats) -> Result<(), Halt> {
        if sent != self.credit {
            return refuse(
                Reason::MalformedField,
                format!(
                    "credit_amount_sats is {}, the leaves of transfer hold {}",
                    self.credit.0, sent.0
                ),
            );
        }
        let all = self.credit.0.saturating_add(self.secondary_credit().0);
        if all > self.value.0 {
            return refuse(
                Reason::MalformedField,
                format!(
                    "the utxo amount is not enough to cover the claim amount: {} of {all} sats",
                    self.value.0
                ),
            );
        }
        if self
            .secondary
            .is_some_and(|(id, credit)| credit == Sats::ZERO || id == self.send.transfer)
        {
            return refuse(
                Reason::MalformedField,
                "secondary_credit_amount_sats must not be 0, nor its transfer the first one",
            );
        }
        Ok(())
    }

    /// Refuses if the output, the next of its value, or the owner's word is given away already.
    fn check_free(&self, frame: &Frame<'_>, consent: &[u8; 32]) -> Result<(), Halt> {
        let slot = UtxoHoldRow::slot(&self.script, self.value);
        if let Some(hold) = frame.rows.get::<UtxoHoldRow>(slot)? {
            return Err(Refusal::new(
                Reason::DuplicateOperation,
                "utxo swap is already registered: the next output of this value at this address is paid for",
            )
            .held_by(utxo::swap(frame, &hold)?.held)
            .into());
        }
        let consent = UtxoHoldRow::consent(consent);
        if frame.rows.get::<UtxoHoldRow>(consent)?.is_some() {
            return refuse(
                Reason::DuplicateOperation,
                "user_signature has served for another swap: ask the owner to agree to a new quote",
            );
        }
        if let Some(seen) = &self.seen
            && let Some(hold) = frame.rows.get::<UtxoHoldRow>(UtxoHoldRow::output(seen))?
        {
            return Err(utxo::registered(seen, &utxo::swap(frame, &hold)?));
        }
        Ok(())
    }
}

impl Flow for UtxoReserveRequest {
    fn needs(&self, site: &Site) -> Needs {
        start::needs(site, &self.send.package)
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        let address = self.address(frame)?;
        check_static(&address)?;
        check_receiver(&self.send, &address)?;
        let consent = self.consent(frame, &address);
        self.check_free(frame, &consent)?;
        let request = Request::UtxoReserve(Box::new(self.clone())).encode()?;
        let mut started = start(&self.send, frame.flow).prepare(frame, inputs, &request)?;
        self.check_amounts(started.transfer.total())?;
        check_ecdsa(
            &address.owner,
            &consent,
            &self.user_signature,
            "user_signature",
        )?;
        let swap = UtxoSwapRow {
            secondary: self.secondary,
            ..new_swap(
                frame,
                UtxoSwapKind::Instant,
                &address,
                self.value,
                &self.send,
                self.credit,
            )
        };
        started.changes.put(frame.rows, &swap)?;
        for what in [
            UtxoHoldRow::slot(&self.script, self.value),
            UtxoHoldRow::consent(&consent),
        ] {
            let hold = UtxoHoldRow {
                what,
                swap: swap.id,
            };
            started.changes.put(frame.rows, &hold)?;
        }
        Ok(started.prepared())
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        start::commit(frame, row, &self.send.transfer, Settle::AtOnce)
    }

    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        start::apply(frame, row, &self.send.transfer, Settle::AtOnce, sealed)
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        let (id, now) = (&self.send.transfer, self.send.now);
        let (_, mut changes) = start::finish(frame, row, id, Settle::AtOnce, now, outcome)?;
        let swap = UtxoSwapRow {
            held: None,
            updated: now,
            ..held(frame, row, frame.flow)?
        };
        changes.put(frame.rows, &swap)?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let swap = held(frame, row, frame.flow)?;
        let consent = self.consent(frame, &self.address(frame)?);
        let mut changes = start::rollback(frame, row, &self.send.transfer)?;
        changes.delete::<UtxoSwapRow>(frame.rows, swap.id.0.to_vec())?;
        let slot = UtxoHoldRow::slot(&self.script, self.value);
        changes.delete::<UtxoHoldRow>(frame.rows, slot)?;
        changes.delete::<UtxoHoldRow>(frame.rows, UtxoHoldRow::consent(&consent))?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::Transfer(self.send.transfer)]
    }

    fn now(&self) -> Millis {
        self.send.now
    }
}
