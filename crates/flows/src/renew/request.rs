//! What a wallet sends to renew a leaf.

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::LeafId;
use tinderbox_protocol::renewal::RenewalKind;

use crate::package::UserJob;
use crate::rows::{Millis, Part};

/// Renew one leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// Which leaf.
    pub leaf: LeafId,
    /// The wallet's identity key.
    pub owner: PublicKey,
    /// The half-signed transactions; which set it is says which way the leaf is renewed.
    pub jobs: RenewJobs,
}

/// The half-signed transactions of one renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenewJobs {
    /// Both timelocks have run down.
    Node(Box<NodeJobs>),
    /// The refund's timelock has run down.
    Refund(Box<RefundJobs>),
    /// The refund's timelock has run down, the node has none.
    Zero(Box<ZeroJobs>),
}

/// Transactions that put a split node above a fresh leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeJobs {
    /// Inserted above the leaf, without timelock.
    pub split: UserJob,
    /// Its fee-paying variant.
    pub direct_split: UserJob,
    /// The leaf's new node transaction.
    pub node: UserJob,
    /// Its fee-paying variant.
    pub direct_node: UserJob,
    /// Fee-less refund.
    pub refund: UserJob,
    /// Refund of the direct node transaction.
    pub direct_refund: UserJob,
    /// Fee-paying refund.
    pub direct_from_cpfp_refund: UserJob,
}

/// Transactions that lower the node's timelock by one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundJobs {
    /// The leaf's new node transaction.
    pub node: UserJob,
    /// Its fee-paying variant.
    pub direct_node: UserJob,
    /// Fee-less refund.
    pub refund: UserJob,
    /// Refund of the direct node transaction.
    pub direct_refund: UserJob,
    /// Fee-paying refund.
    pub direct_from_cpfp_refund: UserJob,
}

/// Transactions that put the leaf below its present node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZeroJobs {
    /// The leaf's new node transaction.
    pub node: UserJob,
    /// Its fee-paying variant.
    pub direct_node: UserJob,
    /// Fee-less refund.
    pub refund: UserJob,
    /// Fee-paying refund.
    pub direct_from_cpfp_refund: UserJob,
}

impl RenewJobs {
    /// Which renewal this is.
    #[must_use]
    pub const fn kind(&self) -> RenewalKind {
        match self {
            Self::Node(_) => RenewalKind::Node,
            Self::Refund(_) => RenewalKind::Refund,
            Self::Zero(_) => RenewalKind::Zero,
        }
    }

    /// How many signatures it takes.
    #[must_use]
    pub const fn count(&self) -> usize {
        match self {
            Self::Node(_) => 7,
            Self::Refund(_) => 5,
            Self::Zero(_) => 4,
        }
    }

    /// The half-signed transaction that is `part` of the renewed leaf, if this kind has one.
    #[must_use]
    pub fn job(&self, part: Part) -> Option<&UserJob> {
        match (self, part) {
            (Self::Node(jobs), Part::Split) => Some(&jobs.split),
            (Self::Node(jobs), Part::DirectSplit) => Some(&jobs.direct_split),
            (Self::Node(jobs), Part::Node) => Some(&jobs.node),
            (Self::Node(jobs), Part::DirectNode) => Some(&jobs.direct_node),
            (Self::Node(jobs), Part::Cpfp) => Some(&jobs.refund),
            (Self::Node(jobs), Part::Direct) => Some(&jobs.direct_refund),
            (Self::Node(jobs), Part::DirectFromCpfp) => Some(&jobs.direct_from_cpfp_refund),
            (Self::Refund(jobs), Part::Node) => Some(&jobs.node),
            (Self::Refund(jobs), Part::DirectNode) => Some(&jobs.direct_node),
            (Self::Refund(jobs), Part::Cpfp) => Some(&jobs.refund),
            (Self::Refund(jobs), Part::Direct) => Some(&jobs.direct_refund),
            (Self::Refund(jobs), Part::DirectFromCpfp) => Some(&jobs.direct_from_cpfp_refund),
            (Self::Zero(jobs), Part::Node) => Some(&jobs.node),
            (Self::Zero(jobs), Part::DirectNode) => Some(&jobs.direct_node),
            (Self::Zero(jobs), Part::Cpfp) => Some(&jobs.refund),
            (Self::Zero(jobs), Part::DirectFromCpfp) => Some(&jobs.direct_from_cpfp_refund),
            _ => None,
        }
    }
}
