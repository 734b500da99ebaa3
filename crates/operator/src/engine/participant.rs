//! What an operator does with a message about a flow.

use std::collections::BTreeMap;

use tinderbox_commit::certificate::is_refusal;
use tinderbox_commit::step::{self, Step};
use tinderbox_commit::{Certificate, Message, Reply, SignedVote, Vote};
use tinderbox_flows::flow::{Flow, Frame, Inputs, Outcome, Output, Prepared};
use tinderbox_flows::notice::note;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{FlowId, FlowRow, FlowState, Millis};
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_frost::{NonceCommitment, OperatorIndex};
use tinderbox_signer::{PackageKind, PreimagePart};

use super::Engine;
use super::rows::{Size, Stop, compute, decide, read, write};
use super::shares::check_outcome;

/// Age up to which a flow can be voted on, in milliseconds; also how far clocks may be apart.
pub(super) const MAX_AGE_MS: u64 = 3 * 24 * 3600 * 1000;

/// Pause of an older flow before it looks again whether a younger one has let go.
pub(super) const TURN: std::time::Duration = std::time::Duration::from_millis(50);

/// Attempts at a step whose rows keep changing.
const ATTEMPTS: usize = 12;

impl Engine {
    /// Answers another operator (or this one's coordinator, which talks to itself the same way).
    pub async fn handle(&self, from: OperatorIndex, message: Message) -> Reply {
        for _ in 0..ATTEMPTS {
            match self.attempt(from, &message).await {
                Ok(reply) => return reply,
                Err(Stop::Conflict) => {}
                Err(Stop::Refuse(refusal) | Stop::Fault(refusal)) => return Reply::Later(refusal),
            }
        }
        Reply::Later(conflict())
    }

    async fn attempt(&self, from: OperatorIndex, message: &Message) -> Result<Reply, Stop> {
        let flow = message.flow();
        let mut snapshot = Snapshot::new();
        let row = read::<FlowRow>(&*self.core.store, &mut snapshot, &flow.0).await?;
        let step = step::next(row.as_ref(), message);
        match (step, row, message) {
            (
                Step::Vote,
                None,
                Message::Prepare {
                    coordinator,
                    request,
                    ..
                },
            ) => {
                if *coordinator != from {
                    return Err(Stop::Refuse(Refusal::new(
                        Reason::NotOwner,
                        "only the coordinator of a flow may ask for votes",
                    )));
                }
                self.vote(snapshot, flow, from, request).await
            }
            (Step::VoteNo, None, _) => self.vote_no(snapshot, flow, from, given_up()).await,
            (Step::Burn, None, Message::Refuse { vote, refusal, .. }) => {
                self.burn(snapshot, flow, from, vote, refusal).await
            }
            (Step::Rollback, Some(row), Message::Refuse { vote, refusal, .. }) => {
                self.rollback(snapshot, row, vote, refusal).await
            }
            (Step::Commit, Some(row), Message::Commit { certificate, .. }) => {
                self.commit(snapshot, row, certificate).await
            }
            (Step::CommitAndFinish, Some(row), Message::Finish { certificate, .. }) => {
                self.commit(snapshot, row, certificate).await?;
                Box::pin(self.attempt(from, message)).await
            }
            (Step::Finish, Some(row), Message::Finish { outcome, .. }) => {
                self.finish(snapshot, row, outcome).await
            }
            (Step::Tell, None, _) => Ok(Reply::Unknown),
            (Step::Amnesia, _, _) => {
                tracing::error!(%flow, "a certificate holds a vote that this database does not know");
                metrics::counter!("tinderbox_flow_amnesia_total").increment(1);
                Err(Stop::Refuse(Refusal::new(
                    Reason::InvalidState,
                    "this operator's database is older than its votes: it must not take part until it is repaired",
                )))
            }
            (
                Step::Reinstate,
                Some(row),
                Message::Commit { certificate, .. } | Message::Finish { certificate, .. },
            ) => {
                self.reinstate(snapshot, row, certificate).await?;
                Box::pin(self.attempt(from, message)).await
            }
            (Step::Evidence, Some(row), _) => {
                self.evidence(&row, message);
                tell(&row)
            }
            (_, Some(row), _) => tell(&row),
            (_, None, _) => Ok(Reply::Unknown),
        }
    }

