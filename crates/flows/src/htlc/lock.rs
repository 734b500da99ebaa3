//! Locking leaves against a payment hash: `initiate_preimage_swap_v2` and `_v3`.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tinderbox_frost::OperatorIndex;
use tinderbox_protocol::bolt11::LightningInvoice;
use tinderbox_protocol::tx::htlc::HtlcOutput;
use tinderbox_protocol::{LeafId, Sats, TransferId};

use super::{check_slot, finish_revealed, lock_of, reveal, share_of};
use crate::flow::{
    Flow, Frame, Inputs, Needs, Outcome, Output, Plan, Prepared, Revealed, Site, Touch,
};
use crate::package::{TweakPackage, UserJob};
use crate::refunds;
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::Request;
use crate::rows::{
    Details, FlowRow, HashLockRow, HashLockState, HashSlotRow, Millis, Part, PreimageShareRow,
    TransferKind, TransferStatus, UserRefund,
};
use crate::secret::SealedShare;
use crate::snapshot::Changes;
use crate::start::{self, Form, Leaves, Settle, Start, held};

/// Leaves in one transfer against a preimage at most.
pub const MAX_LEAVES: usize = 100;
/// Nothing is settled by a lock.
const SETTLE: Settle = Settle::Later(TransferStatus::SenderKeyTweakPending);

/// How the transfer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockMode {
    /// The receiver has to find the preimage: a payment to Lightning, or between wallets.
    Send,
    /// The receiver holds the preimage, and no shares of it are stored.
    Hold,
    /// Shares of the preimage are stored: a payment from Lightning. Settled at once.
    Receive,
}

/// Lock leaves against a payment hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashLockRequest {
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
    /// How it goes on.
    pub mode: LockMode,
    /// Refunds and tweaks.
    pub package: TweakPackage,
    /// Half-signed plain fee-less refunds, for the receiver to look at.
    pub plain: Vec<UserJob>,
    /// When it lapses without the preimage.
    pub expiry: Option<Millis>,
    /// What is to be paid; zero if anything will do.
    pub amount: Sats,
    /// What the receiver keeps of the leaves' value.
    pub fee: Sats,
    /// The Lightning invoice, if the sender shows it.
    pub invoice: String,
}

/// Tells a retry of a request from another request under the same id.
#[must_use]
pub fn fingerprint(request: &HashLockRequest) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"tinderbox/hashlock/1");
    hash.update(request.transfer.bytes16());
    hash.update(request.sender.serialize());
    hash.update(request.receiver.serialize());
    hash.update(request.payment_hash);
    hash.update(&request.package.user_signature);
    hash.finalize().into()
}

/// Amount of a Lightning invoice in whole sats, rounded up; zero if the payer chooses.
fn amount_of(invoice: &LightningInvoice) -> Sats {
    Sats(invoice.amount_msat.unwrap_or(0).div_ceil(1000))
}

impl HashLockRequest {
    /// The receiver of each leaf that the package names.
    fn receivers(&self) -> BTreeMap<LeafId, PublicKey> {
        self.package
            .cpfp
            .iter()
            .filter_map(|job| job.leaf)
            .map(|leaf| (leaf, self.receiver))
            .collect()
    }

    fn start<'a>(&'a self, receivers: &'a BTreeMap<LeafId, PublicKey>) -> Start<'a> {
        let htlc = HtlcOutput::new(self.payment_hash, self.receiver, self.sender);
        Start {
            now: self.now,
            transfer: self.transfer,
            kind: TransferKind::PreimageSwap,
            details: Details::Preimage {
                payment_hash: self.payment_hash,
            },
            sender: self.sender,
            receivers,
            package: &self.package,
            form: match self.mode {
                LockMode::Send => Form::Htlc(htlc),
                LockMode::Hold | LockMode::Receive => Form::PlainOrHtlc(htlc),
            },
            settle: SETTLE,
            expiry: self.expiry,
            invoice: "",
            fingerprint: fingerprint(self),
        }
    }

