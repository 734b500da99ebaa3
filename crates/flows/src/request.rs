//! What a flow was asked to do: the one message of which every operator gets the same bytes.

use std::collections::BTreeMap;

use bitcoin::OutPoint;
use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_frost::{NonceCommitment, OperatorIndex};
use tinderbox_protocol::{LeafId, TransferId, TreeId};

use crate::exit_trees::ExitTreesRequest;
use crate::finalize::FinalizeRequest;
use crate::flow::{
    Flow, Frame, Inputs, Needs, Outcome, Output, Plan, Prepared, Revealed, Site, Touch,
};
use crate::htlc::legacy::LegacyReceiveRequest;
use crate::htlc::lock::HashLockRequest;
use crate::htlc::settle::PreimageRequest;
use crate::htlc::store::StorePreimageRequest;
use crate::package::{OpenJob, TweakPackage, UserJob};
use crate::refusal::{Halt, Reason, Refusal};
use crate::renew::RenewRequest;
use crate::returns::ReturnRequest;
pub use crate::rotate::RotateRequest;
use crate::rows::{FlowRow, KeyshareId, Millis};
use crate::secret::SealedShare;
use crate::snapshot::Changes;
use crate::swap_counter::SwapCounterRequest;
use crate::swap_legacy::LegacySwapRequest;
use crate::swap_legacy_counter::LegacyCounterRequest;
use crate::swap_primary::SwapPrimaryRequest;
pub use crate::utxo_claim::UtxoClaimRequest;
pub use crate::utxo_refund::UtxoRefundRequest;
pub use crate::utxo_reserve::UtxoReserveRequest;
pub use crate::utxo_swap::UtxoSwapRequest;
pub use crate::utxo_sweep::UtxoSweepRequest;

/// Format of encoded requests.
const FORMAT: u8 = 1;

/// Make a deposit address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// The wallet's identity key.
    pub owner: PublicKey,
    /// The wallet's half of the key.
    pub owner_signing: PublicKey,
    /// The key share to use: one of the coordinator's pool.
    pub keyshare: KeyshareId,
    /// The leaf id that the wallet chose.
    pub leaf: Option<LeafId>,
    /// Takes any number of deposits.
    pub is_static: bool,
    /// Nonces of the operators that prove possession, for the current form of the message.
    pub nonces: BTreeMap<OperatorIndex, NonceCommitment>,
    /// The same for the older form.
    pub nonces_legacy: BTreeMap<OperatorIndex, NonceCommitment>,
}

/// Make a tree of a deposit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DepositRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// The wallet's identity key.
    pub owner: PublicKey,
    /// The new tree's id.
    pub tree: TreeId,
    /// The id of the root if the address does not fix it.
    pub fallback_leaf: LeafId,
    /// The transactions that pay the address, each with the output that does; the first is the
    /// primary one.
    pub outputs: Vec<(Vec<u8>, u32)>,
    /// Half-signed root transaction.
    pub root: UserJob,
    /// Half-signed refund.
    pub refund: UserJob,
    /// Half-signed fee-paying refund.
    pub direct_from_cpfp: UserJob,
    /// The coordinator found the outputs confirmed deep enough. Others check it with their own
    /// node.
    pub confirmed: bool,
}

/// Send leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// The id that the wallet chose.
    pub transfer: TransferId,
    /// The sender's identity key.
    pub sender: PublicKey,
    /// Who gets which leaf: the receivers' identity keys.
    pub receivers: BTreeMap<LeafId, PublicKey>,
    /// Refunds and tweaks.
    pub package: TweakPackage,
    /// When the transfer lapses if it is not settled.
    pub expiry: Option<Millis>,
    /// Spark invoice that it pays; empty if none.
    pub invoice: String,
}

/// Claim leaves that were sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// Which transfer.
    pub transfer: TransferId,
    /// The receiver's identity key.
    pub receiver: PublicKey,
    /// Refunds to the receiver's own keys, and tweaks.
    pub package: TweakPackage,
}

/// Second step of the three-step claim: apply the staged tweaks, sign what the receiver will
/// complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimSignRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// Which transfer.
    pub transfer: TransferId,
    /// The receiver's identity key.
    pub receiver: PublicKey,
    /// Per leaf: the fee-less refund, the refund of the direct node transaction if there is one,
    /// and the fee-paying refund.
    pub jobs: BTreeMap<LeafId, OpenRefunds>,
}

/// The refunds of one leaf in the three-step claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRefunds {
    /// Fee-less.
    pub cpfp: OpenJob,
    /// Of the direct node transaction.
    pub direct: Option<OpenJob>,
    /// Fee-paying.
    pub direct_from_cpfp: OpenJob,
}

/// Last step of the three-step claim: the complete signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimFinishRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// Which transfer.
    pub transfer: TransferId,
    /// The receiver's identity key.
    pub receiver: PublicKey,
    /// Signatures by leaf: fee-less, direct (empty if there is none), fee-paying; 64 bytes each.
    pub signatures: BTreeMap<LeafId, [Vec<u8>; 3]>,
}

