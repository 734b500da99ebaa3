//! The deposit under a tree, as the chain knows it (cases 9 and 13).

use bitcoin::{OutPoint, Transaction, TxOut};
use tinderbox_chain::{BlockRef, OutputView, Spend, TxView};
use tinderbox_protocol::Network;
use tinderbox_protocol::tx::TxKind;

use super::{Check, Failure, refund};
use crate::chain::Inclusion;

/// A deposit that was found, with the chain source's evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// The transaction that made it.
    pub tx: TxView,
    /// The output, and whether it is spent.
    pub output: OutputView,
    /// The proof that its block holds it.
    pub inclusion: Option<Inclusion>,
    /// The tip at that time.
    pub tip: BlockRef,
}

/// The chain source's story holds together: the transaction has the id that was asked for, the output is its
/// output, the confirmations fit the heights, and a block header with real work commits to it (case 13).
///
/// # Errors
/// [`Failure::ChainSource`]; [`Failure::RootMissing`] for an output that the transaction does not have.
pub fn evidence_holds(outpoint: &OutPoint, evidence: &Evidence, network: Network) -> Check<TxOut> {
    let txid = outpoint.txid;
    let broken = |what: String| Failure::ChainSource { txid, what };
    let found = evidence.tx.tx.compute_txid();
    if found != txid {
        return Err(broken(format!("asked for it, it gave {found}")));
    }
    let output = usize::try_from(outpoint.vout)
        .ok()
        .and_then(|i| evidence.tx.tx.output.get(i));
    let output = output.ok_or(Failure::RootMissing {
        outpoint: *outpoint,
    })?;
    if evidence.output.script != output.script_pubkey
        || evidence.output.value != output.value.into()
    {
        return Err(broken(
            "the output's amount or script is not the transaction's".into(),
        ));
    }
    let Some(block) = evidence.tx.block else {
        return Ok(output.clone());
    };
    if evidence.output.block != Some(block) {
        return Err(broken("it names two different blocks".into()));
    }
    let depth = evidence
        .tip
        .height
        .0
        .checked_sub(block.height.0)
        .and_then(|d| d.checked_add(1));
    if depth.is_none_or(|depth| depth < evidence.output.confirmations) {
        return Err(broken(format!(
            "{} confirmations at height {} do not fit a tip of {}",
            evidence.output.confirmations, block.height, evidence.tip.height
        )));
    }
    in_block(&txid, &block, evidence.inclusion.as_ref(), network).map_err(broken)?;
    Ok(output.clone())
}

/// A header commits to the transaction, and work went into the header.
fn in_block(
    txid: &bitcoin::Txid,
    block: &BlockRef,
    inclusion: Option<&Inclusion>,
    network: Network,
) -> Result<(), String> {
    let proof = &inclusion
        .ok_or("it gives no proof that the block holds it")?
        .proof;
    if proof.header.block_hash() != block.hash {
        return Err("the proof is of another block".into());
    }
    // Work less than the network's lowest difficulty costs nothing to fabricate.
    let easiest = network.bitcoin().params().max_attainable_target;
    if proof.header.target() > easiest || proof.header.validate_pow(proof.header.target()).is_err()
    {
        return Err("the block header has no work in it".into());
    }
    let (mut matches, mut indexes) = (Vec::new(), Vec::new());
    proof
        .extract_matches(&mut matches, &mut indexes)
        .map_err(|e| format!("the proof is broken: {e}"))?;
    if matches.contains(txid) {
        Ok(())
    } else {
        Err("the block does not hold it".into())
    }
}

/// The deposits are confirmed and unspent, and the root spends them as they are: amount by amount, script by
/// script, with good signatures (case 9).
///
/// # Errors
/// [`Failure::RootUnconfirmed`], [`Failure::RootSpent`], [`Failure::Value`], and those of the signature.
pub fn check(
    root: &Transaction,
    deposits: &[(OutPoint, Evidence)],
    needed: u32,
    network: Network,
) -> Check {
    let mut spent = Vec::with_capacity(deposits.len());
    for (outpoint, evidence) in deposits {
        spent.push(evidence_holds(outpoint, evidence, network)?);
        let found = if evidence.tx.block.is_some() {
            evidence.output.confirmations
        } else {
            0
        };
        if found < needed {
            return Err(Failure::RootUnconfirmed {
                outpoint: *outpoint,
                found,
                needed,
            });
        }
        if evidence.output.spent != Spend::Unspent {
            return Err(Failure::RootSpent {
                outpoint: *outpoint,
            });
        }
    }
    root_spends(root, &spent)
}

