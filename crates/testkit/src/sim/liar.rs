//! An operator that lies: the last one of the cluster, now and then, instead of its honest self.
//!
//! It has an operator's identity key and may say anything. What it gets from the others is kept as
//! evidence: a signature share counts as power, and must have been given for a certificate only.

use rand::Rng;
use rand_chacha::ChaCha20Rng;
use tinderbox_commit::{Certificate, Message, Reply, SignedVote, Vote, VoteBatch};
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{FlowId, Millis};
use tinderbox_frost::OperatorIndex;

use super::cluster::Cluster;

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Gathers everyone's yes, asks for shares without its own, then refuses.
    RefuseAfterYes,
    /// Shows the certificate to one operator only.
    PartialCertificate,
    /// Sends one operator another request under the same flow id.
    DifferentRequests,
    /// Makes up another operator's vote.
    ForgedVote,
    /// Votes yes, and shows one operator a no.
    Equivocate,
}

impl Lie {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::RefuseAfterYes,
        Self::PartialCertificate,
        Self::DifferentRequests,
        Self::ForgedVote,
        Self::Equivocate,
    ];
}

/// What a lie brought in.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Flows for which an honest operator gave its shares, with the certificate it had.
    pub(super) powers: Vec<(FlowId, Certificate)>,
}

struct Liar<'a> {
    cluster: &'a Cluster,
    me: OperatorIndex,
    flow: FlowId,
    evidence: Evidence,
}

impl Liar<'_> {
    fn vote(&self, flow: FlowId, digest: [u8; 32], yes: bool) -> SignedVote {
        self.vote_as(self.me, flow, digest, yes)
    }

    /// A vote in somebody's name, signed with the liar's own key.
    fn vote_as(
        &self,
        operator: OperatorIndex,
        flow: FlowId,
        digest: [u8; 32],
        yes: bool,
    ) -> SignedVote {
        use bitcoin::secp256k1::{Message, SECP256K1};
        let batch = VoteBatch::new(operator, vec![Vote { flow, digest, yes }]);
        let key = &self.cluster.identities[usize::from(self.me.0)];
        let signature = SECP256K1
            .sign_ecdsa(&Message::from_digest(batch.root()), key)
            .serialize_der();
        batch.signed(&signature).remove(0)
    }

    async fn say(&mut self, to: OperatorIndex, message: Message) -> Option<Reply> {
        let flow = message.flow();
        let reply = self
            .cluster
            .network
            .carry(self.me, to, message)
            .await
            .ok()?;
        if let Reply::Committed { certificate, .. } = &reply {
            self.evidence.powers.push((flow, certificate.clone()));
        }
        Some(reply)
    }

    async fn prepare(&mut self, to: OperatorIndex, request: &Request) -> Option<SignedVote> {
        let message = Message::Prepare {
            flow: self.flow,
            coordinator: self.me,
            request: request.encode().ok()?,
        };
        match self.say(to, message).await {
            Some(Reply::Yes(vote)) => Some(vote),
            _ => None,
        }
    }

    async fn commit(&mut self, to: OperatorIndex, votes: Vec<SignedVote>) {
        let message = Message::Commit {
            flow: self.flow,
            certificate: Certificate { votes },
        };
        let _ = self.say(to, message).await;
    }

    async fn refuse(&mut self, to: OperatorIndex, vote: SignedVote) {
        let message = Message::Refuse {
            flow: self.flow,
            vote,
            refusal: Refusal::new(Reason::Internal, "a lie"),
        };
        let _ = self.say(to, message).await;
    }
}

