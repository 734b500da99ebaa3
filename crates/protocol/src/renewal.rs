//! Renewal: a leaf whose timelocks have run down gets fresh ones, at the price of a longer exit.
//!
//! Each set lists its transactions in the order in which nonces are given to them. The leaf's id,
//! verifying key and key share stay; all refunds go to the owner's half of the key.

use std::fmt;

use bitcoin::Transaction;
use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

use crate::refunds::{LeafTxs, RefundPurpose, RefundSet, expected};
use crate::timelock::{INTERVAL, LeafSequence, RENEW_BELOW, RENEWABLE_UP_TO, Timelock};
use crate::tx::{TxKind, UnsignedTx, node};
use crate::{Error, Result};

/// Which renewal a leaf needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RenewalKind {
    /// The node's timelock falls by one step, the refunds become fresh.
    Refund,
    /// A node without timelock is inserted above, node and refunds become fresh.
    Node,
    /// The old node stays above, the leaf gets a node without timelock and fresh refunds.
    Zero,
}

impl fmt::Display for RenewalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refund => "refund renewal",
            Self::Node => "node renewal",
            Self::Zero => "zero renewal",
        })
    }
}

/// Which renewal a wallet asks for, given the timelocks of node and refund; `None` while the
/// refund still has enough.
#[must_use]
pub fn needed(node: LeafSequence, refund: LeafSequence) -> Option<RenewalKind> {
    if !refund.needs_renewal() {
        None
    } else if node.timelock() == Timelock::ZERO {
        Some(RenewalKind::Zero)
    } else if node.needs_renewal() {
        Some(RenewalKind::Node)
    } else {
        Some(RenewalKind::Refund)
    }
}

/// Whether operators accept a renewal of this kind.
///
/// A node renewal is for a node whose timelock has run down, however healthy the refund still is:
/// it cannot be lowered again, so waiting gains nothing. It needs a node that unlocks later than
/// the split's fee-paying variant, or somebody who once owned the leaf could publish the old node
/// in the same block; a node without timelock is renewed by [`RenewalKind::Zero`].
///
/// # Errors
/// [`Error::RenewalRefused`] with the bounds that a timelock breaks.
pub fn permitted(kind: RenewalKind, node: LeafSequence, refund: LeafSequence) -> Result<()> {
    let bounds = match kind {
        RenewalKind::Zero => (Timelock::ZERO, Timelock::ZERO),
        RenewalKind::Node => (Timelock(INTERVAL), RENEWABLE_UP_TO),
        // One step down must leave one step.
        RenewalKind::Refund => (RENEW_BELOW, Timelock(u16::MAX)),
    };
    within(TxKind::Node, node, bounds)?;
    if kind == RenewalKind::Node {
        return Ok(());
    }
    within(
        TxKind::CpfpRefund,
        refund,
        (Timelock::ZERO, RENEWABLE_UP_TO),
    )
}

fn within(kind: TxKind, sequence: LeafSequence, bounds: (Timelock, Timelock)) -> Result<()> {
    let (lowest, highest) = bounds;
    let timelock = sequence.timelock();
    if (lowest..=highest).contains(&timelock) {
        return Ok(());
    }
    Err(Error::RenewalRefused {
        kind,
        timelock,
        lowest,
        highest,
    })
}

/// The five transactions of a refund renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundRenewal {
    /// Node, one step lower.
    pub node: UnsignedTx,
    /// Its fee-paying variant.
    pub direct_node: UnsignedTx,
    /// Fresh refunds.
    pub refunds: RefundSet,
}

/// Renews the refunds of a leaf whose node still has a timelock.
///
/// # Errors
/// [`Error::LeafRenewalRequired`] if the node's timelock would end.
pub fn refund(
    parent: &Transaction,
    leaf: &LeafTxs,
    owner_signing_key: &PublicKey,
) -> Result<RefundRenewal> {
    let step = leaf.node_sequence()?.next_refund()?;
    let node_tx = node::build(parent, step.cpfp)?;
    let direct_node = node::direct(parent, step.cpfp)?;
    let refunds = fresh(&node_tx, Some(&direct_node), owner_signing_key)?;
    Ok(RefundRenewal {
        node: node_tx,
        direct_node,
        refunds,
    })
}

/// The seven transactions of a node renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRenewal {
    /// Inserted above the leaf, without timelock.
    pub split: UnsignedTx,
    /// Its fee-paying variant.
    pub direct_split: UnsignedTx,
    /// The leaf's fresh node.
    pub node: UnsignedTx,
    /// Its fee-paying variant, which spends the split too.
    pub direct_node: UnsignedTx,
    /// Fresh refunds.
    pub refunds: RefundSet,
}

/// Renews node and refunds of a leaf: a split node comes between its parent and itself.
///
/// # Errors
/// Whatever is wrong with the parent's transaction.
pub fn node(parent: &Transaction, owner_signing_key: &PublicKey) -> Result<NodeRenewal> {
    let split = of_kind(TxKind::Split, node::build(parent, LeafSequence::ZERO)?);
    let direct_split = of_kind(
        TxKind::DirectSplit,
        node::direct(parent, LeafSequence::ZERO)?,
    );
    let node_tx = node::build(&split, LeafSequence::INITIAL)?;
    let direct_node = node::direct(&split, LeafSequence::INITIAL)?;
    let refunds = fresh(&node_tx, Some(&direct_node), owner_signing_key)?;
    Ok(NodeRenewal {
        split,
        direct_split,
        node: node_tx,
        direct_node,
        refunds,
    })
}

/// The four transactions of a zero renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZeroRenewal {
    /// The leaf's new node, without timelock, below its present one.
    pub node: UnsignedTx,
    /// Its fee-paying variant.
    pub direct_node: UnsignedTx,
    /// Fresh refunds; there is no refund of the direct node.
    pub refunds: RefundSet,
}

/// Renews the refunds of a leaf whose node has no timelock: its present node becomes the parent.
///
/// # Errors
/// [`Error::RenewalRefused`] if the node has a timelock.
pub fn zero(leaf: &LeafTxs, owner_signing_key: &PublicKey) -> Result<ZeroRenewal> {
    within(
        TxKind::Node,
        leaf.node_sequence()?,
        (Timelock::ZERO, Timelock::ZERO),
    )?;
    let node_tx = node::build(&leaf.node_tx, LeafSequence::ZERO)?;
    let direct_node = node::direct(&leaf.node_tx, LeafSequence::ZERO)?;
    let refunds = fresh(&node_tx, None, owner_signing_key)?;
    Ok(ZeroRenewal {
        node: node_tx,
        direct_node,
        refunds,
    })
}

fn fresh(
    node_tx: &Transaction,
    direct_tx: Option<&Transaction>,
    owner_signing_key: &PublicKey,
) -> Result<RefundSet> {
    let leaf = LeafTxs {
        node_tx: node_tx.clone(),
        direct_tx: direct_tx.cloned(),
    };
    expected(
        &leaf,
        &RefundPurpose::Initial {
            owner_signing_key: *owner_signing_key,
        },
    )
}

fn of_kind(kind: TxKind, tx: UnsignedTx) -> UnsignedTx {
    UnsignedTx { kind, ..tx }
}
