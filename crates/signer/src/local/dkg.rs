//! Key generation: batches of keys, a run at a time, in memory until the shares are sealed.
//!
//! A run that fails anywhere is failed for good, and repeats its reason; a restart forgets it.
//! Each step may be asked for again with the same input, and gives the same output.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard};

use rand::RngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use tinderbox_frost::dkg::{self, GeneratedKey, Round1Package, Round1Secret, Round2Secret};
use tinderbox_frost::{OperatorIndex, SecretScalar};
use zeroize::Zeroizing;

use super::Core;
use crate::seal::{Secret, seal_share};
use crate::signer::NewKeyshare;
use crate::vault::{Kind, Ticket};
use crate::{SignerError, work};

/// Shares that go to or come from the other operators: for each, one per key.
type Dealt = BTreeMap<OperatorIndex, Vec<Secret>>;

/// Sealing keys that are written under one hold of the vault's lock.
const BATCH: usize = 256;

/// The runs in memory.
#[derive(Default)]
pub(super) struct Runs(Mutex<HashMap<[u8; 16], Run>>);

struct Run {
    created: u64,
    count: usize,
    step: Step,
}

enum Step {
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
        keys: Vec<NewKeyshare>,
        ticket: Ticket,
    },
    /// A thread has it.
    Busy,
    /// It was aborted.
    Failed(String),
}

impl Run {
    fn is_over(&self) -> bool {
        matches!(self.step, Step::Done { .. } | Step::Failed(_))
    }
}

impl Runs {
    fn lock(&self) -> Result<MutexGuard<'_, HashMap<[u8; 16], Run>>, SignerError> {
        self.0.lock().map_err(|_| SignerError::poisoned())
    }

    /// Takes the step of a run out, to work on it.
    fn take(&self, id: &[u8; 16], now: u64, seconds: u64) -> Result<(usize, Step), SignerError> {
        let mut runs = self.lock()?;
        forget_old(&mut runs, now, seconds);
        let run = runs
            .get_mut(id)
            .ok_or_else(|| failed("this run is unknown or took too long; start a new one"))?;
        match &run.step {
            Step::Busy => Err(failed("this run is being worked on; ask again")),
            Step::Failed(why) => Err(SignerError::Dkg(why.clone())),
            _ => Ok((run.count, std::mem::replace(&mut run.step, Step::Busy))),
        }
    }

    /// Puts a step back.
    fn put(&self, id: &[u8; 16], step: Step) -> Result<(), SignerError> {
        if let Some(run) = self.lock()?.get_mut(id) {
            run.step = step;
        }
        Ok(())
    }

    /// Aborts a run.
    fn abort<T>(&self, id: &[u8; 16], error: SignerError) -> Result<T, SignerError> {
        let why = match &error {
            SignerError::Dkg(why) => why.clone(),
            other => other.to_string(),
        };
        self.put(id, Step::Failed(why))?;
        Err(error)
    }
}

fn forget_old(runs: &mut HashMap<[u8; 16], Run>, now: u64, seconds: u64) {
    runs.retain(|_, run| run.created.saturating_add(seconds) > now);
}

/// Of runs that are over, only the last few are remembered, for who asks again.
fn forget_one_over(runs: &mut HashMap<[u8; 16], Run>, most: usize) {
    let over = || runs.iter().filter(|(_, run)| run.is_over());
    if over().count() < most.max(1) {
        return;
    }
    let oldest = over().min_by_key(|(_, run)| run.created).map(|(id, _)| *id);
    if let Some(oldest) = oldest {
        runs.remove(&oldest);
    }
}

