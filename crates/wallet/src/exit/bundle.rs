use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::Network;

use super::driver::ExitDriver;
use super::path::ExitPath;
use super::state::ExitState;
use crate::error::{Error, Result};
use crate::storage::{Kind, Records};

/// All that another device needs besides the words to exit alone: the leaves' signed paths, and the
/// exit under way, if there is one. Holds no secret, but shows what the wallet owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Layout of the bundle.
    pub version: u32,
    /// The network.
    pub network: Network,
    /// Whose wallet.
    pub identity: PublicKey,
    /// Every leaf's path.
    pub paths: Vec<ExitPath>,
    /// The exit under way.
    pub exit: Option<ExitState>,
}

impl Bundle {
    /// The layout that this program writes.
    pub const VERSION: u32 = 1;

    /// Reads a wallet's paths and exit.
    ///
    /// # Errors
    /// As the storage.
    pub fn export(records: &Records, network: Network, identity: PublicKey) -> Result<Self> {
        Ok(Self {
            version: Self::VERSION,
            network,
            identity,
            paths: records
                .list::<ExitPath>(Kind::ExitPath)?
                .into_iter()
                .map(|(_, path)| path)
                .collect(),
            exit: ExitDriver::stored(records)?,
        })
    }

    /// From JSON.
    ///
    /// # Errors
    /// [`Error::Bundle`] with what is wrong.
    pub fn from_json(text: &str) -> Result<Self> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|e| Error::Bundle {
            reason: format!("it is not JSON: {e}"),
        })?;
        let version = value
            .get("version")
            .and_then(serde_json::Value::as_u64)
            .unwrap_or(0);
        if version > u64::from(Self::VERSION) {
            return Err(Error::Bundle {
                reason: format!(
                    "it has version {version}, this program knows {}. Use a newer program",
                    Self::VERSION
                ),
            });
        }
        serde_json::from_value(value).map_err(|e| Error::Bundle {
            reason: format!("it is not an exit bundle: {e}. Export it again"),
        })
    }

    /// As JSON.
    ///
    /// # Errors
    /// [`Error::Bundle`] never happens in practice: every part has a JSON form.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self).map_err(|e| Error::Bundle {
            reason: e.to_string(),
        })
    }

    /// Writes the bundle into a wallet. A stored path is kept where it is newer (its refund unlocks
    /// earlier); a running exit of this wallet is never replaced by another.
    ///
    /// # Errors
    /// [`Error::Bundle`] for another wallet's or network's bundle; [`Error::ExitRunning`] if both
    /// sides have an exit under way that differ.
    pub fn import(
        &self,
        records: &Records,
        network: Network,
        identity: PublicKey,
    ) -> Result<usize> {
        if self.network != network {
            return Err(Error::Bundle {
                reason: format!(
                    "it is of network {}, the wallet of {network}. Open the right wallet",
                    self.network
                ),
            });
        }
        if self.identity != identity {
            return Err(Error::Bundle {
                reason: "it belongs to another wallet. Restore that wallet from its words first"
                    .into(),
            });
        }
        let mut changes = Vec::new();
        for path in &self.paths {
            let key = path.leaf.to_string();
            let stored = records.get::<ExitPath>(Kind::ExitPath, &key)?;
            // Of two states of one leaf the one with the lower refund timelock is the later; after a
            // renewal the path is longer or the wallet has synchronised since.
            let newer = stored.is_none_or(|stored| {
                path.differs_from(&stored)
                    && path.nodes.len() >= stored.nodes.len()
                    && path.refund_timelock() < stored.refund_timelock()
            });
            if newer {
                changes.push(Records::change(Kind::ExitPath, &key, path)?);
            }
        }
        let imported = changes.len();
        if let Some(exit) = &self.exit {
            match ExitDriver::stored(records)? {
                Some(own) if !own.is_done() && own.destination != exit.destination => {
                    return Err(Error::ExitRunning);
                }
                Some(own) if !own.is_done() => {}
                _ => ExitDriver::put(records, exit)?,
            }
        }
        records.apply(&changes)?;
        Ok(imported)
    }
}
