//! Deposits: `finalize_deposit_tree_creation`.
//!
//! One or more outputs that pay one single-use address become a tree of one leaf. The wallet has
//! half-signed the root and its refunds; an output need not be on chain yet, but then the leaf
//! waits for it.

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::{OutPoint, Transaction, TxOut};
use tinderbox_protocol::refunds::{LeafTxs, RefundPurpose, RefundSet};
use tinderbox_protocol::tx::{UnsignedTx, Utxo, root};
use tinderbox_protocol::{LeafId, Sats};

use crate::checks::{KeyPart, digest, gone, plan, user_job};
use crate::flow::{Flow, Frame, Inputs, JobOutcome, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::package::UserJob;
use crate::refunds::{self, JobSet, bad_tx};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::{DepositRequest, Request, deposit_outpoints};
use crate::rows::{
    AddressRow, ChainRow, FlowRow, JobRow, KeyshareRow, Millis, NodeRow, NodeStatus, NodeTxs, Part,
    TreeRow, TreeStatus, UtxoHoldRow, UtxoRow,
};
use crate::secret::SealedShare;
use crate::snapshot::Changes;

/// Outputs beside the primary one at most.
pub const MAX_ADDITIONAL: usize = 10;

/// The least that a deposit may hold: what relays as a P2TR output.
pub const MIN_DEPOSIT: Sats = Sats(330);

/// What a deposit is about to become.
struct Plot {
    address: AddressRow,
    keyshare: KeyshareRow,
    leaf: LeafId,
    deposits: Vec<Utxo>,
    value: Sats,
}

impl Plot {
    fn outpoints(&self) -> impl Iterator<Item = OutPoint> + '_ {
        self.deposits.iter().map(|deposit| deposit.outpoint)
    }
}

/// The transactions of the new tree.
struct Made {
    root: UnsignedTx,
    refunds: RefundSet,
}

impl DepositRequest {
    fn outputs(&self) -> Result<Vec<(OutPoint, TxOut)>, Halt> {
        if self.outputs.len() > MAX_ADDITIONAL.saturating_add(1) {
            return refuse(
                Reason::LimitExceeded,
                format!("additional_on_chain_utxos: at most {MAX_ADDITIONAL}"),
            );
        }
        let mut outputs: Vec<(OutPoint, TxOut)> = Vec::new();
        for (raw, vout) in &self.outputs {
            let tx: Transaction = deserialize(raw).map_err(|error| {
                Refusal::new(
                    Reason::MalformedField,
                    format!("on_chain_utxo.raw_tx is not a transaction: {error}"),
                )
            })?;
            let output = usize::try_from(*vout)
                .ok()
                .and_then(|at| tx.output.get(at))
                .cloned();
            let Some(output) = output else {
                return refuse(
                    Reason::MalformedField,
                    format!("on_chain_utxo.vout: the transaction has no output {vout}"),
                );
            };
            let outpoint = OutPoint::new(tx.compute_txid(), *vout);
            if outputs.iter().any(|(other, _)| *other == outpoint) {
                return refuse(
                    Reason::DuplicateField,
                    format!("on_chain_utxo {outpoint} appears twice"),
                );
            }
            outputs.push((outpoint, output));
        }
        if outputs.is_empty() {
            return refuse(Reason::MissingField, "on_chain_utxo");
        }
        Ok(outputs)
    }

    fn plot(&self, frame: &Frame<'_>) -> Result<Plot, Halt> {
        let outputs = self.outputs()?;
        let Some((_, first)) = outputs.first() else {
            return refuse(Reason::MissingField, "on_chain_utxo");
        };
        let script = first.script_pubkey.clone();
        let Some(address) = frame
            .rows
            .get::<AddressRow>(script.to_bytes())?
            .filter(|address| address.proof.is_some())
        else {
            return refuse(
                Reason::MissingEntity,
                "on_chain_utxo does not pay a deposit address of this network: check vout",
            );
        };
        let Some(keyshare) = frame.rows.get::<KeyshareRow>(address.keyshare.0.to_vec())? else {
            return refuse(Reason::Internal, "the address' key share is missing");
        };
        let mut total = 0u64;
        for (outpoint, output) in &outputs {
            if output.script_pubkey != script {
                return refuse(
                    Reason::MalformedField,
                    format!("additional_on_chain_utxos: {outpoint} pays another address"),
                );
            }
            if output.value.to_sat() == 0 {
                return refuse(
                    Reason::MalformedField,
                    format!("on_chain_utxo {outpoint} holds nothing"),
                );
            }
            total = total.saturating_add(output.value.to_sat());
        }
        if total < MIN_DEPOSIT.0 {
            return refuse(
                Reason::MalformedField,
                format!(
                    "the deposit holds {total} sats; less than {} cannot leave again",
                    MIN_DEPOSIT.0
                ),
            );
        }
        Ok(Plot {
            leaf: address.leaf.unwrap_or(self.fallback_leaf),
            address,
            keyshare,
            deposits: outputs
                .into_iter()
                .map(|(outpoint, output)| Utxo { outpoint, output })
                .collect(),
            value: Sats(total),
        })
    }

