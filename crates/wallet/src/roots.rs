//! Looking at the deposits under trees, on chain.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use bitcoin::OutPoint;
use serde::{Deserialize, Serialize};
use tinderbox_chain::{OutputView, Spend};
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

/// A root that was looked at this recently is not looked at again: payments arrive in bursts.
const FRESH: Duration = Duration::from_secs(20);

/// How often the chain is asked until it keeps still meanwhile.
const CALM_LOOKS: u32 = 4;

impl Wallet {
    /// Checks that a tree's root spends confirmed, unspent deposits of its amount (cases 9 and 13). Of a root that
    /// was proven once, later looks only ask whether it is still confirmed and unspent.
    pub(crate) async fn check_root_on_chain(
        &self,
        root: &Node,
        deposits: &[OutPoint],
    ) -> Result<()> {
        let inner = self.inner();
        let txid = root.node_tx.compute_txid();
        let seen = inner
            .roots_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&txid)
            .copied();
        if seen.is_some_and(|at| at.elapsed() < FRESH) {
            return Ok(());
        }
        let about = |failure: Failure| failure.about(format!("the tree of leaf {}", root.id));
        let key = txid.to_string();
        if inner
            .records
            .get::<Confirmed>(Kind::ConfirmedRoot, &key)?
            .is_some()
        {
            for outpoint in deposits {
                let found = inner.chain.confirmations_of(outpoint).await?;
                still_good(outpoint, found.as_ref(), inner.config.confirmations).map_err(about)?;
            }
        } else {
            let mut evidence = Vec::with_capacity(deposits.len());
            for outpoint in deposits {
                evidence.push((*outpoint, self.evidence(outpoint).await?.map_err(about)?));
            }
            root::check(
                &root.node_tx,
                &evidence,
                inner.config.confirmations,
                inner.config.network,
            )
            .map_err(about)?;
            if let Some(block) = evidence.first().and_then(|(_, e)| e.tx.block) {
                inner.records.put(
                    Kind::ConfirmedRoot,
                    &key,
                    &Confirmed {
                        height: block.height,
                    },
                )?;
            }
        }
        inner
            .roots_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(txid, Instant::now());
        Ok(())
    }

    /// Everything that the chain source says about a deposit, without a reorganisation in between: its answers
    /// would contradict each other, and no lie behind it.
    async fn evidence(&self, outpoint: &OutPoint) -> Result<Result<Evidence, Failure>> {
        let chain = &self.inner().chain;
        for _ in 1..CALM_LOOKS {
            let before = chain.tip().await?;
            let evidence = self.evidence_now(outpoint).await?;
            if chain.tip().await? == before {
                return Ok(evidence);
            }
        }
        self.evidence_now(outpoint).await
    }

    async fn evidence_now(&self, outpoint: &OutPoint) -> Result<Result<Evidence, Failure>> {
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
            Some(block) => chain.inclusion(&outpoint.txid, &block.hash).await?,
            None => None,
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

fn still_good(outpoint: &OutPoint, found: Option<&OutputView>, needed: u32) -> Result<(), Failure> {
    let outpoint = *outpoint;
    let found = found.ok_or(Failure::RootMissing { outpoint })?;
    if found.confirmations < needed {
        return Err(Failure::RootUnconfirmed {
            outpoint,
            found: found.confirmations,
            needed,
        });
    }
    if found.spent == Spend::Unspent {
        Ok(())
    } else {
        Err(Failure::RootSpent { outpoint })
    }
}