    /// The share that this flow gives away, if it is one that does.
    fn share(&self, frame: &Frame<'_>) -> Result<Option<PreimageShareRow>, Halt> {
        let share = share_of(frame, &self.payment_hash)?;
        match (self.mode, share) {
            (LockMode::Send, _) | (LockMode::Hold, None) => Ok(None),
            (LockMode::Hold, Some(_)) => refuse(
                Reason::InvalidState,
                "shares of the preimage are stored: the transfer is settled with them",
            ),
            (LockMode::Receive, None) => refuse(
                Reason::InvalidState,
                "no share of the preimage is stored at this operator",
            ),
            (LockMode::Receive, Some(share)) if share.owner != self.receiver => refuse(
                Reason::NotOwner,
                format!(
                    "the preimage was stored for {}, not owned by {}",
                    share.owner, self.receiver
                ),
            ),
            (LockMode::Receive, Some(share)) => Ok(Some(share)),
        }
    }

    /// The share that this flow gives away, once it has been agreed on. Whatever is stored meanwhile
    /// does not matter to a lock that began without.
    fn given(&self, frame: &Frame<'_>) -> Result<Option<PreimageShareRow>, Halt> {
        if self.mode != LockMode::Receive {
            return Ok(None);
        }
        match share_of(frame, &self.payment_hash)? {
            Some(share) if share.held == Some(frame.flow) => Ok(Some(share)),
            _ => refuse(
                Reason::Internal,
                format!("the share of the preimage of flow {} is gone", frame.flow),
            ),
        }
    }

    fn check_terms(&self, frame: &Frame<'_>) -> Result<(), Halt> {
        match self.mode {
            LockMode::Send | LockMode::Hold => match self.expiry {
                None => return refuse(Reason::MissingField, "expiry_time"),
                Some(expiry) if expiry <= self.now => {
                    return refuse(Reason::MalformedField, "expiry_time is over already");
                }
                Some(_) => {}
            },
            // It is settled in the same call: what lapses could be returned after it was paid.
            LockMode::Receive if self.expiry.is_some() => {
                return refuse(Reason::MalformedField, "a receive does not lapse");
            }
            LockMode::Receive => {}
        }
        if self.mode != LockMode::Send && self.fee != Sats(0) {
            return refuse(
                Reason::MalformedField,
                "fee_sats must be 0 for a payment from Lightning",
            );
        }
        if self.package.cpfp.len() > MAX_LEAVES {
            return refuse(
                Reason::LimitExceeded,
                format!("{MAX_LEAVES} leaves are the most that one preimage swap takes"),
            );
        }
        check_slot(frame, &self.payment_hash, &self.receiver)
    }

    /// The leaves must pay for what they are against.
    fn check_amount(&self, total: Sats, share: Option<&PreimageShareRow>) -> Result<(), Halt> {
        if self.mode == LockMode::Send && self.fee >= total {
            return refuse(
                Reason::MalformedField,
                format!(
                    "fee_sats {} is not less than the leaves' {}",
                    self.fee.0, total.0
                ),
            );
        }
        let wanted = match share {
            // The request of who pays says nothing about what is owed.
            Some(share) => LightningInvoice::parse(&share.invoice)
                .map(|invoice| amount_of(&invoice))
                .map_err(|error| Refusal::new(Reason::Internal, error.to_string()))?,
            None if self.invoice.is_empty() => self.amount,
            None => {
                let invoice = LightningInvoice::parse(&self.invoice).map_err(|error| {
                    Refusal::new(Reason::MalformedField, format!("bolt11_invoice: {error}"))
                })?;
                if invoice.payment_hash != self.payment_hash {
                    return refuse(
                        Reason::MalformedField,
                        "bolt11_invoice has another payment hash than payment_hash",
                    );
                }
                self.amount.max(amount_of(&invoice))
            }
        };
        let paid = total.0.saturating_sub(self.fee.0);
        if paid < wanted.0 {
            return refuse(
                Reason::MalformedField,
                format!(
                    "the leaves are worth {} sats, less {} of fee_sats: {} are owed",
                    total.0, self.fee.0, wanted.0
                ),
            );
        }
        Ok(())
    }

