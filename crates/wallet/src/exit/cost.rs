//! What an exit costs.

use bitcoin::{FeeRate, Transaction};
use serde::{Deserialize, Serialize};
use tinderbox_protocol::Sats;
use tinderbox_protocol::tx::fee_bump::child_vsize;

use super::path::ExitPath;

/// A P2TR key-path input with its witness, in virtual bytes.
pub(super) const REFUND_INPUT_VB: u64 = 58;

/// A P2WPKH input with its witness.
pub(super) const FUNDING_INPUT_VB: u64 = 68;

/// A sweep beside its inputs, with the largest standard output script.
pub(super) const SWEEP_BASE_VB: u64 = 11 + 43;

/// A fee rate in sats per virtual byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(pub u64);

impl Rate {
    /// The next whole rate; at least 1.
    pub fn from_fee_rate(rate: FeeRate) -> Self {
        Self(rate.to_sat_per_vb_ceil().max(1))
    }

    /// Half as much again, for a transaction that does not confirm.
    pub fn raised(self) -> Self {
        Self(self.0.saturating_add((self.0 / 2).max(1)))
    }

    /// The fee of a size in virtual bytes.
    pub fn fee(self, vsize: u64) -> Sats {
        Sats(self.0.saturating_mul(vsize))
    }
}

/// Fee of the package that brings one fee-less transaction out with this many funding inputs.
pub(super) fn package_fee(parent: &Transaction, inputs: usize, rate: Rate) -> Sats {
    rate.fee((parent.vsize() as u64).saturating_add(child_vsize(inputs as u64)))
}

/// What it costs to bring a leaf's transactions out from step `from` on, and to sweep it.
pub fn leaf_cost(path: &ExitPath, from: usize, rate: Rate) -> Sats {
    let packages = path
        .steps()
        .skip(from)
        .map(|tx| package_fee(tx, 1, rate).0)
        .fold(0, u64::saturating_add);
    Sats(packages.saturating_add(rate.fee(REFUND_INPUT_VB).0))
}

/// What a whole exit costs: every path from its start, and the sweep.
pub fn estimate<'a>(paths: impl IntoIterator<Item = &'a ExitPath>, rate: Rate) -> Sats {
    let leaves = paths
        .into_iter()
        .map(|path| leaf_cost(path, 0, rate).0)
        .fold(0, u64::saturating_add);
    Sats(leaves.saturating_add(rate.fee(SWEEP_BASE_VB).0))
}
