//! One leaf's way from its root to its refund.

use bitcoin::{OutPoint, Transaction};
use tinderbox_chain::Spend;
use tinderbox_protocol::{BlockHeight, LeafId, Sats};

use super::driver::{ExitDriver, Place, Round};
use super::fund::Funding;
use super::otherwise::Otherwise;
use super::path::ExitPath;
use super::report::ExitEvent;
use super::state::{Sent, Stage};
use crate::error::Result;
use crate::storage::{Change, Kind, Records};

impl ExitDriver {
    /// Brings leaf `index` as far as it gets now.
    pub(super) async fn advance(&mut self, index: usize, round: &mut Round) -> Result<()> {
        let Some(entry) = self.state.leaves.get(index) else {
            return Ok(());
        };
        let path = entry.path.clone();
        self.check_refunded(index, &path, round).await?;
        loop {
            let Some(Stage::Running { step, sent, .. }) = self.stage(index) else {
                return Ok(());
            };
            let txid = path.step(step).compute_txid();
            match self.place(txid).await? {
                Place::Block(height) => {
                    self.confirmed(index, &path, step, sent, height, round);
                    self.check_refunded(index, &path, round).await?;
                }
                Place::Mempool => return self.maybe_bump(index, &path, step, sent, round).await,
                Place::Nowhere => match self.later_step(&path, step).await? {
                    Some(later) => self.set(
                        index,
                        Stage::Running {
                            step: later,
                            sent: None,
                            until: None,
                        },
                    ),
                    None => return self.bring_out(index, &path, step, round).await,
                },
            }
        }
    }

    pub(super) fn stage(&self, index: usize) -> Option<Stage> {
        self.state.leaves.get(index).map(|leaf| leaf.stage.clone())
    }

    pub(super) fn set(&mut self, index: usize, stage: Stage) {
        if let Some(leaf) = self.state.leaves.get_mut(index) {
            leaf.stage = stage;
        }
    }

    /// A refund that a reorganisation took back must be sent again; one that is spent already is nothing to sweep.
    async fn check_refunded(
        &mut self,
        index: usize,
        path: &ExitPath,
        round: &mut Round,
    ) -> Result<()> {
        let Some(Stage::Refunded { outpoint, .. }) = self.stage(index) else {
            return Ok(());
        };
        if self.state.sweep.is_some() {
            return Ok(());
        }
        let leaf = path.leaf;
        match self.chain.confirmations_of(&outpoint).await? {
            Some(view) if view.confirmations > 0 && view.spent == Spend::Confirmed => {
                let key = leaf.to_string();
                let changes = [
                    Records::change(Kind::Swept, &key, &outpoint.txid)?,
                    Change::Delete {
                        kind: Kind::ExitPath,
                        key,
                    },
                ];
                self.records.apply(&changes)?;
                let reason =
                    format!("its refund {outpoint} was spent before; nothing is left to do");
                self.fail(index, leaf, reason, round);
            }
            Some(view) if view.confirmations > 0 => {}
            _ => {
                let step = path.nodes.len();
                round.events.push(ExitEvent::Reorganised { leaf, step });
                self.set(
                    index,
                    Stage::Running {
                        step,
                        sent: None,
                        until: None,
                    },
                );
            }
        }
        Ok(())
    }

    /// The step after a later one that is confirmed already. Its output may be spent, and then a node
    /// without a transaction index does not show it.
    async fn later_step(&self, path: &ExitPath, step: usize) -> Result<Option<usize>> {
        for later in (step + 1..path.steps().len()).rev() {
            if let Place::Block(_) = self.place(path.step(later).compute_txid()).await? {
                return Ok(Some(later));
            }
        }
        Ok(None)
    }

