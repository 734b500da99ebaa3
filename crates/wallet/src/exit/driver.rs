use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, OutPoint, Txid};
use tinderbox_chain::Spend;
use tinderbox_protocol::{BlockHeight, Network, Sats};

use super::cost::{Rate, leaf_cost};
use super::fund::Funding;
use super::path::ExitPath;
use super::report::{ExitEvent, ExitReport, LeafReport, Wanted};
use super::state::{ExitOptions, ExitState, LeafExit, Stage};
use crate::chain::WalletChain;
use crate::error::{Error, Result};
use crate::signer::WalletSigner;
use crate::storage::{Kind, Records};

/// The one exit of a wallet is stored under this key.
const KEY: &str = "current";

/// Carries one exit through. Every [`step`](ExitDriver::step) may be the last before a crash.
pub struct ExitDriver {
    pub(super) signer: Arc<dyn WalletSigner>,
    pub(super) chain: Arc<dyn WalletChain>,
    pub(super) state: ExitState,
    pub(super) records: Records,
    network: Network,
}

/// What one step gathers.
pub(super) struct Round {
    pub(super) tip: BlockHeight,
    pub(super) rate: Rate,
    pub(super) events: Vec<ExitEvent>,
    /// What a package lacked.
    pub(super) missing: Option<Sats>,
    /// Whether the chain was searched for new funding already.
    pub(super) searched: bool,
}

/// Where a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Nowhere,
    Mempool,
    Block(BlockHeight),
}

impl ExitDriver {
    /// Plans an exit and writes it down. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::ExitRunning`] if one is under way, [`Error::NothingToExit`] without paths, or if
    /// none of the chosen leaves has one; [`Error::WrongNetwork`] never: the address type says it.
    pub async fn start(
        signer: Arc<dyn WalletSigner>,
        chain: Arc<dyn WalletChain>,
        records: Records,
        network: Network,
        options: ExitOptions,
    ) -> Result<Self> {
        if load(&records)?.is_some_and(|state| !state.is_done()) {
            return Err(Error::ExitRunning);
        }
        let chosen = |path: &ExitPath| {
            options
                .leaves
                .as_ref()
                .is_none_or(|set| set.contains(&path.leaf))
        };
        let paths = records
            .list::<ExitPath>(Kind::ExitPath)?
            .into_iter()
            .map(|(_, p)| p)
            .filter(chosen)
            .collect::<Vec<_>>();
        if let Some(missing) = options
            .leaves
            .iter()
            .flatten()
            .find(|id| !paths.iter().any(|path| path.leaf == **id))
        {
            return Err(Error::UnknownLeaf { id: *missing });
        }
        if paths.is_empty() {
            return Err(Error::NothingToExit);
        }
        let rate = rate(&*chain, options.fee_rate).await?;
        let leaves = paths
            .into_iter()
            .map(|path| {
                let cost = leaf_cost(&path, 0, rate);
                let stage = if cost >= path.value && !options.uneconomic_too {
                    Stage::Skipped { cost }
                } else {
                    Stage::Running {
                        step: 0,
                        sent: None,
                        until: None,
                    }
                };
                LeafExit {
                    path,
                    stage,
                    fees: BTreeMap::new(),
                }
            })
            .collect();
        let state = ExitState {
            version: ExitState::VERSION,
            network,
            destination: options.destination.to_string(),
            fee_rate: options.fee_rate,
            sweep_funding: options.sweep_funding,
            leaves,
            funding: Vec::new(),
            sweep: None,
        };
        let driver = Self {
            signer,
            chain,
            state,
            records,
            network,
        };
        driver.save()?;
        Ok(driver)
    }

    /// Goes on with the stored exit.
    ///
    /// # Errors
    /// [`Error::NoExit`] if there is none.
    pub fn resume(
        signer: Arc<dyn WalletSigner>,
        chain: Arc<dyn WalletChain>,
        records: Records,
        network: Network,
    ) -> Result<Self> {
        let state = load(&records)?.ok_or(Error::NoExit)?;
        Ok(Self {
            signer,
            chain,
            state,
            records,
            network,
        })
    }