    /// Checks a request and everything that it needs from outside. Changes nothing. `clock` is
    /// this operator's, unless there is a certificate already.
    pub(super) async fn check(
        &self,
        snapshot: &mut Snapshot,
        flow: FlowId,
        coordinator: OperatorIndex,
        request: &Request,
        clock: Option<Millis>,
    ) -> Result<Prepared, Stop> {
        let needs = request.needs(&self.core.site);
        let mut inputs = Inputs {
            clock,
            ..Inputs::default()
        };
        if let Some((send, ciphertext)) = needs.package {
            let kind = if send {
                PackageKind::Send
            } else {
                PackageKind::Claim
            };
            inputs.opened = self.core.signer.open(kind, ciphertext).await?;
        }
        if let Some((hash, ciphertext)) = needs.preimage {
            let part = PreimagePart::Encrypted(ciphertext);
            inputs.preimage = Some(self.core.signer.keep_preimage(hash, part).await?);
        }
        for outpoint in needs.outputs {
            match super::chain_fact(&self.core, outpoint).await {
                Ok(Some(fact)) => {
                    inputs.chain.insert(outpoint, fact);
                }
                Ok(None) => {}
                Err(refusal) => return Err(Stop::Fault(refusal)),
            }
        }
        let site = &*self.core.site;
        let size = Size::of(request.signatures());
        let prepared = decide(&*self.core.store, snapshot, size, |rows| {
            request.prepare(
                &Frame {
                    flow,
                    coordinator,
                    site,
                    rows,
                },
                &inputs,
            )
        })
        .await?;
        Ok(prepared)
    }

    async fn vote(
        &self,
        mut snapshot: Snapshot,
        flow: FlowId,
        from: OperatorIndex,
        bytes: &[u8],
    ) -> Result<Reply, Stop> {
        let age = self.core.clock.now().0.abs_diff(flow.made().0);
        let checked = match Request::decode(bytes) {
            // Its log may have been purged: a vote could be the second one.
            _ if age > MAX_AGE_MS => Err(Stop::Refuse(Refusal::new(
                Reason::Expired,
                "this flow was begun days ago, or clocks are days apart: begin a new one",
            ))),
            Ok(request) => {
                let clock = Some(self.core.clock.now());
                self.check(&mut snapshot, flow, from, &request, clock).await
            }
            Err(refusal) => Err(Stop::Refuse(refusal)),
        };
        let checked = match checked {
            Ok(prepared) => self
                .core
                .signer
                .reserve(prepared.keys.clone())
                .await
                .map(|()| prepared)
                .map_err(Stop::from),
            stop => stop,
        };
        let prepared = match checked {
            Ok(prepared) => prepared,
            Err(Stop::Refuse(refusal)) if refusal.is_held_by_younger(flow) => {
                // The younger one will be refused where this one was first: look again then.
                tokio::time::sleep(TURN).await;
                return Err(Stop::Conflict);
            }
            Err(Stop::Refuse(refusal)) => {
                return self.vote_no(snapshot, flow, from, refusal).await;
            }
            Err(stop) => return Err(stop),
        };
        let vote = self
            .votes
            .sign(Vote {
                flow,
                digest: prepared.digest,
                yes: true,
            })
            .await?;
        self.store_yes(&snapshot, flow, from, bytes, prepared, [vote.clone()])
            .await?;
        Ok(Reply::Yes(vote))
    }

    /// Writes what a flow stages together with the votes that are known.
    pub(super) async fn store_yes(
        &self,
        snapshot: &Snapshot,
        flow: FlowId,
        coordinator: OperatorIndex,
        request: &[u8],
        prepared: Prepared,
        votes: impl IntoIterator<Item = SignedVote>,
    ) -> Result<(), Stop> {
        let row = FlowRow {
            id: flow,
            coordinator,
            state: FlowState::Prepared,
            digest: prepared.digest,
            request: request.to_vec(),
            votes: encode_votes(votes)?,
            refusal: Vec::new(),
            jobs: prepared.jobs,
            output: Vec::new(),
            outcome: Vec::new(),
            updated: self.core.clock.now(),
        };
        let mut changes = prepared.changes;
        put(&mut changes, snapshot, &row)?;
        write(&*self.core.store, snapshot, changes).await
    }

