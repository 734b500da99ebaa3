use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{OutPoint, Txid};
use serde::{Deserialize, Serialize};
use tinderbox_protocol::{BlockHeight, LeafId, Network, Sats};

use super::cost::Rate;
use super::path::{ExitPath, HexTx};

/// What the user chose for an exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitOptions {
    /// Where everything goes in the end.
    pub destination: bitcoin::Address,
    /// Only these leaves; `None` for all.
    pub leaves: Option<BTreeSet<LeafId>>,
    /// Fee rate in sat/vB; `None` to ask the node each time.
    pub fee_rate: Option<Rate>,
    /// Exit leaves too that cost more in fees than they hold.
    pub uneconomic_too: bool,
    /// Sweep what is left of the funding as well.
    pub sweep_funding: bool,
}

/// A package that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    /// The fee-bump child.
    pub child: Txid,
    /// Tip when it was sent.
    pub at: BlockHeight,
    /// Fee rate of the package.
    pub rate: Rate,
    /// What the child pays.
    pub fee: Sats,
}

/// Where a leaf's exit stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Stage {
    /// The transaction of `step` is the first that is not confirmed.
    Running {
        /// Index into the path's steps.
        step: usize,
        /// The package, once it was sent by us.
        sent: Option<Sent>,
        /// The tip at which it can be sent at the earliest, while its timelock runs.
        until: Option<BlockHeight>,
    },
    /// A refund is confirmed; its output waits for the sweep.
    Refunded {
        /// The refund's output.
        outpoint: OutPoint,
        /// What it holds.
        value: Sats,
        /// Its block.
        height: BlockHeight,
    },
    /// The sweep that spends the refund is confirmed.
    Swept {
        /// The sweep.
        txid: Txid,
    },
    /// Left alone: fees would eat it. It stays in the wallet, and can be exited later at lower fees.
    Skipped {
        /// What exiting it would cost.
        cost: Sats,
    },
    /// It cannot go on.
    Failed {
        /// Why.
        reason: String,
    },
}

/// One leaf on its way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafExit {
    /// A copy of its path, so that later synchronisation cannot change what is under way.
    pub path: ExitPath,
    /// Where it stands.
    pub stage: Stage,
    /// What the confirmed packages of its steps paid.
    #[serde(default)]
    pub fees: BTreeMap<usize, Sats>,
}

/// A coin of the funding address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FundingCoin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// What it holds.
    pub value: Sats,
    /// The leaf whose package spends it.
    pub used_by: Option<LeafId>,
    /// Whether it is known to be confirmed; only then it can pay for a package.
    pub confirmed: bool,
}

/// The transaction that collects all refunds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// The signed transaction.
    pub tx: HexTx,
    /// Its fee.
    pub fee: Sats,
    /// Its fee rate.
    pub rate: Rate,
    /// Tip when it was sent.
    pub at: BlockHeight,
    /// Its block, once confirmed.
    pub confirmed: Option<BlockHeight>,
    /// Earlier versions with lower fees; a miner may still take one of them.
    #[serde(default)]
    pub replaced: Vec<Version>,
}

/// One version of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// Its id.
    pub txid: Txid,
    /// What it pays in fees.
    pub fee: Sats,
}

impl Sweep {
    /// All versions, the latest first.
    pub fn versions(&self) -> Vec<Version> {
        let latest = Version {
            txid: self.tx.0.compute_txid(),
            fee: self.fee,
        };
        std::iter::once(latest)
            .chain(self.replaced.iter().copied())
            .collect()
    }
}

/// The whole exit, as it is kept on disk. No secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExitState {
    /// Layout of this record.
    pub version: u32,
    /// The network.
    pub network: Network,
    /// Where everything goes.
    pub destination: String,
    /// Fixed fee rate in sat/vB, or `None` to ask the node.
    pub fee_rate: Option<Rate>,
    /// Whether left-over funding is swept as well.
    pub sweep_funding: bool,
    /// The leaves.
    pub leaves: Vec<LeafExit>,
    /// Coins of the funding address that are known.
    pub funding: Vec<FundingCoin>,
    /// The last transaction.
    pub sweep: Option<Sweep>,
}

impl ExitState {
    /// The layout that this program writes.
    pub const VERSION: u32 = 1;

    /// Fees of confirmed packages and of the confirmed sweep.
    pub fn fees_paid(&self) -> Sats {
        let packages = self.leaves.iter().flat_map(|leaf| leaf.fees.values());
        let sweep = self
            .sweep
            .iter()
            .filter(|sweep| sweep.confirmed.is_some())
            .map(|sweep| &sweep.fee);
        Sats(
            packages
                .chain(sweep)
                .fold(0, |sum, fee| fee.0.saturating_add(sum)),
        )
    }

    /// True when nothing remains to be done.
    pub fn is_done(&self) -> bool {
        self.leaves.iter().all(|leaf| {
            matches!(
                leaf.stage,
                Stage::Swept { .. } | Stage::Skipped { .. } | Stage::Failed { .. }
            )
        })
    }

    /// True while some leaf is still on its way to a confirmed refund.
    pub fn is_running(&self) -> bool {
        self.leaves
            .iter()
            .any(|leaf| matches!(leaf.stage, Stage::Running { .. }))
    }

    /// Leaves that this exit takes out; they must not be spent meanwhile.
    pub fn taken(&self) -> impl Iterator<Item = LeafId> + '_ {
        self.leaves
            .iter()
            .filter(|leaf| !matches!(leaf.stage, Stage::Skipped { .. }))
            .map(|leaf| leaf.path.leaf)
    }
}
