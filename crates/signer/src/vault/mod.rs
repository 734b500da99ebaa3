//! The signer's own store: one file of fixed-size slots.
//!
//! A log or a database would keep what it was told to forget: in old pages, in journals, in
//! backups of them. Here a secret has one place for its whole life, is overwritten there, and the
//! place's generation goes up, so that no reference to it ever opens again. Sealing keys of key
//! shares, keys of epochs and nonces live in it, and nothing that could be computed from anything
//! else.
//!
//! The file must not be part of any backup: putting an old one back would make nonces fresh again
//! that have signed. Keep it on a file system that overwrites in place (ext4, XFS).
//!
//! One process has it open at a time; several processes of an operator share that process over
//! its socket.

mod flush;
mod hash;
mod header;
mod slot;
mod table;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use bitcoin::secp256k1::PublicKey;
use rand::RngCore;
use rand::rngs::OsRng;

use crate::SignerError;
use flush::Flusher;
use header::{HEADER_BYTES, Header};

pub(crate) use flush::Ticket;
pub(crate) use slot::{Kind, Slot};
pub use table::VaultCounts;
pub(crate) use table::{SlotRef, Table, epoch_tag};

/// An open vault.
pub(crate) struct Vault {
    table: Mutex<Table>,
    flusher: Flusher,
    /// Held as long as the vault is open; the system drops it with the process.
    _lock: File,
}

impl Vault {
    /// Opens the vault at `path`, or makes it if there is none.
    ///
    /// # Errors
    /// [`SignerError::Vault`] if another process has it open, if it belongs to another operator,
    /// if it is not a vault or of another format, or if the disk fails.
    pub(crate) fn open(path: &Path, identity: &PublicKey) -> Result<Self, SignerError> {
        let lock = lock(path)?;
        if !path.try_exists().map_err(|error| cannot(path, &error))? {
            create(path, identity)?;
        }
        let mut file = options().open(path).map_err(|error| cannot(path, &error))?;
        let mut bytes = vec![0; HEADER_BYTES];
        file.read_exact(&mut bytes)
            .map_err(|error| cannot(path, &error))?;
        let header = Header::decode(path, &bytes)?;
        if header.identity != *identity {
            return Err(SignerError::vault(format!(
                "{} belongs to operator {} and this one is {identity}: give each operator a vault of its own",
                path.display(),
                header.identity
            )));
        }
        let syncing = file.try_clone().map_err(|error| cannot(path, &error))?;
        let table = Table::load(file, header.id)?;
        let counts = table.count();
        if counts.damaged > 0 {
            tracing::error!(
                damaged = counts.damaged,
                "the vault has damaged slots; what they held is lost"
            );
        }
        Ok(Self {
            table: Mutex::new(table),
            flusher: Flusher::start(syncing)?,
            _lock: lock,
        })
    }

    /// All slots, and what it takes to change them.
    pub(crate) fn table(&self) -> Result<(MutexGuard<'_, Table>, &Flusher), SignerError> {
        let table = self.table.lock().map_err(|_| SignerError::poisoned())?;
        Ok((table, &self.flusher))
    }

    /// Stands for every write so far.
    pub(crate) fn ticket(&self) -> Ticket {
        self.flusher.ticket()
    }

    /// Begins to make everything up to `ticket` durable, without waiting.
    pub(crate) fn start_sync(&self, ticket: Ticket) {
        self.flusher.start_sync(ticket);
    }

    /// Waits until everything up to `ticket` is durable.
    pub(crate) async fn durable(&self, ticket: Ticket) -> Result<(), SignerError> {
        self.flusher.durable(ticket).await
    }

    /// How many times the file was synced since it was opened.
    pub(crate) fn syncs(&self) -> u64 {
        self.flusher.syncs()
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

fn lock(path: &Path) -> Result<File, SignerError> {
    let name = beside(path, ".lock");
    let file = options()
        .create(true)
        .truncate(false)
        .open(&name)
        .map_err(|error| cannot(&name, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(SignerError::vault(format!(
            "{} is in use by another signer: stop that one first, or share it over its socket",
            path.display()
        ))),
        Err(TryLockError::Error(error)) => Err(cannot(&name, &error)),
    }
}

/// Writes a header beside, then moves it into place: a vault exists whole or not at all.
fn create(path: &Path, identity: &PublicKey) -> Result<(), SignerError> {
    let mut id = [0; 16];
    OsRng.fill_bytes(&mut id);
    let header = Header {
        id,
        identity: *identity,
    };
    let fresh = beside(path, ".new");
    let write = || -> std::io::Result<()> {
        use std::io::Write;
        let mut file = options().create(true).truncate(true).open(&fresh)?;
        file.write_all(&header.encode())?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder)?.sync_all()
    };
    write().map_err(|error| cannot(path, &error))
}

fn cannot(path: &Path, error: &std::io::Error) -> SignerError {
    SignerError::vault(format!(
        "cannot open {} ({error}): check the path, its rights and the disk",
        path.display()
    ))
}
