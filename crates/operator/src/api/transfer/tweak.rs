//! `claim_transfer_tweak_keys`: first of the three-step claim.
//!
//! The wallet hands each operator that operator's part of its tweaks. Nothing is agreed on and
//! nothing moves: the parts are checked and put aside. The next step compares them.

use std::collections::{BTreeMap, BTreeSet};

use tinderbox_flows::job::OpenedTweak;
use tinderbox_flows::record::{Key, Table};
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::rows::{ClaimPhase, TransferRow, TransferStatus};
use tinderbox_flows::snapshot::{Changes, Snapshot};
use tinderbox_protocol::LeafId;
use tinderbox_signer::{PlainTweak, SignerError};
use zeroize::Zeroizing;

use super::{claimed, received};
use crate::api::{Api, ApiError};
use crate::convert::field::{leaf_id, malformed, missing, operator, public_key, transfer_id};
use crate::convert::package::MAX_LEAVES;
use crate::convert::spark::{ClaimLeafKeyTweak, ClaimTransferTweakKeysRequest};
use crate::tables::TableError;
use tinderbox_rpc::Caller;

/// Attempts at a write whose row keeps changing.
const ATTEMPTS: usize = 10;

/// Puts the caller's tweaks aside.
pub async fn claim_transfer_tweak_keys(
    api: Api,
    caller: Caller,
    mut request: ClaimTransferTweakKeysRequest,
) -> Result<(), ApiError> {
    let receiver = caller.require_key(
        "owner_identity_public_key",
        &request.owner_identity_public_key,
    )?;
    let id = transfer_id("transfer_id", &request.transfer_id)?;
    let tweaks = plain_tweaks(std::mem::take(&mut request.leaves_to_receive))?;
    let (row, place) = received(&api, &id, &receiver).await?;
    if !must_stage(&row, place)? {
        return Ok(());
    }
    check_leaves(&row, place, &tweaks)?;
    let opened: BTreeMap<LeafId, OpenedTweak> = api
        .core
        .signer
        .stage(tweaks)
        .await
        .map_err(refusal_of)?
        .into_iter()
        .map(|tweak| (tweak.leaf, tweak))
        .collect();
    for _ in 0..ATTEMPTS {
        let mut rows = Snapshot::new();
        let key = Key::new(Table::Transfer, TransferRow::id_of(&id));
        api.tables.load(&mut rows, [key]).await?;
        let row: Option<TransferRow> = rows
            .get(TransferRow::id_of(&id))
            .map_err(TableError::from)?;
        let mut row =
            row.ok_or_else(|| Refusal::new(Reason::MissingEntity, format!("transfer {id}")))?;
        if !must_stage(&row, place)? {
            return Ok(());
        }
        for leaf in &mut row.leaves {
            if usize::try_from(leaf.receiver) == Ok(place)
                && let Some(tweak) = opened.get(&leaf.leaf)
            {
                leaf.claim_tweak = Some(tweak.staged.clone());
                leaf.claim_proofs.clone_from(&tweak.proofs);
            }
        }
        if let Some(receiver) = row.receivers.get_mut(place) {
            receiver.phase = ClaimPhase::KeyTweaked;
        }
        let mut changes = Changes::new();
        changes.put(&rows, &row).map_err(TableError::from)?;
        match api.tables.write(&rows, changes).await {
            Ok(()) => return Ok(()),
            Err(TableError::Conflict) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(TableError::Conflict.into())
}

/// True if tweaks may still be put aside; false if the claim is further along, which is fine.
fn must_stage(row: &TransferRow, place: usize) -> Result<bool, Refusal> {
    let id = row.id;
    if row.receivers.len() > 1 {
        return Err(Refusal::new(
            Reason::InvalidState,
            format!("transfer {id} has multiple receivers: use claim_transfer"),
        ));
    }
    let phase = row.receivers.get(place).map(|receiver| receiver.phase);
    match (row.status, phase) {
        (_, Some(ClaimPhase::Completed)) => Err(claimed(&id)),
        (TransferStatus::SenderKeyTweaked, Some(ClaimPhase::Pending | ClaimPhase::KeyTweaked)) => {
            Ok(true)
        }
        (_, Some(ClaimPhase::KeyTweakApplied | ClaimPhase::RefundSigned)) => Ok(false),
        (_, Some(ClaimPhase::Locked(_))) => Err(Refusal::new(
            Reason::ConcurrentClaimConflict,
            format!("transfer {id} is being claimed: try again"),
        )),
        _ => Err(Refusal::new(
            Reason::InvalidState,
            format!(
                "transfer {id} cannot be claimed: its sender has not let go of it, or got it back"
            ),
        )),
    }
}

fn check_leaves(row: &TransferRow, place: usize, tweaks: &[PlainTweak]) -> Result<(), Refusal> {
    let wanted: BTreeSet<LeafId> = row.leaves_of(place).map(|leaf| leaf.leaf).collect();
    let mut given = BTreeSet::new();
    for tweak in tweaks {
        if !wanted.contains(&tweak.leaf) {
            return Err(malformed(
                "leaves_to_receive",
                format!("leaf {} is not part of this transfer", tweak.leaf),
            ));
        }
        if !given.insert(tweak.leaf) {
            return Err(Refusal::new(
                Reason::DuplicateField,
                format!("leaves_to_receive: leaf {} appears twice", tweak.leaf),
            ));
        }
    }
    match wanted.difference(&given).next() {
        None => Ok(()),
        Some(leaf) => Err(Refusal::new(
            Reason::MissingField,
            format!("leaves_to_receive: leaf {leaf} is missing, claim all leaves at once"),
        )),
    }
}

fn plain_tweaks(wire: Vec<ClaimLeafKeyTweak>) -> Result<Vec<PlainTweak>, Refusal> {
    if wire.len() > MAX_LEAVES {
        return Err(malformed(
            "leaves_to_receive",
            format!("{} leaves, {MAX_LEAVES} are the most", wire.len()),
        ));
    }
    wire.into_iter().map(plain_tweak).collect()
}

fn plain_tweak(wire: ClaimLeafKeyTweak) -> Result<PlainTweak, Refusal> {
    let field = "leaves_to_receive.secret_share_tweak";
    let mut share = wire.secret_share_tweak.ok_or_else(|| missing(field))?;
    // From here on the secret is wiped wherever this ends.
    let secret = Zeroizing::new(std::mem::take(&mut share.secret_share));
    let shares = "leaves_to_receive.pubkey_shares_tweak";
    Ok(PlainTweak {
        leaf: leaf_id("leaves_to_receive.leaf_id", &wire.leaf_id)?,
        share: secret,
        proofs: share
            .proofs
            .iter()
            .map(|point| public_key("leaves_to_receive.secret_share_tweak.proofs", point))
            .collect::<Result<_, _>>()?,
        public_shares: wire
            .pubkey_shares_tweak
            .iter()
            .map(|(identifier, point)| {
                Ok((operator(shares, identifier)?, public_key(shares, point)?))
            })
            .collect::<Result<_, Refusal>>()?,
    })
}

fn refusal_of(error: SignerError) -> Refusal {
    match error {
        SignerError::BadPackage(_) | SignerError::BadPreimage(_) => {
            Refusal::new(Reason::BadSignature, error.to_string())
        }
        other => {
            tracing::error!(error = %other, "signer");
            Refusal::new(Reason::Internal, "the operator's signer failed")
        }
    }
}
