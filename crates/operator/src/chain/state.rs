//! The operator's tables as a state that follows the chain.

use std::sync::Arc;

use async_trait::async_trait;
use tinderbox_chain::{BlockRef, ChainEvent, ChainState};
use tinderbox_flows::flow::{Site, Touch};
use tinderbox_flows::rows::ChainRow;
use tinderbox_store::Store;

use crate::tables::{TableError, Tables};
use crate::{Core, Events};

/// Attempts at a write whose rows keep changing, because payments go on meanwhile.
const ATTEMPTS: usize = 50;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Keeps an operator's tables in step with the best chain.
#[derive(Clone)]
pub struct Duties {
    pub(super) tables: Tables,
    pub(super) site: Arc<Site>,
    pub(super) events: Events,
}

impl Duties {
    /// Duties on these parts.
    #[must_use]
    pub fn new(core: &Core) -> Self {
        Self::on(core.store.clone(), core.site.clone(), core.events.clone())
    }

    /// Duties on a store, for operators of `site`; listeners of `events` are told.
    #[must_use]
    pub fn on(store: Arc<dyn Store>, site: Arc<Site>, events: Events) -> Self {
        Self {
            tables: Tables::new(store),
            site,
            events,
        }
    }

    /// The last block that was applied.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn tip(&self) -> Result<Option<BlockRef>, TableError> {
        let row: Option<ChainRow> = self.tables.get(ChainRow::ID).await?;
        Ok(row.and_then(|row| row.tip()).map(|block| BlockRef {
            height: block.height,
            hash: block.hash,
        }))
    }

    pub(super) async fn try_apply(&self, event: &ChainEvent) -> Result<Vec<Touch>, TableError> {
        match event {
            ChainEvent::Connected(blocks) => self.connect(blocks).await,
            ChainEvent::Disconnected { to, .. } => self.disconnect(to).await.map(|()| Vec::new()),
        }
    }
}

#[async_trait]
impl ChainState for Duties {
    async fn window(&mut self) -> Result<Vec<BlockRef>, AnyError> {
        let row: Option<ChainRow> = self.tables.get(ChainRow::ID).await?;
        Ok(row
            .unwrap_or_default()
            .blocks
            .into_iter()
            .map(|block| BlockRef {
                height: block.height,
                hash: block.hash,
            })
            .collect())
    }

    async fn apply(&mut self, event: &ChainEvent) -> Result<(), AnyError> {
        for _ in 0..ATTEMPTS {
            match self.try_apply(event).await {
                Ok(touches) => {
                    // Only now: a wallet that is told asks at once.
                    self.events.tell(touches);
                    return Ok(());
                }
                Err(TableError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(TableError::Conflict.into())
    }
}
