//! One run of key generation, as coordinator and as participant.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use bitcoin::secp256k1::{Message, SECP256K1, ecdsa};
use futures::future::try_join_all;
use sha2::{Digest, Sha256};
use tinderbox_flows::record::Batch;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::rows::{KeyshareId, KeyshareRow, KeyshareStatus, Millis};
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_frost::OperatorIndex;
use tinderbox_signer::{NewKeyshare, SignerError};
use tokio::sync::Notify;
use zeroize::Zeroizing;

use super::messages::{DkgMessage, DkgReply, Packages, Shares, seen};
use super::{Keyshares, MAX_RUN};

/// How long a participant waits for the others' shares.
const SHARES_TIMEOUT: Duration = Duration::from_secs(30);
/// Runs that an operator takes part in at the same time.
const MAX_RUNS: usize = 8;
/// A run that has not moved for this long is forgotten.
const STALE_MS: u64 = 120_000;
/// Key shares written in one transaction.
const ROWS_PER_WRITE: usize = 250;

type SecretShares = Vec<Zeroizing<[u8; 32]>>;

/// What an operator remembers of a run that is under way.
pub(super) struct Run {
    coordinator: OperatorIndex,
    count: u32,
    begun: Millis,
    packages: Option<Packages>,
    shares: BTreeMap<OperatorIndex, SecretShares>,
    arrived: std::sync::Arc<Notify>,
}

fn refused(operator: OperatorIndex, why: &str) -> Refusal {
    Refusal::new(
        Reason::Disagreement,
        format!("key generation: operator {} {why}", operator.identifier()),
    )
}

fn signer_refused(error: SignerError) -> Refusal {
    Refusal::new(Reason::Internal, error.to_string())
}

/// Ids of a run's keys: the run's id with the last two bytes replaced by the key's place.
fn ids(run: [u8; 16], count: u32) -> Vec<[u8; 16]> {
    (0..count)
        .map(|place| {
            let [.., high, low] = place.to_be_bytes();
            let mut id = run;
            id[14] = high;
            id[15] = low;
            id
        })
        .collect()
}

impl Keyshares {
    /// Makes `count` keys; returns how many are in the pool now that were not before.
    pub(super) async fn coordinate(&self, count: u32) -> Result<u32, Refusal> {
        let mut run = [0; 16];
        self.core.clock.random(&mut run);
        let [.., a, b, c, d, e, f] = self.core.clock.now().0.to_be_bytes();
        run[..6].copy_from_slice(&[a, b, c, d, e, f]);
        let me = self.core.site.me;
        let begin = self
            .ask_all(|| DkgMessage::Begin { run, count })
            .await?
            .into_iter()
            .map(|(operator, reply)| match reply {
                DkgReply::Packages(packages) => Ok((operator, packages)),
                _ => Err(refused(operator, "gave no packages")),
            })
            .collect::<Result<Packages, Refusal>>()?;
        let signatures = self
            .ask_all(|| DkgMessage::Packages {
                run,
                packages: begin.clone(),
            })
            .await?
            .into_iter()
            .map(|(operator, reply)| match reply {
                DkgReply::Seen(signature) => Ok((operator, signature)),
                _ => Err(refused(operator, "did not confirm the packages")),
            })
            .collect::<Result<BTreeMap<_, _>, Refusal>>()?;
        let confirm = || DkgMessage::Confirm {
            run,
            signatures: signatures.clone(),
        };
        // The coordinator computes along with the others but stores only when they all have.
        let others = self.ask_others(confirm);
        let (others, own) = tokio::join!(others, self.finish_run(me, run, &signatures));
        let own = own?;
        let digest = public_digest(&own);
        for (operator, reply) in others? {
            match reply {
                DkgReply::Stored(theirs) if theirs == digest => {}
                DkgReply::Stored(_) => return Err(refused(operator, "computed other keys")),
                _ => return Err(refused(operator, "did not store its keys")),
            }
        }
        self.store_keys(me, run, own).await?;
        self.forget(&run);
        Ok(count)
    }

    async fn ask_all(
        &self,
        message: impl Fn() -> DkgMessage,
    ) -> Result<BTreeMap<OperatorIndex, DkgReply>, Refusal> {
        let me = self.core.site.me;
        let (own, others) = tokio::join!(self.take_part(me, message()), self.ask_others(&message));
        let mut replies = others?;
        replies.insert(me, own?);
        Ok(replies)
    }

    async fn ask_others(
        &self,
        message: impl Fn() -> DkgMessage,
    ) -> Result<BTreeMap<OperatorIndex, DkgReply>, Refusal> {
        let me = self.core.site.me;
        let asked = self
            .core
            .site
            .everyone()
            .filter(|operator| *operator != me)
            .map(|operator| {
                let message = message();
                async move {
                    match self.core.peers.dkg(operator, message).await {
                        Ok(DkgReply::Refused(refusal)) => Err(refusal),
                        Ok(reply) => Ok((operator, reply)),
                        Err(error) => {
                            Err(Refusal::new(Reason::OperatorUnavailable, error.to_string()))
                        }
                    }
                }
            });
        Ok(try_join_all(asked).await?.into_iter().collect())
    }

