//! Looking at the chain, and answering.

use std::path::PathBuf;
use std::sync::Arc;

use bitcoin::{OutPoint, Transaction};
use tinderbox_chain::{ChainSource, Error as ChainError, Rejection};
use tinderbox_protocol::BlockHeight;

use super::check::{check, is_signed};
use super::report::{WatchEvent, WatchReport};
use super::state::{LeafWatch, SeenNode, WatchState};
use crate::error::Result;
use crate::exit::{Bundle, ExitPath, HexTx};

/// Blocks above a refund after which it is not looked for any more: shallower ones may be taken back.
const FINAL: u32 = 100;

/// Watches over the leaves of a bundle.
pub struct Watchtower {
    chain: Arc<dyn ChainSource>,
    paths: Vec<ExitPath>,
    state: WatchState,
    file: PathBuf,
    /// Told of once per bundle.
    unprotected: Vec<WatchEvent>,
}

/// Where a transaction is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Block(BlockHeight),
    Mempool,
    Nowhere,
}

/// One leaf's look.
struct Look<'a> {
    tip: BlockHeight,
    path: &'a ExitPath,
    watch: LeafWatch,
    events: Vec<WatchEvent>,
}

impl Watchtower {
    /// A watchtower over `bundle` that remembers in `file`.
    ///
    /// # Errors
    /// [`crate::Error::Bundle`] if the bundle is damaged or the file cannot be read.
    pub fn open(chain: Arc<dyn ChainSource>, bundle: &Bundle, file: PathBuf) -> Result<Self> {
        let mut tower = Self {
            chain,
            paths: Vec::new(),
            state: WatchState::load(&file)?,
            file,
            unprotected: Vec::new(),
        };
        tower.replace(bundle)?;
        Ok(tower)
    }

    /// Watches over a newer bundle of the same wallet from now on.
    ///
    /// # Errors
    /// [`crate::Error::Bundle`] if it is damaged; then nothing changes.
    pub fn replace(&mut self, bundle: &Bundle) -> Result<()> {
        check(bundle)?;
        self.paths.clone_from(&bundle.paths);
        self.unprotected = self
            .paths
            .iter()
            .filter(|path| !signed(path.direct_from_cpfp_refund.as_ref()))
            .map(|path| WatchEvent::Unprotected { leaf: path.leaf })
            .collect();
        Ok(())
    }

    /// What is remembered.
    #[must_use]
    pub const fn state(&self) -> &WatchState {
        &self.state
    }

    /// One look at the chain: publishes what is due at the present tip.
    ///
    /// # Errors
    /// If the chain does not answer or the memory cannot be written; call it again.
    pub async fn step(&mut self) -> Result<WatchReport> {
        let tip = self.chain.tip().await?.height;
        let mut events = self.unprotected.clone();
        for path in &self.paths {
            let mut look = Look {
                tip,
                path,
                watch: self
                    .state
                    .leaves
                    .get(&path.leaf)
                    .cloned()
                    .unwrap_or_default(),
                events: Vec::new(),
            };
            look.run(&*self.chain).await?;
            events.append(&mut look.events);
            if look.watch != LeafWatch::default() {
                self.state.leaves.insert(path.leaf, look.watch);
            }
        }
        self.state.save(&self.file)?;
        self.unprotected.clear();
        let contested = self
            .paths
            .iter()
            .filter_map(|path| self.state.leaves.get(&path.leaf))
            .filter(|watch| !watch.nodes.is_empty() && watch.refunded.is_none())
            .count();
        Ok(WatchReport {
            tip,
            leaves: self.paths.len(),
            contested,
            events,
        })
    }
}

fn signed(tx: Option<&HexTx>) -> bool {
    tx.is_some_and(|tx| is_signed(&tx.0))
}

async fn place(chain: &dyn ChainSource, tx: &Transaction) -> Result<Place> {
    let outpoint = OutPoint::new(tx.compute_txid(), 0);
    Ok(match chain.confirmations_of(&outpoint).await? {
        None => Place::Nowhere,
        Some(view) => match view.block {
            Some(block) if view.confirmations > 0 => Place::Block(block.height),
            _ => Place::Mempool,
        },
    })
}

