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
            let row = self
                .lanes
                .get_mut(at)
                .and_then(|lane| lane.ready.pop_front());
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bitcoin::secp256k1::{PublicKey, SECP256K1, SecretKey};
    use tinderbox_flows::record::Row;
    use tinderbox_flows::rows::{
        ClaimPhase, Details, FlowId, ReceiverRow, TransferKind, TransferStatus,
    };
    use tinderbox_flows::snapshot::{Changes, Snapshot};
    use tinderbox_protocol::Network;
    use tinderbox_store::Memory;

    use super::*;

    fn key(byte: u8) -> PublicKey {
        SecretKey::from_slice(&[byte; 32])
            .unwrap()
            .public_key(SECP256K1)
    }

    fn transfer(number: u16, created: u64, from: u8, to: u8) -> TransferRow {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        TransferRow {
            id: TransferId::from_bytes16(id),
            kind: TransferKind::Transfer,
            status: TransferStatus::Completed,
            network: Network::Regtest,
            sender: key(from),
            receivers: vec![ReceiverRow {
                identity: key(to),
                phase: ClaimPhase::Completed,
                before: ClaimPhase::Completed,
                completed: None,
            }],
            leaves: Vec::new(),
            values: Vec::new(),
            expiry: None,
            invoice: String::new(),
            fingerprint: [0; 32],
            details: Details::None,
            started_by: FlowId([0; 16]),
            held: None,
            created: Millis(created),
            updated: Millis(created),
        }
    }

    async fn filled(rows: &[TransferRow]) -> Tables {
        let tables = Tables::new(Arc::new(Memory::new()));
        for row in rows {
            let mut snapshot = Snapshot::new();
            tables.load(&mut snapshot, [row.key()]).await.unwrap();
            let mut changes = Changes::new();
            changes.put(&snapshot, row).unwrap();
            tables.write(&snapshot, changes).await.unwrap();
        }
        tables
    }

    fn lists(identity: u8) -> Vec<(Index, Vec<u8>)> {
        [true, false]
            .map(|sender| {
                let prefix = TransferRow::party_prefix(&key(identity), sender, Network::Regtest);
                (Index::TransferByParty, prefix)
            })
            .to_vec()
    }

    async fn all(mut walk: Walk) -> Vec<u64> {
        let mut times = Vec::new();
        while let Some(row) = walk.next().await.unwrap() {
            times.push(row.created.0);
        }
        times
    }

    #[tokio::test]
    async fn two_lists_are_walked_in_order_across_chunks() {
        // Three times as many as are read at once, sent and received in turns.
        let rows: Vec<TransferRow> = (0..400u16)
            .map(|number| {
                let (from, to) = if number % 3 == 0 { (1, 2) } else { (2, 1) };
                transfer(number, u64::from(number), from, to)
            })
            .collect();
        let tables = filled(&rows).await;
        let up = all(Walk::new(tables.clone(), &lists(1), Span::default(), false)).await;
        assert_eq!(up, (0..400).collect::<Vec<u64>>());
        let down = all(Walk::new(tables, &lists(1), Span::default(), true)).await;
        assert_eq!(down, (0..400).rev().collect::<Vec<u64>>());
    }

    #[tokio::test]
    async fn transfer_to_oneself_appears_once() {
        let tables = filled(&[
            transfer(1, 5, 1, 1),
            transfer(2, 5, 1, 2),
            transfer(3, 5, 1, 1),
        ])
        .await;
        for descending in [false, true] {
            let walk = Walk::new(tables.clone(), &lists(1), Span::default(), descending);
            assert_eq!(all(walk).await.len(), 3);
        }
    }

    #[tokio::test]
    async fn both_ends_of_a_span_are_excluded() {
        let rows: Vec<TransferRow> = (1..6u16)
            .map(|at| transfer(at, u64::from(at), 1, 2))
            .collect();
        let tables = filled(&rows).await;
        for descending in [false, true] {
            let span = Span {
                after: Some(Millis(2)),
                before: None,
            };
            let mut times = all(Walk::new(tables.clone(), &lists(1), span, descending)).await;
            times.sort_unstable();
            assert_eq!(times, [3, 4, 5]);
            let span = Span {
                after: None,
                before: Some(Millis(3)),
            };
            let mut times = all(Walk::new(tables.clone(), &lists(1), span, descending)).await;
            times.sort_unstable();
            assert_eq!(times, [1, 2]);
        }
    }
}