/// The root pays exactly what the deposits hold to their own script, and each input is signed.
///
/// # Errors
/// [`Failure::Value`], [`Failure::Form`], and those of the signature.
pub fn root_spends(root: &Transaction, spent: &[TxOut]) -> Check {
    let kind = TxKind::Root;
    let sum = spent.iter().fold(0u64, |sum, output| {
        sum.saturating_add(output.value.to_sat())
    });
    let output = root.output.first();
    let found = output.map_or(0, |output| output.value.to_sat());
    if found != sum {
        return Err(Failure::Value {
            kind,
            expected: tinderbox_protocol::Sats(sum),
            found: tinderbox_protocol::Sats(found),
        });
    }
    if spent
        .iter()
        .any(|deposit| Some(&deposit.script_pubkey) != output.map(|output| &output.script_pubkey))
    {
        return Err(Failure::Form {
            kind,
            what: "it pays another script than its deposits".into(),
        });
    }
    refund::is_signed(root, spent, kind)
}

#[cfg(test)]
mod tests {
    use tinderbox_protocol::Sats;

    use super::super::fixture::Scene;
    use super::*;

    fn judge(needed: u32, change: impl FnOnce(&mut Evidence)) -> Check {
        let scene = Scene::new();
        let mut evidence = scene.evidence();
        change(&mut evidence);
        check(
            &scene.leaf().node_tx,
            &[(scene.deposit_outpoint(), evidence)],
            needed,
            Network::Local,
        )
    }

    #[test]
    fn an_honest_root_is_accepted() {
        judge(3, |_| {}).unwrap();
    }

    #[test]
    fn case_9_an_unconfirmed_root_is_refused() {
        let result = judge(3, |e| {
            e.tx.block = None;
            e.output.block = None;
            e.output.confirmations = 0;
        });
        assert!(
            matches!(
                result,
                Err(Failure::RootUnconfirmed {
                    found: 0,
                    needed: 3,
                    ..
                })
            ),
            "{result:?}"
        );
        assert!(matches!(
            judge(4, |_| {}),
            Err(Failure::RootUnconfirmed {
                found: 3,
                needed: 4,
                ..
            })
        ));
    }

    #[test]
    fn case_9_a_spent_root_is_refused() {
        for spent in [Spend::Confirmed, Spend::InMempool] {
            let result = judge(3, |e| e.output.spent = spent);
            assert!(
                matches!(result, Err(Failure::RootSpent { .. })),
                "{result:?}"
            );
        }
    }

    #[test]
    fn case_9_a_root_of_another_amount_is_refused() {
        let scene = Scene::new();
        let mut root = scene.leaf().node_tx;
        root.output[0].value = bitcoin::Amount::from_sat(200_000);
        let deposits = [(scene.deposit_outpoint(), scene.evidence())];
        let result = check(&root, &deposits, 3, Network::Local);
        assert_eq!(
            result,
            Err(Failure::Value {
                kind: TxKind::Root,
                expected: Sats(100_000),
                found: Sats(200_000)
            })
        );
    }

    #[test]
    fn case_9_a_root_that_is_not_signed_by_the_deposits_key_is_refused() {
        let scene = Scene::new();
        let mut root = scene.leaf().node_tx;
        root.input[0].witness.clear();
        let result = check(
            &root,
            &[(scene.deposit_outpoint(), scene.evidence())],
            3,
            Network::Local,
        );
        assert!(
            matches!(result, Err(Failure::Signature { .. })),
            "{result:?}"
        );
    }

    fn is_lie(result: Check) {
        assert!(
            matches!(result, Err(Failure::ChainSource { .. })),
            "{result:?}"
        );
    }

    #[test]
    fn case_13_a_fabricated_transaction_is_refused() {
        is_lie(judge(3, |e| {
            e.tx.tx.output[0].value = bitcoin::Amount::from_sat(1)
        }));
        is_lie(judge(3, |e| e.output.value = Sats(7)));
    }

    #[test]
    fn case_13_a_block_that_does_not_hold_the_transaction_is_refused() {
        is_lie(judge(3, |e| e.inclusion = None));
        let other = Scene::with_seed(9).evidence();
        is_lie(judge(3, |e| e.inclusion.clone_from(&other.inclusion)));
        is_lie(judge(3, |e| {
            e.inclusion = other.inclusion.clone();
            e.tx.block = other.tx.block;
            e.output.block = other.tx.block;
        }));
    }

    #[test]
    fn case_13_a_header_without_work_is_refused() {
        is_lie(judge(3, |e| {
            let proof = &mut e.inclusion.as_mut().unwrap().proof;
            // Keep the commitment, spoil the work.
            while proof.header.validate_pow(proof.header.target()).is_ok() {
                proof.header.nonce = proof.header.nonce.wrapping_add(1);
            }
            let hash = proof.header.block_hash();
            for block in [&mut e.tx.block, &mut e.output.block] {
                block.as_mut().unwrap().hash = hash;
            }
        }));
    }

    #[test]
    fn case_13_confirmations_that_do_not_fit_the_heights_are_refused() {
        is_lie(judge(3, |e| e.output.confirmations = 1000));
    }
}