    /// The stored exit, if there is one.
    ///
    /// # Errors
    /// As the storage; [`Error::Bundle`] for a record of a newer program.
    pub fn stored(records: &Records) -> Result<Option<ExitState>> {
        load(records)
    }

    pub(super) fn put(records: &Records, state: &ExitState) -> Result<()> {
        records.put(Kind::Exit, KEY, state)
    }

    /// Where it stands.
    pub fn state(&self) -> &ExitState {
        &self.state
    }

    /// Where funding is to be sent.
    pub fn funding_address(&self) -> String {
        self.signer.funding_address(self.network).to_string()
    }

    /// Does what can be done at the present tip.
    ///
    /// # Errors
    /// If the chain does not answer or the storage fails; call it again. Refusals of single
    /// transactions are events, not errors.
    pub async fn step(&mut self) -> Result<ExitReport> {
        let tip = self.chain.tip().await?.height;
        let rate = rate(&*self.chain, self.state.fee_rate).await?;
        let mut round = Round {
            tip,
            rate,
            events: Vec::new(),
            missing: None,
            searched: false,
        };
        self.refresh_funding().await?;
        for index in 0..self.state.leaves.len() {
            self.advance(index, &mut round).await?;
        }
        if !self.state.is_running() {
            self.advance_sweep(&mut round).await?;
        }
        self.save()?;
        Ok(self.report(round))
    }