    /// Votes no, for good.
    pub(super) async fn vote_no(
        &self,
        snapshot: Snapshot,
        flow: FlowId,
        coordinator: OperatorIndex,
        refusal: Refusal,
    ) -> Result<Reply, Stop> {
        let vote = self
            .votes
            .sign(Vote {
                flow,
                digest: [0; 32],
                yes: false,
            })
            .await?;
        self.store_no(&snapshot, flow, coordinator, &vote, &refusal)
            .await?;
        Ok(Reply::No { vote, refusal })
    }

    pub(super) async fn store_no(
        &self,
        snapshot: &Snapshot,
        flow: FlowId,
        coordinator: OperatorIndex,
        vote: &SignedVote,
        refusal: &Refusal,
    ) -> Result<(), Stop> {
        // What was read to decide is no condition of a no: only that there is no vote yet.
        let mut alone = Snapshot::new();
        if read::<FlowRow>(&*self.core.store, &mut alone, &flow.0)
            .await?
            .is_some()
        {
            return Err(Stop::Conflict);
        }
        let _ = snapshot;
        let row = FlowRow {
            id: flow,
            coordinator,
            state: FlowState::Refused,
            digest: [0; 32],
            request: Vec::new(),
            votes: encode_votes([vote.clone()])?,
            refusal: encode(refusal)?,
            jobs: Vec::new(),
            output: Vec::new(),
            outcome: Vec::new(),
            updated: self.core.clock.now(),
        };
        let mut changes = Changes::new();
        put(&mut changes, &alone, &row)?;
        write(&*self.core.store, &alone, changes).await
    }

    async fn burn(
        &self,
        snapshot: Snapshot,
        flow: FlowId,
        from: OperatorIndex,
        vote: &SignedVote,
        refusal: &Refusal,
    ) -> Result<Reply, Stop> {
        if !is_refusal(&self.core.site, flow, vote) {
            return Err(forged());
        }
        self.store_no(&snapshot, flow, from, vote, refusal).await?;
        Ok(Reply::No {
            vote: vote.clone(),
            refusal: refusal.clone(),
        })
    }

    async fn rollback(
        &self,
        mut snapshot: Snapshot,
        mut row: FlowRow,
        vote: &SignedVote,
        refusal: &Refusal,
    ) -> Result<Reply, Stop> {
        if !is_refusal(&self.core.site, row.id, vote) {
            return Err(forged());
        }
        let request = Request::decode(&row.request)?;
        let site = &*self.core.site;
        let mut changes = decide(
            &*self.core.store,
            &mut snapshot,
            Size::of(row.jobs.len()),
            |rows| request.rollback(&frame(&row, site, rows), &row),
        )
        .await?;
        // The request and the nonces stay: should the no turn out to be a lie, the certificate wins.
        row.state = FlowState::Refused;
        row.jobs.clear();
        row.refusal = encode(refusal)?;
        row.votes = encode_votes([vote.clone()])?;
        row.updated = self.core.clock.now();
        put(&mut changes, &snapshot, &row)?;
        write(&*self.core.store, &snapshot, changes).await?;
        Ok(Reply::No {
            vote: vote.clone(),
            refusal: refusal.clone(),
        })
    }

    /// Takes back a rollback that a second vote brought about.
    async fn reinstate(
        &self,
        mut snapshot: Snapshot,
        row: FlowRow,
        certificate: &Certificate,
    ) -> Result<(), Stop> {
        compute(Size::Small, || {
            certificate.check(&self.core.site, row.id, &row.digest)
        })
        .map_err(|error| Stop::Refuse(Refusal::new(Reason::BadSignature, error.to_string())))?;
        self.name_culprits(row.id, decode_votes(&row.votes)?.into_keys());
        let request = Request::decode(&row.request)?;
        let prepared = self
            .check(&mut snapshot, row.id, row.coordinator, &request, None)
            .await?;
        if prepared.digest != row.digest {
            return Err(Stop::Fault(conflict()));
        }
        // They were bound when this operator voted, and may have become too old for a vote since.
        if let Err(error) = self.core.signer.reserve(prepared.keys.clone()).await {
            tracing::warn!(flow = %row.id, %error, "nonces of a flow that is taken up again");
        }
        self.store_yes(
            &snapshot,
            row.id,
            row.coordinator,
            &row.request,
            prepared,
            certificate.votes.iter().cloned(),
        )
        .await
    }

