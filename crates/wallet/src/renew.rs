//! Renewing leaves whose timelocks have run down, before they are needed.

use std::collections::BTreeMap;

use tinderbox_protocol::{LeafId, TransferId, renewal};
use tinderbox_rpc::proto::spark::renew_leaf_response::RenewResult;
use tinderbox_rpc::proto::spark::{RenewLeafResponse, TreeNode};
use tokio::task::JoinSet;

use crate::error::{Error, Result};
use crate::exit::RefundKey;
use crate::leaf::Node;
use crate::package::Renewal;
use crate::verify::{Failure, path};
use crate::wallet::Wallet;
use crate::wire;

const CALL: &str = "renew_leaf";

/// Leaves that are renewed at the same time.
const AT_ONCE: usize = 8;

/// What a renewal gave.
struct Renewed {
    leaf: Node,
    split: Option<Node>,
}

/// Keeps a leaf from being spent while it is renewed.
struct Held<'a> {
    wallet: &'a Wallet,
    by: TransferId,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.wallet.inner().pool().release(self.by);
    }
}

impl Wallet {
    /// Renews every free leaf that has run down: of some only the refund's timelock is reset, others
    /// get one more node above them. One that cannot be renewed now stays as it is; the next
    /// synchronisation tries again. Returns how many were renewed.
    pub async fn renew_leaves(&self) -> usize {
        let worn = {
            let pool = self.inner().pool();
            let worn = pool
                .all()
                .filter(|leaf| pool.is_free(leaf) && is_worn(leaf));
            worn.map(|leaf| leaf.id).collect::<Vec<_>>()
        };
        let mut renewed = 0;
        let mut running = JoinSet::new();
        let mut worn = worn.into_iter();
        loop {
            while running.len() < AT_ONCE
                && let Some(leaf) = worn.next()
            {
                let wallet = self.clone();
                running.spawn(async move {
                    let result = wallet.renew(leaf).await;
                    if let Err(error) = &result {
                        tracing::warn!(%leaf, %error, "a leaf could not be renewed for now");
                    }
                    result.is_ok()
                });
            }
            match running.join_next().await {
                Some(done) => renewed += usize::from(matches!(done, Ok(true))),
                None => return renewed,
            }
        }
    }

    /// Renews one leaf of ours.
    async fn renew(&self, id: LeafId) -> Result<()> {
        let by = TransferId(uuid::Uuid::now_v7());
        {
            let mut pool = self.inner().pool();
            // A payment may have been faster.
            if !pool.get(&id).is_some_and(|leaf| pool.is_free(leaf)) {
                return Ok(());
            }
            pool.hold(by, &[id]);
        }
        let _held = Held { wallet: self, by };
        let about = |failure: Failure| failure.about(format!("the renewal of leaf {id}"));
        // The nodes above it as a majority tells them, checked down from the deposit: what is
        // signed here must spend what is really there.
        let mut known = self.agreed_nodes(&[id]).await?.nodes;
        self.fetch_missing_ancestors(&[id], &mut known).await;
        let no_agreement = || {
            about(Failure::NoAgreement {
                what: format!("leaf {id}"),
            })
        };
        let leaf = known.get(&id).cloned().ok_or_else(no_agreement)?;
        self.check_own(&leaf, &known).map_err(about)?;
        let parent = leaf.parent.and_then(|parent| known.get(&parent));
        let signer = self.inner().signer.clone();
        let Some(wanted) = Renewal::of(&*signer, &leaf, parent)? else {
            // Another device has renewed it.
            return Ok(());
        };
        let nonces = self.commitments_for_renewal(&id, wanted.count()).await?;
        let threshold = self.inner().recipients().threshold;
        let old = leaf.clone();
        let (wanted, request) = tokio::task::spawn_blocking(move || {
            let request = wanted.request(&*signer, threshold, &old, &nonces);
            (wanted, request)
        })
        .await
        .map_err(|e| Error::Config {
            what: format!("the renewal could not be built: {e}"),
        })?;
        let coordinator = self.inner().operators.coordinator();
        let reply = coordinator
            .call(CALL, request?, |mut client, r| async move {
                client.renew_leaf(r).await
            })
            .await?;
        let renewed = read(reply).map_err(|what| coordinator.nonsense(CALL, what))?;
        self.take_renewed(&leaf, &wanted, renewed, known)
    }

    /// Checks what came back, and keeps it with its exit.
    fn take_renewed(
        &self,
        before: &Node,
        wanted: &Renewal,
        renewed: Renewed,
        mut known: BTreeMap<LeafId, Node>,
    ) -> Result<()> {
        let about = |failure: Failure| failure.about(format!("the renewal of leaf {}", before.id));
        let Renewed { leaf, split } = renewed;
        if leaf.id != before.id || leaf.verifying_key != before.verifying_key {
            return Err(about(Failure::Keys { leaf: before.id }));
        }
        wanted.check(&leaf, split.as_ref())?;
        if let Some(split) = split {
            known.insert(split.id, split);
        }
        known.insert(leaf.id, leaf.clone());
        self.check_own(&leaf, &known).map_err(about)?;
        let lineage = path::lineage(&leaf, &known).map_err(about)?;
        self.adopt(&leaf, &lineage, RefundKey::Leaf)
    }
}

/// True if the leaf is renewed before it is sent on.
fn is_worn(leaf: &Node) -> bool {
    match (leaf.txs().node_sequence(), leaf.refund_sequence()) {
        (Ok(node), Ok(refund)) => renewal::needed(node, refund).is_some(),
        _ => false,
    }
}

fn read(reply: RenewLeafResponse) -> std::result::Result<Renewed, String> {
    let (split, leaf) = match reply.renew_result.ok_or("there is no result")? {
        RenewResult::RenewNodeTimelockResult(result) => (result.split_node, result.node),
        RenewResult::RenewRefundTimelockResult(result) => (None, result.node),
        RenewResult::RenewNodeZeroTimelockResult(result) => (result.split_node, result.node),
    };
    let node = |message: TreeNode| wire::node(&message);
    Ok(Renewed {
        leaf: node(leaf.ok_or("there is no node")?)?,
        split: split.map(node).transpose()?,
    })
}
