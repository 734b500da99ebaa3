//! Runs of key generation, in memory until the shares are sealed.
//!
//! A run that fails anywhere is failed for good, and repeats its reason; a restart forgets it.
//! Each step may be asked for again with the same input, and gives the same output.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use tinderbox_frost::OperatorIndex;
use tinderbox_frost::dkg::{Round1Secret, Round2Secret};

use crate::SignerError;
use crate::seal::Secret;
use crate::signer::NewKeyshare;
use crate::vault::Ticket;

/// Shares that go to or come from the other operators: for each, one per key.
pub(super) type Dealt = BTreeMap<OperatorIndex, Vec<Secret>>;

/// The runs in memory.
#[derive(Default)]
pub(super) struct Runs(Mutex<HashMap<[u8; 16], Run>>);

/// One run.
pub(super) struct Run {
    /// Seconds since 1970.
    pub(super) created: u64,
    /// How many keys.
    pub(super) count: usize,
    /// Shares that came for this operator.
    pub(super) taken: Dealt,
    pub(super) step: Step,
}

/// How far a run is.
pub(super) enum Step {
    /// Packages are out.
    First(Vec<Round1Secret>),
    /// Shares are out, for these packages.
    Second {
        packages: [u8; 32],
        dealt: Dealt,
        secrets: Vec<Round2Secret>,
    },
    /// The new shares are sealed; from this input.
    Done {
        input: [u8; 32],
        ids: [u8; 32],
        keys: Vec<NewKeyshare>,
        ticket: Ticket,
    },
    /// A thread has it.
    Busy,
    /// It was aborted.
    Failed(String),
}

impl Run {
    pub(super) fn is_over(&self) -> bool {
        matches!(self.step, Step::Done { .. } | Step::Failed(_))
    }
}

impl Runs {
    pub(super) fn lock(&self) -> Result<MutexGuard<'_, HashMap<[u8; 16], Run>>, SignerError> {
        self.0.lock().map_err(|_| SignerError::poisoned())
    }

    /// Takes the step of a run out, to work on it.
    pub(super) fn take(
        &self,
        id: &[u8; 16],
        now: u64,
        seconds: u64,
    ) -> Result<(usize, Step), SignerError> {
        let mut runs = self.lock()?;
        forget_old(&mut runs, now, seconds);
        let run = runs.get_mut(id).ok_or_else(unknown)?;
        match &run.step {
            Step::Busy => Err(failed("this run is being worked on; ask again")),
            Step::Failed(why) => Err(SignerError::Dkg(why.clone())),
            _ => Ok((run.count, std::mem::replace(&mut run.step, Step::Busy))),
        }
    }

    /// Keeps shares that came from `from`.
    pub(super) fn keep(
        &self,
        id: &[u8; 16],
        from: OperatorIndex,
        shares: Vec<Secret>,
    ) -> Result<(), SignerError> {
        let mut runs = self.lock()?;
        let run = runs.get_mut(id).ok_or_else(unknown)?;
        if shares.len() != run.count {
            return Err(failed(&format!(
                "{} shares of {from} for {} keys; ask it again",
                shares.len(),
                run.count
            )));
        }
        if !run.is_over() {
            run.taken.entry(from).or_insert(shares);
        }
        Ok(())
    }

    /// Shares that were kept: how many operators', or all.
    pub(super) fn kept<T>(
        &self,
        id: &[u8; 16],
        read: impl FnOnce(&Dealt) -> T,
    ) -> Result<T, SignerError> {
        Ok(read(&self.lock()?.get(id).ok_or_else(unknown)?.taken))
    }

    /// Wipes the shares that were kept: they have served.
    pub(super) fn wipe(&self, id: &[u8; 16]) -> Result<(), SignerError> {
        if let Some(run) = self.lock()?.get_mut(id) {
            run.taken.clear();
        }
        Ok(())
    }

    /// Puts a step back.
    pub(super) fn put(&self, id: &[u8; 16], step: Step) -> Result<(), SignerError> {
        if let Some(run) = self.lock()?.get_mut(id) {
            run.step = step;
        }
        Ok(())
    }

    /// Aborts a run.
    pub(super) fn abort<T>(&self, id: &[u8; 16], error: SignerError) -> Result<T, SignerError> {
        let why = match &error {
            SignerError::Dkg(why) => why.clone(),
            other => other.to_string(),
        };
        self.put(id, Step::Failed(why))?;
        Err(error)
    }
}

/// Forgets runs that took too long.
pub(super) fn forget_old(runs: &mut HashMap<[u8; 16], Run>, now: u64, seconds: u64) {
    runs.retain(|_, run| run.created.saturating_add(seconds) > now);
}

/// Of runs that are over, only the last few are remembered, for who asks again.
pub(super) fn forget_one_over(runs: &mut HashMap<[u8; 16], Run>, most: usize) {
    let over = || runs.iter().filter(|(_, run)| run.is_over());
    if over().count() < most.max(1) {
        return;
    }
    let oldest = over().min_by_key(|(_, run)| run.created).map(|(id, _)| *id);
    if let Some(oldest) = oldest {
        runs.remove(&oldest);
    }
}

fn unknown() -> SignerError {
    failed("this run is unknown or took too long; start a new one")
}

pub(super) fn failed(why: &str) -> SignerError {
    SignerError::Dkg(why.into())
}
