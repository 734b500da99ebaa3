//! What a wallet keeps on disk.
//!
//! Everything that a wallet must not forget goes through one small trait: named records of a few
//! [`Kind`]s. [`SqliteStorage`] is the default, [`MemoryStorage`] serves tests and throw-away
//! wallets. Records hold no secret: the seed is the caller's to keep.

mod memory;
mod records;
mod sqlite;

pub use memory::MemoryStorage;
pub use records::Records;
pub use sqlite::SqliteStorage;

use crate::error::Result;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Whose wallet this is: network and identity key.
    Owner,
    /// Own signed exit path of a leaf, by leaf id.
    ExitPath,
    /// A unilateral exit under way.
    Exit,
    /// A payment whose outcome is not known yet, by transfer id: the request, byte for byte.
    PendingSend,
    /// A deposit address that was handed out, by address.
    DepositAddress,
    /// A tree root that was found confirmed in a block, by its transaction id.
    ConfirmedRoot,
    /// A leaf that was exited and swept: the sweep, by leaf id.
    Swept,
}

impl Kind {
    /// The name under which the kind is stored; never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::ExitPath => "exit_path",
            Self::Exit => "exit",
            Self::PendingSend => "pending_send",
            Self::DepositAddress => "deposit_address",
            Self::ConfirmedRoot => "confirmed_root",
            Self::Swept => "swept",
        }
    }
}

/// One change of a [`Storage::apply`] batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Writes a record, replacing an older one of the same kind and key.
    Put {
        /// What it is about.
        kind: Kind,
        /// Its name within the kind.
        key: String,
        /// Its content.
        value: Vec<u8>,
    },
    /// Removes a record, if it is there.
    Delete {
        /// What it is about.
        kind: Kind,
        /// Its name within the kind.
        key: String,
    },
}

/// Where a wallet keeps its records.
///
/// Implementations are safe to use from several threads. A batch is applied whole or not at all,
/// and is durable when [`apply`](Storage::apply) returns.
pub trait Storage: Send + Sync {
    /// One record, or `None`.
    ///
    /// # Errors
    /// [`Error::Storage`](crate::Error::Storage) if the medium fails.
    fn get(&self, kind: Kind, key: &str) -> Result<Option<Vec<u8>>>;

    /// All records of a kind, by key, ascending.
    ///
    /// # Errors
    /// As [`get`](Storage::get).
    fn list(&self, kind: Kind) -> Result<Vec<(String, Vec<u8>)>>;

    /// Applies changes, in order, all or none.
    ///
    /// # Errors
    /// As [`get`](Storage::get); then nothing was changed.
    fn apply(&self, changes: &[Change]) -> Result<()>;
}

#[cfg(test)]
mod suite {
    //! What every storage must do.

    use super::*;

    fn put(kind: Kind, key: &str, value: &[u8]) -> Change {
        Change::Put {
            kind,
            key: key.into(),
            value: value.into(),
        }
    }

    pub(super) fn kinds_do_not_mix(storage: &dyn Storage) {
        storage
            .apply(&[put(Kind::Exit, "a", b"1"), put(Kind::ExitPath, "a", b"2")])
            .unwrap();
        assert_eq!(storage.get(Kind::Exit, "a").unwrap().unwrap(), b"1");
        assert_eq!(storage.get(Kind::ExitPath, "a").unwrap().unwrap(), b"2");
        assert_eq!(storage.get(Kind::PendingSend, "a").unwrap(), None);
    }

    pub(super) fn later_changes_of_a_batch_win(storage: &dyn Storage) {
        let delete = Change::Delete {
            kind: Kind::PendingSend,
            key: "x".into(),
        };
        storage
            .apply(&[
                put(Kind::PendingSend, "x", b"1"),
                put(Kind::PendingSend, "x", b"2"),
            ])
            .unwrap();
        assert_eq!(storage.get(Kind::PendingSend, "x").unwrap().unwrap(), b"2");
        storage
            .apply(&[put(Kind::PendingSend, "x", b"3"), delete])
            .unwrap();
        assert_eq!(storage.get(Kind::PendingSend, "x").unwrap(), None);
    }

    pub(super) fn lists_are_sorted_by_key(storage: &dyn Storage) {
        storage
            .apply(&[
                put(Kind::ExitPath, "c", b"3"),
                put(Kind::ExitPath, "a", b"1"),
                put(Kind::ExitPath, "b", b"2"),
            ])
            .unwrap();
        let keys = storage
            .list(Kind::ExitPath)
            .unwrap()
            .into_iter()
            .map(|(key, _)| key)
            .collect::<Vec<_>>();
        assert_eq!(keys, ["a", "b", "c"]);
    }
}
