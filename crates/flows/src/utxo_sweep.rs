//! Spends of outputs that a service provider has swapped: `sign_static_deposit_sweep_tx`.
//!
//! One transaction for many outputs, or another one for an output whose first spend does not
//! confirm. Nothing changes in the rows: whose the outputs are was decided by their swaps.

use bitcoin::secp256k1::PublicKey;
use bitcoin::{OutPoint, TxOut};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tinderbox_frost::SigningPackage;
use tinderbox_protocol::tx::{TxKind, UnsignedTx, parse_unsigned};

use crate::checks::{check_ecdsa, digest, gone, plan};
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::package::check_signers;
use crate::refusal::{Halt, Reason, refuse};
use crate::request::Request;
use crate::rows::{
    AddressRow, FlowRow, JobRow, KeyshareRow, Millis, Part, UtxoHoldRow, UtxoSwapKind, UtxoSwapRow,
    UtxoSwapStatus,
};
use crate::secret::SealedShare;
use crate::snapshot::Changes;
use crate::utxo::{self, bad_spend};
use tinderbox_frost::{NonceCommitment, OperatorIndex};

/// Outputs in one transaction at most.
pub const MAX_INPUTS: usize = 200;

/// Sign a transaction that spends swapped outputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UtxoSweepRequest {
    /// The coordinator's time.
    pub now: Millis,
    /// The service provider.
    pub provider: PublicKey,
    /// The transaction without witnesses.
    pub tx: Vec<u8>,
    /// What each of its inputs spends, in order.
    pub prevouts: Vec<TxOut>,
    /// The inputs to sign.
    pub inputs: Vec<SweepInput>,
    /// The provider's signature (DER) over SHA-256 of the transaction.
    pub signature: Vec<u8>,
}

/// One input of a sweep.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepInput {
    /// Its place.
    pub vin: u32,
    /// What it spends.
    pub outpoint: OutPoint,
    /// The nonces of whoever has the other half of the key.
    pub commitment: NonceCommitment,
    /// The operators that sign, with theirs.
    pub operators: std::collections::BTreeMap<OperatorIndex, NonceCommitment>,
}

/// Why an output cannot be swept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ineligible {
    /// Nobody has swapped it.
    NoSwap,
    /// Its swap has not come to an end.
    NotCompleted,
    /// Another provider has it.
    NotOwner,
    /// Its owner takes it back.
    Refund,
}

/// Whether a provider may spend the output of a swap.
///
/// # Errors
/// Why not.
pub fn eligible(swap: Option<&UtxoSwapRow>, provider: &PublicKey) -> Result<(), Ineligible> {
    match swap {
        None => Err(Ineligible::NoSwap),
        Some(swap) if swap.kind == UtxoSwapKind::Refund => Err(Ineligible::Refund),
        Some(swap) if swap.provider != Some(*provider) => Err(Ineligible::NotOwner),
        Some(swap) if swap.status != UtxoSwapStatus::Completed || swap.held.is_some() => {
            Err(Ineligible::NotCompleted)
        }
        Some(_) => Ok(()),
    }
}

impl UtxoSweepRequest {
    fn tx(&self) -> Result<UnsignedTx, Halt> {
        let tx = parse_unsigned(&self.tx, TxKind::Other)
            .map_err(|error| bad_spend("signing", &error))?;
        if tx.input.len() != self.prevouts.len() {
            return refuse(
                Reason::MalformedField,
                format!(
                    "previous_outputs has {} entries, the transaction {} inputs",
                    self.prevouts.len(),
                    tx.input.len()
                ),
            );
        }
        Ok(UnsignedTx {
            tx,
            prevouts: self.prevouts.clone(),
            kind: TxKind::Other,
        })
    }

    /// The address that an input spends from.
    fn address(
        &self,
        frame: &Frame<'_>,
        tx: &UnsignedTx,
        input: &SweepInput,
    ) -> Result<AddressRow, Halt> {
        let SweepInput { vin, outpoint, .. } = input;
        let hold = frame
            .rows
            .get::<UtxoHoldRow>(UtxoHoldRow::output(outpoint))?;
        let swap = hold.map(|hold| utxo::swap(frame, &hold)).transpose()?;
        if let Err(why) = eligible(swap.as_ref(), &self.provider) {
            let reason = match why {
                Ineligible::NoSwap => Reason::MissingEntity,
                Ineligible::NotOwner => Reason::NotOwner,
                Ineligible::NotCompleted | Ineligible::Refund => Reason::InvalidState,
            };
            return refuse(reason, format!("utxo {outpoint} cannot be swept: {why:?}"));
        }
        let Some(swap) = swap else {
            return refuse(Reason::Internal, "a swap is gone");
        };
        let at = usize::try_from(*vin).unwrap_or(usize::MAX);
        let spends = tx.tx.input.get(at).map(|input| input.previous_output);
        let prevout = TxOut {
            value: swap.value.to_amount(),
            script_pubkey: swap.script.clone(),
        };
        if spends != Some(*outpoint) || self.prevouts.get(at) != Some(&prevout) {
            return refuse(
                Reason::MalformedField,
                format!(
                    "inputs: input {vin} does not spend {outpoint}, or previous_outputs differs"
                ),
            );
        }
        match frame.rows.get::<AddressRow>(swap.script.to_bytes())? {
            Some(address) => Ok(address),
            None => refuse(Reason::Internal, "a deposit address is missing"),
        }
    }

