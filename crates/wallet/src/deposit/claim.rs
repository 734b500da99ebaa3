use bitcoin::{OutPoint, Transaction, Txid};
use futures::StreamExt;
use tinderbox_chain::Spend;
use tinderbox_protocol::Sats;
use tinderbox_protocol::refunds::{self, LeafTxs, RefundPurpose};
use tinderbox_protocol::tx::{self, UnsignedTx, Utxo};
use tinderbox_rpc::proto::spark;

use super::UnusedAddress;
use crate::error::{Error, Result};
use crate::exit::RefundKey;
use crate::leaf::Node;
use crate::signer::{ShareRequest, UserShare};
use crate::verify::deposit::{Asked, fresh_leaf};
use crate::wallet::Wallet;
use crate::wire::{self, Commitments};

/// Below this an output of the refund would not be relayed (P2TR dust).
const MINIMUM: Sats = Sats(330);

/// How many deposits of one transaction are claimed at the same time.
const AT_ONCE: usize = 8;

/// A deposit that is to be claimed: all outputs of one address.
struct Found {
    address: UnusedAddress,
    utxos: Vec<Utxo>,
    txs: Vec<Transaction>,
}

impl Wallet {
    /// Claims what a transaction sent to this wallet's unused single-use addresses: one leaf per
    /// address. Works before the transaction is confirmed; the leaf can be spent when it is.
    ///
    /// # Errors
    /// [`Error::UnknownTransaction`], [`Error::NotOurDeposit`], [`Error::DepositSpent`],
    /// [`Error::DepositTooSmall`], refusals, and answers that do not pass the checks.
    pub async fn claim_deposit(&self, txid: Txid) -> Result<Vec<Node>> {
        self.claim_transactions(&[txid]).await
    }

    /// Claims what several transactions sent. Outputs of one address become one leaf together, for which all of
    /// them must be confirmed: an address takes part in one claim only.
    ///
    /// # Errors
    /// As [`claim_deposit`](Wallet::claim_deposit).
    pub async fn claim_transactions(&self, txids: &[Txid]) -> Result<Vec<Node>> {
        let mut txs = Vec::with_capacity(txids.len());
        for txid in txids {
            let view = self.inner().chain.tx(txid).await?;
            txs.push(view.ok_or(Error::UnknownTransaction { txid: *txid })?.tx);
        }
        let found = self.match_outputs(&txs).await?;
        let pays_us = |txid: &Txid| {
            found
                .iter()
                .flat_map(|f| &f.utxos)
                .any(|u| u.outpoint.txid == *txid)
        };
        if let Some(foreign) = txids.iter().find(|txid| !pays_us(txid)) {
            return Err(Error::NotOurDeposit { txid: *foreign });
        }
        // Each is a leaf of its own: one that fails does not undo the others, and can be claimed again.
        let claims = futures::stream::iter(found)
            .map(|found| self.claim_found(found))
            .buffered(AT_ONCE);
        claims.collect::<Vec<_>>().await.into_iter().collect()
    }

    /// Claims several confirmed outputs of one single-use address together, as one leaf.
    ///
    /// # Errors
    /// As [`claim_deposit`](Wallet::claim_deposit); [`Error::MixedDeposit`] if they pay different addresses.
    pub async fn claim_deposits(&self, outpoints: &[OutPoint]) -> Result<Node> {
        let mut txs = Vec::new();
        for outpoint in outpoints {
            let txid = outpoint.txid;
            let view = self
                .inner()
                .chain
                .tx(&txid)
                .await?
                .ok_or(Error::UnknownTransaction { txid })?;
            txs.push(view.tx);
        }
        let first = outpoints.first().ok_or(Error::NoReceiver)?;
        let mut all = self.match_outputs(&txs).await?;
        for found in &mut all {
            let mut kept = found
                .utxos
                .iter()
                .zip(&found.txs)
                .filter(|(u, _)| outpoints.contains(&u.outpoint));
            let (utxos, txs) = kept.by_ref().map(|(u, t)| (u.clone(), t.clone())).unzip();
            (found.utxos, found.txs) = (utxos, txs);
        }
        all.retain(|found| !found.utxos.is_empty());
        match all.len() {
            0 => Err(Error::NotOurDeposit { txid: first.txid }),
            1 => {
                let mut found = all.remove(0);
                // In the order given: the first is the primary one.
                let rank = |outpoint: &OutPoint| outpoints.iter().position(|o| o == outpoint);
                let mut both = found.utxos.into_iter().zip(found.txs).collect::<Vec<_>>();
                both.sort_by_key(|(utxo, _)| rank(&utxo.outpoint));
                (found.utxos, found.txs) = both.into_iter().unzip();
                self.claim_found(found).await
            }
            _ => Err(Error::MixedDeposit {
                first: all[0].utxos[0].outpoint,
                other: all[1].utxos[0].outpoint,
            }),
        }
    }