    fn confirmed(
        &mut self,
        index: usize,
        path: &ExitPath,
        step: usize,
        sent: Option<Sent>,
        height: BlockHeight,
        round: &mut Round,
    ) {
        let tx = path.step(step);
        let txid = tx.compute_txid();
        let steps = path.steps().len();
        round.events.push(ExitEvent::Confirmed {
            leaf: path.leaf,
            step,
            steps,
            txid,
            height,
        });
        if let (Some(sent), Some(leaf)) = (sent, self.state.leaves.get_mut(index)) {
            // By step, so that a step that a reorganisation repeats does not count twice.
            leaf.fees.insert(step, sent.fee);
        }
        Funding(&mut self.state.funding).release(path.leaf);
        if step + 1 < steps {
            self.set(
                index,
                Stage::Running {
                    step: step + 1,
                    sent: None,
                    until: None,
                },
            );
        } else {
            let outpoint = OutPoint::new(txid, 0);
            self.refunded(index, path.leaf, outpoint, value_of(tx), height, round);
        }
    }

    fn refunded(
        &mut self,
        index: usize,
        leaf: LeafId,
        outpoint: OutPoint,
        value: Sats,
        height: BlockHeight,
        round: &mut Round,
    ) {
        Funding(&mut self.state.funding).release(leaf);
        round.events.push(ExitEvent::Refunded {
            leaf,
            outpoint,
            value,
        });
        self.set(
            index,
            Stage::Refunded {
                outpoint,
                value,
                height,
            },
        );
    }

    fn fail(&mut self, index: usize, leaf: LeafId, reason: String, round: &mut Round) {
        Funding(&mut self.state.funding).release(leaf);
        round.events.push(ExitEvent::Failed {
            leaf,
            reason: reason.clone(),
        });
        self.set(index, Stage::Failed { reason });
    }

    /// The step's transaction is nowhere: wait for its timelock, or send it.
    async fn bring_out(
        &mut self,
        index: usize,
        path: &ExitPath,
        step: usize,
        round: &mut Round,
    ) -> Result<()> {
        let leaf = path.leaf;
        let mut until = 0;
        if step > 0 {
            let parent = path.step(step - 1).compute_txid();
            let Place::Block(height) = self.place(parent).await? else {
                // A reorganisation took the parent back.
                round.events.push(ExitEvent::Reorganised {
                    leaf,
                    step: step - 1,
                });
                Funding(&mut self.state.funding).release(leaf);
                self.set(
                    index,
                    Stage::Running {
                        step: step - 1,
                        sent: None,
                        until: None,
                    },
                );
                return Ok(());
            };
            // A block may contain it when its own height is at least the parent's plus the timelock.
            until = height
                .0
                .saturating_add(path.timelock(step))
                .saturating_sub(1);
        }
        match self.spent_otherwise(path, step, round.tip).await? {
            Otherwise::No => {}
            Otherwise::Refund(outpoint, value, height) => {
                self.refunded(index, leaf, outpoint, value, height, round);
                return Ok(());
            }
            Otherwise::Wait(until) => {
                self.wait(index, leaf, step, until, round);
                return Ok(());
            }
            Otherwise::Lost(reason) => {
                self.fail(index, leaf, reason, round);
                return Ok(());
            }
        }
        if round.tip.0 < until {
            self.wait(index, leaf, step, BlockHeight(until), round);
            return Ok(());
        }
        self.send(index, path, step, round).await
    }

    fn wait(
        &mut self,
        index: usize,
        leaf: LeafId,
        step: usize,
        until: BlockHeight,
        round: &mut Round,
    ) {
        let waiting = Stage::Running {
            step,
            sent: None,
            until: Some(until),
        };
        if self.stage(index) != Some(waiting.clone()) {
            round.events.push(ExitEvent::Waiting { leaf, step, until });
            self.set(index, waiting);
        }
    }
}

pub(super) fn next(tip: BlockHeight) -> BlockHeight {
    BlockHeight(tip.0.saturating_add(1))
}

pub(super) fn value_of(tx: &Transaction) -> Sats {
    Sats(tx.output.first().map_or(0, |output| output.value.to_sat()))
}
