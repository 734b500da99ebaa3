//! Finishing what was left open: by a crash, a lost message or a coordinator that lies.

use std::time::Duration;

use std::collections::BTreeSet;
use tinderbox_commit::certificate::is_refusal;
use tinderbox_commit::{Certificate, Message, Reply};
use tinderbox_flows::flow::{Flow, Frame, Plan};
use tinderbox_flows::record::{Index, Row};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{FlowId, FlowRow, FlowState, KeptTweaksRow, KeyshareRow, Millis};
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_store::Scan;

use super::Engine;
use super::participant::MAX_AGE_MS;
use super::participant::{decode_votes, put};
use super::rows::{Size, Stop, decide, read, write};

/// Rounds between two clean-ups.
const TIDY_ROUNDS: u32 = 600;
/// How long the log of an ended flow is kept. Twice the age up to which a flow can be voted on.
const KEPT_MS: u64 = 2 * MAX_AGE_MS;
/// Rows that one clean-up deletes.
const PURGED: usize = 1000;
/// Key shares that one clean-up looks at.
const COLLECTED: u32 = 1000;
/// Age from which a second sealing key of a key share belongs to no commit that is under way.
const LEFT_OVER_SECONDS: u64 = 600;
/// How often the list of open flows is looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// Flows that are asked about in one round.
const ROUND: usize = 256;

impl Engine {
    /// Looks after open flows for ever, and tidies up now and then.
    pub async fn run_recovery(self) {
        self.restore().await;
        loop {
            self.tidy().await;
            for _ in 0..TIDY_ROUNDS {
                tokio::time::sleep(PERIOD).await;
                self.recover().await;
                self.settle_revealed().await;
            }
        }
    }

    /// Removes what only time makes superfluous: the log of flows that ended long ago, and sealing
    /// keys that a crash between a commit and its clean-up has left.
    pub async fn tidy(&self) {
        if let Err(error) = self.purge_flows().await {
            tracing::warn!(?error, "old flows");
        }
        if let Err(error) = self.collect_keys().await {
            tracing::warn!(?error, "left-over sealing keys");
        }
    }

    async fn purge_flows(&self) -> Result<(), Stop> {
        let limit = Millis(self.core.clock.now().0.saturating_sub(KEPT_MS));
        let old = self
            .core
            .store
            .scan(Scan {
                index: Index::FlowDone,
                from: Vec::new(),
                to: limit.sort().to_vec(),
                descending: false,
                limit: PURGED,
            })
            .await?;
        let mut snapshot = Snapshot::new();
        let mut changes = Changes::new();
        for found in old {
            snapshot.insert(found.key.clone(), Some(found.stored));
            changes
                .delete::<FlowRow>(&snapshot, found.key.id)
                .map_err(|_| Stop::Conflict)?;
        }
        write(&*self.core.store, &snapshot, changes).await
    }

    async fn collect_keys(&self) -> Result<(), Stop> {
        let unsettled = self.core.signer.unsettled(COLLECTED).await?;
        let held = self.held_keys().await?;
        let mut current = Vec::new();
        for id in unsettled.into_iter().filter(|id| !held.contains(id)) {
            let mut snapshot = Snapshot::new();
            let row = read::<KeyshareRow>(&*self.core.store, &mut snapshot, &id).await?;
            current.extend(row.map(|row| (id, row.sealed)));
        }
        if !current.is_empty() {
            self.core.signer.collect(current, LEFT_OVER_SECONDS).await?;
        }
        Ok(())
    }

    /// After a restart, before anything else is served: the nonces of every flow that this operator
    /// has said yes to are bound to it again, should the signer have forgotten.
    pub async fn restore(&self) {
        let open = self
            .core
            .store
            .scan(Scan::prefix(Index::FlowOpen, &[]))
            .await;
        for found in open.unwrap_or_default() {
            let Ok(row) = FlowRow::decode(&found.key.id, &found.stored.body) else {
                continue;
            };
            if row.state != FlowState::Prepared {
                continue;
            }
            if let Err(error) = self.reserve_again(&row).await {
                tracing::error!(flow = %row.id, ?error, "nonces of an open flow");
            }
        }
    }

    /// Key shares that a flow which is not finished may be rotating right now.
    async fn held_keys(&self) -> Result<BTreeSet<[u8; 16]>, Stop> {
        let mut held = BTreeSet::new();
        let open = self
            .core
            .store
            .scan(Scan::prefix(Index::FlowOpen, &[]))
            .await?;
        for found in open {
            let row = FlowRow::decode(&found.key.id, &found.stored.body)?;
            if row.state == FlowState::Prepared {
                let plan = self.plan_of(&row).await?;
                held.extend(plan.keys.into_iter().map(|key| key.keyshare));
            }
        }
        Ok(held)
    }

    async fn reserve_again(&self, row: &FlowRow) -> Result<(), Stop> {
        let plan = self.plan_of(row).await?;
        Ok(self.core.signer.reserve(plan.keys).await?)
    }