    fn check_address(&self, frame: &Frame<'_>, plot: &Plot) -> Result<(), Halt> {
        let address = &plot.address;
        if address.owner != self.owner {
            return refuse(
                Reason::NotOwner,
                format!(
                    "the deposit address {} is not owned by {}",
                    address.address, self.owner
                ),
            );
        }
        if address.is_static {
            return refuse(
                Reason::InvalidState,
                "a static address' deposit is claimed through a service provider or refunded",
            );
        }
        if address.network != frame.site.network {
            return refuse(Reason::MalformedField, "on_chain_utxo.network");
        }
        if address.tree.is_some() || address.pending.is_some() {
            return refuse(
                Reason::DuplicateOperation,
                format!("address {} has been used for a deposit", address.address),
            );
        }
        for (job, name) in [
            (&self.root, "root_tx_signing_job"),
            (&self.refund, "refund_tx_signing_job"),
            (
                &self.direct_from_cpfp,
                "direct_from_cpfp_refund_tx_signing_job",
            ),
        ] {
            if job.signing_key != address.owner_signing {
                return refuse(
                    Reason::MalformedField,
                    format!("{name}.signing_public_key is not the key of this address"),
                );
            }
        }
        if frame
            .rows
            .get::<NodeRow>(NodeRow::id_of(&plot.leaf))?
            .is_some()
        {
            return refuse(
                Reason::DuplicateOperation,
                format!("leaf {} exists already", plot.leaf),
            );
        }
        Ok(())
    }

    fn check_chain(&self, frame: &Frame<'_>, plot: &Plot, inputs: &Inputs) -> Result<(), Halt> {
        if !self.confirmed {
            if plot.deposits.len() > 1 {
                return refuse(
                    Reason::InsufficientConfirmations,
                    "additional_on_chain_utxos: utxo is not yet confirmed",
                );
            }
            return Ok(());
        }
        for Utxo {
            outpoint,
            output: prevout,
        } in &plot.deposits
        {
            let fact = inputs.chain.get(outpoint).filter(|fact| !fact.contested);
            let Some(fact) = fact else {
                return refuse(
                    Reason::InsufficientConfirmations,
                    format!("utxo not found on-chain: {outpoint}"),
                );
            };
            if fact.value.0 != prevout.value.to_sat() || fact.script != prevout.script_pubkey {
                return refuse(
                    Reason::MalformedField,
                    format!("on_chain_utxo {outpoint} is not what the chain has"),
                );
            }
            if fact.confirmations < frame.site.deposit_confirmations {
                return refuse(
                    Reason::InsufficientConfirmations,
                    format!(
                        "utxo {outpoint} is not yet confirmed: {} of {} confirmations",
                        fact.confirmations, frame.site.deposit_confirmations
                    ),
                );
            }
        }
        Ok(())
    }

    fn made(plot: &Plot) -> Result<Made, Halt> {
        let made = root::build(&plot.deposits).and_then(|root| {
            let refunds = tinderbox_protocol::refunds::expected(
                &LeafTxs {
                    node_tx: root.tx.clone(),
                    direct_tx: None,
                },
                &RefundPurpose::Initial {
                    owner_signing_key: plot.address.owner_signing,
                },
            )?;
            Ok(Made { root, refunds })
        });
        made.map_err(|error| bad_tx(plot.leaf, &error))
    }

