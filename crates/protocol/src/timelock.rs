//! Timelocks of leaves: how they fall from owner to owner.
//!
//! A refund carries a relative timelock in blocks in the sequence of its first input. Each new
//! owner's refund unlocks [`INTERVAL`] blocks before the previous owner's, so that the latest
//! owner always wins. The watchtower's variants ("direct") unlock [`DIRECT_OFFSET`] blocks after
//! the owner's own: late enough to leave the owner the first move, early enough to beat a
//! previous owner.

use std::fmt;

use bitcoin::Sequence;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Timelock of a fresh refund and of a fresh timelocked node, in blocks.
pub const INITIAL: Timelock = Timelock(2000);
/// By how much a timelock falls per hop, and the grid that it is rounded down to, in blocks.
pub const INTERVAL: u16 = 100;
/// How much later a watchtower's variant unlocks, in blocks.
pub const DIRECT_OFFSET: u16 = 50;
/// What a hash-locked refund adds to the timelock of the next hop, in blocks.
pub const HTLC_OFFSET: u16 = 70;
/// The same for the watchtower's variants of a hash-locked refund, in blocks.
pub const DIRECT_HTLC_OFFSET: u16 = 85;
/// Relative timelock after which the sender takes a hash-locked output back, in blocks.
pub const HTLC_TIMEOUT: Timelock = Timelock(2160);
/// Wallets renew leaves whose refund timelock is below this, in blocks.
pub const RENEW_BELOW: Timelock = Timelock(200);
/// Operators accept a renewal up to this timelock, in blocks.
pub const RENEWABLE_UP_TO: Timelock = Timelock(300);

/// Means nothing to consensus; older wallets set it, and it is carried along.
const CARRIED_BIT: u32 = 1 << 30;
const BLOCKS: u32 = 0xffff;

/// A relative timelock in blocks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timelock(pub u16);

impl Timelock {
    /// No timelock.
    pub const ZERO: Self = Self(0);

    /// Rounded down to a multiple of [`INTERVAL`].
    #[must_use]
    pub fn round_down(self) -> Self {
        let above = self.0.checked_rem(INTERVAL).unwrap_or(0);
        Self(self.0.saturating_sub(above))
    }
}

impl fmt::Display for Timelock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} blocks", self.0)
    }
}

/// The sequence of the first input of a node or refund transaction: a [`Timelock`], and a bit
/// that means nothing but is carried from old to new.
///
/// BIP 68 reads the low 16 bits as blocks if bits 31 (off) and 22 (seconds) are clear. Every
/// other high bit but 30 is refused too, so that one timelock has at most two spellings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct LeafSequence {
    timelock: Timelock,
    carried: bool,
}

/// The sequences of one hop: the owner's transaction, and both watchtower variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Of the fee-less transaction that its owner publishes.
    pub cpfp: LeafSequence,
    /// Of the fee-paying variants.
    pub direct: LeafSequence,
}

impl LeafSequence {
    /// Of roots, split nodes and zero-renewed nodes: no timelock.
    pub const ZERO: Self = Self {
        timelock: Timelock::ZERO,
        carried: false,
    };
    /// Of fresh refunds and fresh timelocked nodes.
    pub const INITIAL: Self = Self {
        timelock: INITIAL,
        carried: false,
    };

    /// A sequence with this timelock and nothing else.
    #[must_use]
    pub const fn new(timelock: Timelock) -> Self {
        Self {
            timelock,
            carried: false,
        }
    }

    /// Reads a consensus-encoded sequence.
    ///
    /// # Errors
    /// [`Error::InvalidSequence`] if any bit but 0–15 and 30 is set: a timelock that is switched
    /// off, that counts seconds, or that hides something.
    pub fn from_consensus(sequence: u32) -> Result<Self> {
        let known = BLOCKS | CARRIED_BIT;
        if sequence & !known != 0 {
            return Err(Error::InvalidSequence { sequence });
        }
        let blocks =
            u16::try_from(sequence & BLOCKS).map_err(|_| Error::InvalidSequence { sequence })?;
        Ok(Self {
            timelock: Timelock(blocks),
            carried: sequence & CARRIED_BIT != 0,
        })
    }

    /// Reads a sequence of a transaction; see [`from_consensus`](Self::from_consensus).
    ///
    /// # Errors
    /// [`Error::InvalidSequence`].
    pub fn from_bitcoin(sequence: Sequence) -> Result<Self> {
        Self::from_consensus(sequence.to_consensus_u32())
    }

    /// The timelock.
    #[must_use]
    pub const fn timelock(self) -> Timelock {
        self.timelock
    }

    /// The consensus encoding.
    #[must_use]
    pub fn to_consensus(self) -> u32 {
        let bit = if self.carried { CARRIED_BIT } else { 0 };
        u32::from(self.timelock.0) | bit
    }