    /// Steps until it is done, at most one step per `poll`; `seen` gets every report.
    ///
    /// # Errors
    /// As [`step`](ExitDriver::step), but temporary ones are waited out.
    pub async fn run(
        &mut self,
        poll: Duration,
        mut seen: impl FnMut(&ExitReport),
    ) -> Result<ExitReport> {
        loop {
            match self.step().await {
                Ok(report) => {
                    seen(&report);
                    if report.done {
                        return Ok(report);
                    }
                }
                Err(error) if error.is_temporary() => {
                    tracing::warn!(%error, "the exit waits for the chain source")
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(poll).await;
        }
    }

    pub(super) fn save(&self) -> Result<()> {
        Self::put(&self.records, &self.state)
    }

    pub(super) fn destination(&self) -> Result<Address> {
        self.state
            .destination
            .parse::<Address<NetworkUnchecked>>()
            .ok()
            .and_then(|address| address.require_network(self.network.bitcoin()).ok())
            .ok_or_else(|| Error::BadAddress {
                text: self.state.destination.clone(),
                what: "address of this network",
                reason: "it does not parse".into(),
            })
    }

    /// Where a transaction is. Works without a transaction index while output 0 is unspent.
    pub(super) async fn place(&self, txid: Txid) -> Result<Place> {
        Ok(
            match self.chain.confirmations_of(&OutPoint::new(txid, 0)).await? {
                None => Place::Nowhere,
                Some(view) => match view.block {
                    Some(block) if view.confirmations > 0 => Place::Block(block.height),
                    _ => Place::Mempool,
                },
            },
        )
    }

    /// Learns which coins are confirmed, and forgets those that are spent.
    async fn refresh_funding(&mut self) -> Result<()> {
        // Coins that our own sweep spends are needed again if it must pay more.
        let sweeping = self.state.sweep.iter().flat_map(|sweep| &sweep.tx.0.input);
        let sweeping = sweeping
            .map(|input| input.previous_output)
            .collect::<Vec<_>>();
        // Change of a package that was written down but may not have been sent yet.
        let pending = self
            .state
            .leaves
            .iter()
            .filter_map(|leaf| match &leaf.stage {
                Stage::Running {
                    sent: Some(sent), ..
                } => Some(sent.child),
                _ => None,
            });
        let pending = pending.collect::<Vec<_>>();
        let mut gone = Vec::new();
        for coin in &mut self.state.funding {
            let outpoint = coin.outpoint;
            match self.chain.confirmations_of(&outpoint).await? {
                Some(view) => {
                    coin.confirmed = view.confirmations > 0;
                    let foreign = coin.used_by.is_none() && !sweeping.contains(&outpoint);
                    if view.spent == Spend::Confirmed || (foreign && view.spent == Spend::InMempool)
                    {
                        gone.push(outpoint);
                    }
                }
                None if pending.contains(&outpoint.txid) => {}
                None => gone.push(outpoint),
            }
        }
        Funding(&mut self.state.funding).forget(|coin| gone.contains(&coin.outpoint));
        Ok(())
    }

    /// Looks for coins on the funding address that are not known yet; once per step.
    pub(super) async fn find_funding(&mut self, round: &mut Round) -> Result<()> {
        if std::mem::replace(&mut round.searched, true) {
            return Ok(());
        }
        for coin in self.chain.coins_of(&self.signer.funding_script()).await? {
            Funding(&mut self.state.funding).learn(coin.outpoint, coin.value, true);
        }
        Ok(())
    }

    fn report(&self, round: Round) -> ExitReport {
        let done = self.state.is_done();
        // The sweep takes all refunds at once, so the first ones wait for the last.
        let sweeps = !self
            .state
            .leaves
            .iter()
            .any(|leaf| matches!(leaf.stage, Stage::Running { .. }));
        let earliest = self
            .state
            .leaves
            .iter()
            .filter_map(|leaf| match &leaf.stage {
                Stage::Running {
                    until: Some(until),
                    sent: None,
                    ..
                } => Some(until.0),
                Stage::Running { sent: Some(_), .. } => Some(round.tip.0.saturating_add(1)),
                Stage::Refunded { .. } if sweeps => Some(round.tip.0.saturating_add(1)),
                _ => None,
            })
            .min();
        let wanted = if done {
            Wanted::Nothing
        } else if let Some(at_least) = round.missing {
            Wanted::Funding {
                address: self.funding_address(),
                at_least,
            }
        } else {
            let next = round.tip.0.saturating_add(1);
            Wanted::Block {
                at_least: BlockHeight(earliest.map_or(next, |e| e.max(next))),
            }
        };
        ExitReport {
            tip: round.tip,
            leaves: lines(&self.state),
            events: round.events,
            wanted,
            fees_paid: self.state.fees_paid(),
            sweep: self
                .state
                .sweep
                .as_ref()
                .map(|sweep| sweep.tx.0.compute_txid()),
            done,
        }
    }
}

/// A line about every leaf of an exit.
pub fn lines(state: &ExitState) -> Vec<LeafReport> {
    state.leaves.iter().map(line).collect()
}

fn line(leaf: &LeafExit) -> LeafReport {
    let steps = leaf.path.steps().len();
    let (confirmed, stage) = match &leaf.stage {
        Stage::Running {
            step,
            sent: Some(_),
            ..
        } => (*step, "sent, waits for a block".to_owned()),
        Stage::Running {
            step,
            until: Some(until),
            ..
        } => (*step, format!("timelock runs until block {until}")),
        Stage::Running { step, .. } => (*step, "to be sent".to_owned()),
        Stage::Refunded { outpoint, .. } => (
            steps,
            format!("refunded at {outpoint}, waits for the sweep"),
        ),
        Stage::Swept { txid } => (steps, format!("swept by {txid}")),
        Stage::Skipped { cost } => (0, format!("skipped: its exit would cost {cost}")),
        Stage::Failed { reason } => (0, format!("given up: {reason}")),
    };
    LeafReport {
        leaf: leaf.path.leaf,
        value: leaf.path.value,
        confirmed,
        steps,
        stage,
    }
}

fn load(records: &Records) -> Result<Option<ExitState>> {
    let state = records.get::<ExitState>(Kind::Exit, KEY)?;
    match state {
        Some(state) if state.version > ExitState::VERSION => Err(Error::Bundle {
            reason: format!(
                "it has version {}, this program knows {}. Use a newer program",
                state.version,
                ExitState::VERSION
            ),
        }),
        state => Ok(state),
    }
}

/// The rate to pay: the user's, or what the node thinks confirms within a few blocks.
async fn rate(chain: &dyn WalletChain, fixed: Option<Rate>) -> Result<Rate> {
    match fixed {
        Some(rate) => Ok(rate),
        None => Ok(Rate::from_fee_rate(chain.fee_rate(3).await?)),
    }
}
