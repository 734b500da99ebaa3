//! Payments from Lightning by the older protocol: the sender gets the preimage now and promises its
//! tweaks for later.
//!
//! A sender that takes the preimage and never finalizes keeps the receiver from its money, so this is
//! for tests in local networks, where recorded clients still ask for it.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::{Network, TransferId};

use super::{check_slot, finish_revealed, lock_of, reveal, share_of};
use crate::checks::{digest, load_leaves};
use crate::flow::{
    Flow, Frame, Inputs, Needs, Outcome, Output, Plan, Prepared, Revealed, Site, Touch,
};
use crate::package::TweakPackage;
use crate::refunds;
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::Request;
use crate::rows::{
    ClaimPhase, Details, FlowRow, HashLockRow, HashLockState, HashSlotRow, Millis, NodeRow,
    NodeStatus, PreimageShareRow, ReceiverRow, TransferKind, TransferLeafRow, TransferRow,
    TransferStatus,
};
use crate::secret::SealedShare;
use crate::snapshot::Changes;
use crate::start::{self, Form, check_spendable, held};

/// Give the preimage for leaves whose tweaks follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyReceiveRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// The id that the wallet chose.
    pub transfer: TransferId,
    /// The sender's identity key.
    pub sender: PublicKey,
    /// The receiver's identity key.
    pub receiver: PublicKey,
    /// SHA-256 of the preimage.
    pub payment_hash: [u8; 32],
    /// Half-signed plain refunds; tweaks and signature are empty.
    pub refunds: TweakPackage,
}

/// Tells a retry of a request from another request under the same id.
#[must_use]
pub fn fingerprint(request: &LegacyReceiveRequest) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"tinderbox/legacy-receive/1");
    hash.update(request.transfer.bytes16());
    hash.update(request.sender.serialize());
    hash.update(request.receiver.serialize());
    hash.update(request.payment_hash);
    for job in &request.refunds.cpfp {
        hash.update(job.share.share.0);
    }
    hash.finalize().into()
}

impl LegacyReceiveRequest {
    fn share(&self, frame: &Frame<'_>) -> Result<PreimageShareRow, Halt> {
        match share_of(frame, &self.payment_hash)? {
            Some(share) if share.owner == self.receiver => Ok(share),
            Some(share) => refuse(
                Reason::NotOwner,
                format!("the preimage was stored for {}", share.owner),
            ),
            None => refuse(
                Reason::MissingField,
                "transfer_request: without stored shares of the preimage a package is needed",
            ),
        }
    }

    fn row(
        &self,
        frame: &Frame<'_>,
        leaves: Vec<TransferLeafRow>,
        nodes: &[NodeRow],
    ) -> TransferRow {
        TransferRow {
            id: self.transfer,
            kind: TransferKind::PreimageSwap,
            status: TransferStatus::SenderInitiated,
            network: frame.site.network,
            sender: self.sender,
            receivers: vec![ReceiverRow {
                identity: self.receiver,
                phase: ClaimPhase::Initiated,
                before: ClaimPhase::Initiated,
                completed: None,
            }],
            leaves,
            values: nodes.iter().map(|node| node.value).collect(),
            // Once the preimage is given it must not be returned.
            expiry: None,
            invoice: String::new(),
            fingerprint: fingerprint(self),
            details: Details::Preimage {
                payment_hash: self.payment_hash,
            },
            started_by: frame.flow,
            held: Some(frame.flow),
            created: self.now,
            updated: self.now,
        }
    }
}

impl Flow for LegacyReceiveRequest {
    fn needs(&self, _site: &Site) -> Needs {
        Needs::default()
    }

