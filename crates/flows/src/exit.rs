//! Cooperative exit: `cooperative_exit_v2`.
//!
//! Leaves go to a provider that pays out on chain. The refunds that the provider gets need an
//! output of a connector transaction, which spends the exit transaction: so they hold only if the
//! payout confirms. The sender's tweaks stay staged until every operator has seen it confirm
//! ([`exit_settle`](crate::exit_settle)), or until it lapses unseen
//! ([`exit_return`](crate::exit_return)).

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Txid};
use sha2::{Digest, Sha256};
use tinderbox_protocol::LeafId;
use tinderbox_protocol::tx::connector::ConnectorTx;
use tinderbox_protocol::tx::{TxKind, Utxo, parse_any};

use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::{ExitRequest, Request};
use crate::rows::{Details, ExitRow, ExitState, FlowRow, Millis, TransferKind, TransferStatus};
use crate::secret::SealedShare;
use crate::snapshot::Changes;
use crate::start::{self, Form, Settle, Start};

const SETTLE: Settle = Settle::Later(TransferStatus::SenderKeyTweakPending);

/// Tells a retry of a request from another request under the same id.
#[must_use]
pub fn fingerprint(request: &ExitRequest) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"tinderbox/exit/1");
    hash.update(request.transfer.bytes16());
    hash.update(request.sender.serialize());
    hash.update(request.receiver.serialize());
    hash.update(request.exit);
    hash.update(request.exit_txid);
    hash.update(Sha256::digest(&request.connector_tx));
    hash.update(&request.package.user_signature);
    hash.finalize().into()
}

/// What the connector transaction says.
struct Connectors {
    /// The exit transaction's output that it spends.
    funds: OutPoint,
    /// The output that each leaf's refunds need.
    leaves: BTreeMap<LeafId, Utxo>,
}

fn bad_connector(error: &tinderbox_protocol::Error) -> Halt {
    Refusal::new(Reason::MalformedField, format!("connector_tx: {error}")).into()
}

impl ExitRequest {
    /// The connectors of all leaves, each of which names its own.
    fn connectors(&self) -> Result<Connectors, Halt> {
        let jobs = self.package.by_leaf()?;
        let raw = &self.connector_tx;
        let unchecked = parse_any(raw, TxKind::Connector).map_err(|error| bad_connector(&error))?;
        let Some(funds) = unchecked.input.first().map(|input| input.previous_output) else {
            return refuse(Reason::MalformedField, "connector_tx has no inputs");
        };
        // Wallets differ in the order of the bytes; the connector transaction knows.
        let mut displayed = self.exit_txid;
        displayed.reverse();
        if ![self.exit_txid, displayed]
            .map(Txid::from_byte_array)
            .contains(&funds.txid)
        {
            return refuse(
                Reason::MalformedField,
                format!(
                    "connector_tx spends an output of {}, which is not the exit_txid of this request",
                    funds.txid
                ),
            );
        }
        let tx = ConnectorTx::parse(raw, funds.txid, jobs.len())
            .map_err(|error| bad_connector(&error))?;
        let txid = tx.tx().compute_txid();
        let mut taken = BTreeSet::new();
        let mut leaves = BTreeMap::new();
        for (leaf, sent) in &jobs {
            let refund = parse_any(&sent.cpfp.tx, TxKind::CpfpRefund)
                .map_err(|error| crate::refunds::bad_tx(*leaf, &error))?;
            let [_, second] = refund.input.as_slice() else {
                return wrong(
                    *leaf,
                    "must have two inputs, the leaf's and its connector's",
                );
            };
            let connector = second.previous_output;
            if connector.txid != txid {
                return wrong(*leaf, "spends a connector of another transaction");
            }
            if !taken.insert(connector.vout) {
                return wrong(*leaf, "spends the connector of another leaf");
            }
            let place = usize::try_from(connector.vout).unwrap_or(usize::MAX);
            leaves.insert(
                *leaf,
                tx.connector(place).map_err(|error| bad_connector(&error))?,
            );
        }
        Ok(Connectors { funds, leaves })
    }

    fn start(&self, connectors: Connectors) -> Start<'_> {
        Start {
            now: self.now,
            transfer: self.transfer,
            kind: TransferKind::CooperativeExit,
            details: Details::Exit {
                exit: self.exit,
                txid: connectors.funds.txid,
            },
            sender: self.sender,
            receivers: &self.receivers,
            package: &self.package,
            form: Form::Connector(connectors.leaves),
            settle: SETTLE,
            expiry: Some(self.expiry),
            invoice: "",
            fingerprint: fingerprint(self),
        }
    }
}

fn wrong<T>(leaf: LeafId, what: &str) -> Result<T, Halt> {
    Err(Refusal::new(
        Reason::MalformedField,
        format!("the refund of leaf {leaf} {what}"),
    )
    .with("leaf_id", leaf)
    .into())
}

impl Flow for ExitRequest {
    fn needs(&self, site: &Site) -> Needs {
        start::needs(site, &self.package)
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        if self.receivers.values().any(|key| *key != self.receiver) {
            return refuse(
                Reason::MalformedField,
                "an exit has one receiver: the provider that pays out",
            );
        }
        if inputs.clock.is_some_and(|clock| self.expiry <= clock) {
            return refuse(Reason::Expired, "transfer.expiry_time is over already");
        }
        if frame
            .rows
            .get::<ExitRow>(ExitRow::id_of(&self.exit))?
            .is_some()
        {
            return refuse(
                Reason::DuplicateOperation,
                "exit_id is that of an earlier exit: choose a new one",
            );
        }
        let connectors = self.connectors()?;
        let exit = ExitRow {
            exit: self.exit,
            transfer: self.transfer,
            txid: connectors.funds.txid,
            funds: connectors.funds,
            expiry: self.expiry,
            state: ExitState::Open,
            seen: None,
        };
        let request = Request::Exit(Box::new(self.clone())).encode()?;
        let mut prepared = self
            .start(connectors)
            .prepare(frame, inputs, &request)?
            .prepared();
        prepared.changes.put(frame.rows, &exit)?;
        Ok(prepared)
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        start::commit(frame, row, &self.transfer, SETTLE)
    }

    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        start::apply(frame, row, &self.transfer, SETTLE, sealed)
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        let (_, changes) = start::finish(frame, row, &self.transfer, SETTLE, self.now, outcome)?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let mut changes = start::rollback(frame, row, &self.transfer)?;
        changes.delete::<ExitRow>(frame.rows, ExitRow::id_of(&self.exit))?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::Transfer(self.transfer)]
    }

    fn now(&self) -> Millis {
        self.now
    }
}
