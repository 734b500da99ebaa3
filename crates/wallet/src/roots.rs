//! Looking at the deposits under trees, on chain.

use bitcoin::OutPoint;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::BlockHeight;

use crate::error::Result;
use crate::leaf::Node;
use crate::storage::Kind;
use crate::verify::Failure;
use crate::verify::root::{self, Evidence};
use crate::wallet::Wallet;

/// A root that was found good.
#[derive(Serialize, Deserialize)]
struct Confirmed {
    height: BlockHeight,
}

impl Wallet {
    /// Checks that a tree's root spends confirmed, unspent deposits of its amount (cases 9 and 13). A root that
    /// was good once and is deep in the chain is only asked whether it is spent.
    pub(crate) async fn check_root_on_chain(
        &self,
        root: &Node,
        deposits: &[OutPoint],
    ) -> Result<()> {
        let inner = self.inner();
        let about = |failure: Failure| failure.about(format!("the tree of leaf {}", root.id));
        let key = root.node_tx.compute_txid().to_string();
        let known = inner
            .records
            .get::<Confirmed>(Kind::ConfirmedRoot, &key)?
            .is_some();
        let mut evidence = Vec::with_capacity(deposits.len());
        for outpoint in deposits {
            evidence.push((
                *outpoint,
                self.evidence(outpoint, known).await?.map_err(about)?,
            ));
        }
        let network = inner.config.network;
        let needed = inner.config.confirmations;
        if known {
            for (outpoint, found) in &evidence {
                if found.output.spent != tinderbox_chain::Spend::Unspent {
                    return Err(about(Failure::RootSpent {
                        outpoint: *outpoint,
                    }));
                }
                if found.output.confirmations < needed {
                    return Err(about(Failure::RootUnconfirmed {
                        outpoint: *outpoint,
                        found: found.output.confirmations,
                        needed,
                    }));
                }
            }
            return Ok(());
        }
        root::check(&root.node_tx, &evidence, needed, network).map_err(about)?;
        if let Some(block) = evidence.first().and_then(|(_, e)| e.tx.block) {
            inner.records.put(
                Kind::ConfirmedRoot,
                &key,
                &Confirmed {
                    height: block.height,
                },
            )?;
        }
        Ok(())
    }

    /// What the chain source says about a deposit; without proof if none is needed any more.
    async fn evidence(
        &self,
        outpoint: &OutPoint,
        known: bool,
    ) -> Result<Result<Evidence, Failure>> {
        let chain = &self.inner().chain;
        let missing = Failure::RootMissing {
            outpoint: *outpoint,
        };
        let Some(output) = chain.confirmations_of(outpoint).await? else {
            return Ok(Err(missing));
        };
        let Some(tx) = chain.tx(&outpoint.txid).await? else {
            return Ok(Err(missing));
        };
        let inclusion = match tx.block {
            Some(block) if !known => chain.inclusion(&outpoint.txid, &block.hash).await?,
            _ => None,
        };
        // Asked last, so that a block that arrives meanwhile does not make the depths contradict.
        let tip = chain.tip().await?;
        Ok(Ok(Evidence {
            tx,
            output,
            inclusion,
            tip,
        }))
    }
}
