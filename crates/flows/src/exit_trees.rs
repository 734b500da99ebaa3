//! Leaving with whole trees at once: `exit_single_node_trees`.
//!
//! The owner of trees that are one leaf each spends their deposits directly, in one transaction of
//! its own making. The leaves are gone on every operator before any of them gives a share: a share
//! leaves an operator with the write that marks its own rows, and with everybody's yes each of the
//! others holds the leaves already.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut};
use serde::{Deserialize, Serialize};
use tinderbox_frost::{NonceCommitment, OperatorIndex, SigningPackage};
use tinderbox_protocol::TreeId;
use tinderbox_protocol::tx::{TxKind, parse_unsigned, sighash};

use crate::checks::{KeyPart, digest, gone, load_leaves, plan};
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::package::check_signers;
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::Request;
use crate::rows::{
    FlowRow, JobRow, KeyshareRow, Millis, NodeRow, NodeStatus, Part, TreeRow, TreeStatus, UtxoRow,
};
use crate::secret::SealedShare;
use crate::snapshot::Changes;

/// Trees that leave together at most.
pub const MAX_TREES: usize = 100;

/// One tree that leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeavingTree {
    /// Which tree.
    pub tree: TreeId,
    /// The input of the transaction that spends its deposit.
    pub input: u32,
    /// The owner's nonces.
    pub commitment: NonceCommitment,
    /// The operators that sign, with their nonces.
    pub operators: BTreeMap<OperatorIndex, NonceCommitment>,
}

/// Spend the deposits of trees that are one leaf each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitTreesRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// Identity key of the trees' owner.
    pub owner: PublicKey,
    /// The trees.
    pub trees: Vec<LeavingTree>,
    /// The transaction, unsigned.
    pub tx: Vec<u8>,
    /// Value in sats and script of every output that it spends, in order of its inputs.
    pub prevouts: Vec<(u64, Vec<u8>)>,
}

/// A tree with what belongs to it.
struct Found {
    tree: TreeRow,
    node: NodeRow,
    keyshare: KeyshareRow,
}

impl ExitTreesRequest {
    fn tx(&self) -> Result<(Transaction, Vec<TxOut>), Halt> {
        let tx = parse_unsigned(&self.tx, TxKind::Other)
            .map_err(|error| Refusal::new(Reason::MalformedField, format!("raw_tx: {error}")))?;
        if tx.input.len() != self.prevouts.len() {
            return refuse(
                Reason::MalformedField,
                format!(
                    "previous_outputs: {} entries for {} inputs",
                    self.prevouts.len(),
                    tx.input.len()
                ),
            );
        }
        let prevouts = self
            .prevouts
            .iter()
            .map(|(value, script)| TxOut {
                value: Amount::from_sat(*value),
                script_pubkey: ScriptBuf::from_bytes(script.clone()),
            })
            .collect();
        Ok((tx, prevouts))
    }

    fn check_list(&self) -> Result<(), Halt> {
        if self.trees.is_empty() {
            return refuse(Reason::MissingField, "exiting_trees");
        }
        if self.trees.len() > MAX_TREES {
            return refuse(
                Reason::LimitExceeded,
                format!("exiting_trees: at most {MAX_TREES}"),
            );
        }
        for (place, one) in self.trees.iter().enumerate() {
            let twice = self
                .trees
                .iter()
                .take(place)
                .any(|other| other.tree == one.tree || other.input == one.input);
            if twice {
                return refuse(
                    Reason::DuplicateField,
                    format!(
                        "exiting_trees: tree {} or input {} appears twice",
                        one.tree, one.input
                    ),
                );
            }
        }
        Ok(())
    }

    fn find(frame: &Frame<'_>, id: &TreeId) -> Result<Found, Halt> {
        let Some(tree) = frame.rows.get::<TreeRow>(id.bytes16())? else {
            return refuse(Reason::MissingEntity, format!("tree {id} does not exist"));
        };
        let mut leaves = load_leaves(frame, std::iter::once(tree.root))?;
        match leaves.remove(&tree.root) {
            Some((node, keyshare)) => Ok(Found {
                tree,
                node,
                keyshare,
            }),
            None => refuse(
                Reason::Internal,
                format!("the root of tree {id} is missing"),
            ),
        }
    }

    fn check_tree(&self, found: &Found, site: &Site) -> Result<(), Halt> {
        let Found { tree, node, .. } = found;
        let id = tree.id;
        if node.owner != self.owner {
            return Err(Refusal::new(
                Reason::NotOwner,
                format!("tree {id} is not owned by {}", self.owner),
            )
            .with("tree_id", id)
            .into());
        }
        if node.network != site.network {
            return refuse(Reason::MalformedField, format!("tree {id}: network"));
        }
        // A node that was renewed or split has no refund of its own.
        let single = node.parent.is_none() && !node.txs.refund.is_empty();
        let here = tree.status == TreeStatus::Available && node.status == NodeStatus::Available;
        // The owner may ask again, for another transaction too, until one is on chain.
        let leaving = tree.status == TreeStatus::Exited && node.status == NodeStatus::Exited;
        let untouched = node.lock.is_none()
            && node.renewal.is_none()
            && node.node_confirmed.is_none()
            && node.refund_confirmed.is_none();
        if single && untouched && (here || leaving) {
            return Ok(());
        }
        Err(Refusal::new(
            Reason::InvalidState,
            format!(
                "tree {id} is not one available leaf: the status of its root is {}",
                node.status.name()
            ),
        )
        .with("tree_id", id)
        .into())
    }

