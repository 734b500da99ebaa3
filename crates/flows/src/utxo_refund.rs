//! Refunds: `initiate_static_deposit_utxo_refund`.
//!
//! The owner of a deposit address takes an output back on chain. It may do so again and again, to
//! other places and with other fees, as long as no transaction that spends the output is in a
//! block; but never beside a swap for leaves, which would pay it twice. Every operator has the
//! refund in its rows before any of them gives a share.

use bitcoin::OutPoint;
use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::Sats;
use tinderbox_protocol::hash::StaticDepositRequest;
use tinderbox_protocol::tx::UnsignedTx;
use tinderbox_protocol::tx::static_deposit::{paid, parse_refund};

use crate::checks::{digest, gone, plan};
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::package::OpenJob;
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::Request;
use crate::rows::{
    AddressRow, FlowRow, Millis, UtxoHoldRow, UtxoSwapKind, UtxoSwapRow, UtxoSwapStatus,
};
use crate::secret::SealedShare;
use crate::snapshot::Changes;
use crate::utxo::{self, Output};

/// The field of the request that holds the transaction.
const JOB: &str = "refund_tx_signing_job";

/// Take an output at a deposit address back on chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UtxoRefundRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// Identity key of the address' owner.
    pub owner: PublicKey,
    /// Which output.
    pub outpoint: OutPoint,
    /// The transaction that the owner will complete.
    pub spend: OpenJob,
    /// The owner's signature (DER) over output, amount and transaction.
    pub user_signature: Vec<u8>,
    /// 0: the older form of what is signed, 1: the structured one.
    pub hash_variant: u8,
}

impl UtxoRefundRequest {
    fn output(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Output, Halt> {
        let depth = frame.site.deposit_confirmations;
        let output = utxo::find(frame, inputs, &self.outpoint, depth)?;
        if output.address.owner != self.owner {
            return refuse(
                Reason::NotOwner,
                format!(
                    "the deposit address {} is not owned by {}",
                    output.address.address, self.owner
                ),
            );
        }
        utxo::check_signable(frame, &output)?;
        Ok(output)
    }

    fn tx(&self, frame: &Frame<'_>, output: &Output) -> Result<UnsignedTx, Halt> {
        let bad = |error| utxo::bad_spend(JOB, &error);
        let tx = parse_refund(&output.utxo, &self.spend.tx).map_err(bad)?;
        let sighash = tx.sighash().map_err(bad)?;
        let credit = paid(&tx.output).unwrap_or_default();
        utxo::check_statement(
            frame.site.network,
            output,
            Sats::from(credit),
            StaticDepositRequest::Refund {
                spend_sighash: &sighash,
            },
            &self.user_signature,
            self.hash_variant,
        )?;
        Ok(tx)
    }

    /// The row with which this flow goes on: a new one, or the one of an earlier refund.
    fn register(
        &self,
        frame: &Frame<'_>,
        inputs: &Inputs,
        output: &Output,
    ) -> Result<UtxoSwapRow, Halt> {
        let Some(swap) = utxo::promised(frame, inputs, output)? else {
            return Ok(UtxoSwapRow {
                id: frame.flow,
                kind: UtxoSwapKind::Refund,
                status: UtxoSwapStatus::Created,
                network: frame.site.network,
                script: output.address.script.clone(),
                value: output.value(),
                outpoint: Some(self.outpoint),
                owner: self.owner,
                provider: None,
                credit: Sats::ZERO,
                transfer: None,
                secondary: None,
                fingerprint: [0; 32],
                held: Some(frame.flow),
                signed: None,
                created: self.now,
                updated: self.now,
            });
        };
        if swap.kind != UtxoSwapKind::Refund || swap.owner != self.owner {
            return Err(utxo::registered(&self.outpoint, &swap));
        }
        if swap.held.is_some() {
            return Err(Refusal::new(
                Reason::LockConflict,
                format!(
                    "another refund of {} is being agreed on: try again",
                    self.outpoint
                ),
            )
            .held_by(swap.held)
            .into());
        }
        Ok(UtxoSwapRow {
            held: Some(frame.flow),
            ..swap
        })
    }

    /// The row that this flow holds.
    fn held(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<UtxoSwapRow, Halt> {
        let hold = frame
            .rows
            .get::<UtxoHoldRow>(UtxoHoldRow::output(&self.outpoint))?;
        match hold.map(|hold| utxo::swap(frame, &hold)).transpose()? {
            Some(swap) if swap.held == Some(frame.flow) => Ok(swap),
            _ => gone("the refund", row),
        }
    }
}

impl Flow for UtxoRefundRequest {
    fn needs(&self, _site: &Site) -> Needs {
        Needs {
            outputs: vec![self.outpoint],
            ..Needs::default()
        }
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        let output = self.output(frame, inputs)?;
        let swap = self.register(frame, inputs, &output)?;
        let tx = self.tx(frame, &output)?;
        let jobs = vec![utxo::spend_job(frame, &output, &tx, &self.spend, JOB)?];
        let request = Request::UtxoRefund(Box::new(self.clone())).encode()?;
        let digest = digest(&request, [(&output.keyshare, &[][..])].into_iter(), &jobs);
        let keys = plan(frame.site, &jobs, vec![utxo::key_part(&output.keyshare, 0)]).keys;
        let mut changes = Changes::new();
        changes.put(frame.rows, &swap)?;
        changes.put(
            frame.rows,
            &UtxoHoldRow {
                what: UtxoHoldRow::output(&self.outpoint),
                swap: swap.id,
            },
        )?;
        Ok(Prepared {
            changes,
            digest,
            jobs,
            keys,
        })
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        let swap = self.held(frame, row)?;
        match frame.rows.get::<AddressRow>(swap.script.to_bytes())? {
            Some(address) => utxo::spend_plan(frame, row, &address),
            None => gone("the address", row),
        }
    }

    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        _sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        // From here on shares may be out.
        let swap = UtxoSwapRow {
            status: UtxoSwapStatus::Completed,
            ..self.held(frame, row)?
        };
        let mut changes = Changes::new();
        changes.put(frame.rows, &swap)?;
        Ok(changes)
    }

    fn finish(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        _outcome: &Outcome,
    ) -> Result<Changes, Halt> {
        // Without shares too: the owner may ask again.
        let swap = UtxoSwapRow {
            held: None,
            updated: self.now,
            ..self.held(frame, row)?
        };
        let mut changes = Changes::new();
        changes.put(frame.rows, &swap)?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let swap = self.held(frame, row)?;
        let mut changes = Changes::new();
        if swap.id == frame.flow {
            changes.delete::<UtxoSwapRow>(frame.rows, swap.id.0.to_vec())?;
            changes.delete::<UtxoHoldRow>(frame.rows, UtxoHoldRow::output(&self.outpoint))?;
        } else {
            changes.put(frame.rows, &UtxoSwapRow { held: None, ..swap })?;
        }
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        Vec::new()
    }

    fn now(&self) -> Millis {
        self.now
    }
}