/// Change a wallet's settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// The wallet's identity key.
    pub owner: PublicKey,
    /// Whether others see nothing of it; none: as it is.
    pub private: Option<bool>,
    /// Who may read nevertheless, or that nobody may; none: as it is.
    pub master: Option<Option<PublicKey>>,
}

/// Give leaves to a provider that pays out on chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// The id that the wallet chose for the transfer.
    pub transfer: TransferId,
    /// The sender's identity key.
    pub sender: PublicKey,
    /// The provider's identity key.
    pub receiver: PublicKey,
    /// The same by leaf.
    pub receivers: BTreeMap<LeafId, PublicKey>,
    /// Refunds and tweaks.
    pub package: TweakPackage,
    /// When the exit lapses if its payout is not seen.
    pub expiry: Millis,
    /// The id that the wallet chose for the exit.
    pub exit: [u8; 16],
    /// The exit transaction's id, in either order of bytes.
    pub exit_txid: [u8; 32],
    /// The transaction that makes connectors of an output of the exit transaction.
    pub connector_tx: Vec<u8>,
}

/// The payout of an exit is confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitSettleRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// Which exit.
    pub exit: [u8; 16],
    /// Its transfer.
    pub transfer: TransferId,
}

/// An exit lapsed unseen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitReturnRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// Which exit.
    pub exit: [u8; 16],
    /// Its transfer.
    pub transfer: TransferId,
    /// The exit transaction's output that the connectors come from.
    pub funds: OutPoint,
}

/// Any request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// [`AddressRequest`].
    Address(Box<AddressRequest>),
    /// [`DepositRequest`].
    Deposit(Box<DepositRequest>),
    /// [`SendRequest`].
    Send(Box<SendRequest>),
    /// [`ClaimRequest`].
    Claim(Box<ClaimRequest>),
    /// [`ClaimSignRequest`].
    ClaimSign(Box<ClaimSignRequest>),
    /// [`ClaimFinishRequest`].
    ClaimFinish(Box<ClaimFinishRequest>),
    /// [`RotateRequest`].
    Rotate(Box<RotateRequest>),
    /// [`UtxoRefundRequest`].
    UtxoRefund(Box<UtxoRefundRequest>),
    /// [`UtxoSwapRequest`].
    UtxoSwap(Box<UtxoSwapRequest>),
    /// [`UtxoReserveRequest`].
    UtxoReserve(Box<UtxoReserveRequest>),
    /// [`UtxoClaimRequest`].
    UtxoClaim(Box<UtxoClaimRequest>),
    /// [`UtxoSweepRequest`].
    UtxoSweep(Box<UtxoSweepRequest>),
    /// [`RenewRequest`].
    Renew(Box<RenewRequest>),
    /// [`ReturnRequest`].
    Return(Box<ReturnRequest>),
    /// [`FinalizeRequest`].
    Finalize(Box<FinalizeRequest>),
    /// [`SettingRequest`].
    Setting(Box<SettingRequest>),
    /// [`StorePreimageRequest`].
    StorePreimage(Box<StorePreimageRequest>),
    /// [`HashLockRequest`].
    HashLock(Box<HashLockRequest>),
    /// [`PreimageRequest`].
    Preimage(Box<PreimageRequest>),
    /// [`LegacyReceiveRequest`].
    LegacyReceive(Box<LegacyReceiveRequest>),
    /// [`ExitRequest`].
    Exit(Box<ExitRequest>),
    /// [`ExitSettleRequest`].
    ExitSettle(Box<ExitSettleRequest>),
    /// [`ExitReturnRequest`].
    ExitReturn(Box<ExitReturnRequest>),
    /// [`SwapPrimaryRequest`].
    SwapPrimary(Box<SwapPrimaryRequest>),
    /// [`SwapCounterRequest`].
    SwapCounter(Box<SwapCounterRequest>),
    /// [`ExitTreesRequest`].
    ExitTrees(Box<ExitTreesRequest>),
    /// [`LegacySwapRequest`].
    LegacySwap(Box<LegacySwapRequest>),
    /// [`LegacyCounterRequest`].
    LegacyCounter(Box<LegacyCounterRequest>),
}

impl Request {
    /// Encoded, with its format number first.
    ///
    /// # Errors
    /// If it cannot be encoded.
    pub fn encode(&self) -> Result<Vec<u8>, Refusal> {
        let mut bytes = vec![FORMAT];
        bytes.extend(
            postcard::to_allocvec(self)
                .map_err(|error| Refusal::new(Reason::Internal, error.to_string()))?,
        );
        Ok(bytes)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// A refusal if the format is unknown or the bytes are damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, Refusal> {
        match bytes.split_first() {
            Some((&FORMAT, rest)) => postcard::from_bytes(rest)
                .map_err(|error| Refusal::new(Reason::MalformedField, error.to_string())),
            _ => Err(Refusal::new(
                Reason::MalformedField,
                "request format is unknown: all operators must run compatible releases",
            )),
        }
    }
}

