//! The transactions of a renewal: rebuilt from the operator's own rows, compared with what the
//! wallet sent, and completed with the signatures.

use bitcoin::Transaction;
use bitcoin::consensus::serialize;
use tinderbox_protocol::LeafId;
use tinderbox_protocol::refunds::{LeafTxs, RefundSet};
use tinderbox_protocol::renewal::{self, RenewalKind};
use tinderbox_protocol::tx::{TxKind, UnsignedTx, p2tr, parse_any};

use super::request::RenewRequest;
use crate::flow::{Outcome, Site};
use crate::package::UserJob;
use crate::refunds::{bad_tx, half_signed_one, parts, with_witness};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::rows::{FlowRow, JobRow, KeyshareRow, NodeRow, NodeTxs, Part};

/// The transactions that a renewal makes, in the order of its jobs.
pub(super) struct Made(Vec<(Part, UnsignedTx)>);

/// What becomes of the leaf's transactions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Renewed {
    /// The leaf's own.
    pub(super) leaf: NodeTxs,
    /// Those of the node that comes above it, unless the present one stays there.
    pub(super) split: NodeTxs,
}

impl Made {
    /// What the renewal must look like.
    pub(super) fn expected(
        kind: RenewalKind,
        node: &NodeRow,
        parent: Option<&NodeRow>,
    ) -> Result<Self, Halt> {
        let owner = &node.owner_signing;
        let bad = |error: tinderbox_protocol::Error| bad_tx(node.id, &error);
        let leaf = LeafTxs::parse(&node.txs.node, &node.txs.direct).map_err(bad)?;
        let mut list = Vec::new();
        match kind {
            RenewalKind::Node => {
                let made = renewal::node(&parent_tx(node, parent)?, owner).map_err(bad)?;
                list.push((Part::Split, made.split));
                list.push((Part::DirectSplit, made.direct_split));
                list.push((Part::Node, made.node));
                list.push((Part::DirectNode, made.direct_node));
                add_refunds(&mut list, &made.refunds);
            }
            RenewalKind::Refund => {
                let made = renewal::refund(&parent_tx(node, parent)?, &leaf, owner).map_err(bad)?;
                list.push((Part::Node, made.node));
                list.push((Part::DirectNode, made.direct_node));
                add_refunds(&mut list, &made.refunds);
            }
            RenewalKind::Zero => {
                let made = renewal::zero(&leaf, owner).map_err(bad)?;
                list.push((Part::Node, made.node));
                list.push((Part::DirectNode, made.direct_node));
                add_refunds(&mut list, &made.refunds);
            }
        }
        check_scripts(node, &list)?;
        Ok(Self(list))
    }

    /// Takes over what the wallet sent, if it is this.
    pub(super) fn checked(self, request: &RenewRequest) -> Result<Self, Halt> {
        let mut list = Vec::with_capacity(self.0.len());
        for (part, expected) in self.0 {
            let sent = &job(request, part)?.tx;
            let checked = expected
                .check(sent)
                .map_err(|error| bad_tx(request.leaf, &error))?;
            // The next transaction spends this one by its id, so there is one spelling of it.
            if has_children(part) && checked.tx != expected.tx {
                return Err(Refusal::new(
                    Reason::MalformedField,
                    format!(
                        "the {} of leaf {} sets bit 30 of its sequence where the leaf's own does not",
                        expected.kind, request.leaf
                    ),
                )
                .with("leaf_id", request.leaf)
                .into());
            }
            list.push((part, checked));
        }
        Ok(Self(list))
    }

    /// The signatures to make.
    pub(super) fn jobs(
        &self,
        site: &Site,
        request: &RenewRequest,
        node: &NodeRow,
        keyshare: &KeyshareRow,
    ) -> Result<Vec<JobRow>, Halt> {
        self.0
            .iter()
            .map(|(part, tx)| {
                let sent = job(request, *part)?;
                if sent.leaf.is_some_and(|leaf| leaf != node.id) {
                    return refuse(
                        Reason::MalformedField,
                        format!("signing job names another leaf than leaf_id {}", node.id),
                    );
                }
                half_signed_one(
                    site,
                    node.id,
                    *part,
                    tx,
                    sent,
                    node.verifying_key,
                    node.owner_signing,
                    &keyshare.public_shares,
                    None,
                )
            })
            .collect()
    }

    /// With all signatures; `None` if one was not made.
    pub(super) fn signed(
        self,
        leaf: LeafId,
        row: &FlowRow,
        outcome: &Outcome,
    ) -> Result<Option<Renewed>, Halt> {
        let mut renewed = Renewed {
            leaf: NodeTxs::default(),
            split: NodeTxs::default(),
        };
        for (part, tx) in self.0 {
            let place = row
                .jobs
                .iter()
                .position(|job| job.leaf == Some(leaf) && job.part == part);
            let Some(signature) = place.and_then(|place| outcome.signature(place)) else {
                return Ok(None);
            };
            let raw = serialize(&with_witness(leaf, tx.tx, 0, signature)?);
            match part {
                Part::Split => renewed.split.node = raw,
                Part::DirectSplit => renewed.split.direct = raw,
                Part::Node => renewed.leaf.node = raw,
                Part::DirectNode => renewed.leaf.direct = raw,
                Part::Cpfp => renewed.leaf.refund = raw,
                Part::Direct => renewed.leaf.direct_refund = raw,
                Part::DirectFromCpfp => renewed.leaf.direct_from_cpfp_refund = raw,
                _ => return Ok(None),
            }
        }
        Ok(Some(renewed))
    }
}

fn parent_tx(node: &NodeRow, parent: Option<&NodeRow>) -> Result<Transaction, Halt> {
    let Some(parent) = parent else {
        return Err(Refusal::new(
            Reason::InvalidState,
            format!(
                "leaf {} has no node above it: renew it with renew_node_zero_timelock_signing_job",
                node.id
            ),
        )
        .with("leaf_id", node.id)
        .into());
    };
    parse_any(&parent.txs.node, TxKind::Node).map_err(|error| bad_tx(node.id, &error))
}

fn add_refunds(list: &mut Vec<(Part, UnsignedTx)>, set: &RefundSet) {
    list.extend(parts(set).map(|(part, tx)| (part, tx.clone())));
}

fn job(request: &RenewRequest, part: Part) -> Result<&UserJob, Halt> {
    request.jobs.job(part).map_or_else(
        || refuse(Reason::MissingField, format!("signing_jobs: {part:?}")),
        Ok,
    )
}

const fn has_children(part: Part) -> bool {
    matches!(
        part,
        Part::Split | Part::DirectSplit | Part::Node | Part::DirectNode
    )
}

/// Every output that is spent must be locked to the leaf's own key: that is the one key that these
/// signatures are made with.
fn check_scripts(node: &NodeRow, list: &[(Part, UnsignedTx)]) -> Result<(), Halt> {
    let own = p2tr(&node.verifying_key);
    let foreign = list
        .iter()
        .flat_map(|(_, tx)| &tx.prevouts)
        .any(|spent| spent.script_pubkey != own);
    if foreign {
        return Err(Refusal::new(
            Reason::InvalidState,
            format!(
                "the node above leaf {} is locked to another key: the leaf cannot be renewed",
                node.id
            ),
        )
        .with("leaf_id", node.id)
        .into());
    }
    Ok(())
}
