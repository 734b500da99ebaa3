//! What was acknowledged holds, whatever happened afterwards.

use std::collections::BTreeSet;

use bitcoin::OutPoint;
use tinderbox_flows::flow::{JobOutcome, Outcome};
use tinderbox_flows::request::{AddressRequest, Request};
use tinderbox_flows::rows::{
    AddressRow, ClaimPhase, ExitRow, ExitState, HashLockRow, NodeRow, TransferRow, TransferStatus,
    TreeRow, TreeStatus, UtxoHoldRow, UtxoSwapKind, UtxoSwapRow, UtxoSwapStatus,
};
use tinderbox_protocol::{LeafId, TransferId};

use super::cluster::Cluster;
use super::report::Deed;

/// Compares every acknowledgement with what operator 0 has: all others have the same.
pub(super) fn check(cluster: &Cluster) -> Result<(), String> {
    let desk = cluster.desk();
    if let Some(what) = desk.worthless.first() {
        return Err(format!("operators' shares are worthless: {what}"));
    }
    for (request, outcome) in &desk.answers {
        if !holds(cluster, request, outcome) {
            let what = Deed::of(request).name();
            return Err(format!(
                "acknowledged and not so ({what}): {request:?} {outcome:?}"
            ));
        }
    }
    // Shares were given to an owner or to a provider, for one output.
    let (mut owners, mut providers) = (BTreeSet::new(), BTreeSet::new());
    for (request, _) in &desk.answers {
        match request {
            Request::UtxoRefund(refund) => {
                owners.insert(refund.outpoint);
            }
            Request::UtxoSwap(swap) => {
                providers.insert(swap.outpoint);
            }
            Request::UtxoClaim(claim) => {
                providers.insert(claim.outpoint);
            }
            Request::UtxoSweep(sweep) => {
                providers.extend(sweep.inputs.iter().map(|input| input.outpoint));
            }
            _ => {}
        }
    }
    match owners.intersection(&providers).next() {
        Some(outpoint) => Err(format!("output {outpoint} is refunded and swapped")),
        None => Ok(()),
    }
}

/// True if every signature was made.
fn signed(outcome: &Outcome) -> bool {
    let failed = |job: &JobOutcome| matches!(job, JobOutcome::Failed(_));
    !outcome.jobs.iter().any(failed)
}

