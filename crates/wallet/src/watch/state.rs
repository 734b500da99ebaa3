//! What the watchtower remembers, in a file of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use bitcoin::Txid;
use serde::{Deserialize, Serialize};
use tinderbox_protocol::{BlockHeight, LeafId};

use crate::error::{Error, Result};

/// A node that was seen on chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeenNode {
    /// The block that holds it.
    pub height: BlockHeight,
    /// True: its fee-paying variant.
    pub direct: bool,
}

/// What is known of one leaf.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeafWatch {
    /// Its nodes on chain.
    pub nodes: BTreeMap<LeafId, SeenNode>,
    /// What was published, with the tip at that time.
    pub published: BTreeMap<Txid, BlockHeight>,
    /// The refund that is on chain.
    pub refunded: Option<(Txid, BlockHeight)>,
    /// True: it was told already that it cannot be saved.
    #[serde(default)]
    pub lost: bool,
}

/// All that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WatchState {
    /// Layout of the file.
    pub version: u32,
    /// Leaves by id.
    pub leaves: BTreeMap<LeafId, LeafWatch>,
}

impl Default for WatchState {
    fn default() -> Self {
        Self {
            version: Self::VERSION,
            leaves: BTreeMap::new(),
        }
    }
}

impl WatchState {
    /// The layout that this program writes.
    pub const VERSION: u32 = 1;

    /// Reads the file; a new state if there is none.
    ///
    /// # Errors
    /// [`Error::Bundle`] if it cannot be read.
    pub fn load(file: &Path) -> Result<Self> {
        let bad = |reason: String| Error::Bundle {
            reason: format!("{}: {reason}", file.display()),
        };
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(bad(error.to_string())),
        };
        let state: Self = serde_json::from_str(&text).map_err(|error| {
            bad(format!(
                "it is no watchtower's memory: {error}. Delete it; it will be made anew"
            ))
        })?;
        if state.version > Self::VERSION {
            return Err(bad(format!(
                "it has version {}, this program knows {}. Use a newer program",
                state.version,
                Self::VERSION
            )));
        }
        Ok(state)
    }

    /// Writes the file, so that after a crash either the old or the new one is there.
    ///
    /// # Errors
    /// [`Error::Bundle`] if it cannot be written.
    pub fn save(&self, file: &Path) -> Result<()> {
        let bad = |error: std::io::Error| Error::Bundle {
            reason: format!("{} cannot be written: {error}", file.display()),
        };
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::Bundle {
            reason: error.to_string(),
        })?;
        let new = file.with_extension("new");
        let mut out = fs::File::create(&new).map_err(bad)?;
        out.write_all(text.as_bytes()).map_err(bad)?;
        out.sync_all().map_err(bad)?;
        fs::rename(&new, file).map_err(bad)
    }
}