    /// A participant's side of every message.
    pub(super) async fn take_part(
        &self,
        from: OperatorIndex,
        message: DkgMessage,
    ) -> Result<DkgReply, Refusal> {
        match message {
            DkgMessage::Begin { run, count } => self.begin(from, run, count).await,
            DkgMessage::Packages { run, packages } => self.packages(from, run, packages).await,
            DkgMessage::Confirm { run, signatures } => {
                self.check_coordinator(from, &run)?;
                let keys = self.finish_run(from, run, &signatures).await?;
                let digest = public_digest(&keys);
                self.store_keys(from, run, keys).await?;
                self.forget(&run);
                Ok(DkgReply::Stored(digest))
            }
            DkgMessage::Shares(shares) => self.shares(from, shares),
        }
    }

    async fn begin(
        &self,
        from: OperatorIndex,
        run: [u8; 16],
        count: u32,
    ) -> Result<DkgReply, Refusal> {
        if count == 0 || count > MAX_RUN {
            return Err(refused(from, "asked for too many keys at once"));
        }
        {
            let now = self.core.clock.now();
            let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
            runs.retain(|_, run| run.begun.plus(STALE_MS) > now);
            if runs.len() >= MAX_RUNS {
                return Err(Refusal::new(
                    Reason::LimitExceeded,
                    "too many key generation runs at once",
                ));
            }
            if runs.contains_key(&run) {
                return Err(refused(from, "began a run twice"));
            }
            runs.insert(
                run,
                Run {
                    coordinator: from,
                    count,
                    begun: now,
                    packages: None,
                    shares: BTreeMap::new(),
                    arrived: std::sync::Arc::default(),
                },
            );
        }
        let packages = self
            .core
            .signer
            .dkg_round1(run, count)
            .await
            .map_err(signer_refused)?;
        // Remembered, so that a coordinator cannot show others something else in this one's name.
        self.with(&run, |state| {
            state.packages = Some([(self.core.site.me, packages.clone())].into());
        })?;
        Ok(DkgReply::Packages(packages))
    }

    async fn packages(
        &self,
        from: OperatorIndex,
        run: [u8; 16],
        packages: Packages,
    ) -> Result<DkgReply, Refusal> {
        self.check_coordinator(from, &run)?;
        let me = self.core.site.me;
        let everyone: Vec<_> = self.core.site.everyone().collect();
        let digest = seen(&run, &packages);
        self.with(&run, |state| {
            let count = usize::try_from(state.count).unwrap_or(usize::MAX);
            if packages.keys().copied().ne(everyone.iter().copied())
                || packages.values().any(|keys| keys.len() != count)
            {
                return Err(refused(from, "left out somebody's packages"));
            }
            let own = state.packages.as_ref().and_then(|known| known.get(&me));
            let same = own.is_some_and(|own| {
                seen(&run, &[(me, own.clone())].into())
                    == seen(
                        &run,
                        &[(me, packages.get(&me).cloned().unwrap_or_default())].into(),
                    )
            });
            if !same {
                return Err(refused(from, "altered this operator's packages"));
            }
            state.packages = Some(packages);
            Ok(())
        })??;
        let mut signature = self
            .core
            .signer
            .sign(vec![digest])
            .await
            .map_err(signer_refused)?;
        signature
            .pop()
            .map(DkgReply::Seen)
            .ok_or_else(|| Refusal::new(Reason::Internal, "no signature"))
    }

