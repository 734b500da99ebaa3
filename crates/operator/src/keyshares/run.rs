//! One run of key generation, as coordinator and as participant.

use std::collections::BTreeMap;
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
use zeroize::Zeroizing;

use super::messages::{DkgMessage, DkgReply, Packages, Shares, seen};
use super::{Keyshares, MAX_RUN};

/// How long a participant waits for the others' shares.
const SHARES_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked whether they have come.
const LOOK: Duration = Duration::from_millis(20);
/// Key shares written in one transaction.
const ROWS_PER_WRITE: usize = 250;

fn refused(operator: OperatorIndex, why: &str) -> Refusal {
    Refusal::new(
        Reason::Disagreement,
        format!("key generation: operator {} {why}", operator.identifier()),
    )
}

fn signer_refused(error: SignerError) -> Refusal {
    Refusal::new(Reason::Internal, error.to_string())
}

/// A new run's id: time, its coordinator, random bytes. Whoever takes part reads from it whose run
/// it is.
fn run_id(now: Millis, coordinator: OperatorIndex, random: [u8; 8]) -> [u8; 16] {
    let [.., a, b, c, d, e, f] = now.0.to_be_bytes();
    let [g, h] = coordinator.0.to_be_bytes();
    let [i, j, k, l, m, n, o, p] = random;
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// Refuses a message about a run that is another operator's.
fn check_coordinator(from: OperatorIndex, run: &[u8; 16]) -> Result<(), Refusal> {
    let [_, _, _, _, _, _, high, low, ..] = *run;
    if u16::from_be_bytes([high, low]) == from.0 {
        Ok(())
    } else {
        Err(refused(from, "does not coordinate this run"))
    }
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
        let mut random = [0; 8];
        self.core.clock.random(&mut random);
        let run = run_id(self.core.clock.now(), self.core.site.me, random);
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
            packages: begin.clone(),
            signatures: signatures.clone(),
        };
        // The coordinator computes along with the others but stores only when they all have.
        let others = self.ask_others(confirm);
        let (others, own) =
            tokio::join!(others, self.finish_run(me, run, begin.clone(), &signatures));
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
            DkgMessage::Confirm {
                run,
                packages,
                signatures,
            } => {
                check_coordinator(from, &run)?;
                let keys = self.finish_run(from, run, packages, &signatures).await?;
                let digest = public_digest(&keys);
                self.store_keys(from, run, keys).await?;
                Ok(DkgReply::Stored(digest))
            }
            DkgMessage::Shares(shares) => self.shares(from, shares).await,
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
        check_coordinator(from, &run)?;
        let packages = self
            .core
            .signer
            .dkg_round1(run, count)
            .await
            .map_err(signer_refused)?;
        Ok(DkgReply::Packages(packages))
    }

    async fn packages(
        &self,
        from: OperatorIndex,
        run: [u8; 16],
        packages: Packages,
    ) -> Result<DkgReply, Refusal> {
        check_coordinator(from, &run)?;
        let count = self.check_packages(from, &packages)?;
        // Asked again, the signer gives the same: so that a coordinator cannot show others
        // something else in this operator's name.
        let own = self
            .core
            .signer
            .dkg_round1(run, count)
            .await
            .map_err(signer_refused)?;
        let me = self.core.site.me;
        let shown: Packages = packages
            .get(&me)
            .map(|shown| (me, shown.clone()))
            .into_iter()
            .collect();
        if seen(&run, &[(me, own)].into()) != seen(&run, &shown) {
            return Err(refused(from, "altered this operator's packages"));
        }
        let digest = seen(&run, &packages);
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

    /// Everybody's packages, equally many of each: how many.
    fn check_packages(&self, from: OperatorIndex, packages: &Packages) -> Result<u32, Refusal> {
        let count = packages.values().next().map_or(0, Vec::len);
        if packages.keys().copied().ne(self.core.site.everyone())
            || packages.values().any(|keys| keys.len() != count)
        {
            return Err(refused(from, "left out somebody's packages"));
        }
        match u32::try_from(count) {
            Ok(count) if (1..=MAX_RUN).contains(&count) => Ok(count),
            _ => Err(refused(from, "asked for too many keys at once")),
        }
    }

    /// Checks that everybody saw the same packages, exchanges shares, computes the keys.
    async fn finish_run(
        &self,
        coordinator: OperatorIndex,
        run: [u8; 16],
        packages: Packages,
        signatures: &BTreeMap<OperatorIndex, Vec<u8>>,
    ) -> Result<Vec<NewKeyshare>, Refusal> {
        let me = self.core.site.me;
        let count = self.check_packages(coordinator, &packages)?;
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
        let wanted = u64::from(self.core.site.count().saturating_sub(1));
        let incoming = async {
            let begun = tokio::time::Instant::now();
            loop {
                let taken = self.core.signer.dkg_taken(run).await;
                if taken.map_err(signer_refused)? >= wanted {
                    return Ok::<_, Refusal>(());
                }
                if begun.elapsed() > SHARES_TIMEOUT {
                    return Err(Refusal::new(
                        Reason::OperatorUnavailable,
                        "key generation: an operator's shares did not arrive",
                    ));
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let (sent, came) = tokio::join!(try_join_all(sends), incoming);
        sent?;
        came?;
        self.core
            .signer
            .dkg_finish(run, ids(run, count), BTreeMap::new())
            .await
            .map_err(signer_refused)
    }

    async fn shares(&self, from: OperatorIndex, shares: Shares) -> Result<DkgReply, Refusal> {
        let kept = shares
            .shares
            .iter()
            .map(|share| Zeroizing::new(*share))
            .collect();
        self.core
            .signer
            .dkg_take(shares.run, from, kept)
            .await
            .map_err(signer_refused)?;
        Ok(DkgReply::Taken)
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
