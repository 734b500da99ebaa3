//! Walking transfers in order of time, through one index or several at once.

use std::collections::VecDeque;

use tinderbox_flows::record::Index;
use tinderbox_flows::rows::{Millis, TransferRow};
use tinderbox_protocol::TransferId;
use tinderbox_store::{Scan, successor};

use crate::tables::{TableError, Tables};

/// Rows read at a time.
const CHUNK: usize = 128;

/// Which transfers, by the time at which they were made. Both ends are exclusive.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    pub(super) after: Option<Millis>,
    pub(super) before: Option<Millis>,
}

/// One sorted list of transfers: everything under a prefix of an index.
struct Lane {
    scan: Scan,
    ready: VecDeque<TransferRow>,
    /// False once the index has nothing more.
    more: bool,
}

impl Lane {
    fn new(index: Index, prefix: &[u8], span: Span, descending: bool) -> Self {
        // Sort keys go on with the time of creation.
        let bound = |time: Millis| [prefix, &time.sort()].concat();
        Self {
            scan: Scan {
                index,
                from: span
                    .after
                    .map_or_else(|| prefix.to_vec(), |time| bound(time.plus(1))),
                to: span.before.map_or_else(|| successor(prefix), bound),
                descending,
                limit: CHUNK,
            },
            ready: VecDeque::new(),
            more: true,
        }
    }

    async fn fill(&mut self, tables: &Tables) -> Result<(), TableError> {
        if !self.ready.is_empty() || !self.more {
            return Ok(());
        }
        let found = tables.scan::<TransferRow>(self.scan.clone()).await?;
        self.more = found.len() == CHUNK;
        if let Some(last) = found.last() {
            if self.scan.descending {
                self.scan.to.clone_from(&last.listed);
            } else {
                self.scan.from.clone_from(&last.listed);
                self.scan.from.push(0);
            }
        }
        self.ready.extend(found.into_iter().map(|found| found.row));
        Ok(())
    }
}

/// Transfers of one or more lists, each once, in order of time and then of id.
pub(super) struct Walk {
    tables: Tables,
    lanes: Vec<Lane>,
    descending: bool,
    last: Option<TransferId>,
}

impl Walk {
    pub(super) fn new(
        tables: Tables,
        lists: &[(Index, Vec<u8>)],
        span: Span,
        descending: bool,
    ) -> Self {
        Self {
            tables,
            lanes: lists
                .iter()
                .map(|(index, prefix)| Lane::new(*index, prefix, span, descending))
                .collect(),
            descending,
            last: None,
        }
    }

    /// The next transfer.
    pub(super) async fn next(&mut self) -> Result<Option<TransferRow>, TableError> {
        loop {
            for lane in &mut self.lanes {
                lane.fill(&self.tables).await?;
            }
            let order = |row: &TransferRow| (row.created, row.id);
            let heads = self
                .lanes
                .iter()
                .enumerate()
                .filter_map(|(at, lane)| lane.ready.front().map(|row| (order(row), at)));
            let chosen = if self.descending {
                heads.max_by_key(|(order, _)| *order)
            } else {
                heads.min_by_key(|(order, _)| *order)
            };
            let Some((_, at)) = chosen else {
                return Ok(None);
            };
            let row = self.lanes.get_mut(at).and_then(|lane| lane.ready.pop_front());
            match row {
                // A transfer to oneself is in both lists; equal ones come one after the other.
                Some(row) if self.last == Some(row.id) => {}
                Some(row) => {
                    self.last = Some(row.id);
                    return Ok(Some(row));
                }
                None => return Ok(None),
            }
        }
    }
}
