//! Sends transactions and packages.
//!
//! Whoever resumes after a crash sends what it sent before. So "it is there already", in the mempool or in a
//! block, is success, and only a real refusal is an error, with what it means for the caller
//! ([`Rejection`]).

use bitcoin::{Transaction, Txid};

use crate::error::{Error, Rejection, Result};
use crate::rpc::types::PackageAnswer;
use crate::rpc::{Rpc, code};

/// Where an accepted transaction is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// In the node's mempool, sent now or before.
    InMempool,
    /// In a block already.
    Confirmed,
}

/// What became of a package, all of it accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageOutcome {
    /// Each transaction, in the order given.
    pub accepted: Vec<(Txid, Accepted)>,
    /// Transactions that this package drove out of the mempool.
    pub replaced: Vec<Txid>,
}

/// Sends transactions through one node.
#[derive(Debug, Clone)]
pub struct Broadcaster {
    rpc: Rpc,
}

impl Broadcaster {
    /// Sends through this node.
    pub fn new(rpc: Rpc) -> Self {
        Self { rpc }
    }

    /// Sends one transaction. [`Error::Rejected`] if it is refused and not there yet.
    pub async fn broadcast(&self, tx: &Transaction) -> Result<Accepted> {
        match self.rpc.send_raw_transaction(tx).await {
            Ok(_) => Ok(Accepted::InMempool),
            Err(Error::Rpc {
                code: code::ALREADY_IN_CHAIN,
                ..
            }) => Ok(Accepted::Confirmed),
            Err(Error::Rpc {
                code: code::VERIFY_ERROR | code::VERIFY_REJECTED,
                message,
                ..
            }) => {
                let txid = tx.compute_txid();
                // A confirmed transaction whose outputs are all spent looks like one with missing inputs.
                match self.whereabouts(&txid).await? {
                    Some(accepted) => Ok(accepted),
                    None => Err(rejected(txid, message)),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Sends transactions that need each other: parents first, then the one child that spends from all of
    /// them. [`Error::Rejected`] names the transaction that is to blame.
    pub async fn submit_package(&self, txs: &[Transaction]) -> Result<PackageOutcome> {
        if let [tx] = txs {
            let accepted = vec![(tx.compute_txid(), self.broadcast(tx).await?)];
            return Ok(PackageOutcome {
                accepted,
                replaced: Vec::new(),
            });
        }
        if txs.is_empty() {
            return Ok(PackageOutcome {
                accepted: Vec::new(),
                replaced: Vec::new(),
            });
        }
        let txids = txs
            .iter()
            .map(Transaction::compute_txid)
            .collect::<Vec<_>>();
        let answer = self.rpc.submit_raw_package(txs).await?;
        if answer.package_msg == "success" {
            let accepted = txids
                .into_iter()
                .map(|txid| (txid, Accepted::InMempool))
                .collect();
            return Ok(PackageOutcome {
                accepted,
                replaced: answer.replaced,
            });
        }

        // Some of it may be there already, which Core counts as failure once it is in a block.
        let mut known = Vec::with_capacity(txs.len());
        for txid in &txids {
            known.push(self.whereabouts(txid).await?);
        }
        if known.iter().all(Option::is_some) {
            let accepted = txids.into_iter().zip(known.into_iter().flatten()).collect();
            return Ok(PackageOutcome {
                accepted,
                replaced: answer.replaced,
            });
        }
        let confirmed = |state: &Option<Accepted>| *state == Some(Accepted::Confirmed);
        if known.iter().any(confirmed) {
            let rest = txs
                .iter()
                .zip(&known)
                .filter(|(_, state)| !confirmed(state))
                .map(|(tx, _)| tx.clone())
                .collect::<Vec<_>>();
            let outcome = Box::pin(self.submit_package(&rest)).await?;
            let accepted = txids
                .into_iter()
                .map(|txid| {
                    let later = outcome.accepted.iter().find(|(id, _)| *id == txid);
                    (txid, later.map_or(Accepted::Confirmed, |(_, state)| *state))
                })
                .collect();
            return Ok(PackageOutcome {
                accepted,
                replaced: outcome.replaced,
            });
        }
        Err(blame(&answer, &txids, &known))
    }

    /// Whether the node has the transaction, and where.
    async fn whereabouts(&self, txid: &Txid) -> Result<Option<Accepted>> {
        if let Some(found) = self.rpc.raw_transaction(txid).await? {
            let confirmed = found.block_hash.is_some() && found.confirmations > 0;
            return Ok(Some(if confirmed {
                Accepted::Confirmed
            } else {
                Accepted::InMempool
            }));
        }
        Ok(None)
    }
}

/// The transaction of a refused package whose reason says most.
fn blame(answer: &PackageAnswer, txids: &[Txid], known: &[Option<Accepted>]) -> Error {
    let mut failures = txids
        .iter()
        .zip(known)
        .filter(|(_, state)| state.is_none())
        .filter_map(|(txid, _)| {
            let entry = answer
                .tx_results
                .values()
                .find(|entry| entry.txid == *txid)?;
            Some((*txid, entry.error.clone()?))
        })
        .collect::<Vec<_>>();
    // "Not validated" and "missing inputs" of a child are consequences of its parent's failure.
    failures.sort_by_key(|(_, reason)| match Rejection::from_reason(reason) {
        Rejection::NotValidated => 2,
        Rejection::MissingInputs => 1,
        _ => 0,
    });
    match failures.into_iter().next() {
        Some((txid, reason)) if Rejection::from_reason(&reason) != Rejection::NotValidated => {
            rejected(txid, reason)
        }
        // The rule that was broken is one of the package as a whole.
        _ => match txids.last() {
            Some(child) => rejected(*child, answer.package_msg.clone()),
            None => Error::Answer {
                method: "submitpackage".into(),
                reason: answer.package_msg.clone(),
            },
        },
    }
}

fn rejected(txid: Txid, reason: String) -> Error {
    Error::Rejected {
        txid,
        rejection: Rejection::from_reason(&reason),
        reason,
    }
}