    fn keyshare(frame: &Frame<'_>, address: &AddressRow) -> Result<KeyshareRow, Halt> {
        match frame.rows.get::<KeyshareRow>(address.keyshare.0.to_vec())? {
            Some(keyshare) => Ok(keyshare),
            None => refuse(Reason::Internal, "a deposit address' key share is missing"),
        }
    }
}

impl Flow for UtxoSweepRequest {
    fn needs(&self, _site: &Site) -> Needs {
        Needs::default()
    }

    fn prepare(&self, frame: &Frame<'_>, _inputs: &Inputs) -> Result<Prepared, Halt> {
        if self.inputs.is_empty() || self.inputs.len() > MAX_INPUTS {
            return refuse(
                Reason::LimitExceeded,
                format!("inputs: 1 to {MAX_INPUTS} can be signed at once"),
            );
        }
        let tx = self.tx()?;
        let mut keyshares = Vec::new();
        let mut jobs = Vec::new();
        for (at, input) in self.inputs.iter().enumerate() {
            if self
                .inputs
                .iter()
                .take(at)
                .any(|other| other.vin == input.vin)
            {
                return refuse(
                    Reason::DuplicateField,
                    format!("inputs: input {} appears twice", input.vin),
                );
            }
            let address = self.address(frame, &tx, input)?;
            let keyshare = Self::keyshare(frame, &address)?;
            check_signers(&input.operators, frame.site.threshold, frame.site.count())?;
            let vin = usize::try_from(input.vin).unwrap_or(usize::MAX);
            jobs.push(JobRow {
                leaf: None,
                part: Part::Spend,
                package: SigningPackage {
                    verifying_key: address.verifying_key,
                    message: tx
                        .sighash_of(vin)
                        .map_err(|error| bad_spend("signing", &error))?,
                    operators: input.operators.clone(),
                    user: Some(input.commitment),
                    adaptor: None,
                    threshold: frame.site.threshold,
                },
                user_share: None,
                user_key: Some(address.owner_signing),
                public_shares: keyshare.public_shares.clone(),
            });
            keyshares.push(keyshare);
        }
        check_ecdsa(
            &self.provider,
            &Sha256::digest(&self.tx).into(),
            &self.signature,
            "ssp_signature",
        )?;
        let request = Request::UtxoSweep(Box::new(self.clone())).encode()?;
        let digest = digest(
            &request,
            keyshares.iter().map(|keyshare| (keyshare, &[][..])),
            &jobs,
        );
        let parts = (0u32..)
            .zip(&keyshares)
            .map(|(place, keyshare)| utxo::key_part(keyshare, place));
        let keys = plan(frame.site, &jobs, parts.collect()).keys;
        Ok(Prepared {
            changes: Changes::new(),
            digest,
            jobs,
            keys,
        })
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        let tx = self.tx()?;
        let mut keyshares = Vec::new();
        for input in &self.inputs {
            keyshares.push(Self::keyshare(frame, &self.address(frame, &tx, input)?)?);
        }
        if keyshares.len() != row.jobs.len() {
            return gone("the sweep", row);
        }
        let parts = (0u32..)
            .zip(&keyshares)
            .map(|(place, keyshare)| utxo::key_part(keyshare, place));
        Ok(plan(frame.site, &row.jobs, parts.collect()))
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
        _frame: &Frame<'_>,
        _row: &FlowRow,
        _outcome: &Outcome,
    ) -> Result<Changes, Halt> {
        Ok(Changes::new())
    }

    fn rollback(&self, _frame: &Frame<'_>, _row: &FlowRow) -> Result<Changes, Halt> {
        Ok(Changes::new())
    }

    fn touches(&self) -> Vec<Touch> {
        Vec::new()
    }

    fn now(&self) -> Millis {
        self.now
    }
}
