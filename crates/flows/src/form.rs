//! Which refunds the receivers of a transfer get until they claim, and the jobs that sign them.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::LeafId;
use tinderbox_protocol::refunds::{RefundPurpose, RefundSet};
use tinderbox_protocol::tx::Utxo;
use tinderbox_protocol::tx::htlc::HtlcOutput;

use crate::flow::Site;
use crate::package::LeafJobs;
use crate::refunds;
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::rows::{JobRow, KeyshareRow, LeafRefunds, NodeRow, Part};

/// Which refunds the receivers get until they claim.
#[derive(Clone, Debug)]
pub enum Form {
    /// One hop lower, to the receiver's identity key.
    Plain,
    /// Only the fee-less one, and only valid with the secret of this point.
    Adaptor(PublicKey),
    /// As plain ones, each only valid with the secret of its point.
    Adaptors(Adaptors),
    /// Hash-locked to the receiver.
    Htlc(HtlcOutput),
    /// Plain or hash-locked, leaf by leaf, as the sender chose.
    PlainOrHtlc(HtlcOutput),
    /// Valid only together with the leaf's output of the connector transaction.
    Connector(BTreeMap<LeafId, Utxo>),
}

/// The points under which the refunds of a leaf are signed. A refund without one is signed plainly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adaptors {
    /// Of the fee-less refund.
    pub cpfp: PublicKey,
    /// Of the refund of the direct node transaction.
    pub direct: Option<PublicKey>,
    /// Of the fee-paying refund.
    pub direct_from_cpfp: Option<PublicKey>,
}

impl Adaptors {
    /// The point of one of the refunds.
    #[must_use]
    pub const fn of(&self, part: Part) -> Option<PublicKey> {
        match part {
            Part::Cpfp => Some(self.cpfp),
            Part::Direct => self.direct,
            Part::DirectFromCpfp => self.direct_from_cpfp,
            _ => None,
        }
    }
}

impl Form {
    /// The refunds of a leaf, as they must be.
    pub(crate) fn refunds(&self, node: &NodeRow, receiver: PublicKey) -> Result<RefundSet, Halt> {
        let current = refunds::current_sequence(node)?;
        let purpose = match self {
            Self::Plain | Self::Adaptor(_) | Self::Adaptors(_) => {
                return refunds::for_send(node, receiver);
            }
            Self::Htlc(htlc) | Self::PlainOrHtlc(htlc) => {
                return crate::htlc::locked_refunds(node, htlc);
            }
            Self::Connector(connectors) => match connectors.get(&node.id) {
                Some(connector) => RefundPurpose::CoopExit {
                    current,
                    receiver,
                    connector: connector.clone(),
                },
                None => {
                    return refuse(
                        Reason::MissingField,
                        format!("connector_tx has no output for leaf {}", node.id),
                    );
                }
            },
        };
        refunds::made(node, &purpose)
    }

    /// A leaf's refunds without witnesses, and the jobs that sign them, if what was sent is what
    /// must be.
    ///
    /// # Errors
    /// A refusal that names what differs.
    pub fn jobs(
        &self,
        site: &Site,
        node: &NodeRow,
        keyshare: &KeyshareRow,
        receiver: PublicKey,
        sent: &LeafJobs<'_>,
    ) -> Result<(LeafRefunds, Vec<JobRow>), Halt> {
        let set = match self {
            Self::PlainOrHtlc(htlc) => crate::htlc::chosen(node, receiver, htlc, sent)?,
            _ => self.refunds(node, receiver)?,
        };
        let Self::Adaptor(adaptor) = self else {
            let adaptors = |part| match self {
                Self::Adaptors(adaptors) => adaptors.of(part),
                _ => None,
            };
            let jobs = refunds::half_signed(
                site,
                node,
                &keyshare.public_shares,
                node.owner_signing,
                &set,
                sent,
                adaptors,
            )?;
            return Ok((refunds::unsigned(&set), jobs));
        };
        if sent.direct.is_some() || sent.direct_from_cpfp.is_some() {
            return Err(Refusal::new(
                Reason::MalformedField,
                format!(
                    "direct_leaves_to_send and direct_from_cpfp_leaves_to_send must be empty in a swap: leaf {}",
                    node.id
                ),
            )
            .with("leaf_id", node.id)
            .into());
        }
        let job = refunds::half_signed_one(
            site,
            node.id,
            Part::Cpfp,
            &set.cpfp,
            sent.cpfp,
            node.verifying_key,
            node.owner_signing,
            &keyshare.public_shares,
            Some(*adaptor),
        )?;
        let unsigned = LeafRefunds {
            cpfp: set.cpfp.serialize(),
            ..LeafRefunds::default()
        };
        Ok((unsigned, vec![job]))
    }
}