    fn jobs(&self, frame: &Frame<'_>, plot: &Plot, made: &Made) -> Result<Vec<JobRow>, Halt> {
        let site = frame.site;
        let user_key = plot.address.owner_signing;
        let root = made
            .root
            .check(&self.root.tx)
            .map_err(|error| bad_tx(plot.leaf, &error))?;
        let shares = || std::iter::once(&self.root.share).chain(&self.root.more);
        if shares().count() != plot.deposits.len() {
            return refuse(
                Reason::MalformedField,
                "root_tx_signing_job.additional_inputs must have one entry per additional utxo",
            );
        }
        let mut jobs = Vec::new();
        for (input, share) in (0u32..).zip(shares()) {
            let message = root
                .sighash_of(usize::try_from(input).unwrap_or(usize::MAX))
                .map_err(|error| bad_tx(plot.leaf, &error))?;
            jobs.push(user_job(
                site,
                plot.leaf,
                Part::Root(input),
                share.package(
                    plot.address.verifying_key,
                    message,
                    site.threshold,
                    site.count(),
                )?,
                share,
                user_key,
                plot.keyshare.public_shares.clone(),
            )?);
        }
        let refunds: [(Part, &UnsignedTx, &UserJob); 2] = [
            (Part::Cpfp, &made.refunds.cpfp, &self.refund),
            (
                Part::DirectFromCpfp,
                &made.refunds.direct_from_cpfp,
                &self.direct_from_cpfp,
            ),
        ];
        for (part, expected, sent) in refunds {
            jobs.push(refunds::half_signed_one(
                site,
                plot.leaf,
                part,
                expected,
                sent,
                plot.address.verifying_key,
                user_key,
                &plot.keyshare.public_shares,
                None,
            )?);
        }
        Ok(jobs)
    }

    fn places(jobs: &[JobRow]) -> Vec<u32> {
        (0u32..).zip(jobs).map(|(place, _)| place).collect()
    }

    fn plan(frame: &Frame<'_>, keyshare: &KeyshareRow, jobs: &[JobRow]) -> Plan {
        plan(
            frame.site,
            jobs,
            vec![KeyPart {
                keyshare,
                tweak: None,
                after_tweak: false,
                places: Self::places(jobs),
            }],
        )
    }

    fn check_held(frame: &Frame<'_>, plot: &Plot, row: &FlowRow) -> Result<(), Halt> {
        if plot.address.pending == Some(frame.flow) {
            Ok(())
        } else {
            gone("the deposit", row)
        }
    }

