//! The operator's tables as a state that follows the chain.

use async_trait::async_trait;
use tinderbox_chain::{BlockRef, ChainEvent, ChainState};
use tinderbox_flows::flow::Touch;
use tinderbox_flows::rows::ChainRow;

use crate::Core;
use crate::tables::{TableError, Tables};

/// Attempts at a write whose rows keep changing, because payments go on meanwhile.
const ATTEMPTS: usize = 50;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Keeps an operator's tables in step with the best chain.
#[derive(Clone)]
pub struct Duties {
    pub(super) core: Core,
    pub(super) tables: Tables,
}

impl Duties {
    /// Duties on these parts.
    #[must_use]
    pub fn new(core: Core) -> Self {
        let tables = Tables::new(core.store.clone());
        Self { core, tables }
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

    async fn try_apply(&self, event: &ChainEvent) -> Result<Vec<Touch>, TableError> {
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
                    self.core.events.tell(touches);
                    return Ok(());
                }
                Err(TableError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(TableError::Conflict.into())
    }
}
