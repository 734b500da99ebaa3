use std::future::Future;
use std::time::Duration;

use async_trait::async_trait;
use bitcoin::{Block, BlockHash};
use tinderbox_protocol::BlockHeight;
use tokio::sync::watch;

use super::{BlockSource, ChainEvent, ConnectedBlock, Window};
use crate::error::{Error, Result};
use crate::source::BlockRef;

/// Blocks of one batch together stay near this many bytes, so that memory does not grow with block size.
const BATCH_BYTES: usize = 8_000_000;
/// And one batch has at most this many blocks.
const BATCH_BLOCKS: u32 = 512;
/// How long one wait for a new block lasts before the tip is looked at again anyway.
const LONG_POLL: Duration = Duration::from_secs(30);
/// The longest pause between attempts while the node or the state fails.
const PAUSE: Duration = Duration::from_secs(5);

/// What follows the chain: an operator's tables, a wallet's exit.
#[async_trait]
pub trait ChainState: Send {
    /// The last applied blocks, in any order, at least 100 of them once there are as many; empty before the
    /// first. Stored by [`ChainState::apply`] in the same transaction as an event's effects.
    async fn window(&mut self) -> Result<Vec<BlockRef>, Box<dyn std::error::Error + Send + Sync>>;

    /// Takes one event in, completely or not at all. An event may come again if it is not known whether an
    /// earlier attempt got through, and must then have no further effect.
    async fn apply(
        &mut self,
        event: &ChainEvent,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// Drives a [`ChainState`] along the best chain of a [`BlockSource`].
pub struct Follower<B, S> {
    source: B,
    state: S,
    start: BlockHeight,
    /// What the state remembers; `None` when it must be read again.
    window: Option<Window>,
    batch: u32,
    tip: watch::Sender<Option<BlockRef>>,
}

impl<B: BlockSource, S: ChainState> Follower<B, S> {
    /// A state that has applied nothing yet starts with the block at `start`. That block must be buried deep
    /// enough never to be reorganised away.
    pub fn new(source: B, state: S, start: BlockHeight) -> Self {
        Self {
            source,
            state,
            start,
            window: None,
            batch: 64,
            tip: watch::Sender::new(None),
        }
    }

    /// The last applied block, updated after each event.
    pub fn tip(&self) -> watch::Receiver<Option<BlockRef>> {
        self.tip.subscribe()
    }

    /// The state.
    pub fn state(&self) -> &S {
        &self.state
    }

    /// The state, to be changed by its owner between two steps.
    pub fn state_mut(&mut self) -> &mut S {
        &mut self.state
    }

    /// One step towards the node's tip: finds the next event, has it applied, and returns it; `None` at the tip.
    pub async fn step(&mut self) -> Result<Option<ChainEvent>> {
        let window = match self.window.take() {
            Some(window) => window,
            None => {
                let window = Window::from_rows(self.state.window().await.map_err(Error::Apply)?);
                self.tip.send_replace(window.tip());
                window
            }
        };
        let Some(event) = self.next_event(&window).await? else {
            self.window = Some(window);
            return Ok(None);
        };
        // If this fails, it is not known whether it was applied: `self.window` is none now, so that the
        // next step asks the state.
        self.state.apply(&event).await.map_err(Error::Apply)?;
        let mut window = window;
        window.apply(&event);
        note(&event);
        self.tip.send_replace(window.tip());
        self.window = Some(window);
        Ok(Some(event))
    }

    /// Steps until the node's tip is reached; how many events that took.
    pub async fn catch_up(&mut self) -> Result<usize> {
        let mut events = 0;
        while self.step().await?.is_some() {
            events += 1;
        }
        Ok(events)
    }

    /// Follows until `stop` completes. Failures that may pass (the node restarts, the database is away) are
    /// logged and retried; others end it, since going on could do harm.
    pub async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<()> {
        tokio::pin!(stop);
        let mut pause = Duration::from_millis(50);
        loop {
            let round = async {
                self.catch_up().await?;
                let known = self.window.as_ref().and_then(Window::tip);
                self.source.wait_for_change(known, LONG_POLL).await
            };
            // Dropping a half-done step is safe: the window is read again.
            let result = tokio::select! {
                () = &mut stop => return Ok(()),
                result = round => result,
            };
            match result {
                Ok(()) => pause = Duration::from_millis(50),
                Err(error) if error.is_temporary() || matches!(error, Error::Apply(_)) => {
                    tracing::warn!(%error, "following the chain failed; trying again");
                    tokio::select! {
                        () = &mut stop => return Ok(()),
                        () = tokio::time::sleep(pause) => {}
                    }
                    pause = (pause * 2).min(PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn next_event(&mut self, window: &Window) -> Result<Option<ChainEvent>> {
        loop {
            // One height of overlap shows whether our tip is still part of the chain.
            let from = window.tip().map_or(self.start, |tip| tip.height);
            let hashes = self
                .source
                .hashes(from, self.batch.saturating_add(1))
                .await?;
            let new = match window.tip() {
                None => &hashes[..],
                Some(tip) => match hashes.split_first() {
                    Some((first, rest)) if *first == tip.hash => rest,
                    _ => match self.reorganised(window).await? {
                        Some(event) => return Ok(Some(event)),
                        None => continue, // the node is back on our chain
                    },
                },
            };
            if new.is_empty() {
                return Ok(None);
            }
            let blocks = self.source.blocks(new).await?;
            let connected = link(window, self.start, new, blocks);
            if connected.is_empty() {
                continue; // the chain changed between the two questions
            }
            self.adapt_batch(&connected);
            return Ok(Some(ChainEvent::Connected(connected)));
        }
    }

    async fn reorganised(&self, window: &Window) -> Result<Option<ChainEvent>> {
        let (Some(oldest), Some(tip)) = (window.oldest(), window.tip()) else {
            return Ok(None);
        };
        let count = u32::try_from(window.len()).unwrap_or(u32::MAX);
        let node = self.source.hashes(oldest.height, count).await?;
        window.diverges(&node).map_err(|()| Error::ReorgTooDeep {
            tip: tip.height,
            known: window.len(),
        })
    }

    fn adapt_batch(&mut self, blocks: &[ConnectedBlock]) {
        let bytes: usize = blocks.iter().map(|block| block.block.total_size()).sum();
        if bytes > BATCH_BYTES {
            self.batch = (self.batch / 2).max(1);
        } else if bytes < BATCH_BYTES / 4 {
            self.batch = self.batch.saturating_mul(2).min(BATCH_BLOCKS);
        }
    }
}

/// Puts heights to blocks, as far as each names its predecessor.
fn link(
    window: &Window,
    start: BlockHeight,
    hashes: &[BlockHash],
    blocks: Vec<Block>,
) -> Vec<ConnectedBlock> {
    let mut previous = window.tip().map(|tip| tip.hash);
    let mut height = window.next_height(start);
    let mut connected = Vec::with_capacity(blocks.len());
    for (hash, block) in hashes.iter().zip(blocks) {
        if previous.is_some_and(|previous| previous != block.header.prev_blockhash) {
            break;
        }
        connected.push(ConnectedBlock {
            at: BlockRef {
                height,
                hash: *hash,
            },
            block,
        });
        previous = Some(*hash);
        height = BlockHeight(height.0.saturating_add(1));
    }
    connected
}

fn note(event: &ChainEvent) {
    match event {
        ChainEvent::Connected(blocks) => {
            let count = u64::try_from(blocks.len()).unwrap_or(u64::MAX);
            metrics::counter!("tinderbox_chain_blocks_connected_total").increment(count);
            tracing::debug!(blocks = count, "blocks connected");
        }
        ChainEvent::Disconnected { to, removed } => {
            metrics::counter!("tinderbox_chain_reorganisations_total").increment(1);
            tracing::warn!(
                depth = removed.len(),
                to = to.height.0,
                "the chain was reorganised"
            );
        }
    }
    if let Some(tip) = event.tip() {
        metrics::gauge!("tinderbox_chain_height").set(f64::from(tip.height.0));
    }
}