    /// True if the deposit is buried deep enough as this operator has applied the chain.
    fn is_buried(
        frame: &Frame<'_>,
        outpoints: impl Iterator<Item = OutPoint>,
    ) -> Result<bool, Halt> {
        let Some(tip) = frame
            .rows
            .get::<ChainRow>(ChainRow::ID.to_vec())?
            .and_then(|chain| chain.tip())
        else {
            return Ok(false);
        };
        for outpoint in outpoints {
            let height = frame
                .rows
                .get::<UtxoRow>(UtxoRow::id_of(&outpoint))?
                .and_then(|utxo| utxo.block)
                .map(|(height, _)| height);
            let deep = height.is_some_and(|height| {
                tip.height.0.saturating_sub(height.0).saturating_add(1)
                    >= frame.site.deposit_confirmations
                    && tip.height >= height
            });
            if !deep {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Flow for DepositRequest {
    fn needs(&self, _site: &Site) -> Needs {
        Needs {
            outputs: if self.confirmed {
                deposit_outpoints(self)
            } else {
                Vec::new()
            },
            ..Needs::default()
        }
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        let plot = self.plot(frame)?;
        self.check_address(frame, &plot)?;
        self.check_chain(frame, &plot, inputs)?;
        let mut utxos = Vec::new();
        for Utxo {
            outpoint,
            output: prevout,
        } in &plot.deposits
        {
            let utxo = frame
                .rows
                .get::<UtxoRow>(UtxoRow::id_of(outpoint))?
                .unwrap_or(UtxoRow {
                    outpoint: *outpoint,
                    network: frame.site.network,
                    value: Sats(prevout.value.to_sat()),
                    script: prevout.script_pubkey.clone(),
                    block: None,
                    tree: None,
                    of_tree: false,
                });
            let hold = UtxoHoldRow::output(outpoint);
            if frame.rows.get::<UtxoHoldRow>(hold)?.is_some() {
                return refuse(
                    Reason::DuplicateOperation,
                    format!("utxo {outpoint} is being refunded to its owner"),
                );
            }
            if utxo.tree.is_some() || utxo.of_tree {
                return refuse(
                    Reason::DuplicateOperation,
                    format!("utxo {outpoint} has been deposited"),
                );
            }
            utxos.push(utxo);
        }
        let made = Self::made(&plot)?;
        let jobs = self.jobs(frame, &plot, &made)?;
        let request = Request::Deposit(Box::new(self.clone())).encode()?;
        let digest = digest(&request, [(&plot.keyshare, &[][..])].into_iter(), &jobs);
        let keys = Self::plan(frame, &plot.keyshare, &jobs).keys;
        let mut changes = Changes::new();
        for mut utxo in utxos {
            utxo.tree = Some(self.tree);
            changes.put(frame.rows, &utxo)?;
        }
        changes.put(
            frame.rows,
            &AddressRow {
                tree: Some(self.tree),
                pending: Some(frame.flow),
                ..plot.address
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
        let plot = self.plot(frame)?;
        Self::check_held(frame, &plot, row)?;
        Ok(Self::plan(frame, &plot.keyshare, &row.jobs))
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
        let plot = self.plot(frame)?;
        Self::check_held(frame, &plot, row)?;
        let complete = outcome
            .jobs
            .iter()
            .all(|job| matches!(job, JobOutcome::Signed(_)));
        if !complete {
            return self.rollback(frame, row);
        }
        let made = Self::made(&plot)?;
        let set = JobSet::of(&row.jobs);
        let mut root = made.root.tx;
        for (place, job) in row.jobs.iter().enumerate() {
            if let (Part::Root(input), Some(signature)) = (job.part, outcome.signature(place)) {
                let input = usize::try_from(input).unwrap_or(usize::MAX);
                root = refunds::with_witness(plot.leaf, root, input, signature)?;
            }
        }
        let signed = set.signed(&plot.leaf, &refunds::unsigned(&made.refunds), outcome)?;
        let ready = self.confirmed || Self::is_buried(frame, plot.outpoints())?;
        let Some(base) = plot.outpoints().next() else {
            return gone("the deposit", row);
        };
        let tree = TreeRow {
            id: self.tree,
            owner: self.owner,
            network: plot.address.network,
            base,
            root: plot.leaf,
            status: if ready {
                TreeStatus::Available
            } else {
                TreeStatus::Pending
            },
            created: self.now,
        };
        let node = NodeRow {
            id: plot.leaf,
            tree: self.tree,
            parent: None,
            network: plot.address.network,
            value: plot.value,
            status: if ready {
                NodeStatus::Available
            } else {
                NodeStatus::Creating
            },
            lock: None,
            verifying_key: plot.address.verifying_key,
            owner: self.owner,
            owner_signing: plot.address.owner_signing,
            keyshare: plot.address.keyshare,
            txs: NodeTxs {
                node: serialize(&root),
                direct: Vec::new(),
                refund: signed.cpfp,
                direct_refund: Vec::new(),
                direct_from_cpfp_refund: signed.direct_from_cpfp,
            },
            deposits: plot.outpoints().collect(),
            created: self.now,
            updated: self.now,
            node_confirmed: None,
            refund_confirmed: None,
            before_chain: None,
            renewal: None,
        };
        let mut changes = Changes::new();
        changes.put(frame.rows, &tree)?;
        changes.put(frame.rows, &node)?;
        changes.put(
            frame.rows,
            &AddressRow {
                pending: None,
                ..plot.address
            },
        )?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let plot = self.plot(frame)?;
        Self::check_held(frame, &plot, row)?;
        let mut changes = Changes::new();
        for outpoint in plot.outpoints() {
            let id = UtxoRow::id_of(&outpoint);
            if let Some(mut utxo) = frame.rows.get::<UtxoRow>(id.clone())? {
                if utxo.block.is_some() {
                    utxo.tree = None;
                    changes.put(frame.rows, &utxo)?;
                } else {
                    changes.delete::<UtxoRow>(frame.rows, id)?;
                }
            }
        }
        changes.put(
            frame.rows,
            &AddressRow {
                tree: None,
                pending: None,
                ..plot.address
            },
        )?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        // Which leaf that is, the address says. If it is not deep enough yet, wallets are told
        // again when it is.
        vec![Touch::Tree(self.tree)]
    }

    fn now(&self) -> Millis {
        self.now
    }
}
