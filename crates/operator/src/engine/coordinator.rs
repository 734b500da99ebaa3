//! Running a flow from request to outcome.

use std::collections::BTreeMap;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use tinderbox_commit::certificate::is_refusal;
use tinderbox_commit::{Certificate, Message, Reply, SignedVote, Vote};
use tinderbox_flows::flow::{Flow, JobOutcome, Outcome, Output, combine};
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{FlowId, FlowRow, FlowState, Millis};
use tinderbox_flows::snapshot::Snapshot;
use tinderbox_frost::OperatorIndex;

use super::participant::{TURN, conflict, decode, decode_votes, frame, given_up};
use super::rows::{Size, Stop, compute, decide, read};
use super::{Engine, PeerError};

/// Attempts at writing the coordinator's own vote when rows that it read keep changing.
const ATTEMPTS: usize = 12;

/// A no, and why.
struct No {
    vote: Option<SignedVote>,
    refusal: Refusal,
}

impl Engine {
    /// Runs a flow on all operators. Returns when it is finished here and, as far as they answer in
    /// time, everywhere.
    ///
    /// # Errors
    /// A refusal. After [`Reason::OperatorUnavailable`] with the fact `decided` the flow has its
    /// certificate and will finish by itself; in all other cases nothing has happened.
    pub async fn run(&self, request: Request) -> Result<Outcome, Refusal> {
        let flow = self.new_flow();
        let _running = Running::begin(self, flow);
        let bytes = request.encode()?;
        // Refuse what is wrong before anybody else is bothered.
        let mut snapshot = Snapshot::new();
        let me = self.core.site.me;
        let prepared = self
            .check(&mut snapshot, flow, me, &request, self.own_clock())
            .await
            .map_err(refusal_of)?;
        self.core
            .signer
            .reserve(prepared.keys.clone())
            .await
            .map_err(|error| refusal_of(Stop::from(error)))?;
        let digest = prepared.digest;
        let decided = match self.collect(flow, &bytes, digest).await {
            Ok(votes) => {
                self.vote_last(flow, &request, &bytes, votes, (snapshot, prepared))
                    .await
            }
            Err(no) => Err(no),
        };
        match decided {
            Ok(certificate) => self.complete(flow, certificate).await,
            Err(no) => Err(self.give_up(flow, no).await),
        }
    }

    fn own_clock(&self) -> Option<Millis> {
        Some(self.core.clock.now())
    }

    fn new_flow(&self) -> FlowId {
        let mut random = [0; 10];
        self.core.clock.random(&mut random);
        FlowId::new(self.core.clock.now(), random)
    }