impl Core {
    /// First round.
    pub(super) fn dkg_round1(
        &self,
        id: [u8; 16],
        count: u32,
    ) -> Result<Vec<Round1Package>, SignerError> {
        if count == 0 || count > self.config.dkg_keys {
            return Err(failed(&format!(
                "{count} keys in one run: ask for 1 to {}",
                self.config.dkg_keys
            )));
        }
        let size = usize::try_from(count).unwrap_or(usize::MAX);
        let now = self.clock.unix_seconds();
        {
            let mut runs = self.runs.lock()?;
            forget_old(&mut runs, now, self.config.dkg_seconds);
            match runs.get(&id).map(|run| (run.count, &run.step)) {
                None => {}
                Some((before, Step::First(secrets))) if before == size => {
                    return Ok(secrets.iter().map(|key| key.package().clone()).collect());
                }
                Some((_, Step::Failed(why))) => return Err(SignerError::Dkg(why.clone())),
                Some(_) => return Err(failed("this run was begun before; start a new one")),
            }
            let under_way = runs.values().filter(|run| !run.is_over()).count();
            if under_way >= self.config.dkg_runs {
                return Err(failed(&format!(
                    "{under_way} runs are under way; try again when they are done"
                )));
            }
            forget_one_over(&mut runs, self.config.dkg_runs);
            let run = Run {
                created: now,
                count: size,
                step: Step::Busy,
            };
            runs.insert(id, run);
        }
        let made = work::map(vec![(); size], self.config.threads, |()| {
            let config = &self.config;
            dkg::round1(
                config.operator,
                config.operators,
                config.threshold,
                &mut OsRng,
            )
        });
        match all(made) {
            Ok(made) => {
                let (secrets, packages) = made.into_iter().unzip();
                self.runs.put(&id, Step::First(secrets))?;
                Ok(packages)
            }
            Err(error) => self.runs.abort(&id, error),
        }
    }

    /// Second round.
    pub(super) fn dkg_round2(
        &self,
        id: [u8; 16],
        packages: BTreeMap<OperatorIndex, Vec<Round1Package>>,
    ) -> Result<Dealt, SignerError> {
        let now = self.clock.unix_seconds();
        let (count, step) = self.runs.take(&id, now, self.config.dkg_seconds)?;
        let by_key = match by_key(packages, count) {
            Ok(by_key) => by_key,
            Err(error) => {
                self.runs.put(&id, step)?;
                return Err(error);
            }
        };
        let seen = dkg::set_hash(&by_key);
        let secrets = match step {
            Step::First(secrets) => secrets,
            Step::Second {
                packages,
                dealt,
                secrets,
            } => {
                let answer = if packages == seen {
                    Ok(dealt.clone())
                } else {
                    Err(failed(
                        "the packages differ from those that this run was continued with; start a new one",
                    ))
                };
                let step = Step::Second {
                    packages,
                    dealt,
                    secrets,
                };
                self.runs.put(&id, step)?;
                return answer;
            }
            other => {
                self.runs.put(&id, other)?;
                return Err(failed("this run is over; start a new one"));
            }
        };
        let keys: Vec<_> = secrets.into_iter().zip(by_key).collect();
        let made = work::map(keys, self.config.threads, |(secret, packages)| {
            dkg::round2(secret, &packages)
        });
        let made = match all(made) {
            Ok(made) => made,
            Err(error) => return self.runs.abort(&id, error),
        };
        let mut dealt = Dealt::new();
        let mut secrets = Vec::with_capacity(count);
        for (secret, shares) in made {
            secrets.push(secret);
            for (peer, share) in shares {
                dealt.entry(peer).or_default().push(share.to_be_bytes());
            }
        }
        let answer = dealt.clone();
        let step = Step::Second {
            packages: seen,
            dealt,
            secrets,
        };
        self.runs.put(&id, step)?;
        Ok(answer)
    }

    /// Last round.
    pub(super) fn dkg_finish(
        &self,
        id: [u8; 16],
        ids: &[[u8; 16]],
        shares: &Dealt,
    ) -> Result<(Vec<NewKeyshare>, Ticket), SignerError> {
        let input = input_hash(ids, shares);
        let now = self.clock.unix_seconds();
        let (count, step) = self.runs.take(&id, now, self.config.dkg_seconds)?;
        let (packages, dealt, secrets) = match step {
            Step::Second {
                packages,
                dealt,
                secrets,
            } => (packages, dealt, secrets),
            Step::Done {
                input: before,
                keys,
                ticket,
            } => {
                let answer = if before == input {
                    Ok((keys.clone(), ticket))
                } else {
                    Err(failed("this run is over; start a new one"))
                };
                let step = Step::Done {
                    input: before,
                    keys,
                    ticket,
                };
                self.runs.put(&id, step)?;
                return answer;
            }
            other => {
                self.runs.put(&id, other)?;
                return Err(failed("this run has not got so far; do the second round"));
            }
        };
        let by_key = match self.check_finish(count, ids, shares) {
            Ok(by_key) => by_key,
            Err(error) => {
                let step = Step::Second {
                    packages,
                    dealt,
                    secrets,
                };
                self.runs.put(&id, step)?;
                return Err(error);
            }
        };
        let keys: Vec<_> = secrets.into_iter().zip(by_key).collect();
        let made = work::map(keys, self.config.threads, |(secret, shares)| {
            dkg::finish(secret, &shares)
        });
        let sealed = all(made).and_then(|made| self.seal_new(ids, made, now));
        match sealed {
            Ok((keys, ticket)) => {
                let step = Step::Done {
                    input,
                    keys: keys.clone(),
                    ticket,
                };
                self.runs.put(&id, step)?;
                Ok((keys, ticket))
            }
            Err(error) => self.runs.abort(&id, error),
        }
    }