    /// What the signer will be asked when the flow commits.
    async fn plan_of(&self, row: &FlowRow) -> Result<Plan, Stop> {
        let request = Request::decode(&row.request)?;
        let mut snapshot = Snapshot::new();
        let site = &*self.core.site;
        decide(
            &*self.core.store,
            &mut snapshot,
            Size::of(row.jobs.len()),
            |rows| {
                request.commit(
                    &Frame {
                        flow: row.id,
                        coordinator: row.coordinator,
                        site,
                        rows,
                    },
                    row,
                )
            },
        )
        .await
    }

    /// One round: every flow that has been open too long is asked about. Returns how many of them
    /// are still open.
    pub async fn recover(&self) -> usize {
        let now = self.core.clock.now();
        let doubt = u64::try_from(self.patience.doubt.as_millis()).unwrap_or(u64::MAX);
        let limit = Millis(now.0.saturating_sub(doubt));
        let open = self
            .core
            .store
            .scan(Scan {
                index: Index::FlowOpen,
                from: Vec::new(),
                to: limit.sort().to_vec(),
                descending: false,
                limit: ROUND,
            })
            .await;
        let open = match open {
            Ok(open) => open,
            Err(error) => {
                tracing::error!(%error, "open flows");
                return 0;
            }
        };
        let mut left = 0;
        for found in open {
            let Ok(row) = FlowRow::decode(&found.key.id, &found.stored.body) else {
                continue;
            };
            if self.running().contains(&row.id) {
                continue;
            }
            if !self.settle_flow(row.id, true).await {
                left += 1;
            }
        }
        left
    }

    /// Everybody holds a no: the request of a flow that was rolled back is not needed any more.
    async fn close_refused(&self, row: FlowRow) -> bool {
        let mut snapshot = Snapshot::new();
        let closed = async {
            let id = row.id;
            let Some(mut row) = read::<FlowRow>(&*self.core.store, &mut snapshot, &id.0).await?
            else {
                return Ok(());
            };
            if row.state != FlowState::Refused {
                return Ok(());
            }
            row.request.clear();
            let mut changes = Changes::new();
            put(&mut changes, &snapshot, &row)?;
            let kept = KeptTweaksRow::id_of(&row.id);
            let found = read::<KeptTweaksRow>(&*self.core.store, &mut snapshot, &kept).await?;
            if found.is_some() {
                changes
                    .delete::<KeptTweaksRow>(&snapshot, kept)
                    .map_err(|_| Stop::Conflict)?;
            }
            write(&*self.core.store, &snapshot, changes).await
        };
        closed.await.is_ok()
    }

    /// Brings a flow to its end if that is possible now: the certificate and every share if there
    /// is one, the refusal if there is one. With `decide`, operators that have not voted are made to
    /// vote no. Returns true if the flow is not open any more.
    pub async fn settle_flow(&self, flow: FlowId, decide: bool) -> bool {
        let mut snapshot = Snapshot::new();
        let row = match read::<FlowRow>(&*self.core.store, &mut snapshot, &flow.0).await {
            Ok(Some(row)) if row.is_open() => row,
            Ok(_) => return true,
            Err(_) => return false,
        };
        let Ok(own) = decode_votes(&row.votes) else {
            return false;
        };
        let mut votes = own;
        let mut nos = 0;
        if row.state != FlowState::Committed {
            let asked = futures::future::join_all(self.others().map(|peer| {
                let message = Message::Inquire { flow, decide };
                async move { self.core.peers.agree(peer, message).await }
            }))
            .await;
            for reply in asked.into_iter().flatten() {
                match reply {
                    Reply::Committed {
                        certificate,
                        outcome,
                        ..
                    } => {
                        return match outcome {
                            Some(outcome) => self
                                .finish_everywhere(flow, certificate, &outcome)
                                .await
                                .is_ok(),
                            None => self.complete(flow, certificate).await.is_ok(),
                        };
                    }
                    Reply::No { vote, .. }
                        if row.state == FlowState::Refused
                            && is_refusal(&self.core.site, flow, &vote) =>
                    {
                        nos += 1;
                    }
                    Reply::No { vote, refusal } if is_refusal(&self.core.site, flow, &vote) => {
                        let message = Message::Refuse {
                            flow,
                            vote,
                            refusal,
                        };
                        return matches!(
                            self.handle(self.core.site.me, message).await,
                            Reply::No { .. }
                        );
                    }
                    Reply::Yes(vote) => {
                        votes.insert(vote.operator, vote);
                    }
                    Reply::No { .. } | Reply::Unknown | Reply::Later(_) => {}
                }
            }
        }
        if row.state == FlowState::Refused {
            return nos == self.others().count() && self.close_refused(row).await;
        }
        // Everybody's yes is the certificate, whoever gathered it.
        let certificate = Certificate {
            votes: votes.into_values().collect(),
        };
        if certificate
            .check(&self.core.site, flow, &row.digest)
            .is_err()
        {
            return false;
        }
        self.complete(flow, certificate).await.is_ok()
    }
}