    pub(super) fn others(&self) -> impl Iterator<Item = OperatorIndex> + '_ {
        let me = self.core.site.me;
        self.core.site.everyone().filter(move |index| *index != me)
    }

    /// Everyone else's yes, or the first thing that rules it out.
    async fn collect(
        &self,
        flow: FlowId,
        bytes: &[u8],
        digest: [u8; 32],
    ) -> Result<Vec<SignedVote>, No> {
        let mut waiting: FuturesUnordered<_> = self
            .others()
            .map(|peer| async move {
                let message = Message::Prepare {
                    flow,
                    coordinator: self.core.site.me,
                    request: bytes.to_vec(),
                };
                let answer =
                    tokio::time::timeout(self.patience.votes, self.core.peers.agree(peer, message))
                        .await
                        .unwrap_or_else(|_| {
                            Err(PeerError {
                                operator: peer,
                                why: "no vote in time".into(),
                            })
                        });
                (peer, answer)
            })
            .collect();
        let mut votes = Vec::new();
        while let Some((peer, answer)) = waiting.next().await {
            let no = |refusal| No {
                vote: None,
                refusal,
            };
            match answer {
                Ok(Reply::Yes(vote)) => {
                    if vote.operator != peer
                        || vote.vote.flow != flow
                        || !vote.vote.yes
                        || !self.is_genuine(&vote)
                    {
                        return Err(no(disagreement(peer, "its vote is forged")));
                    }
                    if vote.vote.digest != digest {
                        return Err(no(disagreement(
                            peer,
                            "it sees another state, or was sent other secrets",
                        )));
                    }
                    votes.push(vote);
                }
                Ok(Reply::No { vote, refusal }) => {
                    let real = is_refusal(&self.core.site, flow, &vote);
                    return Err(No {
                        vote: real.then_some(vote),
                        refusal: behind(peer, refusal),
                    });
                }
                Ok(Reply::Later(refusal)) => return Err(no(refusal)),
                Ok(Reply::Committed { .. } | Reply::Unknown) => {
                    return Err(no(disagreement(peer, "it answered out of turn")));
                }
                Err(error) => {
                    tracing::warn!(%flow, %error, "no vote");
                    return Err(no(Refusal::new(
                        Reason::OperatorUnavailable,
                        format!(
                            "operator {} does not answer: try again when all operators are up",
                            peer.identifier()
                        ),
                    )));
                }
            }
        }
        Ok(votes)
    }

    pub(super) fn is_genuine(&self, vote: &SignedVote) -> bool {
        self.core
            .site
            .operators
            .get(usize::from(vote.operator.0))
            .is_some_and(|identity| vote.is_signed_by(identity))
    }

    /// The coordinator's own yes. Writing it is the decision.
    async fn vote_last(
        &self,
        flow: FlowId,
        request: &Request,
        bytes: &[u8],
        votes: Vec<SignedVote>,
        checked: (Snapshot, tinderbox_flows::flow::Prepared),
    ) -> Result<Certificate, No> {
        let me = self.core.site.me;
        let digest = checked.1.digest;
        let own = self
            .votes
            .sign(Vote {
                flow,
                digest,
                yes: true,
            })
            .await
            .map_err(|error| No {
                vote: None,
                refusal: refusal_of(Stop::from(error)),
            })?;
        let mut all = votes;
        all.push(own);
        let certificate = Certificate { votes: all };
        let mut checked = Some(checked);
        for _ in 0..ATTEMPTS {
            let attempt = async {
                let (mut snapshot, prepared) = match checked.take() {
                    Some(checked) => checked,
                    None => {
                        let mut snapshot = Snapshot::new();
                        let prepared = self
                            .check(&mut snapshot, flow, me, request, self.own_clock())
                            .await?;
                        if prepared.digest != digest {
                            return Err(Stop::Refuse(conflict()));
                        }
                        (snapshot, prepared)
                    }
                };
                // The vote must be the first: nobody may have made this operator vote no meanwhile.
                if let Some(row) =
                    read::<FlowRow>(&*self.core.store, &mut snapshot, &flow.0).await?
                {
                    return match row.state {
                        FlowState::Refused => Err(Stop::Refuse(given_up())),
                        // The write of an earlier attempt did arrive.
                        _ => Ok(()),
                    };
                }
                self.store_yes(
                    &snapshot,
                    flow,
                    me,
                    bytes,
                    prepared,
                    certificate.votes.iter().cloned(),
                )
                .await
            };
            match attempt.await {
                Ok(()) => return Ok(certificate),
                Err(Stop::Conflict) => {}
                Err(Stop::Refuse(refusal)) if refusal.is_held_by_younger(flow) => {
                    tokio::time::sleep(TURN).await;
                }
                Err(Stop::Refuse(refusal)) => {
                    return Err(No {
                        vote: None,
                        refusal,
                    });
                }
                // Whether the write arrived is unknown: look again, and decide nothing until then.
                Err(Stop::Fault(fault)) => {
                    tracing::error!(%flow, %fault, "own vote");
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                }
            }
        }
        Err(No {
            vote: None,
            refusal: conflict(),
        })
    }

    /// Makes the no binding and tells everybody.
    async fn give_up(&self, flow: FlowId, no: No) -> Refusal {
        let me = self.core.site.me;
        let vote = match no.vote {
            Some(vote) => vote,
            None => {
                // Own vote. If the database does not take it, recovery will, or a peer's inquiry.
                match self
                    .vote_no(Snapshot::new(), flow, me, no.refusal.clone())
                    .await
                {
                    Ok(Reply::No { vote, .. }) => vote,
                    _ => return self.undecided(flow, no.refusal).await,
                }
            }
        };
        let refusal = no.refusal;
        let message = |vote: &SignedVote| Message::Refuse {
            flow,
            vote: vote.clone(),
            refusal: refusal.clone(),
        };
        let _ = self.handle(me, message(&vote)).await;
        let told = join_all(
            self.others()
                .map(|peer| self.core.peers.agree(peer, message(&vote))),
        );
        // Those that do not hear it now will ask.
        let _ = tokio::time::timeout(self.patience.acknowledgements, told).await;
        refusal
    }

    /// The own no could not be stored. If a yes is there, the flow goes on.
    async fn undecided(&self, flow: FlowId, refusal: Refusal) -> Refusal {
        let mut snapshot = Snapshot::new();
        match read::<FlowRow>(&*self.core.store, &mut snapshot, &flow.0).await {
            Ok(Some(row)) if row.state != FlowState::Refused => {
                let certificate = decode_votes(&row.votes).map(|votes| Certificate {
                    votes: votes.into_values().collect(),
                });
                match certificate {
                    Ok(certificate) => match self.complete(flow, certificate).await {
                        Ok(_) => in_progress(),
                        Err(refusal) => refusal,
                    },
                    Err(_) => in_progress(),
                }
            }
            _ => refusal,
        }
    }

    /// Commits everywhere, puts the signatures together, finishes everywhere.
    pub(super) async fn complete(
        &self,
        flow: FlowId,
        certificate: Certificate,
    ) -> Result<Outcome, Refusal> {
        let me = self.core.site.me;
        let commit = Message::Commit {
            flow,
            certificate: certificate.clone(),
        };
        let peers = join_all(self.others().map(|peer| {
            let commit = commit.clone();
            async move {
                let answer = tokio::time::timeout(
                    self.patience.acknowledgements,
                    self.core.peers.agree(peer, commit),
                )
                .await;
                (peer, answer)
            }
        }));
        let (own, peers) = tokio::join!(self.handle(me, commit.clone()), peers);
        let mut outputs: BTreeMap<OperatorIndex, Output> = BTreeMap::new();
        let mut known = None;
        let answers =
            std::iter::once((me, own)).chain(peers.into_iter().filter_map(|(peer, answer)| {
                match answer {
                    Ok(Ok(reply)) => Some((peer, reply)),
                    Ok(Err(error)) => {
                        tracing::warn!(%flow, %error, "commit");
                        None
                    }
                    Err(_) => None,
                }
            }));
        for (operator, reply) in answers {
            match reply {
                Reply::Committed {
                    output, outcome, ..
                } => {
                    outputs.insert(operator, output);
                    known = known.or(outcome);
                }
                other => tracing::warn!(%flow, ?operator, ?other, "commit"),
            }
        }
        let outcome = match known {
            Some(outcome) => outcome,
            None => self.outcome(flow, &outputs).await?,
        };
        self.finish_everywhere(flow, certificate, &outcome).await?;
        Ok(outcome)
    }

    /// The outcome, if everyone whose share is needed has given it.
    async fn outcome(
        &self,
        flow: FlowId,
        outputs: &BTreeMap<OperatorIndex, Output>,
    ) -> Result<Outcome, Refusal> {
        let mut snapshot = Snapshot::new();
        let row = read::<FlowRow>(&*self.core.store, &mut snapshot, &flow.0)
            .await
            .map_err(refusal_of)?
            .ok_or_else(in_progress)?;
        if row.state == FlowState::Done {
            return decode(&row.outcome).map_err(refusal_of);
        }
        let request = Request::decode(&row.request)?;
        let everyone = request.wants_identity_signatures();
        let missing = self
            .core
            .site
            .everyone()
            .filter(|operator| {
                everyone
                    || row
                        .jobs
                        .iter()
                        .any(|job| job.package.operators.contains_key(operator))
            })
            .find(|operator| !outputs.contains_key(operator));
        if let Some(operator) = missing {
            tracing::warn!(%flow, ?operator, "share is missing; the flow will be finished later");
            return Err(in_progress());
        }
        let mut outcome = compute(Size::of(row.jobs.len()), || combine(&row.jobs, outputs))?;
        let site = &*self.core.site;
        let secret = decide(&*self.core.store, &mut snapshot, Size::Small, |rows| {
            request.secret(&frame(&row, site, rows), &row, outputs)
        });
        outcome.secret = match secret.await {
            Ok(revealed) => {
                if !revealed.culprits.is_empty() {
                    tracing::error!(%flow, culprits = ?revealed.culprits, "wrong shares of a preimage");
                    metrics::counter!("tinderbox_bad_share_total").increment(1);
                }
                revealed.secret
            }
            Err(stop) => {
                tracing::warn!(%flow, ?stop, "shares of the preimage; the flow will be finished later");
                return Err(in_progress());
            }
        };
        for (place, job) in outcome.jobs.iter().enumerate() {
            if let JobOutcome::Failed(culprits) = job {
                tracing::error!(%flow, place, ?culprits, "wrong signature shares");
            }
        }
        Ok(outcome)
    }

    pub(super) async fn finish_everywhere(
        &self,
        flow: FlowId,
        certificate: Certificate,
        outcome: &Outcome,
    ) -> Result<(), Refusal> {
        let me = self.core.site.me;
        let message = Message::Finish {
            flow,
            certificate,
            outcome: outcome.clone(),
        };
        let peers = join_all(
            self.others()
                .map(|peer| self.core.peers.agree(peer, message.clone())),
        );
        let peers = tokio::time::timeout(self.patience.acknowledgements, peers);
        let (own, peers) = tokio::join!(self.handle(me, message.clone()), peers);
        if peers.is_err() {
            tracing::warn!(%flow, "not all operators acknowledged in time");
        }
        match own {
            Reply::Committed {
                outcome: Some(_), ..
            } => Ok(()),
            Reply::Later(refusal) => {
                tracing::warn!(%flow, %refusal, "finish");
                Err(in_progress())
            }
            _ => Err(in_progress()),
        }
    }
}

