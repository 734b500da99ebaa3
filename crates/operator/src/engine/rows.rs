//! Reading what a flow asks for, and writing what it decided.

use tinderbox_flows::record::{Row, Unreadable};
use tinderbox_flows::refusal::{Halt, Reason, Refusal};
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_signer::SignerError;
use tinderbox_store::{Store, StoreError};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Rounds of reading that a decision may take: leaf, key share, parent and so on.
const MAX_ROUNDS: usize = 16;

/// Why a step was not taken.
#[derive(Debug)]
pub(super) enum Stop {
    /// Rows changed between reading and writing: begin again.
    Conflict,
    /// No.
    Refuse(Refusal),
    /// Something of this operator's own failed; nothing is known about a write that was under way.
    Fault(Refusal),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { .. } => Self::Conflict,
            _ => {
                tracing::error!(%error, "database");
                Self::Fault(Refusal::new(
                    Reason::Internal,
                    "the operator's database does not answer: try again",
                ))
            }
        }
    }
}

impl From<Unreadable> for Stop {
    fn from(error: Unreadable) -> Self {
        tracing::error!(%error, "database");
        Self::Fault(Refusal::new(
            Reason::Internal,
            "a row of the operator's database is unreadable",
        ))
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

impl From<SignerError> for Stop {
    fn from(error: SignerError) -> Self {
        match error {
            SignerError::BadPackage(_) | SignerError::BadPreimage(_) => {
                Self::Refuse(Refusal::new(Reason::BadSignature, error.to_string()))
            }
            SignerError::BadJob(_) | SignerError::UnknownNonce | SignerError::NonceReuse => {
                Self::Refuse(Refusal::new(Reason::MalformedField, error.to_string()))
            }
            SignerError::Stale(_) => {
                tracing::error!(%error, "signer");
                Self::Refuse(Refusal::new(Reason::InvalidState, error.to_string()))
            }
            SignerError::Dkg(_) | SignerError::Vault(_) | SignerError::Unreachable(_) => {
                tracing::error!(%error, "signer");
                Self::Fault(Refusal::new(
                    Reason::Internal,
                    "the operator's signer does not answer: try again",
                ))
            }
        }
    }
}

/// Calls `decide` until it has all the rows that it asks for.
pub(super) async fn decide<T>(
    store: &dyn Store,
    snapshot: &mut Snapshot,
    size: Size,
    mut decide: impl FnMut(&Snapshot) -> Result<T, Halt>,
) -> Result<T, Stop> {
    for _ in 0..MAX_ROUNDS {
        match compute(size, || decide(snapshot)) {
            Ok(decision) => return Ok(decision),
            Err(Halt::Refuse(refusal)) => return Err(Stop::Refuse(refusal)),
            Err(Halt::Miss(miss)) => {
                let keys: Vec<_> = miss.0.into_iter().collect();
                let found = store.get(&keys).await?;
                for (key, stored) in keys.into_iter().zip(found) {
                    snapshot.insert(key, stored);
                }
            }
        }
    }
    Err(Stop::Fault(Refusal::new(
        Reason::Internal,
        "a decision asked for rows again and again",
    )))
}

/// Reads one row into the snapshot.
pub(super) async fn read<R: Row>(
    store: &dyn Store,
    snapshot: &mut Snapshot,
    id: &[u8],
) -> Result<Option<R>, Stop> {
    decide(store, snapshot, Size::Small, |rows| Ok(rows.get::<R>(id)?)).await
}

/// Writes, if nothing that was read has changed.
pub(super) async fn write(
    store: &dyn Store,
    snapshot: &Snapshot,
    changes: Changes,
) -> Result<(), Stop> {
    Ok(store.apply(changes.into_batch(snapshot)).await?)
}

/// Signatures from which on work is large: some ten milliseconds.
const LARGE: usize = 24;

/// How much curve arithmetic something takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// A few signatures: handing the thread over would cost more than it saves.
    Small,
    /// Enough to hold up the tasks that share the thread.
    Large,
}

impl Size {
    /// Of work on so many signatures.
    pub(super) const fn of(signatures: usize) -> Self {
        if signatures < LARGE {
            Self::Small
        } else {
            Self::Large
        }
    }
}

/// Runs curve arithmetic without holding up the tasks that share this thread for long.
pub(super) fn compute<T>(size: Size, work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) if size == Size::Large => tokio::task::block_in_place(work),
        _ => work(),
    }
}
