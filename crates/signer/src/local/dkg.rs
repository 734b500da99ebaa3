//! Key generation: batches of keys, on all cores.
//!
//! What is checked for shape before the secrets are touched leaves a run as it was; everything
//! else that is wrong aborts it.

use std::collections::{BTreeMap, BTreeSet};

use rand::RngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use tinderbox_frost::dkg::{self, GeneratedKey, Round1Package};
use tinderbox_frost::{OperatorIndex, SecretScalar};
use zeroize::Zeroizing;

use super::Core;
use super::runs::{Dealt, Run, Step, failed, forget_old, forget_one_over};
use crate::seal::seal_share;
use crate::signer::NewKeyshare;
use crate::vault::{Kind, Ticket};
use crate::{SignerError, work};

/// Sealing keys that are written under one hold of the vault's lock.
const BATCH: usize = 256;

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
                taken: Dealt::new(),
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
        let kept;
        let shares = if shares.is_empty() {
            kept = self.runs.kept(&id, Dealt::clone)?;
            &kept
        } else {
            shares
        };
        let input = input_hash(ids, shares);
        let names = input_hash(ids, &Dealt::new());
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
                ids: named,
                keys,
                ticket,
            } => {
                // Kept shares are wiped by then: the same ids ask for the same keys.
                let same = before == input || (shares.is_empty() && named == names);
                let answer = if same {
                    Ok((keys.clone(), ticket))
                } else {
                    Err(failed("this run is over; start a new one"))
                };
                let step = Step::Done {
                    input: before,
                    ids: named,
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
                    ids: names,
                    keys: keys.clone(),
                    ticket,
                };
                self.runs.put(&id, step)?;
                self.runs.wipe(&id)?;
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
