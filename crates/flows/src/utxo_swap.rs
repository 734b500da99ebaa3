//! A confirmed output at a static address for leaves: `initiate_static_deposit_utxo_swap`.
//!
//! One flow: the leaves go to the address' owner exactly if the operators give their shares of
//! the provider's spend. The owner has agreed to the credit, the provider has signed the transfer
//! and the spend; no operator takes the word of another for either.

use bitcoin::OutPoint;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tinderbox_protocol::hash::{SpendStatement, StaticDepositRequest};
use tinderbox_protocol::tx::TxKind;
use tinderbox_protocol::tx::static_deposit::parse_spend;
use tinderbox_protocol::{Network, Sats};

use crate::checks::{check_ecdsa, digest, gone, plan};
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::package::OpenJob;
use crate::refusal::{Halt, Reason, refuse};
use crate::request::{Request, SendRequest};
use crate::rows::{
    AddressRow, Details, FlowId, FlowRow, JobRow, KeyshareRow, Millis, SignedSpend, TransferKind,
    UtxoHoldRow, UtxoSwapKind, UtxoSwapRow, UtxoSwapStatus,
};
use crate::secret::SealedShare;
use crate::send::fingerprint;
use crate::snapshot::Changes;
use crate::start::{self, Form, Settle, Start, Started};
use crate::utxo::{self, Output};

/// The field of requests that holds the spend.
const JOB: &str = "spend_tx_signing_job";

/// Swap an output for leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UtxoSwapRequest {
    /// The leaves, from the service provider to the address' owner.
    pub send: SendRequest,
    /// Which output.
    pub outpoint: OutPoint,
    /// Blocks that must bury it, its own counted; at least 1.
    pub confirmations: u32,
    /// The transaction that the provider will complete, and its signature (DER) over it.
    pub spend: ProviderSpend,
    /// The signature of the provider's quote, to which the owner's refers.
    pub quote_signature: Vec<u8>,
    /// The owner's signature (DER) over output, credit and quote.
    pub user_signature: Vec<u8>,
    /// 0: the older form of what is signed, 1: the structured one.
    pub hash_variant: u8,
}

/// A transaction by which a service provider takes an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderSpend {
    /// The transaction, which the provider completes with the owner's half of the key.
    pub job: OpenJob,
    /// The provider's signature (DER) over what it signs.
    pub signature: Vec<u8>,
}

impl ProviderSpend {
    /// The job, if the transaction spends the output and the provider has signed it.
    ///
    /// # Errors
    /// A refusal that names what is wrong.
    pub(crate) fn check(
        &self,
        frame: &Frame<'_>,
        output: &Output,
        provider: &bitcoin::secp256k1::PublicKey,
    ) -> Result<JobRow, Halt> {
        if output.fact.contested {
            return refuse(
                Reason::InvalidState,
                format!("utxo {} is being spent already", output.utxo.outpoint),
            );
        }
        let bad = |error| utxo::bad_spend(JOB, &error);
        let tx = parse_spend(&output.utxo, &self.job.tx, TxKind::Other).map_err(bad)?;
        let sighash = tx.sighash().map_err(bad)?;
        let txid = utxo::txid_text(&output.utxo.outpoint);
        let statement = SpendStatement {
            network: frame.site.network,
            txid: &txid,
            vout: output.utxo.outpoint.vout,
            spend_sighash: &sighash,
        };
        check_ecdsa(
            provider,
            &statement.digest(),
            &self.signature,
            "spend_signature",
        )?;
        utxo::spend_job(frame, output, &tx, &self.job, JOB)
    }
}

/// The start of the transfer of a swap.
pub(crate) fn start<'a>(send: &'a SendRequest, swap: FlowId) -> Start<'a> {
    Start {
        now: send.now,
        transfer: send.transfer,
        kind: TransferKind::UtxoSwap,
        details: Details::Utxo {
            swap: swap.0.to_vec(),
        },
        sender: send.sender,
        receivers: &send.receivers,
        package: &send.package,
        form: Form::Plain,
        settle: Settle::AtOnce,
        expiry: send.expiry,
        invoice: &send.invoice,
        fingerprint: fingerprint(send),
    }
}

