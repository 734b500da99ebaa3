//! One leaf's way from its root to its refund.

use bitcoin::{OutPoint, Transaction};
use tinderbox_chain::{Error as ChainError, Rejection, Spend};
use tinderbox_protocol::tx::fee_bump::MIN_CHANGE;
use tinderbox_protocol::{BlockHeight, LeafId, Sats};

use super::cost::{Rate, package_fee};
use super::driver::{ExitDriver, Place, Round};
use super::fund::{Child, Funding, change_of, child, choose};
use super::path::ExitPath;
use super::report::ExitEvent;
use super::state::{Sent, Stage};
use crate::error::Result;
use crate::storage::{Change, Kind, Records};

/// Blocks after which a package that is still unconfirmed pays more.
const BUMP_AFTER: u32 = 3;

/// How the output that a step wants to spend was spent by another transaction.
enum Otherwise {
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

    fn stage(&self, index: usize) -> Option<Stage> {
        self.state.leaves.get(index).map(|leaf| leaf.stage.clone())
    }

    fn set(&mut self, index: usize, stage: Stage) {
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

    async fn spent_otherwise(
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

    /// Sends the package of a step, or says what funding it lacks.
    async fn send(
        &mut self,
        index: usize,
        path: &ExitPath,
        step: usize,
        round: &mut Round,
    ) -> Result<()> {
        let parent = path.step(step).clone();
        let Some(package) = self.fund(&parent, path.leaf, round.rate, round).await? else {
            return Ok(());
        };
        let event = ExitEvent::Sent {
            leaf: path.leaf,
            step,
            steps: path.steps().len(),
            txid: parent.compute_txid(),
            fee: package.fee,
        };
        self.submit(
            index, path.leaf, step, &parent, package, round.rate, event, round,
        )
        .await
    }

    /// A child for `parent`: from the coins that its leaf holds already, or from free ones.
    async fn fund(
        &mut self,
        parent: &Transaction,
        leaf: LeafId,
        rate: Rate,
        round: &mut Round,
    ) -> Result<Option<Child>> {
        let held = Funding(&mut self.state.funding).of(leaf);
        if !held.is_empty() {
            if let Some(package) = child(&*self.signer, parent, &held, rate)? {
                return Ok(Some(package));
            }
            Funding(&mut self.state.funding).release(leaf);
        }
        let mut coins = choose(&self.state.funding, parent, rate);
        if coins.is_none() {
            self.find_funding(round).await?;
            coins = choose(&self.state.funding, parent, rate);
        }
        let Some(coins) = coins else {
            // Change of a package under way will do once it is confirmed.
            let coming = self.state.funding.iter().any(|coin| !coin.confirmed);
            if !coming {
                let lack = package_fee(parent, 1, rate).0.saturating_add(MIN_CHANGE.0);
                round.missing = Some(Sats(round.missing.map_or(0, |m| m.0).saturating_add(lack)));
            }
            return Ok(None);
        };
        Funding(&mut self.state.funding).reserve(&coins, leaf);
        child(&*self.signer, parent, &coins, rate)
    }

    /// Writes down that a package is sent, sends it, and takes the answer in.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call site each for first sending and for a higher fee"
    )]
    async fn submit(
        &mut self,
        index: usize,
        leaf: LeafId,
        step: usize,
        parent: &Transaction,
        package: Child,
        rate: Rate,
        event: ExitEvent,
        round: &mut Round,
    ) -> Result<()> {
        let child_id = package.tx.compute_txid();
        let sent = Sent {
            child: child_id,
            at: round.tip,
            rate,
            fee: package.fee,
        };
        self.set(
            index,
            Stage::Running {
                step,
                sent: Some(sent),
                until: None,
            },
        );
        if let Some((outpoint, _)) = change_of(&package.tx) {
            Funding(&mut self.state.funding).learn(outpoint, package.change, false);
        }
        self.save()?;
        match self
            .chain
            .submit_package(&[parent.clone(), package.tx])
            .await
        {
            Ok(_) => round.events.push(event),
            Err(ChainError::Rejected {
                txid,
                rejection,
                reason,
            }) => {
                let text = ChainError::Rejected {
                    txid,
                    rejection,
                    reason,
                }
                .to_string();
                round.events.push(ExitEvent::Refused { leaf, reason: text });
                let coins_gone = rejection == Rejection::MissingInputs && txid == child_id;
                let mut funding = Funding(&mut self.state.funding);
                funding.forget(|coin| {
                    coin.outpoint.txid == child_id || (coins_gone && coin.used_by == Some(leaf))
                });
                funding.release(leaf);
                let until = (rejection == Rejection::TimelockNotReached).then(|| next(round.tip));
                self.set(
                    index,
                    Stage::Running {
                        step,
                        sent: None,
                        until,
                    },
                );
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// A package of ours that does not confirm pays half as much again.
    async fn maybe_bump(
        &mut self,
        index: usize,
        path: &ExitPath,
        step: usize,
        sent: Option<Sent>,
        round: &mut Round,
    ) -> Result<()> {
        let Some(sent) = sent else { return Ok(()) };
        if round.tip.0 < sent.at.0.saturating_add(BUMP_AFTER) {
            return Ok(());
        }
        let raised = sent.rate.raised().max(round.rate);
        let parent = path.step(step).clone();
        let coins = Funding(&mut self.state.funding).of(path.leaf);
        let Some(package) = child(&*self.signer, &parent, &coins, raised)? else {
            return Ok(());
        };
        let child_id = package.tx.compute_txid();
        let replacement = Sent {
            child: child_id,
            at: round.tip,
            rate: raised,
            fee: package.fee,
        };
        match self
            .chain
            .submit_package(&[parent.clone(), package.tx.clone()])
            .await
        {
            Ok(_) => {
                let mut funding = Funding(&mut self.state.funding);
                funding.forget(|coin| coin.outpoint.txid == sent.child);
                if let Some((outpoint, _)) = change_of(&package.tx) {
                    funding.learn(outpoint, package.change, false);
                }
                self.set(
                    index,
                    Stage::Running {
                        step,
                        sent: Some(replacement),
                        until: None,
                    },
                );
                round.events.push(ExitEvent::Bumped {
                    leaf: path.leaf,
                    txid: parent.compute_txid(),
                    fee: package.fee,
                });
            }
            Err(ChainError::Rejected {
                txid,
                rejection,
                reason,
            }) => {
                let text = ChainError::Rejected {
                    txid,
                    rejection,
                    reason,
                }
                .to_string();
                round.events.push(ExitEvent::Refused {
                    leaf: path.leaf,
                    reason: text,
                });
                // The old package is still there; try again some blocks later.
                self.set(
                    index,
                    Stage::Running {
                        step,
                        sent: Some(Sent {
                            at: round.tip,
                            ..sent
                        }),
                        until: None,
                    },
                );
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn next(tip: BlockHeight) -> BlockHeight {
    BlockHeight(tip.0.saturating_add(1))
}

fn value_of(tx: &Transaction) -> Sats {
    Sats(tx.output.first().map_or(0, |output| output.value.to_sat()))
}
