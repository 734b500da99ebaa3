//! Outputs on chain that have been promised: back to their owner, or to a service provider.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, ScriptBuf};
use serde::{Deserialize, Serialize};
use tinderbox_frost::{NonceCommitment, OperatorIndex, SignatureShare};
use tinderbox_protocol::{Network, Sats, TransferId};

use super::{FlowId, JobRow, Millis, UtxoRow};
use crate::flow::JobOutcome;
use crate::record::{Row, Table};

/// For what an output is given away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UtxoSwapKind {
    /// A confirmed output for leaves.
    Fixed,
    /// Back on chain, to whom its owner says.
    Refund,
    /// An output that is still to be confirmed, for leaves that were given at once.
    Instant,
}

/// How far a swap got. One that does not come about leaves no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UtxoSwapStatus {
    /// Registered; the output has not been spent by it.
    Created,
    /// Operators have given their shares of a transaction that spends the output.
    Completed,
}

/// Operators' shares of a signature, and what they were made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedSpend {
    /// What was signed.
    pub message: [u8; 32],
    /// The nonces of whoever completes the signature.
    pub commitment: NonceCommitment,
    /// The nonces of the operators that signed.
    pub operators: BTreeMap<OperatorIndex, NonceCommitment>,
    /// Their shares.
    pub shares: BTreeMap<OperatorIndex, SignatureShare>,
}

impl SignedSpend {
    /// What became of a job; none if an operator gave a wrong share.
    #[must_use]
    pub fn of(job: &JobRow, outcome: &JobOutcome) -> Option<Self> {
        let (JobOutcome::Shares(shares), Some(commitment)) = (outcome, job.package.user) else {
            return None;
        };
        Some(Self {
            message: job.package.message,
            commitment,
            operators: job.package.operators.clone(),
            shares: shares.clone(),
        })
    }
}

/// A swap of an output at a deposit address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UtxoSwapRow {
    /// Id: the flow that made it.
    pub id: FlowId,
    /// What for.
    pub kind: UtxoSwapKind,
    /// How far.
    pub status: UtxoSwapStatus,
    /// Network.
    pub network: Network,
    /// The address, as a script.
    pub script: ScriptBuf,
    /// Value of the output.
    pub value: Sats,
    /// The output; an instant swap has none until it is claimed.
    pub outpoint: Option<OutPoint>,
    /// The address' owner.
    pub owner: PublicKey,
    /// The service provider, unless the owner takes the output back.
    pub provider: Option<PublicKey>,
    /// What the owner gets for it in leaves.
    pub credit: Sats,
    /// The transfer of those leaves.
    pub transfer: Option<TransferId>,
    /// What the owner gets beside it when an instant swap is claimed, and by which transfer.
    pub secondary: Option<(TransferId, Sats)>,
    /// Tells a retry from another request: as of the transfer's sender.
    pub fingerprint: [u8; 32],
    /// The flow that is being agreed on, if one is.
    pub held: Option<FlowId>,
    /// The provider's spend with the operators' shares, for a provider that asks again.
    pub signed: Option<SignedSpend>,
    /// When it was made.
    pub created: Millis,
    /// When it last changed.
    pub updated: Millis,
}

impl Row for UtxoSwapRow {
    const TABLE: Table = Table::UtxoSwap;

    fn id(&self) -> Vec<u8> {
        self.id.0.to_vec()
    }
}

/// Something that can be promised once only, and the swap that has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UtxoHoldRow {
    /// What: see the functions that make ids.
    pub what: Vec<u8>,
    /// The swap that has it.
    pub swap: FlowId,
}

impl UtxoHoldRow {
    /// An output on chain.
    #[must_use]
    pub fn output(outpoint: &OutPoint) -> Vec<u8> {
        [b"o".to_vec(), UtxoRow::id_of(outpoint)].concat()
    }

    /// The next output of this value at an address: what an instant swap that is not claimed has.
    #[must_use]
    pub fn slot(script: &ScriptBuf, value: Sats) -> Vec<u8> {
        [b"s".as_slice(), &value.0.to_be_bytes(), script.as_bytes()].concat()
    }

    /// An owner's consent that names no output, by its digest: good for one instant swap.
    #[must_use]
    pub fn consent(digest: &[u8; 32]) -> Vec<u8> {
        [b"c".as_slice(), digest].concat()
    }
}

impl Row for UtxoHoldRow {
    const TABLE: Table = Table::UtxoHold;

    fn id(&self) -> Vec<u8> {
        self.what.clone()
    }
}