impl Look<'_> {
    async fn run(&mut self, chain: &dyn ChainSource) -> Result<()> {
        let path = self.path;
        if self.is_refunded(chain).await? {
            return Ok(());
        }
        let mut above: Option<SeenNode> = None;
        for node in &path.nodes {
            let seen = self
                .find(chain, node.id, &node.tx, node.direct.as_ref())
                .await?;
            match (seen, above) {
                (Some(seen), _) => above = Some(seen),
                // The branch is on chain down to here. Whatever is below spends the fee-less form.
                (None, Some(parent)) if !parent.direct => {
                    self.answer(chain, node.direct.as_ref(), parent.height)
                        .await?;
                    return Ok(());
                }
                (None, Some(_)) => {
                    self.lost("a fee-paying transaction above it ended its branch");
                    return Ok(());
                }
                (None, None) => return Ok(()),
            }
        }
        let Some(own) = above else { return Ok(()) };
        let refund = if own.direct {
            path.direct_refund.as_ref()
        } else {
            path.direct_from_cpfp_refund.as_ref()
        };
        self.answer(chain, refund, own.height).await
    }

    /// A refund of ours that is in a block. One that was seen stays known: its owner may have spent it
    /// since, and then a node without a transaction index does not show it.
    async fn is_refunded(&mut self, chain: &dyn ChainSource) -> Result<bool> {
        let path = self.path;
        let others = [&path.direct_from_cpfp_refund, &path.direct_refund];
        let refunds =
            std::iter::once(&path.refund).chain(others.into_iter().flatten().map(|tx| &tx.0));
        for tx in refunds {
            match place(chain, tx).await? {
                Place::Block(height) => {
                    let txid = tx.compute_txid();
                    if self.watch.refunded != Some((txid, height)) {
                        self.watch.refunded = Some((txid, height));
                        let leaf = path.leaf;
                        self.events
                            .push(WatchEvent::Refunded { leaf, txid, height });
                    }
                    return Ok(true);
                }
                // A reorganisation took it back.
                Place::Mempool => self.watch.refunded = None,
                Place::Nowhere => {}
            }
        }
        let is_final = self
            .watch
            .refunded
            .is_some_and(|(_, height)| height.0.saturating_add(FINAL) <= self.tip.0);
        Ok(is_final)
    }

    /// Whether a node is on chain. What was seen stays known, as with refunds.
    async fn find(
        &mut self,
        chain: &dyn ChainSource,
        id: tinderbox_protocol::LeafId,
        tx: &Transaction,
        direct: Option<&HexTx>,
    ) -> Result<Option<SeenNode>> {
        let mut found = None;
        if let Place::Block(height) = place(chain, tx).await? {
            found = Some(SeenNode {
                height,
                direct: false,
            });
        } else if let Some(tx) = direct
            && let Place::Block(height) = place(chain, &tx.0).await?
        {
            found = Some(SeenNode {
                height,
                direct: true,
            });
        }
        let known = self.watch.nodes.get(&id).copied();
        if let Some(seen) = found
            && known != Some(seen)
        {
            self.watch.nodes.insert(id, seen);
            self.events.push(WatchEvent::OnChain {
                leaf: self.path.leaf,
                node: id,
                height: seen.height,
            });
        }
        Ok(found.or(known))
    }

    /// Sends the answer to a node that confirmed at `confirmed`, if a block may hold it.
    async fn answer(
        &mut self,
        chain: &dyn ChainSource,
        answer: Option<&HexTx>,
        confirmed: BlockHeight,
    ) -> Result<()> {
        let leaf = self.path.leaf;
        let Some(tx) = answer.map(|tx| &tx.0).filter(|tx| is_signed(tx)) else {
            self.lost(
                "its bundle holds no signed fee-paying transaction for this: its owner must exit it, now",
            );
            return Ok(());
        };
        let timelock = tx
            .input
            .first()
            .map_or(0, |input| input.sequence.to_consensus_u32() & 0xffff);
        if confirmed.0.saturating_add(timelock) > self.tip.0.saturating_add(1) {
            return Ok(());
        }
        let txid = tx.compute_txid();
        match chain.broadcast(tx).await {
            Ok(_) => {
                if !self.watch.published.contains_key(&txid) {
                    self.watch.published.insert(txid, self.tip);
                    self.events.push(WatchEvent::Published { leaf, txid });
                }
            }
            Err(ChainError::Rejected {
                rejection: Rejection::MissingInputs,
                ..
            }) if self.watch.refunded.is_none() => {
                self.lost("its output was spent by a transaction that the bundle does not know");
            }
            Err(error @ ChainError::Rejected { .. }) => self.events.push(WatchEvent::Refused {
                leaf,
                reason: error.to_string(),
            }),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn lost(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.watch.lost, true) {
            self.events.push(WatchEvent::Lost {
                leaf: self.path.leaf,
                reason: reason.to_owned(),
            });
        }
    }
}