    /// The plain halves, of exactly the leaves that are sent. Nobody completes them: they show the
    /// receiver that it deals with the leaves' owner.
    fn plain(&self, frame: &Frame<'_>, leaves: &Leaves) -> Result<Vec<UserRefund>, Halt> {
        if self.plain.is_empty() && self.mode != LockMode::Send {
            return Ok(Vec::new());
        }
        let mut jobs = BTreeMap::new();
        for job in &self.plain {
            match job.leaf {
                Some(leaf) if leaves.contains_key(&leaf) => {
                    if jobs.insert(leaf, job).is_some() {
                        return refuse(
                            Reason::DuplicateField,
                            format!("transfer.leaves_to_send: leaf {leaf} appears twice"),
                        );
                    }
                }
                _ => {
                    return refuse(
                        Reason::MalformedField,
                        "transfer.leaves_to_send names a leaf that transfer_request does not send",
                    );
                }
            }
        }
        let mut made = Vec::new();
        for (leaf, (node, keyshare)) in leaves {
            let Some(job) = jobs.get(leaf) else {
                return refuse(
                    Reason::MissingField,
                    format!("transfer.leaves_to_send has no entry for leaf {leaf}"),
                );
            };
            refunds::half_signed_one(
                frame.site,
                *leaf,
                Part::Cpfp,
                &refunds::for_send(node, self.receiver)?.cpfp,
                job,
                node.verifying_key,
                node.owner_signing,
                &keyshare.public_shares,
                None,
            )?;
            made.push(UserRefund {
                leaf: *leaf,
                tx: job.tx.clone(),
                share: job.share.clone(),
            });
        }
        Ok(made)
    }

    /// What is agreed on besides the leaves: the request, and the polynomial that is recovered.
    fn agreed(&self, share: Option<&PreimageShareRow>) -> Result<Vec<u8>, Halt> {
        let mut bytes = Request::HashLock(Box::new(self.clone())).encode()?;
        if let Some(share) = share {
            for proof in &share.proofs {
                bytes.extend(proof.serialize());
            }
            bytes.extend(share.invoice.as_bytes());
        }
        Ok(bytes)
    }
}

impl Flow for HashLockRequest {
    fn needs(&self, site: &Site) -> Needs {
        start::needs(site, &self.package)
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        lock_of(frame, &self.transfer)?;
        share_of(frame, &self.payment_hash)?;
        self.check_terms(frame)?;
        let share = self.share(frame)?;
        if share.as_ref().is_some_and(|share| share.held.is_some()) {
            return refuse(
                Reason::LockConflict,
                "the preimage is being stored or given away: try again",
            );
        }
        let receivers = self.receivers();
        let request = self.agreed(share.as_ref())?;
        let mut started = self.start(&receivers).prepare(frame, inputs, &request)?;
        self.check_amount(started.transfer.total(), share.as_ref())?;
        let refunds = self.plain(frame, &started.leaves)?;
        started.changes.put(
            frame.rows,
            &HashLockRow {
                transfer: self.transfer,
                payment_hash: self.payment_hash,
                sender: self.sender,
                receiver: self.receiver,
                state: HashLockState::Waiting,
                refunds,
                jobs: std::mem::take(&mut started.jobs),
                created: self.now,
                updated: self.now,
            },
        )?;
        started.changes.put(
            frame.rows,
            &HashSlotRow {
                payment_hash: self.payment_hash,
                receiver: self.receiver,
                transfer: self.transfer,
            },
        )?;
        if let Some(share) = share {
            started.changes.put(
                frame.rows,
                &PreimageShareRow {
                    held: Some(frame.flow),
                    ..share
                },
            )?;
        }
        // The nonces are bound now, and used when the transfer is settled.
        Ok(started.prepared())
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        held(frame, &self.transfer, row)?;
        let share = self.given(frame)?;
        Ok(Plan {
            preimage: share.map(|share| (self.payment_hash, share.sealed)),
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
        match self.given(frame)? {
            Some(share) => reveal::recover(&share, outputs),
            None => Ok(Revealed::default()),
        }
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        let Some(share) = self.given(frame)? else {
            let (_, changes) =
                start::finish(frame, row, &self.transfer, SETTLE, self.now, outcome)?;
            return Ok(changes);
        };
        let known = |lock: &mut HashLockRow, preimage| {
            lock.state = HashLockState::Revealed(preimage);
            lock.updated = self.now;
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
