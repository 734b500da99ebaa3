//! Storing a preimage in shares: `store_preimage_share_v2`.

use std::collections::BTreeMap;

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tinderbox_protocol::bolt11::LightningInvoice;

use super::share_of;
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::job::OpenedPreimage;
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::Request;
use crate::rows::{FlowRow, Millis, PreimageShareRow};
use crate::secret::SealedShare;
use crate::snapshot::Changes;

/// Longest Lightning invoice that is stored, in bytes.
pub const MAX_INVOICE: usize = 8192;

/// Store a preimage, a share at each operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorePreimageRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// SHA-256 of the preimage.
    pub payment_hash: [u8; 32],
    /// Who is to be paid.
    pub owner: PublicKey,
    /// How many shares give the preimage.
    pub threshold: u32,
    /// The Lightning invoice.
    pub invoice: String,
    /// One ciphertext per operator, keyed by identifier (64 hex digits), exactly as sent.
    pub shares: BTreeMap<String, Vec<u8>>,
}

/// What is stored besides the share, checked.
///
/// # Errors
/// A refusal that names the field.
pub fn checked_row(
    site: &Site,
    payment_hash: [u8; 32],
    owner: PublicKey,
    threshold: u32,
    invoice: &str,
    opened: OpenedPreimage,
    now: Millis,
) -> Result<PreimageShareRow, Refusal> {
    if threshold != u32::from(site.threshold) {
        return Err(Refusal::new(
            Reason::InvalidState,
            format!(
                "threshold is {threshold}, the operators' is {}",
                site.threshold
            ),
        ));
    }
    if invoice.len() > MAX_INVOICE {
        return Err(Refusal::new(
            Reason::MalformedField,
            format!(
                "invoice_string has {} bytes, {MAX_INVOICE} are the most",
                invoice.len()
            ),
        ));
    }
    let bolt11 = LightningInvoice::parse(invoice).map_err(|error| {
        Refusal::new(Reason::MalformedField, format!("invoice_string: {error}"))
    })?;
    if bolt11.payment_hash != payment_hash {
        return Err(Refusal::new(
            Reason::MalformedField,
            "invoice_string has another payment hash than payment_hash",
        ));
    }
    Ok(PreimageShareRow {
        payment_hash,
        owner,
        threshold: site.threshold,
        invoice: invoice.to_owned(),
        sealed: opened.sealed,
        proofs: opened.proofs,
        held: None,
        created: now,
    })
}

impl StorePreimageRequest {
    fn check_recipients(&self, site: &Site) -> Result<(), Halt> {
        if let Some(missing) = site
            .everyone()
            .find(|operator| !self.shares.contains_key(&operator.identifier()))
        {
            return refuse(
                Reason::MissingField,
                format!(
                    "encrypted_preimage_shares has no entry for operator {}",
                    missing.identifier()
                ),
            );
        }
        if self.shares.len() != usize::from(site.count()) {
            return refuse(
                Reason::MalformedField,
                "encrypted_preimage_shares has an entry for an unknown operator",
            );
        }
        Ok(())
    }
}

impl Flow for StorePreimageRequest {
    fn needs(&self, site: &Site) -> Needs {
        let own = self.shares.get(&site.me.identifier());
        Needs {
            preimage: own.map(|share| (self.payment_hash, share.clone())),
            ..Needs::default()
        }
    }

    fn prepare(&self, frame: &Frame<'_>, inputs: &Inputs) -> Result<Prepared, Halt> {
        let before = share_of(frame, &self.payment_hash)?;
        self.check_recipients(frame.site)?;
        let Some(opened) = inputs.preimage.clone() else {
            return refuse(Reason::MissingField, "encrypted_preimage_shares");
        };
        // The first write wins: whoever learns the hash from the invoice must not replace it.
        if before.is_some() {
            return refuse(
                Reason::DuplicateOperation,
                "a preimage is stored for this payment hash already",
            );
        }
        let mut hash = Sha256::new();
        hash.update(b"tinderbox/preimage/1");
        hash.update(Sha256::digest(
            Request::StorePreimage(Box::new(self.clone())).encode()?,
        ));
        for proof in &opened.proofs {
            hash.update(proof.serialize());
        }
        let mut row = checked_row(
            frame.site,
            self.payment_hash,
            self.owner,
            self.threshold,
            &self.invoice,
            opened,
            self.now,
        )?;
        row.held = Some(frame.flow);
        let mut changes = Changes::new();
        changes.put(frame.rows, &row)?;
        Ok(Prepared {
            changes,
            digest: hash.finalize().into(),
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
        _row: &FlowRow,
        _outcome: &Outcome,
    ) -> Result<Changes, Halt> {
        let mut changes = Changes::new();
        if let Some(mut share) = share_of(frame, &self.payment_hash)?
            && share.held == Some(frame.flow)
        {
            share.held = None;
            changes.put(frame.rows, &share)?;
        }
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, _row: &FlowRow) -> Result<Changes, Halt> {
        let mut changes = Changes::new();
        if let Some(share) = share_of(frame, &self.payment_hash)?
            && share.held == Some(frame.flow)
        {
            changes.delete::<PreimageShareRow>(frame.rows, self.payment_hash)?;
        }
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        Vec::new()
    }

    fn now(&self) -> Millis {
        self.now
    }
}