    /// The outputs of transactions that pay unused addresses, by address.
    async fn match_outputs(&self, txs: &[Transaction]) -> Result<Vec<Found>> {
        let mut found = Vec::<Found>::new();
        for address in self.unused_deposit_addresses().await? {
            let script = tx::p2tr(&address.verifying_key);
            let mut utxos = Vec::new();
            let mut sources = Vec::new();
            for tx in txs {
                for (vout, output) in (0u32..).zip(&tx.output) {
                    let outpoint = OutPoint::new(tx.compute_txid(), vout);
                    if output.script_pubkey == script
                        && !utxos.iter().any(|u: &Utxo| u.outpoint == outpoint)
                    {
                        utxos.push(Utxo {
                            outpoint,
                            output: output.clone(),
                        });
                        sources.push(tx.clone());
                    }
                }
            }
            if !utxos.is_empty() {
                found.push(Found {
                    address,
                    utxos,
                    txs: sources,
                });
            }
        }
        Ok(found)
    }

    async fn claim_found(&self, found: Found) -> Result<Node> {
        for utxo in &found.utxos {
            let value = Sats::from(utxo.output.value);
            if value < MINIMUM {
                return Err(Error::DepositTooSmall {
                    outpoint: utxo.outpoint,
                    value,
                    minimum: MINIMUM,
                });
            }
            let view = self.inner().chain.confirmations_of(&utxo.outpoint).await?;
            if view.is_some_and(|view| view.spent != Spend::Unspent) {
                return Err(Error::DepositSpent {
                    outpoint: utxo.outpoint,
                });
            }
        }
        self.finalize(found).await
    }

    async fn finalize(&self, found: Found) -> Result<Node> {
        const CALL: &str = "finalize_deposit_tree_creation";
        let inner = self.inner();
        let leaf = found.address.leaf;
        let signing_key = inner.signer.leaf_key(&leaf)?;
        let root = tx::root::build(&found.utxos)?;
        let purpose = RefundPurpose::Initial {
            owner_signing_key: signing_key,
        };
        let refunds = refunds::expected(
            &LeafTxs {
                node_tx: root.tx.clone(),
                direct_tx: None,
            },
            &purpose,
        )?;

        // One signature per input of the root, and one for each refund.
        let inputs = found.utxos.len();
        let mut nonces = self.commitments_for_new(inputs + 2).await?.into_iter();
        let mut next = || nonces.next().unwrap_or_default();
        let sign = |tx: &UnsignedTx, input: usize, operators: &Commitments| -> Result<UserShare> {
            inner.signer.sign_share(&ShareRequest {
                leaf,
                verifying_key: found.address.verifying_key,
                message: tx.sighash_of(input)?,
                operators: operators.clone(),
                threshold: inner.operators.threshold(),
            })
        };
        let job =
            |tx: &UnsignedTx, operators: &Commitments| -> Result<spark::UserSignedTxSigningJob> {
                Ok(wire::half_signed(
                    &leaf,
                    &signing_key,
                    tx,
                    operators,
                    &sign(tx, 0, operators)?,
                ))
            };
        let mut root_job = job(&root, &next())?;
        let refund_job = job(&refunds.cpfp, &next())?;
        let direct_job = job(&refunds.direct_from_cpfp, &next())?;
        for input in 1..inputs {
            let operators = next();
            root_job.additional_inputs.push(wire::input_data(
                &operators,
                &sign(&root, input, &operators)?,
            ));
        }

        let mut utxos = found
            .utxos
            .iter()
            .zip(&found.txs)
            .map(|(utxo, tx)| spark::Utxo {
                raw_tx: bitcoin::consensus::serialize(tx),
                vout: utxo.outpoint.vout,
                network: wire::network(inner.config.network).into(),
                txid: Vec::new(),
            });
        let request = spark::FinalizeDepositTreeCreationRequest {
            identity_public_key: inner.identity_bytes(),
            on_chain_utxo: utxos.next(),
            root_tx_signing_job: Some(root_job),
            refund_tx_signing_job: Some(refund_job),
            direct_from_cpfp_refund_tx_signing_job: Some(direct_job),
            additional_on_chain_utxos: utxos.collect(),
        };
        let coordinator = inner.operators.coordinator();
        let reply = coordinator
            .call(CALL, request, |mut client, r| async move {
                client.finalize_deposit_tree_creation(r).await
            })
            .await?;
        let node = reply
            .root_node
            .ok_or_else(|| coordinator.nonsense(CALL, "there is no root node".into()))?;
        let node = wire::node(&node).map_err(|what| coordinator.nonsense(CALL, what))?;
        let asked = Asked {
            leaf,
            verifying_key: found.address.verifying_key,
            signing_key,
            root: &root,
        };
        fresh_leaf(&node, &asked).map_err(|f| f.about(format!("the leaf of deposit {leaf}")))?;
        self.adopt(&node, &[&node], RefundKey::Leaf)?;
        Ok(node)
    }
}
