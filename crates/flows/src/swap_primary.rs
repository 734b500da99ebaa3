//! First leg of a leaf swap: `initiate_swap_primary_transfer`.
//!
//! A wallet offers leaves to a service provider for others of the same total. Nothing moves yet:
//! the tweaks are staged, and the refunds that pay the provider get adaptor signatures, which are
//! worth nothing without the wallet's secret. The [second leg](crate::swap_counter) moves both; if
//! it does not come in time, the leaves are given back.

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use tinderbox_protocol::{LeafId, TransferId};

use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::package::TweakPackage;
use crate::refusal::{Halt, Reason, refuse};
use crate::request::Request;
use crate::rows::{Details, FlowRow, Millis, TransferKind, TransferStatus};
use crate::secret::SealedShare;
use crate::snapshot::Changes;
use crate::start::{self, Form, Settle, Start};

/// How long the offer stands, in milliseconds, whatever expiry the wallet names.
pub const OFFER_MS: u64 = 240_000;

/// How far a coordinator's clock may be behind another operator's, in milliseconds. A swap's times
/// are the coordinator's. One that said that it is earlier than it is could have offers returned at
/// once, and so have one key make many adaptor signatures in little time: see the signer.
pub const BEHIND_MS: u64 = 60_000;

/// How far it may be ahead. Further, it could lock leaves for as long as it likes.
pub const AHEAD_MS: u64 = 600_000;

/// While it waits, a first leg is what wallets know as SENDER_KEY_TWEAK_PENDING.
pub(crate) const WAITS: TransferStatus = TransferStatus::SenderKeyTweakPending;

/// Offer leaves for others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapPrimaryRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// The id that the wallet chose.
    pub transfer: TransferId,
    /// The wallet's identity key.
    pub sender: PublicKey,
    /// The provider's identity key.
    pub receiver: PublicKey,
    /// Refunds and tweaks.
    pub package: TweakPackage,
    /// The point whose secret makes both legs' refunds valid.
    pub adaptor: PublicKey,
}

/// Tells a retry of a leg from another request under the same id. Unlike a payment's it covers the
/// half signatures and their nonces: whoever asks again gets the shares that belong to them.
pub(crate) fn fingerprint(
    leg: &[u8],
    transfer: &TransferId,
    keys: &[&PublicKey],
    package: &TweakPackage,
) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(leg);
    hash.update(transfer.bytes16());
    for key in keys {
        hash.update(PublicKey::serialize(key));
    }
    let fee_paying = package.direct.iter().chain(&package.direct_from_cpfp);
    for job in package.cpfp.iter().chain(fee_paying) {
        hash.update(Sha256::digest(&job.tx));
        hash.update(job.share.share.0);
        let nonces = job.share.operators.values().chain([&job.share.commitment]);
        for nonce in nonces {
            hash.update(nonce.hiding.serialize());
            hash.update(nonce.binding.serialize());
        }
    }
    hash.update(&package.user_signature);
    hash.finalize().into()
}

/// All leaves of a package, to one receiver.
pub(crate) fn receivers(
    package: &TweakPackage,
    receiver: PublicKey,
) -> BTreeMap<LeafId, PublicKey> {
    let leaves = package.cpfp.iter().filter_map(|job| job.leaf);
    leaves.map(|leaf| (leaf, receiver)).collect()
}

/// Refuses a time of the coordinator's that no skew of clocks explains.
pub(crate) fn check_clock(clock: Option<Millis>, time: Millis) -> Result<(), Halt> {
    match clock {
        Some(own) if own > time.plus(BEHIND_MS) || time > own.plus(AHEAD_MS) => refuse(
            Reason::Disagreement,
            "clocks of operators are minutes apart: try another coordinator; operators must set their clocks",
        ),
        _ => Ok(()),
    }
}

/// Refuses a party that is no service provider, by this operator's own list: no coordinator makes
/// one up. Not once there is a certificate: what everyone has agreed to stays agreed.
pub(crate) fn check_provider(
    frame: &Frame<'_>,
    inputs: &Inputs,
    provider: &PublicKey,
) -> Result<(), Halt> {
    if inputs.clock.is_none() || frame.site.providers.contains(provider) {
        return Ok(());
    }
    refuse(
        Reason::Disagreement,
        format!(
            "{provider} is not a service provider of operator {}: all operators must list it under ssps",
            frame.site.me.identifier()
        ),
    )
}

impl SwapPrimaryRequest {
    /// Tells a retry from another request under the same id.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(
            b"tinderbox/swap-primary/1",
            &self.transfer,
            &[&self.sender, &self.receiver, &self.adaptor],
            &self.package,
        )
    }
}

impl Flow for SwapPrimaryRequest {
    fn needs(&self, site: &Site) -> Needs {
        start::needs(site, &self.package)
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        check_clock(inputs.clock, self.now)?;
        // Whoever knows the adaptor's secret can complete the refund, also after a return. It must
        // not pay somebody of the sender's choice then.
        check_provider(frame, inputs, &self.receiver)?;
        let receivers = receivers(&self.package, self.receiver);
        let request = Request::SwapPrimary(Box::new(self.clone())).encode()?;
        let started = Start {
            now: self.now,
            transfer: self.transfer,
            kind: TransferKind::PrimarySwap,
            details: Details::Swap {
                adaptor: self.adaptor,
                other: None,
            },
            sender: self.sender,
            receivers: &receivers,
            package: &self.package,
            form: Form::Adaptor(self.adaptor),
            settle: Settle::Later(WAITS),
            expiry: Some(self.now.plus(OFFER_MS)),
            invoice: "",
            fingerprint: self.fingerprint(),
        }
        .prepare(frame, inputs, &request)?;
        Ok(started.prepared())
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        start::commit(frame, row, &self.transfer, Settle::Later(WAITS))
    }

    fn apply(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        start::apply(frame, row, &self.transfer, Settle::Later(WAITS), sealed)
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        let settle = Settle::Later(WAITS);
        let (_, changes) = start::finish(frame, row, &self.transfer, settle, self.now, outcome)?;
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        start::rollback(frame, row, &self.transfer)
    }

    fn touches(&self) -> Vec<Touch> {
        vec![Touch::Transfer(self.transfer)]
    }

    fn now(&self) -> Millis {
        self.now
    }
}
