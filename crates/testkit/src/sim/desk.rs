//! What wallets remember between requests: answers, and what they still have to complete.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, ScriptBuf, Transaction};
use tinderbox_chain::Spend;
use tinderbox_flows::flow::{JobOutcome, Outcome};
use tinderbox_flows::request::{ClaimFinishRequest, Request};
use tinderbox_frost::NonceCommitment;
use tinderbox_protocol::{TransferId, TreeId};

use super::half::Half;
use super::steps::Signing;
use crate::chain::MemoryChain;

/// A payment to a static address.
#[derive(Clone)]
pub(super) struct Paid {
    pub(super) outpoint: OutPoint,
    pub(super) script: ScriptBuf,
    pub(super) value: u64,
}

/// A spend of an output that waits for operators' shares.
pub(super) struct Spending {
    pub(super) half: Half,
    pub(super) outpoint: OutPoint,
    pub(super) verifying_key: PublicKey,
    pub(super) public_shares: Vec<PublicKey>,
}

/// What all wallets remember.
#[derive(Default)]
pub(super) struct Desk {
    /// What was acknowledged, in order.
    pub(super) answers: Vec<(Request, Outcome)>,
    /// Payments to static addresses.
    pub(super) paid: Vec<Paid>,
    /// Spends of such outputs.
    pub(super) spending: Vec<Spending>,
    /// Claims whose refunds wait for operators' shares.
    pub(super) signing: Vec<Signing>,
    /// Last steps of claims, with complete signatures.
    pub(super) finishing: BTreeMap<TransferId, ClaimFinishRequest>,
    /// Trees that their owners, of these identities, have asked to leave with.
    pub(super) leaving: BTreeSet<(PublicKey, TreeId)>,
    /// Payouts of exits, and the heights of those that are in a block.
    pub(super) payouts: BTreeMap<[u8; 16], (Transaction, Option<u32>)>,
    /// The last block that has a payout.
    pub(super) height: u32,
    /// Requests that were handed in at two operators at once: with one set of nonces, of which an
    /// operator gives one share.
    pub(super) twice: Vec<Request>,
    /// What operators gave although it is worth nothing.
    pub(super) worthless: Vec<String>,
}

impl Desk {
    /// An answer came.
    pub(super) fn answered(&mut self, request: Request, outcome: Outcome, chain: &MemoryChain) {
        let twice = self.twice.contains(&request);
        match &request {
            Request::UtxoRefund(refund) => {
                self.spent(refund.spend.commitment, &outcome, 0, twice, chain);
            }
            Request::UtxoSwap(swap) => {
                let place = outcome.jobs.len().saturating_sub(1);
                self.spent(swap.spend.job.commitment, &outcome, place, twice, chain);
            }
            Request::UtxoClaim(claim) => {
                let place = outcome.jobs.len().saturating_sub(1);
                self.spent(claim.spend.job.commitment, &outcome, place, twice, chain);
            }
            Request::UtxoSweep(sweep) => {
                for (place, input) in sweep.inputs.iter().enumerate() {
                    self.spent(input.commitment, &outcome, place, twice, chain);
                }
            }
            Request::ClaimSign(sign) => {
                let signing = self.signing.iter_mut().find(|signing| signing.is_of(sign));
                if let Some(signing) = signing {
                    signing.answer = Some(outcome.clone());
                }
            }
            _ => {}
        }
        self.answers.push((request, outcome));
    }

    /// Completes a spend and, in half of the cases, broadcasts it.
    fn spent(
        &mut self,
        commitment: NonceCommitment,
        outcome: &Outcome,
        place: usize,
        twice: bool,
        chain: &MemoryChain,
    ) {
        let found = self
            .spending
            .iter()
            .position(|spending| spending.half.job.commitment == commitment);
        let (Some(found), Some(job)) = (found, outcome.jobs.get(place)) else {
            return;
        };
        if twice && matches!(job, JobOutcome::Failed(_)) {
            return;
        }
        let spending = self.spending.remove(found);
        let outpoint = spending.outpoint;
        match spending
            .half
            .sign(spending.verifying_key, &spending.public_shares, job)
        {
            Ok(_) if AsRef::<[u8]>::as_ref(&outpoint.txid)[0] & 1 == 0 => {
                chain.spend(outpoint, Spend::InMempool);
            }
            Ok(_) => {}
            Err(why) => self.worthless.push(format!("spend of {outpoint}: {why}")),
        }
    }
}