    /// The input must spend the tree's one deposit, as this operator saw it on chain.
    fn check_input(
        frame: &Frame<'_>,
        found: &Found,
        spends: Option<OutPoint>,
        prevout: Option<&TxOut>,
    ) -> Result<(), Halt> {
        let Found { tree, node, .. } = found;
        if node.deposits.as_slice() != [tree.base] {
            return refuse(
                Reason::InvalidState,
                format!("tree {} spends several deposits: exit its leaf", tree.id),
            );
        }
        let utxo = frame.rows.get::<UtxoRow>(UtxoRow::id_of(&tree.base))?;
        let Some(utxo) = utxo.filter(|utxo| utxo.block.is_some()) else {
            return refuse(
                Reason::InsufficientConfirmations,
                format!("the deposit of tree {} is not confirmed", tree.id),
            );
        };
        let same = prevout.is_some_and(|prevout| {
            prevout.value.to_sat() == utxo.value.0 && prevout.script_pubkey == utxo.script
        });
        if spends != Some(tree.base) || !same {
            return refuse(
                Reason::MalformedField,
                format!(
                    "exiting_trees.vin of tree {}: that input does not spend the deposit {}, or previous_outputs has another value or script",
                    tree.id, tree.base
                ),
            );
        }
        Ok(())
    }

    fn places<'a>(jobs: &[JobRow], found: &'a [Found]) -> Vec<KeyPart<'a>> {
        (0u32..)
            .zip(jobs)
            .zip(found)
            .map(|((place, _), found)| KeyPart {
                keyshare: &found.keyshare,
                tweak: None,
                after_tweak: false,
                places: vec![place],
            })
            .collect()
    }

    /// The trees, if this flow holds them.
    fn held(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Vec<Found>, Halt> {
        self.trees
            .iter()
            .map(|leaving| {
                let found = Self::find(frame, &leaving.tree)?;
                if found.node.lock == Some(frame.flow) {
                    Ok(found)
                } else {
                    gone("a tree", row)
                }
            })
            .collect()
    }
}

impl Flow for ExitTreesRequest {
    fn needs(&self, _site: &Site) -> Needs {
        Needs::default()
    }

    fn prepare(&self, frame: &Frame<'_>, _inputs: &Inputs) -> Result<Prepared, Halt> {
        self.check_list()?;
        let (tx, prevouts) = self.tx()?;
        let mut found = Vec::new();
        let mut jobs = Vec::new();
        let mut changes = Changes::new();
        for leaving in &self.trees {
            let one = Self::find(frame, &leaving.tree)?;
            self.check_tree(&one, frame.site)?;
            let input = usize::try_from(leaving.input).unwrap_or(usize::MAX);
            let spends = tx.input.get(input).map(|input| input.previous_output);
            Self::check_input(frame, &one, spends, prevouts.get(input))?;
            let message = sighash(&tx, input, &prevouts).map_err(|error| {
                Refusal::new(Reason::MalformedField, format!("raw_tx: {error}"))
            })?;
            check_signers(&leaving.operators, frame.site.threshold, frame.site.count())?;
            jobs.push(JobRow {
                leaf: Some(one.node.id),
                part: Part::Spend,
                package: SigningPackage {
                    verifying_key: one.node.verifying_key,
                    message,
                    operators: leaving.operators.clone(),
                    user: Some(leaving.commitment),
                    adaptor: None,
                    threshold: frame.site.threshold,
                },
                user_share: None,
                user_key: Some(one.node.owner_signing),
                public_shares: one.keyshare.public_shares.clone(),
            });
            let node = NodeRow {
                lock: Some(frame.flow),
                ..one.node.clone()
            };
            changes.put(frame.rows, &node)?;
            found.push(one);
        }
        let request = Request::ExitTrees(Box::new(self.clone())).encode()?;
        let digest = digest(
            &request,
            found.iter().map(|one| (&one.keyshare, &[][..])),
            &jobs,
        );
        let keys = plan(frame.site, &jobs, Self::places(&jobs, &found)).keys;
        Ok(Prepared {
            changes,
            digest,
            jobs,
            keys,
        })
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        let found = self.held(frame, row)?;
        Ok(plan(frame.site, &row.jobs, Self::places(&row.jobs, &found)))
    }

    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        _sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        let mut changes = Changes::new();
        for Found { tree, node, .. } in self.held(frame, row)? {
            // Nothing to go back to: no reorganisation makes it a leaf again. What the chain said
            // meanwhile stays.
            let status = match node.status {
                NodeStatus::Available => NodeStatus::Exited,
                other => other,
            };
            changes.put(
                frame.rows,
                &NodeRow {
                    status,
                    before_chain: None,
                    ..node
                },
            )?;
            changes.put(
                frame.rows,
                &TreeRow {
                    status: TreeStatus::Exited,
                    ..tree
                },
            )?;
        }
        Ok(changes)
    }

    fn finish(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        _outcome: &Outcome,
    ) -> Result<Changes, Halt> {
        // Without shares too: the owner may ask again.
        let mut changes = Changes::new();
        for Found { node, .. } in self.held(frame, row)? {
            let node = NodeRow {
                lock: None,
                updated: self.now,
                ..node
            };
            changes.put(frame.rows, &node)?;
        }
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let mut changes = Changes::new();
        for Found { node, .. } in self.held(frame, row)? {
            changes.put(frame.rows, &NodeRow { lock: None, ..node })?;
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
