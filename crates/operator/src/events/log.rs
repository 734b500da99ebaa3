//! The log of what wallets are told: one order for all processes of an operator.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tinderbox_flows::record::{Index, Key, Row, Table};
use tinderbox_flows::rows::{FreshNotices, Millis, Notice, NoticeHead, NoticePage};
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_store::{Scan, Store};

use crate::tables::{TableError, Tables};
use crate::{Clock, Core};

/// Writes whose notices get their places in one go.
const BATCH: usize = 256;
/// Notices per page, about.
const PAGE: usize = 128;
/// Attempts when other processes do the same at the same time.
const ATTEMPTS: usize = 20;
/// How long notices are kept, in milliseconds: a wallet that was away for longer looks at
/// everything anew.
pub(super) const KEPT_MS: u64 = 24 * 3600 * 1000;
/// Pages deleted in one write.
const PURGED: usize = 200;
/// How often old pages are looked for.
const PURGE_PERIOD: Duration = Duration::from_secs(300);

/// A place in the log of one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Which log.
    pub log: [u8; 8],
    /// The place of the last notice that is known.
    pub place: u64,
}

impl Cursor {
    /// As it travels: 16 bytes.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        [self.log, self.place.to_be_bytes()].concat()
    }

    /// Read back; none if it is no cursor.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (log, place) = bytes.split_first_chunk::<8>()?;
        Some(Self {
            log: *log,
            place: u64::from_be_bytes(place.try_into().ok()?),
        })
    }
}

/// A notice and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place; they count up by one.
    pub place: u64,
    /// What happened.
    pub notice: Notice,
}

/// The log in an operator's database.
#[derive(Clone)]
pub struct Log {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl Log {
    /// The log of an operator.
    #[must_use]
    pub fn new(core: &Core) -> Self {
        Self::on(core.store.clone(), core.clock.clone())
    }

    /// The log in `store`.
    #[must_use]
    pub const fn on(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    fn tables(&self) -> Tables {
        Tables::new(self.store.clone())
    }

    /// Where the log ends. Makes the log if there is none yet.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn head(&self) -> Result<Cursor, TableError> {
        for _ in 0..ATTEMPTS {
            if let Some(head) = self.tables().get::<NoticeHead>(NoticeHead::ID).await? {
                return Ok(cursor(head));
            }
            let mut rows = Snapshot::new();
            self.tables()
                .load(&mut rows, [Key::new(Table::Notice, NoticeHead::ID)])
                .await?;
            let mut changes = Changes::new();
            changes.put(&rows, &self.new_head())?;
            match self.tables().write(&rows, changes).await {
                Ok(()) | Err(TableError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Err(TableError::Conflict)
    }

    fn new_head(&self) -> NoticeHead {
        let mut log = [0; 8];
        self.clock.random(&mut log);
        NoticeHead { log, last: 0 }
    }

    /// Gives places to all that is fresh. Returns where the log ends then.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn advance(&self) -> Result<Cursor, TableError> {
        let mut conflicts = 0;
        loop {
            let mut scan = Scan::all(Index::NoticeFresh);
            scan.limit = BATCH;
            let fresh = self.store.scan(scan).await?;
            if fresh.is_empty() {
                return self.head().await;
            }
            let mut rows = Snapshot::new();
            self.tables()
                .load(&mut rows, [Key::new(Table::Notice, NoticeHead::ID)])
                .await?;
            let mut head = rows
                .get::<NoticeHead>(NoticeHead::ID)?
                .unwrap_or_else(|| self.new_head());
            let mut changes = Changes::new();
            let mut page = Vec::new();
            let now = self.clock.now();
            let turn = |page: &mut Vec<Notice>, head: &mut NoticeHead, changes: &mut Changes| {
                let notices = std::mem::take(page);
                head.last = head
                    .last
                    .saturating_add(u64::try_from(notices.len()).unwrap_or(u64::MAX));
                changes.put_new(&NoticePage {
                    last: head.last,
                    made: now,
                    notices,
                })
            };
            for found in fresh {
                let id = found.key.id.clone();
                let row = FreshNotices::decode(&id, &found.stored.body)?;
                rows.insert(found.key, Some(found.stored));
                changes.delete::<FreshNotices>(&rows, id)?;
                page.extend(row.notices);
                if page.len() >= PAGE {
                    turn(&mut page, &mut head, &mut changes)?;
                }
            }
            if !page.is_empty() {
                turn(&mut page, &mut head, &mut changes)?;
            }
            changes.put(&rows, &head)?;
            match self.tables().write(&rows, changes).await {
                Ok(()) => {}
                // Another process did it, or a part of it.
                Err(TableError::Conflict) if conflicts < ATTEMPTS => conflicts += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Notices after `place`, in order, from as many pages as it takes to have about `limit`.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn after(&self, place: u64, limit: usize) -> Result<Vec<Entry>, TableError> {
        let from = place.saturating_add(1).to_be_bytes();
        let mut scan = Scan::range(Index::NoticeByPlace, from, Vec::new());
        scan.limit = limit.div_ceil(PAGE).max(1);
        let pages = self.tables().scan::<NoticePage>(scan).await?;
        Ok(pages
            .into_iter()
            .flat_map(|found| {
                let first = found.row.before().saturating_add(1);
                (first..).zip(found.row.notices)
            })
            .filter(|(at, _)| *at > place)
            .map(|(place, notice)| Entry { place, notice })
            .collect())
    }

    /// True if everything after `cursor` is still in the log.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn reaches(&self, cursor: Cursor) -> Result<bool, TableError> {
        let head = self.head().await?;
        if cursor.log != head.log || cursor.place > head.place {
            return Ok(false);
        }
        if cursor.place == head.place {
            return Ok(true);
        }
        let next = self.after(cursor.place, 1).await?;
        Ok(next
            .first()
            .is_some_and(|entry| entry.place == cursor.place.saturating_add(1)))
    }

    /// Deletes pages whose time is over. Returns how many.
    ///
    /// # Errors
    /// [`TableError`].
    pub async fn purge(&self, now: Millis) -> Result<usize, TableError> {
        let mut purged = 0;
        loop {
            let mut scan = Scan::all(Index::NoticeByPlace);
            scan.limit = PURGED;
            let pages = self.store.scan(scan).await?;
            let mut rows = Snapshot::new();
            let mut changes = Changes::new();
            let mut count = 0;
            for found in pages {
                let id = found.key.id.clone();
                let page = NoticePage::decode(&id, &found.stored.body)?;
                if page.made.plus(KEPT_MS) > now {
                    break;
                }
                rows.insert(found.key, Some(found.stored));
                changes.delete::<NoticePage>(&rows, id)?;
                count += 1;
            }
            if count == 0 {
                return Ok(purged);
            }
            self.tables().write(&rows, changes).await?;
            purged += count;
        }
    }
}

const fn cursor(head: NoticeHead) -> Cursor {
    Cursor {
        log: head.log,
        place: head.last,
    }
}

/// Purges now and then, until `stop`.
pub async fn run_purge(log: Log, stop: impl Future<Output = ()>) {
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return,
            () = tokio::time::sleep(PURGE_PERIOD) => {}
        }
        match log.purge(log.clock.now()).await {
            Ok(_) | Err(TableError::Conflict) => {}
            Err(error) => tracing::warn!(%error, "old notices could not be deleted; trying again"),
        }
    }
}
