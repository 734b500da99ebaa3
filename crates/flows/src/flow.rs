//! What a flow is.
//!
//! ```text
//!  request ─ prepare ─► changes + digest + jobs      every operator, then it votes yes or no
//!            commit  ─► plan for the signer          once all n yes are there: the certificate
//!            apply   ─► changes                      in the same transaction as the shares
//!            combine ─► outcome                      one operator puts the signatures together
//!            finish  ─► changes                      every operator, after checking them
//!            rollback ► changes                      after a no, instead of the last four
//! ```
//!
//! All functions are pure. Whatever they return is written only if no row that they looked at has
//! changed meanwhile.

use std::collections::BTreeMap;

use bitcoin::OutPoint;
use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_frost::{OperatorIndex, SignatureShare};
use tinderbox_protocol::{Network, Sats};

use crate::job::{KeyJob, OpenedPreimage, OpenedTweak};
use crate::refusal::{Halt, Refusal};
use crate::rows::{FlowId, FlowRow, JobRow, Millis};
use crate::secret::{Preimage, PreimageShare, SealedPreimage, SealedShare};
use crate::snapshot::{Changes, Snapshot};

/// The operators, and which of them this is. Equal everywhere but for `me` and, while operators
/// change their configuration, `providers`.
#[derive(Clone, Debug)]
pub struct Site {
    /// This operator.
    pub me: OperatorIndex,
    /// Identity keys of all operators, in order of index.
    pub operators: Vec<PublicKey>,
    /// How many operators sign.
    pub threshold: u16,
    /// The network that is served.
    pub network: Network,
    /// Confirmations that make a deposit spendable, the containing block counted as one.
    pub deposit_confirmations: u32,
    /// Confirmations of an exit transaction after which its provider gets the leaves.
    pub exit_confirmations: u32,
    /// Identity keys of the service providers that this operator serves. Its own choice, too.
    pub providers: Vec<PublicKey>,
}

impl Site {
    /// The indexes of all operators.
    pub fn everyone(&self) -> impl Iterator<Item = OperatorIndex> + '_ {
        (0..self.operators.len()).filter_map(|index| u16::try_from(index).ok().map(OperatorIndex))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u16 {
        u16::try_from(self.operators.len()).unwrap_or(u16::MAX)
    }
}

/// A flow as its functions see it: which one, run by whom.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The flow's id.
    pub flow: FlowId,
    /// Who runs it.
    pub coordinator: OperatorIndex,
    /// The operators.
    pub site: &'a Site,
    /// Rows.
    pub rows: &'a Snapshot,
}

/// What a flow wants to be told before it can prepare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// A key tweak package for this operator that the signer must open: true for a sender's,
    /// false for a receiver's.
    pub package: Option<(bool, Vec<u8>)>,
    /// Outputs to look up on the chain.
    pub outputs: Vec<OutPoint>,
    /// This operator's share of the preimage of a payment hash, encrypted to it, that the signer
    /// must open.
    pub preimage: Option<([u8; 32], Vec<u8>)>,
}

/// An output as this operator's own node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainFact {
    /// Value.
    pub value: Sats,
    /// Script.
    pub script: bitcoin::ScriptBuf,
    /// Blocks that bury it, its own counted; 0 in the mempool.
    pub confirmations: u32,
    /// True if an unconfirmed transaction spends it.
    pub contested: bool,
}

/// What the outside world has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// The opened key tweak package.
    pub opened: Vec<OpenedTweak>,
    /// Outputs that exist and that no confirmed transaction spends.
    pub chain: BTreeMap<OutPoint, ChainFact>,
    /// This operator's own clock, for what must not be left to the coordinator's. None once there
    /// is a certificate: what everyone has agreed to does not become wrong by waiting.
    pub clock: Option<Millis>,
    /// The opened share of a preimage.
    pub preimage: Option<OpenedPreimage>,
}

/// A yes, before it is one.
#[derive(Debug)]
pub struct Prepared {
    /// Rows to write with the vote.
    pub changes: Changes,
    /// What all operators must find equal: request, commitments, versions, expected transactions.
    pub digest: [u8; 32],
    /// Signatures that the flow makes.
    pub jobs: Vec<JobRow>,
    /// What the signer will be asked at commit, so that it can say now if it could not.
    pub keys: Vec<KeyJob>,
}

/// What the signer does at commit.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Key shares to sign with and to tweak.
    pub keys: Vec<KeyJob>,
    /// For each of them, the places of its jobs among the flow's jobs.
    pub places: Vec<Vec<u32>>,
    /// Digests that the identity key signs.
    pub identity: Vec<[u8; 32]>,
    /// The share of the preimage of a payment hash that this operator gives.
    pub preimage: Option<([u8; 32], SealedPreimage)>,
}

/// One operator's contribution to a committed flow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Signature shares by place of the job.
    pub shares: BTreeMap<u32, SignatureShare>,
    /// Signatures of the identity key (DER).
    pub identity: Vec<Vec<u8>>,
    /// This operator's share of a preimage.
    pub preimage: Option<PreimageShare>,
}

/// What became of one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobOutcome {
    /// A complete signature: 64 bytes.
    Signed(Vec<u8>),
    /// The operators' shares, for a wallet that puts them together itself: because it signs
    /// afterwards, or because of an adaptor.
    Shares(BTreeMap<OperatorIndex, SignatureShare>),
    /// These operators gave wrong shares.
    Failed(Vec<OperatorIndex>),
}

/// What became of a flow's jobs: equal on all operators.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// One per job.
    pub jobs: Vec<JobOutcome>,
    /// Identity signatures of every operator.
    pub identity: BTreeMap<OperatorIndex, Vec<Vec<u8>>>,
    /// What the operators' shares of a preimage give.
    pub secret: Option<Preimage>,
}

