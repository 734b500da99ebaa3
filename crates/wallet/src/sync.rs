//! Finding out what the wallet owns.

use std::collections::{BTreeMap, BTreeSet};

use tinderbox_protocol::tx::{p2tr, verify_input};
use tinderbox_protocol::{LeafId, tx};

use crate::adopt::exit_path;
use crate::error::Result;
use crate::exit::{ExitPath, RefundKey};
use crate::leaf::{LeafStatus, Node};
use crate::nodes;
use crate::storage::{Change, Kind, Records};
use crate::verify::agreement::{Agreed, Dissent, compare};
use crate::verify::{Failure, keys, path, refund};
use crate::wallet::Wallet;

/// What a synchronisation found out.
#[derive(Debug, Clone, Default)]
pub struct SyncReport {
    /// Leaves that the wallet owns and that passed every check.
    pub leaves: usize,
    /// Leaves that cannot be used, and why.
    pub unusable: Vec<(LeafId, String)>,
    /// Operators that say something else than the majority.
    pub dissent: Vec<Dissent>,
}

impl Wallet {
    /// Asks all operators for this wallet's leaves, checks them, and keeps them with their exits.
    /// Payments whose outcome was not known are brought to an end first; leaves that have run down are
    /// renewed afterwards.
    ///
    /// # Errors
    /// If fewer than a majority of the operators answer, or the storage fails.
    pub async fn sync(&self) -> Result<SyncReport> {
        let report = {
            let mut synced = self.inner().synced.lock().await;
            let report = self.sync_now().await?;
            *synced = true;
            report
        };
        self.renew_leaves().await;
        Ok(report)
    }

    /// Synchronises unless that was done already.
    pub(crate) async fn ensure_synced(&self) -> Result<()> {
        let mut synced = self.inner().synced.lock().await;
        if !*synced {
            self.sync_now().await?;
            *synced = true;
        }
        Ok(())
    }

    async fn sync_now(&self) -> Result<SyncReport> {
        self.resolve_pending_sends().await?;
        let asked = self.inner().pool().moment();
        let agreed = self.agreed_own().await?;
        let mut report = SyncReport {
            dissent: agreed.dissent.clone(),
            ..SyncReport::default()
        };
        for dissent in &report.dissent {
            tracing::info!(operator = %dissent.operator, leaf = %dissent.leaf, about = %dissent.about, "an operator differs");
        }
        for id in &agreed.disputed {
            let failure = Failure::NoAgreement {
                what: format!("leaf {id}"),
            };
            report.unusable.push((*id, failure.to_string()));
        }
        let identity = self.inner().signer.identity();
        let mut known = agreed.nodes;
        let own = known
            .values()
            .filter(|node| node.owner == identity)
            .map(|node| node.id)
            .collect::<Vec<_>>();
        self.fetch_missing_ancestors(&own, &mut known).await;

        let swept = self.swept();
        let mut leaves = BTreeMap::new();
        let mut paths = Vec::new();
        for id in own.iter().filter(|id| !swept.contains(id)) {
            let Some(leaf) = known.get(id) else { continue };
            if matches!(leaf.status, LeafStatus::SplitLocked | LeafStatus::Splitted) {
                continue;
            }
            match self.check_own(leaf, &known) {
                Ok(path) => {
                    paths.push(path);
                    leaves.insert(*id, leaf.clone());
                }
                // Given away, and not claimed yet: it is listed as ours until then, but its key is
                // the receiver's already.
                Err(Failure::Keys { .. }) if leaf.status == LeafStatus::TransferLocked => {}
                Err(failure) => report.unusable.push((*id, failure.to_string())),
            }
        }
        let gone = self.given_away(&leaves).await?;

        // Disk and memory change together; what came or went since operators were asked stays as it is.
        let mut pool = self.inner().pool();
        let mut changes = Vec::new();
        for path in paths
            .iter()
            .filter(|path| !pool.has_changed(&path.leaf, asked))
        {
            match self.is_older(path)? {
                false => changes.push(Records::change(
                    Kind::ExitPath,
                    &path.leaf.to_string(),
                    path,
                )?),
                true => {
                    leaves.remove(&path.leaf);
                    report
                        .unusable
                        .push((path.leaf, Failure::Older { leaf: path.leaf }.to_string()));
                }
            }
        }
        for leaf in gone.iter().filter(|leaf| !pool.has_changed(leaf, asked)) {
            tracing::info!(%leaf, "a leaf was spent elsewhere; its old exit is dropped");
            changes.push(Change::Delete {
                kind: Kind::ExitPath,
                key: leaf.to_string(),
            });
        }
        self.inner().records.apply(&changes)?;
        report.leaves = leaves.len();
        pool.replace(leaves, asked);
        Ok(report)
    }