/// Marks a flow as coordinated by this process until it is dropped.
struct Running<'a> {
    engine: &'a Engine,
    flow: FlowId,
}

impl<'a> Running<'a> {
    fn begin(engine: &'a Engine, flow: FlowId) -> Self {
        engine.running().insert(flow);
        Self { engine, flow }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.engine.running().remove(&self.flow);
    }
}

pub(super) fn refusal_of(stop: Stop) -> Refusal {
    match stop {
        Stop::Conflict => conflict(),
        Stop::Refuse(refusal) | Stop::Fault(refusal) => refusal,
    }
}

fn in_progress() -> Refusal {
    Refusal::new(
        Reason::OperatorUnavailable,
        "decided, but not all operators have answered: it will finish by itself; ask again",
    )
    .with("decided", true)
}

/// A peer's no, when this operator has found nothing wrong. If it is about the state of rows, then
/// one of the two has not heard the end of an earlier flow yet: that passes, and asking again is
/// right. The request is not to blame.
fn behind(peer: OperatorIndex, refusal: Refusal) -> Refusal {
    match refusal.reason {
        Reason::NotOwner | Reason::InvalidState | Reason::MissingEntity => {
            tracing::warn!(?peer, %refusal, "a peer is behind");
            Refusal {
                reason: Reason::LockConflict,
                message: format!(
                    "operator {} has not finished earlier work on this, try again: {refusal}",
                    peer.identifier()
                ),
                facts: refusal.facts,
            }
        }
        _ => refusal,
    }
}

fn disagreement(peer: OperatorIndex, why: &str) -> Refusal {
    tracing::warn!(?peer, why, "vote");
    Refusal::new(
        Reason::Disagreement,
        format!("operator {} does not agree: {why}", peer.identifier()),
    )
}
