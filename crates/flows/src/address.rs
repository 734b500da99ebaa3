//! Deposit addresses: the operators' key share, the wallet's key, and proof of both.
//!
//! Every operator computes the address from its own record of the key share before it signs it.
//! Possession of the operators' half is proved by a threshold signature over the owner, the key
//! and the address.

use tinderbox_frost::{SigningPackage, tweak};
use tinderbox_protocol::{deposit, hash};

use crate::checks::{KeyPart, check_ecdsa, digest, gone, plan};
use crate::flow::{Flow, Frame, Inputs, Needs, Outcome, Plan, Prepared, Site, Touch};
use crate::package::check_signers;
use crate::record::Row;
use crate::refusal::{Halt, Reason, Refusal, refuse};
use crate::request::{AddressRequest, Request};
use crate::rows::{
    AddressProof, AddressRow, DefaultAddressRow, FlowRow, JobRow, KeyshareRow, KeyshareStatus,
    Millis, NodeRow, Part,
};
use crate::secret::SealedShare;
use crate::snapshot::Changes;

impl AddressRequest {
    pub(crate) fn keyshare(&self, frame: &Frame<'_>) -> Result<KeyshareRow, Halt> {
        match frame.rows.get::<KeyshareRow>(self.keyshare.0.to_vec())? {
            Some(keyshare) => Ok(keyshare),
            None => refuse(
                Reason::MissingEntity,
                format!("key share {} is unknown at this operator", self.keyshare),
            ),
        }
    }

    /// The row of the new address, not yet the one that a wallet is shown.
    fn row(&self, frame: &Frame<'_>, keyshare: &KeyshareRow) -> Result<AddressRow, Halt> {
        let Ok(verifying_key) = tweak::add_points(&keyshare.group_key, &self.owner_signing) else {
            return refuse(
                Reason::MalformedField,
                "signing_public_key and the operators' key cancel out: use another key",
            );
        };
        let address = deposit::address(&verifying_key, frame.site.network);
        Ok(AddressRow {
            script: address.script_pubkey(),
            address: address.to_string(),
            owner: self.owner,
            owner_signing: self.owner_signing,
            keyshare: self.keyshare,
            verifying_key,
            network: frame.site.network,
            leaf: self.leaf,
            is_static: self.is_static,
            is_default: false,
            created: self.now,
            pending: Some(frame.flow),
            proof: None,
            tree: None,
        })
    }

