//! The three-step claim, last step: `finalize_node_signatures_v2` for transfers.
//!
//! The receiver brings the complete signatures. They prove themselves: each must verify under its
//! leaf's key over the refund that the operators agreed on.

use std::collections::BTreeMap;

use bitcoin::consensus::serialize;
use tinderbox_protocol::LeafId;

use crate::checks::{digest, gone, load_leaves};
use crate::claim::{check_leaf_set, hand_over, lock, locked, receiver_of};
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::refunds::{self, bad_tx};
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::{ClaimFinishRequest, Request};
use crate::rows::{ClaimPhase, FlowRow, LeafRefunds, Millis, Part, TransferRow};
use crate::secret::SealedShare;
use crate::snapshot::Changes;

impl ClaimFinishRequest {
    /// The refunds with the signatures that were brought.
    fn signed(
        &self,
        frame: &Frame<'_>,
        transfer: &TransferRow,
        place: usize,
    ) -> Result<BTreeMap<LeafId, LeafRefunds>, Halt> {
        let ids: Vec<LeafId> = transfer.leaves_of(place).map(|leaf| leaf.leaf).collect();
        let leaves = load_leaves(frame, ids.into_iter())?;
        let mut all = BTreeMap::new();
        for claimed in transfer.leaves_of(place) {
            let leaf = claimed.leaf;
            let (Some((node, _)), Some([cpfp, direct, direct_from_cpfp])) =
                (leaves.get(&leaf), self.signatures.get(&leaf))
            else {
                return refuse(Reason::MissingField, format!("node_signatures: {leaf}"));
            };
            let expected = refunds::for_claim(node, node.owner_signing, claimed.previous_sequence)?;
            if claimed.claim_refunds.as_ref() != Some(&refunds::unsigned(&expected)) {
                return refuse(
                    Reason::InvalidState,
                    format!("the refunds of leaf {leaf} changed: sign them again"),
                );
            }
            let mut refunds = refunds::unsigned(&expected);
            for (part, tx) in refunds::parts(&expected) {
                let (signature, name, raw) = match part {
                    Part::Direct => (direct, "direct_refund_tx_signature", &mut refunds.direct),
                    Part::DirectFromCpfp => (
                        direct_from_cpfp,
                        "direct_from_cpfp_refund_tx_signature",
                        &mut refunds.direct_from_cpfp,
                    ),
                    _ => (cpfp, "refund_tx_signature", &mut refunds.cpfp),
                };
                let wrong = || {
                    Halt::Refuse(
                        Refusal::new(
                            Reason::BadSignature,
                            format!("{name} of leaf {leaf} is not valid"),
                        )
                        .with("leaf_id", leaf),
                    )
                };
                let signature: &[u8; 64] = signature.as_slice().try_into().map_err(|_| wrong())?;
                let message = tx.sighash().map_err(|error| bad_tx(leaf, &error))?;
                tinderbox_frost::verify_signature(&node.verifying_key, &message, signature)
                    .map_err(|_| wrong())?;
                *raw = serialize(&tx.finalize(signature));
            }
            all.insert(leaf, refunds);
        }
        Ok(all)
    }
}

impl Flow for ClaimFinishRequest {
    fn needs(&self, _site: &Site) -> Needs {
        Needs::default()
    }

    fn prepare(&self, frame: &Frame<'_>, _inputs: &Inputs) -> Result<Prepared, Halt> {
        let (mut transfer, place) = receiver_of(frame, &self.transfer, &self.receiver)?;
        let phase = transfer.receivers.get(place).map(|receiver| receiver.phase);
        match phase {
            Some(ClaimPhase::RefundSigned) => {}
            Some(ClaimPhase::Completed) => {
                return refuse(
                    Reason::DuplicateOperation,
                    format!("transfer {} has been claimed", transfer.id),
                );
            }
            Some(ClaimPhase::Locked(_)) => {
                return refuse(
                    Reason::ConcurrentClaimConflict,
                    format!("transfer {} is being claimed: try again", transfer.id),
                );
            }
            _ => {
                return refuse(
                    Reason::InvalidState,
                    "claim_transfer_sign_refunds_v2 must come first",
                );
            }
        }
        check_leaf_set(&transfer, place, self.signatures.keys())?;
        self.signed(frame, &transfer, place)?;
        let request = Request::ClaimFinish(Box::new(self.clone())).encode()?;
        let ids: Vec<LeafId> = transfer.leaves_of(place).map(|leaf| leaf.leaf).collect();
        let leaves = load_leaves(frame, ids.into_iter())?;
        let digest = digest(
            &request,
            leaves.values().map(|(_, keyshare)| (keyshare, &[][..])),
            &[],
        );
        lock(&mut transfer, place, frame);
        let mut changes = Changes::new();
        changes.put(frame.rows, &transfer)?;
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
        let (mut transfer, place) = locked(frame, &self.transfer, &self.receiver, row)?;
        let signed = self.signed(frame, &transfer, place)?;
        hand_over(frame, &mut transfer, place, self.now, &signed)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let (mut transfer, place) = locked(frame, &self.transfer, &self.receiver, row)?;
        let Some(receiver) = transfer.receivers.get_mut(place) else {
            return gone("the receiver", row);
        };
        receiver.phase = receiver.before;
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
