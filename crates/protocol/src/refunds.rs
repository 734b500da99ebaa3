//! The refunds that a situation demands, made from the leaf's own transactions. Wallets build
//! with this, operators and receivers compare with it.

use bitcoin::Transaction;
use bitcoin::secp256k1::PublicKey;

use crate::timelock::{LeafSequence, Step, Timelock};
use crate::tx::htlc::HtlcOutput;
use crate::tx::{TxKind, UnsignedTx, Utxo, connector, p2tr, parse_any, refund};
use crate::{Error, Result};

/// The transactions that a leaf's refunds spend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafTxs {
    /// Fee-less node transaction, with or without witness.
    pub node_tx: Transaction,
    /// Fee-paying node transaction; roots have none.
    pub direct_tx: Option<Transaction>,
}

impl LeafTxs {
    /// Reads both, as operators store and return them; empty bytes mean that there is none.
    ///
    /// # Errors
    /// [`Error::MalformedTx`].
    pub fn parse(node_tx: &[u8], direct_tx: &[u8]) -> Result<Self> {
        let direct_tx = if direct_tx.is_empty() {
            None
        } else {
            Some(parse_any(direct_tx, TxKind::DirectNode)?)
        };
        Ok(Self {
            node_tx: parse_any(node_tx, TxKind::Node)?,
            direct_tx,
        })
    }

    /// The node's own timelock.
    ///
    /// # Errors
    /// [`Error::InvalidSequence`], [`Error::MalformedTx`] if it has no input.
    pub fn node_sequence(&self) -> Result<LeafSequence> {
        sequence_of(&self.node_tx, TxKind::Node)
    }
}

/// The timelock of a node or refund transaction.
///
/// # Errors
/// [`Error::InvalidSequence`], [`Error::MalformedTx`] if it has no input.
pub fn sequence_of(tx: &Transaction, kind: TxKind) -> Result<LeafSequence> {
    let input = tx.input.first().ok_or_else(|| Error::MalformedTx {
        kind,
        reason: "has no inputs".to_owned(),
    })?;
    LeafSequence::from_bitcoin(input.sequence)
}

/// The timelock of an encoded node or refund transaction.
///
/// # Errors
/// As [`sequence_of`] and [`parse_any`].
pub fn sequence_of_raw(raw: &[u8], kind: TxKind) -> Result<LeafSequence> {
    sequence_of(&parse_any(raw, kind)?, kind)
}

/// What a claim's timelock is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimBasis {
    /// The fee-less refund that the sender signed to the receiver: what a receiver sees.
    Intermediate(LeafSequence),
    /// The refund before the transfer: what operators go by, because an intermediate refund
    /// may be hash-locked. Gives the same for a leaf on the grid of hundreds.
    Previous(LeafSequence),
}

/// Why refunds are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefundPurpose {
    /// A deposit or a renewal: fresh timelock, to the owner.
    Initial {
        /// The owner's half of the leaf's key.
        owner_signing_key: PublicKey,
    },
    /// A payment: one hop lower, to the receiver.
    Send {
        /// Sequence of the leaf's current refund.
        current: LeafSequence,
        /// The receiver's identity key.
        receiver: PublicKey,
    },
    /// A claim: timelock of the payment, to the receiver's new key.
    Claim {
        /// What the timelock is made from.
        basis: ClaimBasis,
        /// The receiver's half of the leaf's key.
        owner_signing_key: PublicKey,
    },
    /// A hash-locked payment.
    Htlc {
        /// Sequence of the leaf's current refund.
        current: LeafSequence,
        /// The hash-locked output.
        htlc: HtlcOutput,
    },
    /// A cooperative exit: a payment that only holds together with its connector.
    CoopExit {
        /// Sequence of the leaf's current refund.
        current: LeafSequence,
        /// Identity key of the provider that pays out.
        receiver: PublicKey,
        /// The leaf's connector.
        connector: Utxo,
    },
}

/// The refunds of one leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundSet {
    /// Fee-less.
    pub cpfp: UnsignedTx,
    /// Spends the direct node transaction. Only for leaves whose node has a timelock and a direct
    /// transaction; hash-locked ones ask only for the direct transaction.
    pub direct: Option<UnsignedTx>,
    /// Fee-paying, spends the node transaction.
    pub direct_from_cpfp: UnsignedTx,
}

