//! A cooperative exit whose payout is confirmed: the sender's tweaks are applied, and the provider
//! may claim the leaves.
//!
//! Every operator looks at the chain as it has applied it itself; whoever does not see the exit
//! transaction deep enough votes no, and the flow is tried again later.

use crate::checks::{digest, gone};
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::{ExitSettleRequest, Request};
use crate::rows::{
    ChainRow, Details, ExitRow, ExitState, FlowRow, Millis, TransferRow, TransferStatus,
};
use crate::secret::SealedShare;
use crate::settle;
use crate::snapshot::Changes;
use crate::start::{held, transfer};

/// What it shows meanwhile, and again after a refusal.
const WAITING: TransferStatus = TransferStatus::SenderKeyTweakPending;

/// An exit and its transfer, which must fit.
pub(crate) fn open_exit(
    frame: &Frame<'_>,
    exit: &[u8; 16],
) -> Result<(ExitRow, TransferRow), Halt> {
    let Some(row) = frame.rows.get::<ExitRow>(ExitRow::id_of(exit))? else {
        return refuse(Reason::MissingEntity, "there is no such exit");
    };
    if row.state != ExitState::Open {
        return refuse(
            Reason::InvalidState,
            format!("the exit of transfer {} is over", row.transfer),
        );
    }
    match transfer(frame, &row.transfer)? {
        Some(transfer) if matches!(&transfer.details, Details::Exit { exit: of, .. } if of == exit) => {
            Ok((row, transfer))
        }
        _ => refuse(Reason::Internal, "an exit without its transfer"),
    }
}

/// The exit of a flow that holds its transfer.
pub(crate) fn held_exit(
    frame: &Frame<'_>,
    exit: &[u8; 16],
    row: &FlowRow,
) -> Result<(ExitRow, TransferRow), Halt> {
    let Some(found) = frame.rows.get::<ExitRow>(ExitRow::id_of(exit))? else {
        return gone("the exit", row);
    };
    let transfer = held(frame, &found.transfer, row)?;
    Ok((found, transfer))
}

impl Flow for ExitSettleRequest {
    fn needs(&self, _site: &Site) -> Needs {
        Needs::default()
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        let (exit, transfer) = open_exit(frame, &self.exit)?;
        let chain = frame.rows.get::<ChainRow>(ChainRow::ID)?;
        let tip = chain.and_then(|chain| chain.tip());
        let depth = tip.map_or(0, |tip| exit.depth(tip.height));
        let needed = frame.site.exit_confirmations;
        // With a certificate there is no way back, whatever the chain has done since.
        if inputs.clock.is_some() && depth < needed {
            return Err(Refusal::new(
                Reason::InsufficientConfirmations,
                format!(
                    "exit transaction {} has {depth} of {needed} confirmations here",
                    exit.txid
                ),
            )
            .into());
        }
        let settlement = settle::hold(frame, transfer, WAITING, &[])?;
        let request = Request::ExitSettle(Box::new(self.clone())).encode()?;
        let digest = digest(&request, settlement.tweaks(), &[]);
        let mut changes = Changes::new();
        changes.put(frame.rows, &settlement.transfer)?;
        Ok(Prepared {
            changes,
            digest,
            jobs: Vec::new(),
            keys: settlement.keys,
        })
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        let (_, transfer) = held_exit(frame, &self.exit, row)?;
        settle::commit(frame, &transfer, &row.jobs)
    }

    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        let (_, mut transfer) = held_exit(frame, &self.exit, row)?;
        let mut changes = Changes::new();
        settle::apply(frame, row, &mut transfer, sealed, &mut changes)?;
        Ok(changes)
    }

    fn finish(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        _outcome: &Outcome,
    ) -> Result<Changes, Halt> {
        let (exit, mut transfer) = held_exit(frame, &self.exit, row)?;
        let mut changes = Changes::new();
        settle::finish(frame, &mut transfer, self.now, &mut changes)?;
        changes.put(
            frame.rows,
            &ExitRow {
                state: ExitState::Settled,
                ..exit
            },
        )?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let (_, transfer) = held_exit(frame, &self.exit, row)?;
        let mut changes = Changes::new();
        settle::rollback(frame, transfer, WAITING, &mut changes)?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::Transfer(self.transfer)]
    }

    fn now(&self) -> Millis {
        self.now
    }
}