    /// The address that this flow makes.
    pub(crate) fn current(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<AddressRow, Halt> {
        let keyshare = self.keyshare(frame)?;
        let expected = self.row(frame, &keyshare)?;
        match frame.rows.get::<AddressRow>(expected.id())? {
            Some(address) if address.pending == Some(frame.flow) => Ok(address),
            _ => gone("the address", row),
        }
    }

    /// Takes the key share, stages the address, and makes the jobs that prove possession.
    ///
    /// # Errors
    /// A refusal if key share, address or leaf id are taken.
    pub(crate) fn stage(
        &self,
        frame: &Frame<'_>,
        request: &Request,
        is_default: bool,
        mut changes: Changes,
    ) -> Result<Prepared, Halt> {
        let mut keyshare = self.keyshare(frame)?;
        if keyshare.status != KeyshareStatus::Available || keyshare.coordinator != frame.coordinator
        {
            return refuse(
                Reason::LockConflict,
                format!("key share {} is in use: try again", self.keyshare),
            );
        }
        let address = AddressRow {
            is_default,
            ..self.row(frame, &keyshare)?
        };
        if frame.rows.get::<AddressRow>(address.id())?.is_some() {
            return refuse(Reason::DuplicateOperation, "this address exists already");
        }
        if let Some(leaf) = &self.leaf
            && frame.rows.get::<NodeRow>(NodeRow::id_of(leaf))?.is_some()
        {
            return refuse(
                Reason::DuplicateOperation,
                format!("leaf_id {leaf} is taken: choose a new one"),
            );
        }
        let mut jobs = Vec::new();
        let messages = [
            (
                &self.nonces,
                hash::pop_message(&self.owner, &keyshare.group_key, &address.address),
            ),
            (
                &self.nonces_legacy,
                hash::pop_message_legacy(&self.owner, &keyshare.group_key, &address.address),
            ),
        ];
        for (nonces, message) in messages {
            if nonces.is_empty() {
                continue;
            }
            check_signers(nonces, frame.site.threshold, frame.site.count())?;
            jobs.push(JobRow {
                leaf: self.leaf,
                part: Part::Possession,
                package: SigningPackage {
                    verifying_key: keyshare.group_key,
                    message,
                    operators: nonces.clone(),
                    user: None,
                    adaptor: None,
                    threshold: frame.site.threshold,
                },
                user_share: None,
                user_key: None,
                public_shares: keyshare.public_shares.clone(),
            });
        }
        if jobs.is_empty() {
            return refuse(Reason::MissingField, "nonces");
        }
        let digest = digest(
            &request.encode()?,
            [(&keyshare, &[][..])].into_iter(),
            &jobs,
        );
        let keys = plan(
            frame.site,
            &jobs,
            vec![KeyPart {
                keyshare: &keyshare,
                tweak: None,
                after_tweak: false,
                places: vec![0, 1],
            }],
        )
        .keys;
        keyshare.status = KeyshareStatus::Used(frame.flow);
        changes.put(frame.rows, &keyshare)?;
        changes.put(frame.rows, &address)?;
        Ok(Prepared {
            changes,
            digest,
            jobs,
            keys,
        })
    }

    /// Takes back the address that this flow was to make.
    fn forget(&self, frame: &Frame<'_>, row: &FlowRow, changes: &mut Changes) -> Result<(), Halt> {
        let address = self.current(frame, row)?;
        if address.is_static {
            changes.delete::<DefaultAddressRow>(
                frame.rows,
                DefaultAddressRow::id_of(&address.owner, address.network),
            )?;
        }
        changes.delete::<AddressRow>(frame.rows, address.id())?;
        Ok(())
    }

    /// Gives the key share back to the pool after a refusal: nobody has signed with it. Its
    /// coordinator, which votes last, never marked it, and would draw it again; were it used for
    /// ever at others, that address would be refused as well, and after an outage most of them.
    pub(crate) fn release(&self, frame: &Frame<'_>, changes: &mut Changes) -> Result<(), Halt> {
        let mut keyshare = self.keyshare(frame)?;
        if keyshare.status == KeyshareStatus::Used(frame.flow) {
            keyshare.status = KeyshareStatus::Available;
            changes.put(frame.rows, &keyshare)?;
        }
        Ok(())
    }

    /// The address with its proof; none if an operator gave a wrong share.
    ///
    /// # Errors
    /// A refusal if an operator's own signature is missing or wrong.
    pub(crate) fn complete(
        &self,
        frame: &Frame<'_>,
        row: &FlowRow,
        outcome: &Outcome,
    ) -> Result<Option<AddressRow>, Halt> {
        let mut address = self.current(frame, row)?;
        let signatures: Option<Vec<Vec<u8>>> = (0..row.jobs.len())
            .map(|place| outcome.signature(place).map(<[u8]>::to_vec))
            .collect();
        let Some(signatures) = signatures else {
            return Ok(None);
        };
        let mut operators = std::collections::BTreeMap::new();
        for (operator, identity) in frame.site.everyone().zip(&frame.site.operators) {
            let Some([signature]) = outcome.identity.get(&operator).map(Vec::as_slice) else {
                return refuse(
                    Reason::MissingField,
                    format!("no address signature of operator {}", operator.identifier()),
                );
            };
            check_ecdsa(
                identity,
                &hash::address_digest(&address.address),
                signature,
                "the address signature",
            )?;
            operators.insert(operator, signature.clone());
        }
        let mut signatures = signatures.into_iter();
        let mut take = |wanted: bool| {
            if wanted {
                signatures.next().unwrap_or_default()
            } else {
                Vec::new()
            }
        };
        address.proof = Some(AddressProof {
            possession: take(!self.nonces.is_empty()),
            possession_legacy: take(!self.nonces_legacy.is_empty()),
            operators,
        });
        address.pending = None;
        Ok(Some(address))
    }
}

impl Flow for AddressRequest {
    fn needs(&self, _site: &Site) -> Needs {
        Needs::default()
    }

    fn prepare(&self, frame: &Frame<'_>, _inputs: &Inputs) -> Result<Prepared, Halt> {
        let mut changes = Changes::new();
        if self.is_static {
            let script = self.row(frame, &self.keyshare(frame)?)?.script;
            let default = DefaultAddressRow {
                owner: self.owner,
                network: frame.site.network,
                script,
            };
            if let Some(present) = frame.rows.get::<DefaultAddressRow>(default.id())? {
                let present = frame.rows.get::<AddressRow>(present.script.to_bytes())?;
                return Err(Refusal::new(
                    Reason::DuplicateOperation,
                    "this wallet has a static deposit address already",
                )
                .held_by(present.and_then(|address| address.pending))
                .into());
            }
            changes.put(frame.rows, &default)?;
        }
        let request = Request::Address(Box::new(self.clone()));
        self.stage(frame, &request, self.is_static, changes)
    }

    fn commit(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Plan, Halt> {
        let keyshare = self.keyshare(frame)?;
        let address = self.current(frame, row)?;
        let mut plan = plan(
            frame.site,
            &row.jobs,
            vec![KeyPart {
                keyshare: &keyshare,
                tweak: None,
                after_tweak: false,
                places: vec![0, 1],
            }],
        );
        plan.identity = vec![hash::address_digest(&address.address)];
        Ok(plan)
    }

    fn apply(
        &self,
        _frame: &Frame<'_>,
        _row: &FlowRow,
        _sealed: &[Option<SealedShare>],
    ) -> Result<Changes, Halt> {
        Ok(Changes::new())
    }

    fn finish(&self, frame: &Frame<'_>, row: &FlowRow, outcome: &Outcome) -> Result<Changes, Halt> {
        let mut changes = Changes::new();
        match self.complete(frame, row, outcome)? {
            Some(address) => changes.put(frame.rows, &address)?,
            None => self.forget(frame, row, &mut changes)?,
        }
        Ok(changes)
    }

    fn rollback(&self, frame: &Frame<'_>, row: &FlowRow) -> Result<Changes, Halt> {
        let mut changes = Changes::new();
        self.forget(frame, row, &mut changes)?;
        self.release(frame, &mut changes)?;
        Ok(changes)
    }

    fn touches(&self) -> Vec<Touch> {
        Vec::new()
    }

    fn now(&self) -> Millis {
        self.now
    }
}