    /// Checks that everybody saw the same packages, exchanges shares, computes the keys.
    async fn finish_run(
        &self,
        coordinator: OperatorIndex,
        run: [u8; 16],
        signatures: &BTreeMap<OperatorIndex, Vec<u8>>,
    ) -> Result<Vec<NewKeyshare>, Refusal> {
        let me = self.core.site.me;
        let (packages, count, arrived) = self.with(&run, |state| {
            (
                state.packages.clone(),
                state.count,
                std::sync::Arc::clone(&state.arrived),
            )
        })?;
        let packages = packages
            .filter(|packages| packages.len() == self.core.site.operators.len())
            .ok_or_else(|| refused(coordinator, "skipped a round"))?;
        let digest = Message::from_digest(seen(&run, &packages));
        for (operator, identity) in self.core.site.everyone().zip(&self.core.site.operators) {
            let genuine = signatures
                .get(&operator)
                .and_then(|signature| ecdsa::Signature::from_der(signature).ok())
                .is_some_and(|signature| {
                    SECP256K1
                        .verify_ecdsa(&digest, &signature, identity)
                        .is_ok()
                });
            if !genuine {
                return Err(refused(operator, "did not see the same packages"));
            }
        }
        let outgoing = self
            .core
            .signer
            .dkg_round2(run, packages)
            .await
            .map_err(signer_refused)?;
        let sends = outgoing
            .into_iter()
            .filter(|(operator, _)| *operator != me)
            .map(|(operator, shares)| async move {
                let message = DkgMessage::Shares(Shares {
                    run,
                    shares: shares.iter().map(|share| **share).collect(),
                });
                match self.core.peers.dkg(operator, message).await {
                    Ok(DkgReply::Taken) => Ok(()),
                    Ok(DkgReply::Refused(refusal)) => Err(refusal),
                    Ok(_) => Err(refused(operator, "did not take its shares")),
                    Err(error) => Err(Refusal::new(Reason::OperatorUnavailable, error.to_string())),
                }
            });
        let wanted = self.core.site.operators.len().saturating_sub(1);
        let incoming = async {
            loop {
                let notified = arrived.notified();
                if self.with(&run, |state| state.shares.len())? >= wanted {
                    return Ok::<_, Refusal>(());
                }
                if tokio::time::timeout(SHARES_TIMEOUT, notified)
                    .await
                    .is_err()
                {
                    return Err(Refusal::new(
                        Reason::OperatorUnavailable,
                        "key generation: an operator's shares did not arrive",
                    ));
                }
            }
        };
        let (sent, came) = tokio::join!(try_join_all(sends), incoming);
        sent?;
        came?;
        let shares = self.with(&run, |state| std::mem::take(&mut state.shares))?;
        self.core
            .signer
            .dkg_finish(run, ids(run, count), shares)
            .await
            .map_err(signer_refused)
    }

    fn shares(&self, from: OperatorIndex, shares: Shares) -> Result<DkgReply, Refusal> {
        self.with(&shares.run, |state| {
            if usize::try_from(state.count) != Ok(shares.shares.len()) {
                return Err(refused(from, "sent shares for another number of keys"));
            }
            state.shares.entry(from).or_insert_with(|| {
                shares
                    .shares
                    .iter()
                    .map(|share| Zeroizing::new(*share))
                    .collect()
            });
            state.arrived.notify_waiters();
            Ok(DkgReply::Taken)
        })?
    }

    async fn store_keys(
        &self,
        coordinator: OperatorIndex,
        run: [u8; 16],
        keys: Vec<NewKeyshare>,
    ) -> Result<(), Refusal> {
        let count = u32::try_from(keys.len()).unwrap_or(u32::MAX);
        let rows: Vec<KeyshareRow> = ids(run, count)
            .into_iter()
            .zip(keys)
            .map(|(id, key)| KeyshareRow {
                id: KeyshareId(id),
                coordinator,
                status: KeyshareStatus::Available,
                generation: 0,
                group_key: key.group_key,
                public_shares: key.public_shares,
                sealed: key.sealed,
            })
            .collect();
        for rows in rows.chunks(ROWS_PER_WRITE) {
            let batch = new_rows(rows)?;
            self.core.store.apply(batch).await.map_err(|error| {
                tracing::error!(%error, "key shares");
                Refusal::new(Reason::Internal, "key shares could not be stored")
            })?;
        }
        Ok(())
    }

    fn check_coordinator(&self, from: OperatorIndex, run: &[u8; 16]) -> Result<(), Refusal> {
        self.with(run, |state| {
            if state.coordinator == from {
                Ok(())
            } else {
                Err(refused(from, "does not coordinate this run"))
            }
        })?
    }

    fn with<T>(&self, run: &[u8; 16], work: impl FnOnce(&mut Run) -> T) -> Result<T, Refusal> {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        runs.get_mut(run).map(work).ok_or_else(|| {
            Refusal::new(
                Reason::MissingEntity,
                "this key generation run is unknown or has lapsed",
            )
        })
    }

    fn forget(&self, run: &[u8; 16]) {
        self.runs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(run);
    }
}

fn new_rows(rows: &[KeyshareRow]) -> Result<Batch, Refusal> {
    use tinderbox_flows::record::Row;
    let internal = |error: &dyn std::fmt::Debug| {
        tracing::error!(?error, "key shares");
        Refusal::new(Reason::Internal, "key shares could not be encoded")
    };
    let mut snapshot = Snapshot::new();
    let mut changes = Changes::new();
    for row in rows {
        snapshot.insert(row.key(), None);
        changes
            .put(&snapshot, row)
            .map_err(|error| internal(&error))?;
    }
    Ok(changes.into_batch(&snapshot))
}

/// Hash of the public part of a run's keys, so that all operators can compare.
fn public_digest(keys: &[NewKeyshare]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"tinderbox/dkg-keys/1");
    for key in keys {
        hash.update(key.group_key.serialize());
        for share in &key.public_shares {
            hash.update(share.serialize());
        }
    }
    hash.finalize().into()
}
