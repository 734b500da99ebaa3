//! Payouts of cooperative exits.

use std::collections::BTreeMap;

use bitcoin::Txid;
use tinderbox_chain::ConnectedBlock;
use tinderbox_flows::record::{Index, Key, Row, Table};
use tinderbox_flows::rows::{ExitRow, ExitState};
use tinderbox_flows::snapshot::Changes;
use tinderbox_protocol::BlockHeight;
use tinderbox_store::Scan;

use super::state::Duties;
use super::work::Work;
use crate::tables::TableError;

impl Duties {
    /// Notes exit transactions that are in these blocks.
    pub(super) async fn take_exits(
        &self,
        blocks: &[ConnectedBlock],
        work: &mut Work,
        changes: &mut Changes,
    ) -> Result<(), TableError> {
        let watched = self
            .tables
            .scan::<ExitRow>(Scan::all(Index::ExitWatched))
            .await?;
        if watched.is_empty() {
            return Ok(());
        }
        // One transaction may pay for many exits.
        let mut by_txid: BTreeMap<Txid, Vec<Key>> = BTreeMap::new();
        for found in &watched {
            by_txid
                .entry(found.row.txid)
                .or_default()
                .push(found.row.key());
        }
        let mut found = Vec::new();
        for block in blocks {
            for tx in &block.block.txdata {
                if let Some(keys) = by_txid.get(&tx.compute_txid()) {
                    found.extend(keys.iter().map(|key| (key.clone(), block.at)));
                }
            }
        }
        for (key, at) in found {
            self.tables.load(&mut work.rows, [key.clone()]).await?;
            let Some(mut exit) = work.rows.get::<ExitRow>(key.id)? else {
                continue;
            };
            exit.seen = Some((at.height, at.hash));
            if exit.state == ExitState::Returned {
                alarm(
                    &exit,
                    "an exit was returned to its owner, and its payout came after all",
                );
            }
            work.undo_at(at.height).exits.push(exit.exit);
            changes.put(&work.rows, &exit)?;
        }
        Ok(())
    }

    /// Forgets the blocks of exit transactions above `to`.
    pub(super) async fn unsee(
        &self,
        exits: impl IntoIterator<Item = [u8; 16]>,
        to: BlockHeight,
        work: &mut Work,
        changes: &mut Changes,
    ) -> Result<(), TableError> {
        let keys: Vec<Key> = exits
            .into_iter()
            .map(|exit| Key::new(Table::Watch, ExitRow::id_of(&exit)))
            .collect();
        self.tables.load(&mut work.rows, keys.clone()).await?;
        for key in keys {
            let Some(mut exit) = work.rows.get::<ExitRow>(key.id)? else {
                continue;
            };
            if exit.seen.is_some_and(|(height, _)| height > to) {
                exit.seen = None;
                if exit.state == ExitState::Settled {
                    alarm(
                        &exit,
                        "the payout of a settled exit was reorganised away; watch for its return",
                    );
                }
                changes.put(&work.rows, &exit)?;
            }
        }
        Ok(())
    }
}

fn alarm(exit: &ExitRow, what: &str) {
    tracing::error!(transfer = %exit.transfer, txid = %exit.txid, "{what}");
    metrics::counter!("tinderbox_exit_alarms_total").increment(1);
}
