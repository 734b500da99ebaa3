//! When somebody else moved first: a watchtower of ours, or a stranger.

use bitcoin::OutPoint;
use tinderbox_chain::Spend;
use tinderbox_protocol::{BlockHeight, Sats};

use super::driver::{ExitDriver, Place};
use super::leaf::{next, value_of};
use super::path::ExitPath;
use crate::error::Result;

/// How the output that a step wants to spend was spent by another transaction.
pub(super) enum Otherwise {
    /// Not at all, or by something that our package may replace.
    No,
    /// By another refund of ours: the money is there.
    Refund(OutPoint, Sats, BlockHeight),
    /// By something of ours that leads to a refund in time.
    Wait(BlockHeight),
    /// By something else.
    Lost(String),
}

impl ExitDriver {
    pub(super) async fn spent_otherwise(
        &self,
        path: &ExitPath,
        step: usize,
        tip: BlockHeight,
    ) -> Result<Otherwise> {
        let input = path.input_of(step);
        let seen = self
            .chain
            .confirmations_of(&input)
            .await?
            .map(|view| view.spent);
        // An output that is not there may be one that is spent, to a node without a transaction index.
        if seen == Some(Spend::Unspent) {
            return Ok(Otherwise::No);
        }
        let is_refund = step == path.nodes.len();
        if is_refund {
            if let Some(tx) = path.direct_from_cpfp_refund.as_ref().map(|tx| &tx.0) {
                match self.place(tx.compute_txid()).await? {
                    Place::Block(height) => {
                        return Ok(Otherwise::Refund(
                            OutPoint::new(tx.compute_txid(), 0),
                            value_of(tx),
                            height,
                        ));
                    }
                    Place::Mempool => return Ok(Otherwise::Wait(next(tip))),
                    Place::Nowhere => {}
                }
            }
        } else if let Some(direct) = path.nodes.get(step).and_then(|node| node.direct.as_ref()) {
            match self.place(direct.0.compute_txid()).await? {
                Place::Block(height) if step + 1 == path.nodes.len() => {
                    return self.after_direct(path, height, tip).await;
                }
                Place::Block(_) => {
                    return Ok(Otherwise::Lost(
                        "a watchtower published the fee-paying variant of a node above it, which ends the branch".into(),
                    ));
                }
                Place::Mempool => return Ok(Otherwise::Wait(next(tip))),
                Place::Nowhere => {}
            }
        }
        Ok(match seen {
            Some(Spend::Confirmed) => Otherwise::Lost(format!(
                "output {input} was spent by a transaction that this wallet does not know: look at it in a block \
                 explorer"
            )),
            // Ours may replace it; or the node will say that an input is missing, and it is tried again.
            _ => Otherwise::No,
        })
    }

    /// The leaf's direct node is confirmed: only its own refund leads on, and it pays its own fee.
    async fn after_direct(
        &self,
        path: &ExitPath,
        height: BlockHeight,
        tip: BlockHeight,
    ) -> Result<Otherwise> {
        let Some(tx) = path.direct_refund.as_ref().map(|tx| &tx.0) else {
            return Ok(Otherwise::Wait(next(tip)));
        };
        let txid = tx.compute_txid();
        match self.place(txid).await? {
            Place::Block(height) => {
                return Ok(Otherwise::Refund(
                    OutPoint::new(txid, 0),
                    value_of(tx),
                    height,
                ));
            }
            Place::Mempool => return Ok(Otherwise::Wait(next(tip))),
            Place::Nowhere => {}
        }
        let timelock = tx
            .input
            .first()
            .map_or(0, |input| input.sequence.0 & 0xffff);
        let until = height.0.saturating_add(timelock).saturating_sub(1);
        let signed = tx
            .input
            .first()
            .is_some_and(|input| !input.witness.is_empty());
        if tip.0 >= until && signed {
            // The watchtower does this as well; whoever is second finds it there.
            if let Err(error) = self.chain.broadcast(tx).await {
                tracing::warn!(%error, %txid, "the direct refund was not accepted");
            }
        }
        Ok(Otherwise::Wait(BlockHeight(
            until.max(tip.0.saturating_add(1)),
        )))
    }
}