/// Refuses a transfer that does not go to the owner of the address alone.
///
/// # Errors
/// A refusal that names `transfer`.
pub(crate) fn check_receiver(send: &SendRequest, address: &AddressRow) -> Result<(), Halt> {
    if !send.invoice.is_empty() {
        return refuse(
            Reason::MalformedField,
            "transfer.spark_invoice: a swap pays no invoice",
        );
    }
    if send
        .receivers
        .values()
        .any(|receiver| *receiver != address.owner)
    {
        return refuse(
            Reason::NotOwner,
            format!(
                "transfer.receiver_identity_public_key is not the owner of {}",
                address.address
            ),
        );
    }
    Ok(())
}

/// Refuses an address that is not static.
///
/// # Errors
/// That refusal.
pub(crate) fn check_static(address: &AddressRow) -> Result<(), Halt> {
    if address.is_static {
        return Ok(());
    }
    refuse(
        Reason::InvalidState,
        format!(
            "{} is not a static address: its owner makes deposits into leaves itself",
            address.address
        ),
    )
}

/// A new row, held by this flow.
pub(crate) fn new_swap(
    frame: &Frame<'_>,
    kind: UtxoSwapKind,
    address: &AddressRow,
    value: Sats,
    send: &SendRequest,
    credit: Sats,
) -> UtxoSwapRow {
    UtxoSwapRow {
        id: frame.flow,
        kind,
        status: UtxoSwapStatus::Created,
        network: frame.site.network,
        script: address.script.clone(),
        value,
        outpoint: None,
        owner: address.owner,
        provider: Some(send.sender),
        credit,
        transfer: Some(send.transfer),
        secondary: None,
        fingerprint: fingerprint(send),
        held: Some(frame.flow),
        signed: None,
        created: send.now,
        updated: send.now,
    }
}

/// A transfer and a spend in one flow: the spend is the last job, its key the last of the plan.
pub(crate) fn together(
    site: &Site,
    started: Started,
    request: &[u8],
    keyshare: &KeyshareRow,
    spend: JobRow,
) -> Prepared {
    let spend = vec![spend];
    let mut both = Sha256::new();
    both.update(b"tinderbox/utxo/1");
    both.update(started.digest);
    both.update(digest(request, [(keyshare, &[][..])].into_iter(), &spend));
    let mut keys = started.keys;
    keys.extend(plan(site, &spend, vec![utxo::key_part(keyshare, 0)]).keys);
    let mut jobs = started.jobs;
    jobs.extend(spend);
    Prepared {
        changes: started.changes,
        digest: both.finalize().into(),
        jobs,
        keys,
    }
}

/// Adds the spend, which is the last job, to a plan.
///
/// # Errors
/// A miss, or a fault if rows are gone.
pub(crate) fn add_spend(
    frame: &Frame<'_>,
    row: &FlowRow,
    swap: &UtxoSwapRow,
    plan_: &mut Plan,
) -> Result<(), Halt> {
    let Some(address) = frame.rows.get::<AddressRow>(swap.script.to_bytes())? else {
        return gone("the address", row);
    };
    let Some(keyshare) = frame.rows.get::<KeyshareRow>(address.keyshare.0.to_vec())? else {
        return gone("the address' key share", row);
    };
    let spend = plan(
        frame.site,
        &row.jobs,
        vec![utxo::key_part(&keyshare, last(row))],
    );
    plan_.keys.extend(spend.keys);
    plan_.places.extend(spend.places);
    Ok(())
}

/// The shares of the spend, which is the last job.
pub(crate) fn signed(row: &FlowRow, outcome: &Outcome) -> Option<SignedSpend> {
    SignedSpend::of(row.jobs.last()?, outcome.jobs.last()?)
}

/// The place of the last job.
fn last(row: &FlowRow) -> u32 {
    u32::try_from(row.jobs.len().saturating_sub(1)).unwrap_or(u32::MAX)
}

/// Applies the transfer's part of what the signer gave.
///
/// # Errors
/// As [`start::apply`].
pub(crate) fn apply_send(
    frame: &Frame<'_>,
    row: &FlowRow,
    send: &SendRequest,
    sealed: &[Option<SealedShare>],
) -> Result<Changes, Halt> {
    let leaves = send.receivers.len();
    let sealed = sealed.get(..leaves).unwrap_or(sealed);
    start::apply(frame, row, &send.transfer, Settle::AtOnce, sealed)
}

