//! A cooperative exit that lapsed although nobody has seen its payout: the leaves go back to their
//! owner.
//!
//! Every operator goes by its own clock and its own node. The refunds that the provider holds need
//! the connectors, and with them the payout: if it confirms after all, the leaf's owner has been
//! paid, and operators raise the alarm.

use bitcoin::OutPoint;
use tinderbox_protocol::Network;

use crate::checks::digest;
use crate::exit_settle::{held_exit, open_exit};
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::give_back;
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::{ExitReturnRequest, Request};
use crate::rows::{ExitRow, ExitState, FlowRow, Millis};
use crate::secret::SealedShare;
use crate::snapshot::Changes;

/// How long after its expiry an exit may be returned, in milliseconds: time for a payout that was
/// broadcast at the last moment to reach every node.
#[must_use]
pub const fn margin(network: Network) -> u64 {
    match network {
        Network::Regtest | Network::Local => 10_000,
        Network::Mainnet | Network::Testnet | Network::Signet => 3_600_000,
    }
}

impl ExitReturnRequest {
    /// Outputs of the exit transaction that each operator looks for.
    fn traces(&self) -> [OutPoint; 2] {
        [self.funds, OutPoint::new(self.funds.txid, 0)]
    }
}

impl Flow for ExitReturnRequest {
    fn needs(&self, _site: &Site) -> Needs {
        Needs {
            outputs: self.traces().to_vec(),
            ..Needs::default()
        }
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        let (exit, transfer) = open_exit(frame, &self.exit)?;
        if exit.funds != self.funds || exit.transfer != self.transfer {
            return refuse(Reason::Internal, "the exit has another payout here");
        }
        let over = exit.expiry.plus(margin(frame.site.network));
        if inputs.clock.is_some_and(|clock| clock <= over) {
            return refuse(
                Reason::InvalidState,
                format!("the exit of transfer {} is not over yet", exit.transfer),
            );
        }
        let in_mempool = self
            .traces()
            .iter()
            .any(|outpoint| inputs.chain.contains_key(outpoint));
        // With a certificate there is no way back, whatever is seen since.
        if inputs.clock.is_some() && (exit.seen.is_some() || in_mempool) {
            return Err(Refusal::new(
                Reason::InvalidState,
                format!("exit transaction {} has been seen: wait for it", exit.txid),
            )
            .into());
        }
        let mut changes = Changes::new();
        let transfer = give_back::hold(frame, transfer, self.now, &mut changes)?;
        let request = Request::ExitReturn(Box::new(self.clone())).encode()?;
        let leaves = crate::start::leaves_of(frame, &transfer)?;
        let digest = digest(
            &request,
            leaves.values().map(|(_, keyshare)| (keyshare, &[][..])),
            &[],
        );
        Ok(Prepared {
            changes,
            digest,
            jobs: Vec::new(),
            keys: Vec::new(),
        })
    }

    fn commit(&self, _frame: &Frame<'_>, _row: &FlowRow) -> Result<Plan, Halt> {
        Ok(Plan::default())
    }

    fn apply(
        &self,
        _frame: &Frame<'_>,
        _row: &FlowRow,
        _sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        Ok(Changes::new())
    }

    fn finish(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        _outcome: &Outcome,
    ) -> Result<Changes, Halt> {
        let (exit, mut transfer) = held_exit(frame, &self.exit, row)?;
        let mut changes = Changes::new();
        give_back::finish(frame, &mut transfer, self.now, &mut changes)?;
        changes.put(
            frame.rows,
            &ExitRow {
                state: ExitState::Returned,
                ..exit
            },
        )?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let (_, mut transfer) = held_exit(frame, &self.exit, row)?;
        transfer.held = None;
        let mut changes = Changes::new();
        changes.put(frame.rows, &transfer)?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::Transfer(self.transfer)]
    }

    fn now(&self) -> Millis {
        self.now
    }
}