impl Outcome {
    /// The complete signature of the job at `place`.
    #[must_use]
    pub fn signature(&self, place: usize) -> Option<&[u8]> {
        match self.jobs.get(place) {
            Some(JobOutcome::Signed(signature)) => Some(signature),
            _ => None,
        }
    }
}

/// What operators' shares of a preimage gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revealed {
    /// The number that they are shares of, if the flow is about one.
    pub secret: Option<Preimage>,
    /// Who gave a wrong share, or none.
    pub culprits: Vec<OperatorIndex>,
}

/// A capability: see the module's page.
pub trait Flow {
    /// What it wants to know before [`Flow::prepare`].
    fn needs(&self, site: &Site) -> Needs;

    /// Decides, and says what to lock and stage.
    ///
    /// # Errors
    /// [`Halt`].
    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt>;

    /// What the signer must do. The default: contribute to every job, without tweaks.
    ///
    /// # Errors
    /// [`Halt`].
    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt>;

    /// The rows that change with the commit; `sealed` are the tweaked shares, in order of the
    /// plan's keys.
    ///
    /// # Errors
    /// [`Halt`].
    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt>;

    /// What the operators' shares of a preimage give. The default: the flow is about none.
    ///
    /// # Errors
    /// [`Halt`]; a refusal if there are too few right shares yet.
    fn secret(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        outputs: &BTreeMap<OperatorIndex, Output>,
    ) -> Result<Revealed, Halt> {
        let _ = (frame, row, outputs);
        Ok(Revealed::default())
    }

    /// The rows that change when the signatures are there.
    ///
    /// # Errors
    /// [`Halt`]; a refusal means that the outcome is not what was agreed on.
    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt>;

    /// Undoes what [`Flow::prepare`] staged.
    ///
    /// # Errors
    /// [`Halt`].
    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt>;

    /// Wallets whose view changes; they are told when the flow is finished.
    fn touches(&self) -> Vec<Touch>;

    /// The time that the coordinator chose for the rows that it writes.
    fn now(&self) -> Millis;
}

/// Whom a finished flow concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Touch {
    /// A transfer changed.
    Transfer(tinderbox_protocol::TransferId),
    /// A deposit changed.
    Deposit(tinderbox_protocol::LeafId),
    /// A tree was made: its root is a deposit.
    Tree(tinderbox_protocol::TreeId),
    /// A leaf changed in a way that the wire contract has no event for.
    Leaf(tinderbox_protocol::LeafId),
    /// A wallet's settings changed.
    Setting(PublicKey),
}

/// Puts the operators' contributions together and checks every signature.
///
/// A wallet that signs afterwards gets the shares. A wrong share names its operators.
///
/// # Errors
/// A refusal if a job's package is malformed, which no agreed flow's is.
pub fn combine(
    jobs: &[JobRow],
    outputs: &BTreeMap<OperatorIndex, Output>,
) -> Result<Outcome, Refusal> {
    let mut outcome = Outcome {
        jobs: Vec::new(),
        identity: outputs
            .iter()
            .map(|(operator, output)| (*operator, output.identity.clone()))
            .collect(),
        secret: None,
    };
    for (place, job) in (0u32..).zip(jobs) {
        outcome.jobs.push(combine_job(place, job, outputs)?);
    }
    Ok(outcome)
}

fn combine_job(
    place: u32,
    job: &JobRow,
    outputs: &BTreeMap<OperatorIndex, Output>,
) -> Result<JobOutcome, Refusal> {
    let bad = |error: tinderbox_frost::Error| {
        Refusal::new(crate::refusal::Reason::Internal, error.to_string())
    };
    let mut shares = BTreeMap::new();
    let mut missing = Vec::new();
    for operator in job.package.operators.keys() {
        match outputs
            .get(operator)
            .and_then(|output| output.shares.get(&place))
        {
            Some(share) => {
                shares.insert(*operator, *share);
            }
            None => missing.push(*operator),
        }
    }
    if !missing.is_empty() {
        return Ok(JobOutcome::Failed(missing));
    }
    let public_shares: BTreeMap<OperatorIndex, PublicKey> = (0u16..)
        .map(OperatorIndex)
        .zip(job.public_shares.iter().copied())
        .collect();
    let prepared = job.package.prepare().map_err(bad)?;
    let wrong: Vec<OperatorIndex> = if job.package.user.is_some() && job.user_share.is_none() {
        // The wallet completes it: check each share now, nobody else will.
        culprits(&prepared, &shares, &public_shares)
    } else {
        match prepared.aggregate(
            &shares,
            job.user_share.as_ref(),
            &public_shares,
            job.user_key.as_ref(),
        ) {
            // Incomplete without the adaptor's secret, so no signature yet.
            Ok(_) if job.package.adaptor.is_some() => return Ok(JobOutcome::Shares(shares)),
            Ok(signature) => return Ok(JobOutcome::Signed(signature.to_vec())),
            Err(_) => culprits(&prepared, &shares, &public_shares),
        }
    };
    if wrong.is_empty() && job.user_share.is_none() && job.package.user.is_some() {
        Ok(JobOutcome::Shares(shares))
    } else {
        Ok(JobOutcome::Failed(wrong))
    }
}

fn culprits(
    prepared: &tinderbox_frost::Prepared,
    shares: &BTreeMap<OperatorIndex, SignatureShare>,
    public_shares: &BTreeMap<OperatorIndex, PublicKey>,
) -> Vec<OperatorIndex> {
    shares
        .iter()
        .filter(|(operator, share)| {
            public_shares.get(operator).is_none_or(|public| {
                prepared
                    .verify_operator_share(operator, public, share)
                    .is_err()
            })
        })
        .map(|(operator, _)| *operator)
        .collect()
}