    async fn commit(
        &self,
        mut snapshot: Snapshot,
        mut row: FlowRow,
        certificate: &Certificate,
    ) -> Result<Reply, Stop> {
        compute(Size::Small, || {
            certificate.check(&self.core.site, row.id, &row.digest)
        })
        .map_err(|error| {
            tracing::error!(flow = %row.id, %error, "certificate");
            metrics::counter!("tinderbox_flow_forged_total").increment(1);
            Stop::Refuse(Refusal::new(Reason::BadSignature, error.to_string()))
        })?;
        let request = Request::decode(&row.request)?;
        let site = &*self.core.site;
        let mut plan = decide(
            &*self.core.store,
            &mut snapshot,
            Size::of(row.jobs.len()),
            |rows| request.commit(&frame(&row, site, rows), &row),
        )
        .await?;
        let obsolete: Vec<_> = plan
            .keys
            .iter()
            .filter(|key| key.tweak.is_some())
            .map(|key| key.sealed.clone())
            .collect();
        let outputs = self.execute(&row, &mut plan).await?;
        let mut output = Output::default();
        let mut sealed = Vec::new();
        for (places, key) in plan.places.iter().zip(outputs) {
            output.shares.extend(places.iter().copied().zip(key.shares));
            sealed.push(key.sealed);
        }
        if !plan.identity.is_empty() {
            output.identity = self.core.signer.sign(plan.identity).await?;
        }
        if let Some((hash, sealed)) = plan.preimage {
            output.preimage = Some(self.core.signer.preimage_share(hash, sealed).await?);
        }
        let mut changes = decide(
            &*self.core.store,
            &mut snapshot,
            Size::of(row.jobs.len()),
            |rows| request.apply(&frame(&row, site, rows), &row, &sealed),
        )
        .await?;
        let used = nonces(&row, self.core.site.me);
        row.state = FlowState::Committed;
        row.votes = encode_votes(certificate.votes.iter().cloned())?;
        row.output = encode(&output)?;
        row.updated = self.core.clock.now();
        put(&mut changes, &snapshot, &row)?;
        write(&*self.core.store, &snapshot, changes).await?;
        if let Err(error) = self.core.signer.settle(obsolete, used).await {
            tracing::error!(%error, flow = %row.id, "old shares were not destroyed");
            metrics::counter!("tinderbox_settle_failed_total").increment(1);
        }
        Ok(Reply::Committed {
            certificate: certificate.clone(),
            output,
            outcome: None,
        })
    }

    async fn finish(
        &self,
        mut snapshot: Snapshot,
        mut row: FlowRow,
        outcome: &Outcome,
    ) -> Result<Reply, Stop> {
        compute(Size::of(row.jobs.len()), || check_outcome(&row, outcome))?;
        let request = Request::decode(&row.request)?;
        let site = &*self.core.site;
        let touches = request.touches();
        let now = self.core.clock.now();
        let mut changes = decide(
            &*self.core.store,
            &mut snapshot,
            Size::of(row.jobs.len()),
            |rows| {
                let mut changes = request.finish(&frame(&row, site, rows), &row, outcome)?;
                // What wallets are told is written together with what happened.
                note(&mut changes, rows, row.id.0, now, &touches)?;
                Ok(changes)
            },
        )
        .await?;
        row.state = FlowState::Done;
        row.outcome = encode(outcome)?;
        row.request.clear();
        // A wallet that asks again is told its adaptor signatures' shares again.
        row.jobs.retain(|job| job.package.adaptor.is_some());
        row.updated = self.core.clock.now();
        put(&mut changes, &snapshot, &row)?;
        write(&*self.core.store, &snapshot, changes).await?;
        self.core.events.tell(touches);
        tell(&row)
    }