    /// Ids are new and as many as keys; every peer sent a share for every key.
    fn check_finish(
        &self,
        count: usize,
        ids: &[[u8; 16]],
        shares: &Dealt,
    ) -> Result<Vec<BTreeMap<OperatorIndex, SecretScalar>>, SignerError> {
        if ids.len() != count || ids.iter().collect::<BTreeSet<_>>().len() != count {
            return Err(failed(&format!(
                "{} ids for {count} keys; give as many different ones",
                ids.len()
            )));
        }
        let (table, _) = self.vault.table()?;
        if let Some(used) = ids.iter().find(|id| !table.seals_of(id).is_empty()) {
            return Err(failed(&format!(
                "key share {} exists already; give new ids",
                hex::encode(used)
            )));
        }
        drop(table);
        let mut by_key = Vec::new();
        by_key.resize_with(count, BTreeMap::new);
        for (peer, shares) in shares {
            check_count(*peer, shares.len(), count)?;
            for (key, (place, share)) in by_key.iter_mut().zip(shares.iter().enumerate()) {
                let share = SecretScalar::try_from_be_bytes(share.as_slice()).map_err(|error| {
                    failed(&format!("the share of {peer} for key {place}: {error}"))
                })?;
                key.insert(*peer, share);
            }
        }
        Ok(by_key)
    }

    fn seal_new(
        &self,
        ids: &[[u8; 16]],
        made: Vec<GeneratedKey>,
        now: u64,
    ) -> Result<(Vec<NewKeyshare>, Ticket), SignerError> {
        let mut keys = Vec::with_capacity(made.len());
        for (ids, made) in ids.chunks(BATCH).zip(made.chunks(BATCH)) {
            let (mut table, flusher) = self.vault.table()?;
            table.make_room(ids.len(), flusher)?;
            for (id, new) in ids.iter().zip(made) {
                let mut key = Zeroizing::new([0; 32]);
                OsRng.fill_bytes(key.as_mut_slice());
                let place = table.insert(Kind::Seal, *id, [0; 32], &key, now, flusher)?;
                keys.push(NewKeyshare {
                    group_key: new.group_key,
                    public_shares: new.public_shares.values().copied().collect(),
                    sealed: seal_share(place, id, &key, &new.share.to_be_bytes())?,
                });
            }
        }
        Ok((keys, self.vault.ticket()))
    }
}

/// From packages by operator to packages by key.
fn by_key(
    packages: BTreeMap<OperatorIndex, Vec<Round1Package>>,
    count: usize,
) -> Result<Vec<BTreeMap<OperatorIndex, Round1Package>>, SignerError> {
    let mut by_key = Vec::new();
    by_key.resize_with(count, BTreeMap::new);
    for (operator, packages) in packages {
        check_count(operator, packages.len(), count)?;
        for (key, package) in by_key.iter_mut().zip(packages) {
            key.insert(operator, package);
        }
    }
    Ok(by_key)
}

fn check_count(operator: OperatorIndex, given: usize, count: usize) -> Result<(), SignerError> {
    if given == count {
        return Ok(());
    }
    Err(failed(&format!(
        "{given} packages or shares of {operator} for {count} keys; ask it again"
    )))
}

fn all<T>(made: Vec<tinderbox_frost::Result<T>>) -> Result<Vec<T>, SignerError> {
    made.into_iter()
        .collect::<tinderbox_frost::Result<_>>()
        .map_err(|error| {
            let text = error.to_string();
            failed(text.strip_prefix("key generation: ").unwrap_or(&text))
        })
}

fn input_hash(ids: &[[u8; 16]], shares: &Dealt) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((ids.len() as u64).to_be_bytes());
    hash.update(ids.as_flattened());
    for (operator, shares) in shares {
        hash.update(operator.0.to_be_bytes());
        hash.update((shares.len() as u64).to_be_bytes());
        for share in shares {
            hash.update(share.as_slice());
        }
    }
    hash.finalize().into()
}

fn failed(why: &str) -> SignerError {
    SignerError::Dkg(why.into())
}
