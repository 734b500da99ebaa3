//! Signing packages, checked and prepared once: at the vote, for the commit that follows.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use tinderbox_flows::job::KeyJob;
use tinderbox_frost::{Prepared, SigningPackage, TaprootKey};

use super::Core;
use crate::{SignerError, work};

/// Prepared packages that are kept. They hold nothing secret.
const KEPT: usize = 4096;

/// A package with everything that does not depend on the signer computed.
pub(super) struct Ready {
    pub(super) fingerprint: [u8; 32],
    pub(super) prepared: Prepared,
}

/// The packages seen last.
#[derive(Default)]
pub(super) struct Packages(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    by_fingerprint: HashMap<[u8; 32], Arc<Ready>>,
    oldest_first: VecDeque<[u8; 32]>,
}

impl Packages {
    fn get(&self, fingerprint: &[u8; 32]) -> Result<Option<Arc<Ready>>, SignerError> {
        let kept = self.0.lock().map_err(|_| SignerError::poisoned())?;
        Ok(kept.by_fingerprint.get(fingerprint).cloned())
    }

    fn put(&self, ready: &Arc<Ready>) -> Result<(), SignerError> {
        let mut kept = self.0.lock().map_err(|_| SignerError::poisoned())?;
        let new = kept
            .by_fingerprint
            .insert(ready.fingerprint, Arc::clone(ready))
            .is_none();
        if new {
            kept.oldest_first.push_back(ready.fingerprint);
        }
        if kept.oldest_first.len() > KEPT
            && let Some(oldest) = kept.oldest_first.pop_front()
        {
            kept.by_fingerprint.remove(&oldest);
        }
        Ok(())
    }
}

impl Core {
    /// Checks and prepares the packages of all jobs; for each key job, in order.
    pub(super) fn ready(&self, jobs: &[KeyJob]) -> Result<Vec<Vec<Arc<Ready>>>, SignerError> {
        work::map(
            jobs.iter().collect(),
            self.config.threads,
            |key: &KeyJob| {
                self.ready_key(key).map_err(|error| match error {
                    SignerError::BadJob(text) => SignerError::BadJob(format!(
                        "key share {}: {text}",
                        hex::encode(key.keyshare)
                    )),
                    other => other,
                })
            },
        )
        .into_iter()
        .collect()
    }

    fn ready_key(&self, key: &KeyJob) -> Result<Vec<Arc<Ready>>, SignerError> {
        // A leaf's transactions are nearly always signed under one key, which is tweaked once.
        let mut last: Option<TaprootKey> = None;
        key.jobs
            .iter()
            .map(|job| self.ready_one(&job.package, &mut last))
            .collect()
    }

    fn ready_one(
        &self,
        package: &SigningPackage,
        last: &mut Option<TaprootKey>,
    ) -> Result<Arc<Ready>, SignerError> {
        self.check_package(package)?;
        // The fingerprint says nothing about the threshold, so that was checked before.
        let fingerprint = package.fingerprint();
        if let Some(ready) = self.packages.get(&fingerprint)? {
            return Ok(ready);
        }
        let bad = |error: tinderbox_frost::Error| SignerError::BadJob(error.to_string());
        let key = match last.take() {
            Some(key) if *key.verifying_key() == package.verifying_key => key,
            _ => TaprootKey::new(&package.verifying_key).map_err(bad)?,
        };
        let prepared = package.prepare_with(&key).map_err(bad)?;
        *last = Some(key);
        let ready = Arc::new(Ready {
            fingerprint,
            prepared,
        });
        self.packages.put(&ready)?;
        Ok(ready)
    }

    fn check_package(&self, package: &SigningPackage) -> Result<(), SignerError> {
        if package.threshold != self.config.threshold {
            return Err(SignerError::BadJob(format!(
                "its threshold is {} and the operators' is {}",
                package.threshold, self.config.threshold
            )));
        }
        if let Some(unknown) = package
            .operators
            .keys()
            .find(|operator| operator.0 >= self.config.operators)
        {
            return Err(SignerError::BadJob(format!(
                "it names {unknown}, of {} operators",
                self.config.operators
            )));
        }
        if !package.operators.contains_key(&self.config.operator) {
            return Err(SignerError::BadJob(format!(
                "{} is not among its signers",
                self.config.operator
            )));
        }
        Ok(())
    }
}