/// The outputs that a deposit request spends, primary first.
#[must_use]
pub fn deposit_outpoints(request: &DepositRequest) -> Vec<OutPoint> {
    request
        .outputs
        .iter()
        .filter_map(|(raw, vout)| {
            let tx: bitcoin::Transaction = bitcoin::consensus::deserialize(raw).ok()?;
            Some(OutPoint::new(tx.compute_txid(), *vout))
        })
        .collect()
}

fn sends(request: &SendRequest) -> usize {
    request.package.cpfp.len().saturating_mul(3)
}

macro_rules! each {
    ($self:expr, $request:ident => $body:expr) => {
        match $self {
            Request::Address($request) => $body,
            Request::Deposit($request) => $body,
            Request::Send($request) => $body,
            Request::Claim($request) => $body,
            Request::ClaimSign($request) => $body,
            Request::ClaimFinish($request) => $body,
            Request::Rotate($request) => $body,
            Request::UtxoRefund($request) => $body,
            Request::UtxoSwap($request) => $body,
            Request::UtxoReserve($request) => $body,
            Request::UtxoClaim($request) => $body,
            Request::UtxoSweep($request) => $body,
            Request::Renew($request) => $body,
            Request::Return($request) => $body,
            Request::Finalize($request) => $body,
            Request::Setting($request) => $body,
            Request::StorePreimage($request) => $body,
            Request::HashLock($request) => $body,
            Request::Preimage($request) => $body,
            Request::LegacyReceive($request) => $body,
            Request::Exit($request) => $body,
            Request::ExitSettle($request) => $body,
            Request::ExitReturn($request) => $body,
            Request::SwapPrimary($request) => $body,
            Request::SwapCounter($request) => $body,
            Request::ExitTrees($request) => $body,
            Request::LegacySwap($request) => $body,
            Request::LegacyCounter($request) => $body,
        }
    };
}

impl Request {
    /// About how many signatures it takes to check and to make.
    #[must_use]
    pub fn signatures(&self) -> usize {
        match self {
            Self::Address(_)
            | Self::ClaimFinish(_)
            | Self::Rotate(_)
            | Self::UtxoRefund(_)
            | Self::Setting(_)
            | Self::StorePreimage(_)
            | Self::ExitSettle(_)
            | Self::ExitReturn(_) => 1,
            Self::Exit(request) => request.package.cpfp.len().saturating_mul(3),
            Self::Deposit(request) => request.outputs.len().saturating_add(2),
            Self::Send(request) => sends(request),
            Self::UtxoSwap(request) => sends(&request.send).saturating_add(2),
            Self::UtxoReserve(request) => sends(&request.send).saturating_add(1),
            Self::UtxoClaim(request) => {
                let second = request.secondary.as_ref();
                second.map_or(0, sends).saturating_add(2)
            }
            Self::UtxoSweep(request) => request.inputs.len().saturating_add(1),
            Self::Claim(request) => request.package.cpfp.len().saturating_mul(3),
            Self::ClaimSign(request) => request.jobs.len().saturating_mul(3),
            Self::Renew(request) => request.jobs.count(),
            Self::Return(_) => 1,
            Self::Finalize(request) => request.package.cpfp.len().saturating_mul(3),
            Self::HashLock(request) => request.package.cpfp.len().saturating_mul(4),
            Self::LegacyReceive(request) => request.refunds.cpfp.len().saturating_mul(3),
            // How many is in the rows; signing is the signer's work.
            Self::Preimage(_) => 1,
            Self::SwapPrimary(request) => request.package.cpfp.len(),
            Self::SwapCounter(request) => request.package.cpfp.len(),
            Self::ExitTrees(request) => request.trees.len(),
            Self::LegacySwap(request) => request.package.cpfp.len().saturating_mul(3),
            // As many again for the offer, at most.
            Self::LegacyCounter(request) => request.package.cpfp.len().saturating_mul(6),
        }
    }

    /// True if every operator's identity signature is part of the outcome.
    #[must_use]
    pub const fn wants_identity_signatures(&self) -> bool {
        matches!(self, Self::Address(_) | Self::Rotate(_))
    }
}

impl Flow for Request {
    fn needs(&self, site: &Site) -> Needs {
        each!(self, request => request.needs(site))
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        each!(self, request => request.prepare(frame, inputs))
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        each!(self, request => request.commit(frame, row))
    }

    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        each!(self, request => request.apply(frame, row, sealed))
    }

    fn secret(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        outputs: &BTreeMap<OperatorIndex, Output>,
    ) -> Result<Revealed, Halt> {
        each!(self, request => request.secret(frame, row, outputs))
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        each!(self, request => request.finish(frame, row, outcome))
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        each!(self, request => request.rollback(frame, row))
    }

    fn touches(&self) -> Vec<Touch> {
        each!(self, request => request.touches())
    }

    fn now(&self) -> Millis {
        each!(self, request => request.now())
    }
}
