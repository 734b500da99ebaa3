use bitcoin::Transaction;
use bitcoin::consensus::serialize;
use tinderbox_protocol::refunds::RefundSet;
use tinderbox_protocol::renewal::{self, RenewalKind};
use tinderbox_protocol::tx::UnsignedTx;
use tinderbox_rpc::proto::spark;
use tinderbox_rpc::proto::spark::renew_leaf_request::SigningJobs;

use crate::error::{Error, Result};
use crate::leaf::Node;
use crate::signer::{ShareRequest, WalletSigner};
use crate::wire::{self, Commitments};

/// A renewal as this wallet wants it: what the operators give must be exactly this.
pub(crate) struct Renewal {
    /// Which one.
    pub(crate) kind: RenewalKind,
    /// The node that comes between, with its fee-paying variant.
    split: Option<(UnsignedTx, UnsignedTx)>,
    node: UnsignedTx,
    direct_node: UnsignedTx,
    refunds: RefundSet,
}

impl Renewal {
    /// The transactions of a leaf's renewal; `None` while it needs none. `parent` is the node above.
    pub(crate) fn of(
        signer: &dyn WalletSigner,
        leaf: &Node,
        parent: Option<&Node>,
    ) -> Result<Option<Self>> {
        let txs = leaf.txs();
        let Some(kind) = renewal::needed(txs.node_sequence()?, leaf.refund_sequence()?) else {
            return Ok(None);
        };
        let key = signer.leaf_key(&leaf.id)?;
        let above = || -> Result<&Transaction> {
            let missing = || Error::Config {
                what: format!("the node above leaf {} is not known: synchronise", leaf.id),
            };
            Ok(&parent.ok_or_else(missing)?.node_tx)
        };
        let made = match kind {
            RenewalKind::Node => {
                let made = renewal::node(above()?, &key)?;
                Self {
                    kind,
                    split: Some((made.split, made.direct_split)),
                    node: made.node,
                    direct_node: made.direct_node,
                    refunds: made.refunds,
                }
            }
            RenewalKind::Refund => {
                let made = renewal::refund(above()?, &txs, &key)?;
                Self {
                    kind,
                    split: None,
                    node: made.node,
                    direct_node: made.direct_node,
                    refunds: made.refunds,
                }
            }
            RenewalKind::Zero => {
                let made = renewal::zero(&txs, &key)?;
                Self {
                    kind,
                    split: None,
                    node: made.node,
                    direct_node: made.direct_node,
                    refunds: made.refunds,
                }
            }
        };
        Ok(Some(made))
    }

    /// The transactions, in the order of their nonces.
    fn txs(&self) -> impl Iterator<Item = &UnsignedTx> {
        self.split
            .iter()
            .flat_map(|(split, direct)| [split, direct])
            .chain([&self.node, &self.direct_node])
            .chain(self.refunds.iter())
    }

    /// How many signatures it takes.
    pub(crate) fn count(&self) -> usize {
        self.txs().count()
    }

    /// The request, half-signed.
    pub(crate) fn request(
        &self,
        signer: &dyn WalletSigner,
        threshold: u16,
        leaf: &Node,
        nonces: &[Commitments],
    ) -> Result<spark::RenewLeafRequest> {
        let key = signer.leaf_key(&leaf.id)?;
        let jobs = self.txs().zip(nonces).map(|(tx, operators)| {
            let share = signer.sign_share(&ShareRequest {
                leaf: leaf.id,
                verifying_key: leaf.verifying_key,
                message: tx.sighash()?,
                operators: operators.clone(),
                threshold,
            })?;
            Ok(wire::half_signed(&leaf.id, &key, tx, operators, &share))
        });
        let mut jobs = jobs.collect::<Result<Vec<_>>>()?.into_iter();
        let mut next = || jobs.next();
        let signing_jobs = match self.kind {
            RenewalKind::Node => {
                let (split, direct_split) = (next(), next());
                let (node, direct_node) = (next(), next());
                SigningJobs::RenewNodeTimelockSigningJob(spark::RenewNodeTimelockSigningJob {
                    split_node_tx_signing_job: split,
                    split_node_direct_tx_signing_job: direct_split,
                    node_tx_signing_job: node,
                    direct_node_tx_signing_job: direct_node,
                    refund_tx_signing_job: next(),
                    direct_refund_tx_signing_job: next(),
                    direct_from_cpfp_refund_tx_signing_job: next(),
                })
            }
            RenewalKind::Refund => {
                let (node, direct_node) = (next(), next());
                SigningJobs::RenewRefundTimelockSigningJob(spark::RenewRefundTimelockSigningJob {
                    node_tx_signing_job: node,
                    direct_node_tx_signing_job: direct_node,
                    refund_tx_signing_job: next(),
                    direct_refund_tx_signing_job: next(),
                    direct_from_cpfp_refund_tx_signing_job: next(),
                })
            }
            RenewalKind::Zero => {
                let (node, direct_node) = (next(), next());
                SigningJobs::RenewNodeZeroTimelockSigningJob(
                    spark::RenewNodeZeroTimelockSigningJob {
                        node_tx_signing_job: node,
                        direct_node_tx_signing_job: direct_node,
                        refund_tx_signing_job: next(),
                        direct_from_cpfp_refund_tx_signing_job: next(),
                    },
                )
            }
        };
        Ok(spark::RenewLeafRequest {
            leaf_id: leaf.id.to_string(),
            signing_jobs: Some(signing_jobs),
        })
    }

    /// Checks that what came back is this, with every signature that an exit needs.
    pub(crate) fn check(
        &self,
        leaf: &Node,
        split: Option<&Node>,
    ) -> tinderbox_protocol::Result<()> {
        if let (Some((expected, _)), Some(split)) = (&self.split, split) {
            expected.check_signed(&serialize(&split.node_tx))?;
        }
        self.node.check_signed(&serialize(&leaf.node_tx))?;
        let refund = leaf.refund_tx.as_ref().map(serialize).unwrap_or_default();
        self.refunds.cpfp.check_signed(&refund)?;
        Ok(())
    }
}