/// The same request a moment later.
fn altered(request: &Request) -> Request {
    let mut other = request.clone();
    let now = match &mut other {
        Request::Address(address) => &mut address.now,
        Request::Deposit(deposit) => &mut deposit.now,
        Request::Send(send) => &mut send.now,
        Request::Claim(claim) => &mut claim.now,
        Request::ClaimSign(claim) => &mut claim.now,
        Request::ClaimFinish(claim) => &mut claim.now,
        Request::Rotate(rotate) => &mut rotate.address.now,
        Request::UtxoRefund(refund) => &mut refund.now,
        Request::UtxoSwap(swap) => &mut swap.send.now,
        Request::UtxoReserve(reserve) => &mut reserve.send.now,
        Request::UtxoClaim(claim) => &mut claim.now,
        Request::UtxoSweep(sweep) => &mut sweep.now,
        Request::Renew(renew) => &mut renew.now,
        Request::Return(back) => &mut back.now,
        Request::Finalize(finalize) => &mut finalize.now,
        Request::Setting(setting) => &mut setting.now,
        Request::StorePreimage(store) => &mut store.now,
        Request::HashLock(lock) => &mut lock.now,
        Request::Preimage(preimage) => &mut preimage.now,
        Request::LegacyReceive(receive) => &mut receive.now,
        Request::Exit(exit) => &mut exit.now,
        Request::ExitSettle(settle) => &mut settle.now,
        Request::ExitReturn(back) => &mut back.now,
        Request::SwapPrimary(offer) => &mut offer.now,
        Request::SwapCounter(answer) => &mut answer.now,
        Request::LegacySwap(offer) => &mut offer.now,
        Request::LegacyCounter(answer) => &mut answer.now,
        Request::ExitTrees(leaving) => &mut leaving.now,
    };
    *now = Millis(now.0 + 1);
    other
}

/// Tells one lie about what a wallet asked for.
pub(super) async fn tell(
    cluster: &Cluster,
    lie: Lie,
    request: Request,
    rng: &mut ChaCha20Rng,
) -> Evidence {
    let me = OperatorIndex(cluster.site.count().saturating_sub(1));
    let now = cluster
        .network
        .engine(me)
        .map_or(Millis(1), |engine| engine.core().clock.now());
    let flow = FlowId::new(now, rng.r#gen());
    cluster
        .network
        .note(|| format!("operator {} lies: {lie:?}, flow {flow}", me.0));
    let mut liar = Liar {
        cluster,
        me,
        flow,
        evidence: Evidence::default(),
    };
    let others: Vec<OperatorIndex> = (0..me.0).map(OperatorIndex).collect();
    let victim = others[rng.gen_range(0..others.len())];
    let mut votes = Vec::new();
    for other in &others {
        let sent = if lie == Lie::DifferentRequests && *other == victim {
            altered(&request)
        } else {
            request.clone()
        };
        votes.extend(liar.prepare(*other, &sent).await);
    }
    let Some(digest) = votes.first().map(|vote| vote.vote.digest) else {
        return liar.evidence;
    };
    let complete = votes.len() == others.len();
    match lie {
        Lie::RefuseAfterYes => {
            for other in &others {
                liar.commit(*other, votes.clone()).await;
            }
            let no = liar.vote(flow, [0; 32], false);
            for other in &others {
                liar.refuse(*other, no.clone()).await;
            }
        }
        Lie::PartialCertificate => {
            // Its honest self votes yes, so that its own tables follow.
            if complete && let Some(own) = liar.prepare(me, &request).await {
                votes.push(own);
                liar.commit(victim, votes).await;
            }
        }
        Lie::DifferentRequests => {
            votes.push(liar.vote(flow, digest, true));
            for other in &others {
                liar.commit(*other, votes.clone()).await;
            }
        }
        Lie::ForgedVote => {
            votes.retain(|vote| vote.operator != victim);
            votes.push(liar.vote_as(victim, flow, digest, true));
            votes.push(liar.vote(flow, digest, true));
            for other in &others {
                liar.commit(*other, votes.clone()).await;
            }
        }
        Lie::Equivocate => {
            if complete && let Some(own) = liar.prepare(me, &request).await {
                votes.push(own);
                let no = liar.vote(flow, [0; 32], false);
                liar.refuse(victim, no).await;
                let witness = others.iter().find(|other| **other != victim).copied();
                if let Some(witness) = witness {
                    liar.commit(witness, votes).await;
                }
            }
        }
    }
    liar.evidence
}
