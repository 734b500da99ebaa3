//! Sending packages, and sending them again for a higher fee.

use bitcoin::Transaction;
use tinderbox_chain::{Error as ChainError, Rejection};
use tinderbox_protocol::tx::fee_bump::MIN_CHANGE;
use tinderbox_protocol::{LeafId, Sats};

use super::cost::{Rate, package_fee};
use super::driver::{ExitDriver, Round};
use super::fund::{Child, Funding, change_of, child, choose};
use super::leaf::next;
use super::path::ExitPath;
use super::report::ExitEvent;
use super::state::{Sent, Stage};
use crate::error::Result;

/// Blocks after which a package that is still unconfirmed pays more.
const BUMP_AFTER: u32 = 3;

impl ExitDriver {
    /// Sends the package of a step, or says what funding it lacks.
    pub(super) async fn send(
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
    pub(super) async fn maybe_bump(
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
