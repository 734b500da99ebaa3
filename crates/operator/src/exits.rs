//! Cooperative exits that wait: settled when their payout is deep enough, returned when they lapse
//! unseen.
//!
//! Every operator tries, one before the others by turns; whoever votes goes by its own view.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use tinderbox_chain::BlockRef;
use tinderbox_flows::exit_return::margin;
use tinderbox_flows::record::{Index, Key, Table};
use tinderbox_flows::request::{ExitReturnRequest, ExitSettleRequest, Request};
use tinderbox_flows::rows::{ChainRow, ExitRow, ExitState};
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_protocol::BlockHeight;
use tinderbox_store::Scan;
use tokio::sync::watch;

use crate::chain::UndoRow;
use crate::tables::{TableError, Tables};
use crate::{Core, Engine};

/// How often exits are looked at although no block came: some lapse.
const AGAIN: Duration = Duration::from_secs(5);
/// Pause while an exit is due: another operator may not have the block yet.
const SOON: Duration = Duration::from_millis(500);
/// How long each operator gives those before it.
const TURN: Duration = Duration::from_secs(3);

/// Looks after cooperative exits.
#[derive(Clone)]
pub struct Exits {
    engine: Engine,
    core: Core,
    tables: Tables,
    /// When an exit was first found due.
    due: BTreeMap<[u8; 16], Instant>,
}

impl Exits {
    /// On these parts.
    #[must_use]
    pub fn new(engine: Engine, core: Core) -> Self {
        Self {
            engine,
            tables: Tables::new(core.store.clone()),
            core,
            due: BTreeMap::new(),
        }
    }

    /// Looks at every new tip, and now and then, until `stop`.
    pub async fn run(
        mut self,
        mut tips: watch::Receiver<Option<BlockRef>>,
        stop: impl Future<Output = ()>,
    ) {
        tokio::pin!(stop);
        loop {
            tips.borrow_and_update();
            let pause = match self.pass().await {
                Ok(true) => SOON,
                Ok(false) => AGAIN,
                Err(error) => {
                    tracing::warn!(%error, "exits could not be looked at; trying again");
                    AGAIN
                }
            };
            tokio::select! {
                () = &mut stop => return,
                changed = tips.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One look. True if something is due.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn pass(&mut self) -> Result<bool, TableError> {
        let open: Vec<ExitRow> = self
            .tables
            .scan::<ExitRow>(Scan::all(Index::ExitWatched))
            .await?
            .into_iter()
            .map(|found| found.row)
            .filter(|exit| exit.state == ExitState::Open)
            .collect();
        let chain: Option<ChainRow> = self.tables.get(ChainRow::ID).await?;
        let tip = chain
            .and_then(|chain| chain.tip())
            .map_or(BlockHeight(0), |tip| tip.height);
        let mut due = BTreeMap::new();
        for exit in open {
            if exit.seen.is_none() {
                self.look_back(&exit, tip).await?;
            }
            let Some(request) = self.request(&exit, tip) else {
                continue;
            };
            let since = self
                .due
                .get(&exit.exit)
                .copied()
                .unwrap_or_else(Instant::now);
            due.insert(exit.exit, since);
            if since.elapsed() < self.turn(&exit) {
                continue;
            }
            if let Err(refusal) = self.engine.run(request).await {
                tracing::debug!(transfer = %exit.transfer, %refusal, "an exit is not settled yet; trying again");
            }
        }
        self.due = due;
        Ok(!self.due.is_empty())
    }

    /// What this operator would do about an exit now.
    fn request(&self, exit: &ExitRow, tip: BlockHeight) -> Option<Request> {
        let now = self.core.clock.now();
        let over = exit.expiry.plus(margin(self.core.site.network));
        if exit.depth(tip) >= self.core.site.exit_confirmations {
            Some(Request::ExitSettle(Box::new(ExitSettleRequest {
                now,
                exit: exit.exit,
                transfer: exit.transfer,
            })))
        } else if exit.seen.is_none() && now > over {
            Some(Request::ExitReturn(Box::new(ExitReturnRequest {
                now,
                exit: exit.exit,
                transfer: exit.transfer,
                funds: exit.funds,
            })))
        } else {
            None
        }
    }

    /// How long this operator leaves an exit to the others.
    fn turn(&self, exit: &ExitRow) -> Duration {
        let count = u32::from(self.core.site.count().max(1));
        let place = u32::from(exit.exit[15]) + u32::from(self.core.site.me.0);
        TURN * (place % count)
    }

    /// A payout may have been confirmed before its exit was agreed on: the follower is past it.
    async fn look_back(&self, exit: &ExitRow, tip: BlockHeight) -> Result<(), TableError> {
        let Ok(Some(output)) = self.core.chain.confirmations_of(&exit.funds).await else {
            return Ok(());
        };
        // What is not applied here yet will be seen by the follower.
        let Some(block) = output.block.filter(|block| block.height <= tip) else {
            return Ok(());
        };
        let mut rows = Snapshot::new();
        let keys = [
            Key::new(Table::Watch, ExitRow::id_of(&exit.exit)),
            Key::new(Table::Chain, ChainRow::ID),
            Key::new(Table::Chain, UndoRow::id_of(block.height)),
        ];
        self.tables.load(&mut rows, keys).await?;
        let (Some(mut row), Some(chain)) = (
            rows.get::<ExitRow>(ExitRow::id_of(&exit.exit))?,
            rows.get::<ChainRow>(ChainRow::ID)?,
        ) else {
            return Ok(());
        };
        let known = chain.blocks.iter().any(|known| known.hash == block.hash);
        let buried = chain
            .blocks
            .first()
            .is_some_and(|lowest| block.height < lowest.height);
        if row.seen.is_some() || !(known || buried) {
            return Ok(());
        }
        row.seen = Some((block.height, block.hash));
        let mut changes = Changes::new();
        changes.put(&rows, &row)?;
        if known {
            let mut undo = rows
                .get::<UndoRow>(UndoRow::id_of(block.height))?
                .unwrap_or(UndoRow {
                    height: block.height,
                    ..UndoRow::default()
                });
            undo.exits.push(exit.exit);
            changes.put(&rows, &undo)?;
        }
        match self.tables.write(&rows, changes).await {
            // A block came meanwhile: the next look is soon.
            Ok(()) | Err(TableError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