fn holds(cluster: &Cluster, request: &Request, outcome: &Outcome) -> bool {
    use TransferStatus::{Completed, Returned, SenderInitiated, SenderKeyTweaked};
    let transfer = |id: &TransferId| cluster.row::<TransferRow>(0, &TransferRow::id_of(id));
    let status = |id: &TransferId| transfer(id).map(|transfer| transfer.status);
    let gone = |id: &TransferId| matches!(status(id), Some(SenderKeyTweaked | Completed));
    let claims = |id: &TransferId, receiver: &_, past: &dyn Fn(ClaimPhase) -> bool| {
        transfer(id).is_some_and(|transfer| {
            let place = transfer.receiver(receiver);
            let found = place.and_then(|place| transfer.receivers.get(place));
            found.is_some_and(|receiver| past(receiver.phase))
        })
    };
    let applied = |phase| {
        matches!(
            phase,
            ClaimPhase::KeyTweakApplied | ClaimPhase::RefundSigned | ClaimPhase::Completed
        )
    };
    let exit = |id: &[u8; 16]| {
        let row = cluster.row::<ExitRow>(0, &ExitRow::id_of(id));
        row.map(|exit| exit.state)
    };
    let node = |leaf: &LeafId| cluster.row::<NodeRow>(0, &NodeRow::id_of(leaf)).is_some();
    match request {
        Request::Address(address) => !signed(outcome) || made(cluster, address),
        Request::Rotate(rotate) => !signed(outcome) || made(cluster, &rotate.address),
        Request::Deposit(deposit) => {
            !signed(outcome) || {
                let script = deposit.outputs.first().and_then(|(raw, vout)| {
                    let tx: bitcoin::Transaction = bitcoin::consensus::deserialize(raw).ok()?;
                    Some(
                        tx.output
                            .get(usize::try_from(*vout).ok()?)?
                            .script_pubkey
                            .clone(),
                    )
                });
                let address =
                    script.and_then(|script| cluster.row::<AddressRow>(0, script.as_bytes()));
                address.is_some_and(|address| {
                    address.tree == Some(deposit.tree) && address.leaf.as_ref().is_some_and(node)
                })
            }
        }
        Request::Send(send) => gone(&send.transfer),
        Request::Claim(claim) => claims(&claim.transfer, &claim.receiver, &|phase| {
            phase == ClaimPhase::Completed || !signed(outcome) && applied(phase)
        }),
        Request::ClaimSign(claim) => claims(&claim.transfer, &claim.receiver, &applied),
        Request::ClaimFinish(claim) => claims(&claim.transfer, &claim.receiver, &|phase| {
            phase == ClaimPhase::Completed
        }),
        Request::Renew(renew) => node(&renew.leaf),
        // It is there, is used, or turned out to be none: it moves on by itself.
        Request::StorePreimage(_) | Request::Setting(_) | Request::UtxoSweep(_) => true,
        Request::HashLock(lock) => {
            let id = HashLockRow::id_of(&lock.transfer);
            cluster.row::<HashLockRow>(0, &id).is_some() && transfer(&lock.transfer).is_some()
        }
        Request::Preimage(preimage) => gone(&preimage.transfer),
        Request::LegacyReceive(receive) => match (&outcome.secret, status(&receive.transfer)) {
            (_, Some(SenderKeyTweaked | Completed | SenderInitiated)) => true,
            // The shares were of something else.
            (_, Some(Returned)) => lock_is_returned(cluster, &receive.transfer),
            _ => false,
        },
        Request::Finalize(finalize) => gone(&finalize.transfer),
        Request::Return(back) => status(&back.transfer) == Some(Returned),
        Request::SwapPrimary(offer) => status(&offer.transfer).is_some(),
        Request::SwapCounter(answer) => gone(&answer.transfer) && gone(&answer.primary),
        Request::LegacySwap(offer) => status(&offer.transfer).is_some(),
        Request::LegacyCounter(answer) => gone(&answer.transfer) && gone(&answer.offer),
        Request::ExitTrees(leaving) => leaving.trees.iter().all(|leaving| {
            let tree = cluster.row::<TreeRow>(0, &leaving.tree.bytes16());
            tree.is_some_and(|tree| tree.status == TreeStatus::Exited)
        }),
        Request::Exit(asked) => exit(&asked.exit).is_some(),
        Request::ExitSettle(settle) => {
            exit(&settle.exit) == Some(ExitState::Settled) && gone(&settle.transfer)
        }
        Request::ExitReturn(back) => {
            exit(&back.exit) == Some(ExitState::Returned)
                && status(&back.transfer) == Some(Returned)
        }
        Request::UtxoRefund(refund) => {
            let swap = holder(cluster, &refund.outpoint);
            swap.is_some_and(|swap| swap.kind == UtxoSwapKind::Refund)
        }
        Request::UtxoSwap(asked) => holder(cluster, &asked.outpoint).is_some_and(|swap| {
            swap.transfer == Some(asked.send.transfer) && gone(&asked.send.transfer)
        }),
        Request::UtxoReserve(reserve) => gone(&reserve.send.transfer),
        Request::UtxoClaim(claim) => holder(cluster, &claim.outpoint)
            .is_some_and(|swap| swap.id == claim.swap && swap.status == UtxoSwapStatus::Completed),
    }
}

fn lock_is_returned(cluster: &Cluster, id: &TransferId) -> bool {
    use tinderbox_flows::rows::HashLockState;
    let lock = cluster.row::<HashLockRow>(0, &HashLockRow::id_of(id));
    lock.is_some_and(|lock| lock.state == HashLockState::Returned)
}

/// The swap that has an output.
fn holder(cluster: &Cluster, outpoint: &OutPoint) -> Option<UtxoSwapRow> {
    let hold: UtxoHoldRow = cluster.row(0, &UtxoHoldRow::output(outpoint))?;
    cluster.row(0, &hold.swap.0)
}

/// The address of this key share is there, with a proof.
fn made(cluster: &Cluster, request: &AddressRequest) -> bool {
    let rows = cluster.rows::<AddressRow>(0);
    rows.iter().any(|row| {
        row.keyshare == request.keyshare && row.owner == request.owner && row.proof.is_some()
    })
}