    fn evidence(&self, row: &FlowRow, message: &Message) {
        let culprits: Vec<OperatorIndex> = match message {
            Message::Refuse { flow, vote, .. } => {
                if !is_refusal(&self.core.site, *flow, vote) {
                    return;
                }
                vec![vote.operator]
            }
            Message::Commit { certificate, .. } | Message::Finish { certificate, .. } => {
                // An operator whose no is on record and whose yes is genuine. Anybody can make up
                // the votes of a certificate: nobody is accused by a forged one.
                certificate
                    .votes
                    .iter()
                    .filter(|vote| row.votes.contains_key(&vote.operator))
                    .filter(|vote| vote.vote.yes && vote.vote.flow == row.id)
                    .filter(|vote| self.is_genuine(vote))
                    .map(|vote| vote.operator)
                    .collect()
            }
            Message::Prepare { .. } | Message::Inquire { .. } => Vec::new(),
        };
        self.name_culprits(row.id, culprits);
    }

    fn name_culprits(&self, flow: FlowId, culprits: impl IntoIterator<Item = OperatorIndex>) {
        for culprit in culprits {
            tracing::error!(%flow, ?culprit, "an operator voted yes and no");
            metrics::counter!("tinderbox_flow_equivocation_total").increment(1);
            self.equivocations
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .insert((flow, culprit));
        }
    }
}

/// What is stored about a flow, as an answer.
pub(super) fn tell(row: &FlowRow) -> Result<Reply, Stop> {
    let votes = decode_votes(&row.votes)?;
    match row.state {
        FlowState::Prepared => votes
            .into_values()
            .find(|vote| vote.vote.yes)
            .map(Reply::Yes)
            .ok_or_else(damaged),
        FlowState::Refused => {
            let vote = votes
                .into_values()
                .find(|vote| !vote.vote.yes)
                .ok_or_else(damaged)?;
            Ok(Reply::No {
                vote,
                refusal: decode(&row.refusal)?,
            })
        }
        FlowState::Committed | FlowState::Done => Ok(Reply::Committed {
            certificate: Certificate {
                votes: votes.into_values().collect(),
            },
            output: decode(&row.output)?,
            outcome: if row.state == FlowState::Done {
                Some(decode(&row.outcome)?)
            } else {
                None
            },
        }),
    }
}

/// This operator's own nonces in a flow's jobs.
fn nonces(row: &FlowRow, me: OperatorIndex) -> Vec<NonceCommitment> {
    row.jobs
        .iter()
        .filter_map(|job| job.package.operators.get(&me).copied())
        .collect()
}

pub(super) fn frame<'a>(
    row: &FlowRow,
    site: &'a tinderbox_flows::flow::Site,
    rows: &'a Snapshot,
) -> Frame<'a> {
    Frame {
        flow: row.id,
        coordinator: row.coordinator,
        site,
        rows,
    }
}

pub(super) fn put(changes: &mut Changes, snapshot: &Snapshot, row: &FlowRow) -> Result<(), Stop> {
    changes.put(snapshot, row).map_err(|error| {
        tracing::error!(?error, flow = %row.id, "flow row");
        damaged()
    })
}

pub(super) fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, Stop> {
    postcard::to_allocvec(value).map_err(|_| damaged())
}

pub(super) fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Stop> {
    postcard::from_bytes(bytes).map_err(|_| damaged())
}

pub(super) fn encode_votes(
    votes: impl IntoIterator<Item = SignedVote>,
) -> Result<BTreeMap<OperatorIndex, Vec<u8>>, Stop> {
    votes
        .into_iter()
        .map(|vote| Ok((vote.operator, encode(&vote)?)))
        .collect()
}

pub(super) fn decode_votes(
    votes: &BTreeMap<OperatorIndex, Vec<u8>>,
) -> Result<BTreeMap<OperatorIndex, SignedVote>, Stop> {
    votes
        .iter()
        .map(|(operator, vote)| Ok((*operator, decode(vote)?)))
        .collect()
}

fn damaged() -> Stop {
    Stop::Fault(Refusal::new(
        Reason::Internal,
        "the agreement log is damaged",
    ))
}

fn forged() -> Stop {
    Stop::Refuse(Refusal::new(
        Reason::BadSignature,
        "a refusal must carry a signed no",
    ))
}

pub(super) fn conflict() -> Refusal {
    Refusal::new(
        Reason::LockConflict,
        "other requests hold what this one needs: try again",
    )
}

pub(super) fn given_up() -> Refusal {
    Refusal::new(
        Reason::OperatorUnavailable,
        "the flow was given up before all operators had voted: try again",
    )
}