    fn prepare(&self, frame: &Frame<'_>, _inputs: &Inputs) -> Result<Prepared, Halt> {
        if !matches!(frame.site.network, Network::Local | Network::Regtest) {
            return refuse(Reason::MissingField, "transfer_request");
        }
        let share = self.share(frame)?;
        lock_of(frame, &self.transfer)?;
        check_slot(frame, &self.payment_hash, &self.receiver)?;
        if share.held.is_some() {
            return refuse(
                Reason::LockConflict,
                "the preimage is being stored or given away: try again",
            );
        }
        if start::transfer(frame, &self.transfer)?.is_some() {
            return Err(Refusal::new(
                Reason::DuplicateOperation,
                format!("transfer {} exists already", self.transfer),
            )
            .into());
        }
        let sent = self.refunds.by_leaf()?;
        let leaves = load_leaves(frame, sent.keys().copied())?;
        let mut jobs = Vec::new();
        let mut rows = Vec::new();
        let mut nodes = Vec::new();
        for (leaf, (node, keyshare)) in &leaves {
            check_spendable(node, &self.sender, frame.site)?;
            let Some(sent) = sent.get(leaf) else {
                continue;
            };
            let (intermediate, made) =
                Form::Plain.jobs(frame.site, node, keyshare, self.receiver, sent)?;
            // Signed when the package comes; the preimage may turn out to be none.
            jobs.extend(made);
            rows.push(TransferLeafRow {
                leaf: *leaf,
                receiver: 0,
                secret_cipher: Vec::new(),
                signature: Vec::new(),
                send_tweak: None,
                send_proofs: Vec::new(),
                claim_tweak: None,
                claim_proofs: Vec::new(),
                previous_sequence: refunds::current_sequence(node)?,
                intermediate,
                claim_refunds: None,
            });
            nodes.push(node.clone());
        }
        let mut request = Request::LegacyReceive(Box::new(self.clone())).encode()?;
        for proof in &share.proofs {
            request.extend(proof.serialize());
        }
        let none: &[PublicKey] = &[];
        let digest = digest(
            &request,
            leaves.values().map(|(_, keyshare)| (keyshare, none)),
            &jobs,
        );
        let mut changes = Changes::new();
        changes.put(frame.rows, &self.row(frame, rows, &nodes))?;
        for node in nodes {
            let node = NodeRow {
                status: NodeStatus::TransferLocked,
                lock: Some(frame.flow),
                ..node
            };
            changes.put(frame.rows, &node)?;
        }
        changes.put(
            frame.rows,
            &HashLockRow {
                transfer: self.transfer,
                payment_hash: self.payment_hash,
                sender: self.sender,
                receiver: self.receiver,
                state: HashLockState::Waiting,
                refunds: Vec::new(),
                jobs: Vec::new(),
                created: self.now,
                updated: self.now,
            },
        )?;
        changes.put(
            frame.rows,
            &HashSlotRow {
                payment_hash: self.payment_hash,
                receiver: self.receiver,
                transfer: self.transfer,
            },
        )?;
        let share = PreimageShareRow {
            held: Some(frame.flow),
            ..share
        };
        changes.put(frame.rows, &share)?;
        Ok(Prepared {
            changes,
            digest,
            jobs: Vec::new(),
            keys: Vec::new(),
        })
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        held(frame, &self.transfer, row)?;
        let share = self.share(frame)?;
        Ok(Plan {
            preimage: Some((self.payment_hash, share.sealed)),
            ..Plan::default()
        })
    }

    fn apply(
        &self,
        _frame: &Frame<'_>,
        _row: &FlowRow,
        _sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        Ok(Changes::new())
    }

    fn secret(
        &self,
        frame: &Frame<'_>,
        _row: &FlowRow,
        outputs: &BTreeMap<OperatorIndex, Output>,
    ) -> Result<Revealed, Halt> {
        reveal::recover(&self.share(frame)?, outputs)
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        let share = self.share(frame)?;
        let known = |lock: &mut HashLockRow, preimage| {
            lock.end(HashLockState::Shared(preimage), self.now);
        };
        finish_revealed(frame, row, outcome, &self.transfer, &share, self.now, known)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let mut changes = start::rollback(frame, row, &self.transfer)?;
        super::forget(frame, &self.transfer, &self.payment_hash, &mut changes)?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::Transfer(self.transfer)]
    }

    fn now(&self) -> Millis {
        self.now
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::secp256k1::{SECP256K1, SecretKey};

    use super::*;
    use crate::rows::FlowId;
    use crate::snapshot::Snapshot;

    /// Case 43: the older form gives the preimage before the tweaks are there, so no operator takes
    /// part in it on a network with money, whatever its coordinator serves.
    #[test]
    fn case_43_preimage_is_not_given_for_a_promise_outside_local_networks() {
        let key = |byte| SecretKey::from_slice(&[byte; 32]).unwrap();
        let request = LegacyReceiveRequest {
            now: Millis(1),
            transfer: TransferId::from_bytes16([1; 16]),
            sender: key(1).public_key(SECP256K1),
            receiver: key(2).public_key(SECP256K1),
            payment_hash: [3; 32],
            refunds: TweakPackage {
                cpfp: Vec::new(),
                direct: Vec::new(),
                direct_from_cpfp: Vec::new(),
                tweaks: BTreeMap::new(),
                user_signature: Vec::new(),
                hash_variant: 1,
            },
        };
        for network in [
            Network::Mainnet,
            Network::Testnet,
            Network::Signet,
            Network::Regtest,
            Network::Local,
        ] {
            let site = Site {
                me: OperatorIndex(0),
                operators: vec![key(4).public_key(SECP256K1)],
                threshold: 1,
                network,
                deposit_confirmations: 3,
                exit_confirmations: 1,
                providers: Vec::new(),
            };
            let rows = Snapshot::new();
            let frame = Frame {
                flow: FlowId([0; 16]),
                coordinator: OperatorIndex(0),
                site: &site,
                rows: &rows,
            };
            let is_local = matches!(network, Network::Regtest | Network::Local);
            match request.prepare(&frame, &Inputs::default()) {
                Err(Halt::Refuse(refusal)) => {
                    assert!(!is_local, "{refusal}");
                    assert_eq!(refusal.reason, Reason::MissingField, "{network}");
                }
                // It goes on to look at rows.
                Err(Halt::Miss(_)) => assert!(is_local, "{network}"),
                Ok(_) => panic!("no row is there"),
            }
        }
    }
}
