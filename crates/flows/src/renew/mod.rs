//! Renewals: `renew_leaf`.
//!
//! A leaf whose refund timelock has run down gets fresh transactions; its id, keys, owner and value
//! stay. Every operator rebuilds them from its own rows, and nothing is signed before all agree.
//!
//! Once shares may have left the operators there is no way back: whoever puts them together holds
//! transactions that beat the leaf's old refunds. So a renewal of which a signature is missing
//! leaves a mark, and until the owner has completed the same renewal the leaf can do nothing else:
//! otherwise it could be sent on in its old form, and be taken back in its new one.

mod after;
mod made;
mod request;

use tinderbox_protocol::refunds::LeafTxs;
use tinderbox_protocol::renewal::permitted;

use crate::checks::{KeyPart, digest, gone, load_leaves, plan};
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::refunds::{bad_tx, current_sequence};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::Request;
use crate::rows::{FlowRow, JobRow, KeyshareRow, Millis, NodeRow, NodeStatus};
use crate::secret::SealedShare;
use crate::snapshot::Changes;

pub use after::split_id;
use made::Made;
pub use request::{NodeJobs, RefundJobs, RenewJobs, RenewRequest, ZeroJobs};

/// The rows that a renewal is decided on.
struct Found {
    node: NodeRow,
    keyshare: KeyshareRow,
    parent: Option<NodeRow>,
}

impl RenewRequest {
    fn find(&self, frame: &Frame<'_>) -> Result<Found, Halt> {
        let mut leaves = load_leaves(frame, std::iter::once(self.leaf))?;
        let Some((node, keyshare)) = leaves.remove(&self.leaf) else {
            return refuse(
                Reason::MissingEntity,
                format!("leaf {} does not exist", self.leaf),
            );
        };
        let parent = match node.parent {
            Some(parent) => frame.rows.get::<NodeRow>(NodeRow::id_of(&parent))?,
            None => None,
        };
        Ok(Found {
            node,
            keyshare,
            parent,
        })
    }

    /// The leaf, if this flow holds it.
    fn held(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Found, Halt> {
        let found = self.find(frame)?;
        if found.node.lock == Some(frame.flow) {
            Ok(found)
        } else {
            gone("the leaf", row)
        }
    }

    fn check_state(&self, node: &NodeRow, site: &Site) -> Result<(), Halt> {
        let refused = |reason, message: String| {
            Err(Halt::from(
                Refusal::new(reason, message).with("leaf_id", node.id),
            ))
        };
        let id = node.id;
        if node.network != site.network {
            return refused(
                Reason::MalformedField,
                format!("leaf {id} is on network {}", node.network),
            );
        }
        if node.owner != self.owner {
            return refused(
                Reason::NotOwner,
                format!("leaf {id} is not owned by {}", self.owner),
            );
        }
        if node.status != NodeStatus::Available || node.lock.is_some() {
            return refused(
                Reason::InvalidState,
                format!(
                    "leaf {id} is not available to renew: its status is {}",
                    node.status.name()
                ),
            );
        }
        let kind = self.jobs.kind();
        if let Some(begun) = node.renewal.filter(|begun| *begun != kind) {
            return refused(
                Reason::InvalidState,
                format!("a {begun} of leaf {id} has begun: send the jobs of that one again"),
            );
        }
        let sequence = LeafTxs::parse(&node.txs.node, &node.txs.direct)
            .and_then(|txs| txs.node_sequence())
            .map_err(|error| bad_tx(id, &error))?;
        permitted(kind, sequence, current_sequence(node)?)
            .or_else(|error| refused(Reason::InvalidState, format!("leaf {id}: {error}")))
    }

    fn plan(frame: &Frame<'_>, keyshare: &KeyshareRow, jobs: &[JobRow]) -> Plan {
        plan(
            frame.site,
            jobs,
            vec![KeyPart {
                keyshare,
                tweak: None,
                after_tweak: false,
                places: (0u32..).zip(jobs).map(|(place, _)| place).collect(),
            }],
        )
    }
}

impl Flow for RenewRequest {
    fn needs(&self, _site: &Site) -> Needs {
        Needs::default()
    }

    fn prepare(&self, frame: &Frame<'_>, _inputs: &Inputs) -> Result<Prepared, Halt> {
        let found = self.find(frame)?;
        let split = split_id(&frame.flow, &self.leaf);
        let taken = frame.rows.get::<NodeRow>(NodeRow::id_of(&split))?;
        if taken.is_some() {
            return refuse(Reason::Internal, format!("node {split} exists already"));
        }
        self.check_state(&found.node, frame.site)?;
        let made =
            Made::expected(self.jobs.kind(), &found.node, found.parent.as_ref())?.checked(self)?;
        let jobs = made.jobs(frame.site, self, &found.node, &found.keyshare)?;
        let request = Request::Renew(Box::new(self.clone())).encode()?;
        let digest = digest(&request, [(&found.keyshare, &[][..])].into_iter(), &jobs);
        let keys = Self::plan(frame, &found.keyshare, &jobs).keys;
        let mut changes = Changes::new();
        changes.put(
            frame.rows,
            &NodeRow {
                status: NodeStatus::RenewLocked,
                lock: Some(frame.flow),
                ..found.node
            },
        )?;
        Ok(Prepared {
            changes,
            digest,
            jobs,
            keys,
        })
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        let found = self.held(frame, row)?;
        Ok(Self::plan(frame, &found.keyshare, &row.jobs))
    }

    fn apply(
        &self,
        _frame: &Frame<'_>,
        _row: &FlowRow,
        _sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        Ok(Changes::new())
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        let found = self.held(frame, row)?;
        let renewed = Made::expected(self.jobs.kind(), &found.node, found.parent.as_ref())?
            .checked(self)?
            .signed(self.leaf, row, outcome)?;
        match renewed {
            Some(renewed) => self.install(frame, found.node, renewed),
            None => self.mark(frame, found.node),
        }
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let mut node = self.held(frame, row)?.node;
        // The time of its last change stays: operators that refused have not touched it.
        node.unlock();
        let mut changes = Changes::new();
        changes.put(frame.rows, &node)?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        Vec::new()
    }

    fn now(&self) -> Millis {
        self.now
    }
}