    /// As a type of the `bitcoin` crate.
    #[must_use]
    pub fn to_bitcoin(self) -> Sequence {
        Sequence::from_consensus(self.to_consensus())
    }

    /// The same sequence with another timelock.
    #[must_use]
    pub const fn with(self, timelock: Timelock) -> Self {
        Self {
            timelock,
            carried: self.carried,
        }
    }

    /// The same sequence with bit 30 as `other` has it.
    #[must_use]
    pub const fn carrying_of(self, other: Self) -> Self {
        Self {
            timelock: self.timelock,
            carried: other.carried,
        }
    }

    /// Of the watchtower's variant of a transaction with this sequence.
    ///
    /// # Errors
    /// [`Error::TimelockTooLong`] if that is more than 65,535 blocks.
    pub fn direct(self) -> Result<Self> {
        self.later(DIRECT_OFFSET)
    }

    /// This sequence with its watchtower variant.
    ///
    /// # Errors
    /// [`Error::TimelockTooLong`].
    pub fn unchanged(self) -> Result<Step> {
        Ok(Step {
            cpfp: self,
            direct: self.direct()?,
        })
    }

    /// One hop lower, not rounded.
    ///
    /// # Errors
    /// [`Error::LeafRenewalRequired`] unless something is left.
    pub fn next_refund(self) -> Result<Step> {
        match self.timelock.0.checked_sub(INTERVAL) {
            Some(blocks) if blocks > 0 => self.with(Timelock(blocks)).unchanged(),
            _ => Err(self.renew()),
        }
    }

    /// One step lower for a node transaction, which may reach zero.
    ///
    /// # Errors
    /// [`Error::LeafRenewalRequired`] if the timelock is below one step.
    pub fn next_node(self) -> Result<Step> {
        match self.timelock.0.checked_sub(INTERVAL) {
            Some(blocks) => self.with(Timelock(blocks)).unchanged(),
            None => Err(self.renew()),
        }
    }

    /// Of hash-locked refunds: later than the receiver's plain refund would be, earlier than the
    /// sender's present one.
    ///
    /// # Errors
    /// [`Error::LeafRenewalRequired`] as in [`next_refund`](Self::next_refund).
    pub fn next_htlc(self) -> Result<Step> {
        let next = self.next_refund()?.cpfp;
        Ok(Step {
            cpfp: next.later(HTLC_OFFSET)?,
            direct: next.later(DIRECT_HTLC_OFFSET)?,
        })
    }

    /// Of the refunds that a sender signs to the receiver, where `self` is the sequence of the
    /// leaf's current refund: one hop lower, then rounded down.
    ///
    /// # Errors
    /// [`Error::LeafRenewalRequired`] if nothing would be left: the leaf cannot be sent.
    pub fn send(self) -> Result<Step> {
        let next = self.next_refund()?.cpfp;
        let rounded = next.with(next.timelock.round_down());
        if rounded.timelock == Timelock::ZERO {
            return Err(self.renew());
        }
        rounded.unchanged()
    }

    /// Of the refunds that a receiver claims with, where `self` is the sequence of the fee-less
    /// refund that the sender signed: rounded down, not lowered.
    ///
    /// # Errors
    /// [`Error::LeafRenewalRequired`] if nothing would be left.
    pub fn claim(self) -> Result<Step> {
        let rounded = self.with(self.timelock.round_down());
        if rounded.timelock == Timelock::ZERO {
            return Err(self.renew());
        }
        rounded.unchanged()
    }

    /// True if a wallet renews a leaf whose refund has this sequence.
    #[must_use]
    pub fn needs_renewal(self) -> bool {
        self.timelock < RENEW_BELOW
    }

    /// How often a leaf whose refund has this sequence can still be sent.
    #[must_use]
    pub fn hops_left(self) -> u16 {
        let steps = self.timelock.0.checked_div(INTERVAL).unwrap_or(0);
        steps.saturating_sub(1)
    }

    fn later(self, blocks: u16) -> Result<Self> {
        match self.timelock.0.checked_add(blocks) {
            Some(sum) => Ok(self.with(Timelock(sum))),
            None => Err(Error::TimelockTooLong {
                timelock: self.timelock,
            }),
        }
    }

    const fn renew(self) -> Error {
        Error::LeafRenewalRequired {
            timelock: self.timelock,
        }
    }
}

impl TryFrom<u32> for LeafSequence {
    type Error = Error;

    fn try_from(sequence: u32) -> Result<Self> {
        Self::from_consensus(sequence)
    }
}

impl From<LeafSequence> for u32 {
    fn from(sequence: LeafSequence) -> Self {
        sequence.to_consensus()
    }
}

impl From<LeafSequence> for Sequence {
    fn from(sequence: LeafSequence) -> Self {
        sequence.to_bitcoin()
    }
}