    /// An earlier state of the leaf than the one that is stored: signed as well, but an exit with it would lose
    /// against whoever owned the leaf in between. A renewal makes another node, and starts anew.
    fn is_older(&self, path: &ExitPath) -> Result<bool> {
        let stored = self
            .inner()
            .records
            .get::<ExitPath>(Kind::ExitPath, &path.leaf.to_string())?;
        let node = |path: &ExitPath| path.nodes.last().map(|node| node.tx.compute_txid());
        Ok(stored.is_some_and(|stored| {
            node(&stored) == node(path) && stored.refund_timelock() < path.refund_timelock()
        }))
    }

    async fn agreed_own(&self) -> Result<Agreed> {
        let operators = &self.inner().operators;
        let (identity, network) = (self.inner().signer.identity(), self.inner().config.network);
        let answers = operators
            .ask_all(|operator| async move { nodes::by_owner(&operator, identity, network).await })
            .await?;
        Ok(compare(&answers, operators.majority()))
    }

    /// Ancestors that an answer left out are asked for by id (case 10); what stays missing is found by the check.
    pub(crate) async fn fetch_missing_ancestors(
        &self,
        leaves: &[LeafId],
        known: &mut BTreeMap<LeafId, Node>,
    ) {
        loop {
            let missing = leaves
                .iter()
                .filter_map(|id| known.get(id))
                .filter_map(|leaf| match path::lineage(leaf, known) {
                    Err(Failure::MissingAncestor { node, .. }) => Some(node),
                    _ => None,
                })
                .collect::<BTreeSet<_>>();
            if missing.is_empty() {
                return;
            }
            let ids = missing.into_iter().collect::<Vec<_>>();
            match self.agreed_nodes(&ids).await {
                Ok(found) if ids.iter().any(|id| found.nodes.contains_key(id)) => {
                    // What an answer says about nodes that were known already does not replace them.
                    for (id, node) in found.nodes {
                        known.entry(id).or_insert(node);
                    }
                }
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, "nodes above a leaf cannot be fetched");
                    return;
                }
            }
        }
    }

    /// A leaf of ours: our key is in it, and a signed chain of transactions leads to a signed refund to us.
    pub(crate) fn check_own(
        &self,
        leaf: &Node,
        known: &BTreeMap<LeafId, Node>,
    ) -> Result<ExitPath, Failure> {
        let key = self
            .inner()
            .signer
            .leaf_key(&leaf.id)
            .map_err(|_| Failure::Keys { leaf: leaf.id })?;
        keys::halves_add_up(&leaf.id, &leaf.verifying_key, &key, &leaf.keyshare)?;
        let lineage = path::lineage(leaf, known)?;
        path::check(&lineage)?;
        let no_refund = Failure::Form {
            kind: tx::TxKind::CpfpRefund,
            what: "there is none".into(),
        };
        let refund = leaf.refund_tx.as_ref().ok_or(no_refund.clone())?;
        let sequence = refund::sequence(refund, tx::TxKind::CpfpRefund)?;
        refund::check(
            refund,
            &leaf.node_tx,
            &key,
            refund::Expected::Exactly(sequence),
            true,
        )?;
        exit_path(leaf, &lineage, RefundKey::Leaf).ok_or(no_refund)
    }

    /// Leaves with a stored exit that this wallet gave away elsewhere, for example on another device: never because
    /// somebody says so, but because a signed refund to another key, with a lower timelock, proves it.
    async fn given_away(&self, owned: &BTreeMap<LeafId, Node>) -> Result<Vec<LeafId>> {
        let stored = self.inner().records.list::<ExitPath>(Kind::ExitPath)?;
        let missing = stored
            .into_iter()
            .map(|(_, path)| path)
            .filter(|path| !owned.contains_key(&path.leaf) && path.refund_key == RefundKey::Leaf)
            .collect::<Vec<_>>();
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        let ids = missing.iter().map(|path| path.leaf).collect::<Vec<_>>();
        let agreed = self.agreed_nodes(&ids).await?;
        let proven = |path: &&ExitPath| {
            agreed
                .nodes
                .get(&path.leaf)
                .is_some_and(|node| self.proves_given_away(node, path))
        };
        Ok(missing
            .iter()
            .filter(proven)
            .map(|path| path.leaf)
            .collect())
    }

    fn proves_given_away(&self, node: &Node, path: &ExitPath) -> bool {
        let Some(refund) = &node.refund_tx else {
            return false;
        };
        let Some(spent) = path.nodes.last().and_then(|leaf| leaf.tx.output.first()) else {
            return false;
        };
        let Ok(own) = self.inner().signer.leaf_key(&path.leaf) else {
            return false;
        };
        let kind = tx::TxKind::CpfpRefund;
        let lower = refund::sequence(refund, kind)
            .is_ok_and(|s| u32::from(s.timelock().0) < path.refund_timelock());
        let to_other = refund
            .output
            .first()
            .is_some_and(|output| output.script_pubkey != p2tr(&own));
        let signed = verify_input(refund, 0, std::slice::from_ref(spent), kind).is_ok();
        let same = path
            .nodes
            .last()
            .is_some_and(|leaf| refund::spends(refund, &leaf.tx, kind).is_ok());
        lower && to_other && signed && same
    }
}

#[cfg(test)]
mod tests;