impl RefundSet {
    /// Takes over what somebody sent if it is this set; `None` is a refund that was not sent.
    ///
    /// # Errors
    /// [`Error::MissingTx`] or [`Error::UnexpectedTx`] if there is one too few or too many, else
    /// as [`compare`](crate::tx::compare).
    pub fn check(
        &self,
        cpfp: &[u8],
        direct: Option<&[u8]>,
        direct_from_cpfp: Option<&[u8]>,
    ) -> Result<Self> {
        let from_cpfp = direct_from_cpfp.ok_or(Error::MissingTx {
            kind: TxKind::DirectFromCpfpRefund,
        })?;
        Ok(Self {
            cpfp: self.cpfp.check(cpfp)?,
            direct: match self.pair_direct(direct)? {
                Some((expected, raw)) => Some(expected.check(raw)?),
                None => None,
            },
            direct_from_cpfp: self.direct_from_cpfp.check(from_cpfp)?,
        })
    }

    /// Like [`check`](Self::check), for refunds that are signed: a receiver does this before it
    /// believes that it was paid. Direct refunds may be left out: the watchtower keeps them.
    ///
    /// # Errors
    /// As [`check`](Self::check), and [`Error::BadSignature`] or [`Error::TxMismatch`] for a
    /// signature that is missing, wrong, or not over everything.
    pub fn check_signed(
        &self,
        cpfp: &[u8],
        direct: Option<&[u8]>,
        direct_from_cpfp: Option<&[u8]>,
    ) -> Result<()> {
        self.cpfp.check_signed(cpfp)?;
        if direct.is_some()
            && let Some((expected, raw)) = self.pair_direct(direct)?
        {
            expected.check_signed(raw)?;
        }
        if let Some(raw) = direct_from_cpfp {
            self.direct_from_cpfp.check_signed(raw)?;
        }
        Ok(())
    }

    fn pair_direct<'a>(
        &'a self,
        direct: Option<&'a [u8]>,
    ) -> Result<Option<(&'a UnsignedTx, &'a [u8])>> {
        let kind = TxKind::DirectRefund;
        match (&self.direct, direct) {
            (None, None) => Ok(None),
            (Some(expected), Some(raw)) => Ok(Some((expected, raw))),
            (Some(_), None) => Err(Error::MissingTx { kind }),
            (None, Some(_)) => Err(Error::UnexpectedTx { kind }),
        }
    }

    /// The refunds: fee-less, direct, direct-from-cpfp.
    pub fn iter(&self) -> impl Iterator<Item = &UnsignedTx> {
        [&self.cpfp]
            .into_iter()
            .chain(&self.direct)
            .chain([&self.direct_from_cpfp])
    }
}

/// The refunds of a leaf for a purpose.
///
/// # Errors
/// [`Error::LeafRenewalRequired`] if the leaf's timelock allows no further hop, and whatever is
/// wrong with the leaf's own transactions.
pub fn expected(leaf: &LeafTxs, purpose: &RefundPurpose) -> Result<RefundSet> {
    let (step, destination) = match purpose {
        RefundPurpose::Initial { owner_signing_key } => {
            (LeafSequence::INITIAL.unchanged()?, p2tr(owner_signing_key))
        }
        RefundPurpose::Send { current, receiver }
        | RefundPurpose::CoopExit {
            current, receiver, ..
        } => (current.send()?, p2tr(receiver)),
        RefundPurpose::Claim {
            basis,
            owner_signing_key,
        } => (claim_step(*basis)?, p2tr(owner_signing_key)),
        RefundPurpose::Htlc { current, htlc } => (current.next_htlc()?, htlc.script_pubkey()?),
    };
    let timelocked = leaf.node_sequence()?.timelock() > Timelock::ZERO;
    let hash_locked = matches!(purpose, RefundPurpose::Htlc { .. });
    let direct_tx = leaf
        .direct_tx
        .as_ref()
        .filter(|_| timelocked || hash_locked);
    let set = RefundSet {
        cpfp: refund::cpfp(&leaf.node_tx, step.cpfp, destination.clone())?,
        direct: match direct_tx {
            Some(tx) => Some(refund::direct(tx, step.direct, destination.clone())?),
            None => None,
        },
        direct_from_cpfp: refund::direct_from_cpfp(&leaf.node_tx, step.direct, destination)?,
    };
    Ok(match purpose {
        RefundPurpose::CoopExit {
            connector: utxo, ..
        } => RefundSet {
            cpfp: connector::attach(set.cpfp, utxo),
            direct: set.direct.map(|direct| connector::attach(direct, utxo)),
            direct_from_cpfp: connector::attach(set.direct_from_cpfp, utxo),
        },
        _ => set,
    })
}

fn claim_step(basis: ClaimBasis) -> Result<Step> {
    match basis {
        ClaimBasis::Intermediate(sequence) => sequence.claim(),
        ClaimBasis::Previous(sequence) => sequence.send(),
    }
}