/// A swap that this flow holds.
///
/// # Errors
/// A miss, or a fault if it does not.
pub(crate) fn held(frame: &Frame<'_>, row: &FlowRow, swap: FlowId) -> Result<UtxoSwapRow, Halt> {
    match frame.rows.get::<UtxoSwapRow>(swap.0.to_vec())? {
        Some(swap) if swap.held == Some(frame.flow) => Ok(swap),
        _ => gone("the swap", row),
    }
}

impl UtxoSwapRequest {
    fn check_owner(&self, network: Network, output: &Output, credit: Sats) -> Result<(), Halt> {
        if credit > output.value() {
            return refuse(
                Reason::MalformedField,
                format!(
                    "the utxo amount is not enough to cover the claim amount: {} of {} sats",
                    output.value().0,
                    credit.0
                ),
            );
        }
        utxo::check_statement(
            network,
            output,
            credit,
            StaticDepositRequest::Fixed {
                quote_signature: &self.quote_signature,
            },
            &self.user_signature,
            self.hash_variant,
        )
    }
}

impl Flow for UtxoSwapRequest {
    fn needs(&self, site: &Site) -> Needs {
        Needs {
            outputs: vec![self.outpoint],
            ..start::needs(site, &self.send.package)
        }
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        if self.confirmations == 0 {
            return refuse(
                Reason::MalformedField,
                "confirmation_threshold must be 1 or more",
            );
        }
        let output = utxo::find(frame, inputs, &self.outpoint, self.confirmations)?;
        check_static(&output.address)?;
        check_receiver(&self.send, &output.address)?;
        utxo::check_signable(frame, &output)?;
        if let Some(swap) = utxo::promised(frame, inputs, &output)? {
            return Err(utxo::registered(&self.outpoint, &swap));
        }
        let request = Request::UtxoSwap(Box::new(self.clone())).encode()?;
        let mut started = start(&self.send, frame.flow).prepare(frame, inputs, &request)?;
        let credit = started.transfer.total();
        self.check_owner(frame.site.network, &output, credit)?;
        let spend = self.spend.check(frame, &output, &self.send.sender)?;
        let swap = UtxoSwapRow {
            outpoint: Some(self.outpoint),
            ..new_swap(
                frame,
                UtxoSwapKind::Fixed,
                &output.address,
                output.value(),
                &self.send,
                credit,
            )
        };
        started.changes.put(frame.rows, &swap)?;
        started.changes.put(
            frame.rows,
            &UtxoHoldRow {
                what: UtxoHoldRow::output(&self.outpoint),
                swap: swap.id,
            },
        )?;
        Ok(together(
            frame.site,
            started,
            &request,
            &output.keyshare,
            spend,
        ))
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        let swap = held(frame, row, frame.flow)?;
        let mut plan = start::commit(frame, row, &self.send.transfer, Settle::AtOnce)?;
        add_spend(frame, row, &swap, &mut plan)?;
        Ok(plan)
    }

    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        let mut changes = apply_send(frame, row, &self.send, sealed)?;
        // From here on shares may be out.
        let swap = UtxoSwapRow {
            status: UtxoSwapStatus::Completed,
            ..held(frame, row, frame.flow)?
        };
        changes.put(frame.rows, &swap)?;
        Ok(changes)
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        let (id, now) = (&self.send.transfer, self.send.now);
        let (_, mut changes) = start::finish(frame, row, id, Settle::AtOnce, now, outcome)?;
        let swap = UtxoSwapRow {
            held: None,
            signed: signed(row, outcome),
            updated: now,
            ..held(frame, row, frame.flow)?
        };
        changes.put(frame.rows, &swap)?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let swap = held(frame, row, frame.flow)?;
        let mut changes = start::rollback(frame, row, &self.send.transfer)?;
        changes.delete::<UtxoSwapRow>(frame.rows, swap.id.0.to_vec())?;
        changes.delete::<UtxoHoldRow>(frame.rows, UtxoHoldRow::output(&self.outpoint))?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::Transfer(self.send.transfer)]
    }

    fn now(&self) -> Millis {
        self.send.now
    }
}
