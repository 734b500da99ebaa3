//! A wallet's part of renewals, for simulations.

use bitcoin::secp256k1::PublicKey;
use rand_chacha::ChaCha20Rng;
use tinderbox_flows::flow::Site;
use tinderbox_flows::package::UserJob;
use tinderbox_flows::renew::{NodeJobs, RefundJobs, RenewJobs, RenewRequest, ZeroJobs};
use tinderbox_flows::rows::{Millis, NodeRow};
use tinderbox_protocol::refunds::LeafTxs;
use tinderbox_protocol::renewal::{self, RenewalKind};
use tinderbox_protocol::tx::{TxKind, UnsignedTx, parse_any};

use crate::owner::{NonceSet, Owner};

/// Signatures that any renewal takes at most.
pub const MAX_JOBS: usize = 7;

impl Owner {
    /// A renewal of a leaf. `parent` is the node above it, if there is one.
    ///
    /// # Panics
    /// If the leaf cannot be renewed that way, or there are too few nonces.
    #[allow(clippy::too_many_arguments, reason = "each is a fact of its own")]
    #[must_use]
    pub fn renew(
        &self,
        site: &Site,
        now: Millis,
        kind: RenewalKind,
        node: &NodeRow,
        parent: Option<&NodeRow>,
        nonces: Vec<NonceSet>,
        rng: &mut ChaCha20Rng,
    ) -> RenewRequest {
        let key = self.leaf_key(&node.id);
        let owner: PublicKey = key.public_key(bitcoin::secp256k1::SECP256K1);
        let leaf =
            LeafTxs::parse(&node.txs.node, &node.txs.direct).expect("a leaf's rows are sound");
        let above = || {
            let raw = &parent.expect("there is a node above").txs.node;
            parse_any(raw, TxKind::Node).expect("rows are sound")
        };
        let mut nonces = nonces.into_iter();
        let mut job = |tx: &UnsignedTx| -> UserJob {
            let nonces = nonces.next().expect("enough nonces were asked for");
            self.job(site, node, &key, tx, nonces, rng)
        };
        let jobs = match kind {
            RenewalKind::Node => {
                let made = renewal::node(&above(), &owner).expect("a node renewal can be built");
                let direct = made
                    .refunds
                    .direct
                    .as_ref()
                    .expect("the node is timelocked");
                RenewJobs::Node(Box::new(NodeJobs {
                    split: job(&made.split),
                    direct_split: job(&made.direct_split),
                    node: job(&made.node),
                    direct_node: job(&made.direct_node),
                    refund: job(&made.refunds.cpfp),
                    direct_refund: job(direct),
                    direct_from_cpfp_refund: job(&made.refunds.direct_from_cpfp),
                }))
            }
            RenewalKind::Refund => {
                let made = renewal::refund(&above(), &leaf, &owner)
                    .expect("a refund renewal can be built");
                let direct = made
                    .refunds
                    .direct
                    .as_ref()
                    .expect("the node is timelocked");
                RenewJobs::Refund(Box::new(RefundJobs {
                    node: job(&made.node),
                    direct_node: job(&made.direct_node),
                    refund: job(&made.refunds.cpfp),
                    direct_refund: job(direct),
                    direct_from_cpfp_refund: job(&made.refunds.direct_from_cpfp),
                }))
            }
            RenewalKind::Zero => {
                let made = renewal::zero(&leaf, &owner).expect("a zero renewal can be built");
                RenewJobs::Zero(Box::new(ZeroJobs {
                    node: job(&made.node),
                    direct_node: job(&made.direct_node),
                    refund: job(&made.refunds.cpfp),
                    direct_from_cpfp_refund: job(&made.refunds.direct_from_cpfp),
                }))
            }
        };
        RenewRequest {
            now,
            leaf: node.id,
            owner: self.identity(),
            jobs,
        }
    }
}
