//! `initiate_preimage_swap_v2`, `initiate_preimage_swap_v3`.

use std::collections::BTreeMap;
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::htlc::legacy::{LegacyReceiveRequest, fingerprint as legacy_fingerprint};
use tinderbox_flows::htlc::lock::{HashLockRequest, LockMode, fingerprint};
use tinderbox_flows::htlc::settle::PreimageRequest;
use tinderbox_flows::package::TweakPackage;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::Request;
use tinderbox_flows::rows::{HashLockRow, HashLockState, Millis, PreimageShareRow, TransferRow};
use tinderbox_flows::secret::Preimage;
use tinderbox_protocol::{Sats, TransferId};
use tinderbox_rpc::Caller;

use super::bytes32;
use crate::api::transfer::started;
use crate::api::{Api, ApiError};
use crate::convert::field::{instant, malformed, missing, public_key, transfer_id};
use crate::convert::package::{send_package, user_jobs};
use crate::convert::spark::initiate_preimage_swap_request::Reason as Direction;
use crate::convert::spark::{
    InitiatePreimageSwapRequest, InitiatePreimageSwapResponse, StartTransferRequest,
    StartUserSignedTransferRequest,
};

/// How long a payment whose preimage is known may take to be settled before the caller is told to
/// ask again.
const SETTLE: Duration = Duration::from_secs(8);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// Locks leaves against a payment hash; if the operators hold its preimage in shares, settles the
/// transfer and answers the preimage.
pub async fn initiate_preimage_swap(
    api: Api,
    caller: Caller,
    request: InitiatePreimageSwapRequest,
) -> Result<InitiatePreimageSwapResponse, ApiError> {
    let plain = request
        .transfer
        .as_ref()
        .ok_or_else(|| missing("transfer"))?;
    let sender = caller.require_key(
        "transfer.owner_identity_public_key",
        &plain.owner_identity_public_key,
    )?;
    let payment_hash = bytes32("payment_hash", &request.payment_hash)?;
    let receiver = public_key(
        "receiver_identity_public_key",
        &request.receiver_identity_public_key,
    )?;
    let Some(start) = &request.transfer_request else {
        let receives = request.reason == i32::from(Direction::Receive);
        if api.legacy_receive && receives {
            return legacy(&api, plain, sender, receiver, payment_hash).await;
        }
        return Err(missing("transfer_request").into());
    };
    check_equal(plain, start, &sender, &receiver)?;
    let package = start
        .transfer_package
        .as_ref()
        .ok_or_else(|| missing("transfer_request.transfer_package"))?;
    let expiry = match instant("transfer_request.expiry_time", start.expiry_time.as_ref())? {
        None => instant("transfer.expiry_time", plain.expiry_time.as_ref())?,
        given => given,
    };
    let mode = mode(&api, request.reason, &payment_hash).await?;
    let (amount, invoice) = match &request.invoice_amount {
        Some(amount) => {
            let proof = amount.invoice_amount_proof.as_ref();
            let bolt11 = proof.map(|proof| proof.bolt11_invoice.clone());
            (Sats(amount.value_sats), bolt11.unwrap_or_default())
        }
        None => (Sats(0), String::new()),
    };
    let lock = HashLockRequest {
        now: api.now(),
        transfer: transfer_id("transfer.transfer_id", &plain.transfer_id)?,
        sender,
        receiver,
        payment_hash,
        mode,
        package: send_package(package)?,
        plain: user_jobs("transfer.leaves_to_send", &plain.leaves_to_send)?,
        expiry: expiry_of(mode, expiry, api.now())?,
        amount,
        fee: Sats(request.fee_sats),
        invoice,
    };
    let (id, mark) = (lock.transfer, fingerprint(&lock));
    let row = started(&api, Request::HashLock(Box::new(lock)), &id, &sender, &mark).await?;
    let (preimage, row) = match mode {
        LockMode::Send | LockMode::Hold => (None, row),
        LockMode::Receive => {
            let (preimage, row) = paid(&api, &id, &receiver).await?;
            (Some(preimage), row)
        }
    };
    Ok(InitiatePreimageSwapResponse {
        preimage: preimage
            .map(|preimage| preimage.0.to_vec())
            .unwrap_or_default(),
        transfer: Some(api.show_one(row, &sender).await?),
    })
}

/// The older form: the preimage now, the tweaks later.
async fn legacy(
    api: &Api,
    plain: &StartUserSignedTransferRequest,
    sender: PublicKey,
    receiver: PublicKey,
    payment_hash: [u8; 32],
) -> Result<InitiatePreimageSwapResponse, ApiError> {
    let refunds = TweakPackage {
        cpfp: user_jobs("transfer.leaves_to_send", &plain.leaves_to_send)?,
        direct: user_jobs(
            "transfer.direct_leaves_to_send",
            &plain.direct_leaves_to_send,
        )?,
        direct_from_cpfp: user_jobs(
            "transfer.direct_from_cpfp_leaves_to_send",
            &plain.direct_from_cpfp_leaves_to_send,
        )?,
        tweaks: BTreeMap::new(),
        user_signature: Vec::new(),
        hash_variant: 1,
    };
    let request = LegacyReceiveRequest {
        now: api.now(),
        transfer: transfer_id("transfer.transfer_id", &plain.transfer_id)?,
        sender,
        receiver,
        payment_hash,
        refunds,
    };
    let (id, mark) = (request.transfer, legacy_fingerprint(&request));
    let request = Request::LegacyReceive(Box::new(request));
    let row = started(api, request, &id, &sender, &mark).await?;
    let lock = api
        .tables
        .get::<HashLockRow>(HashLockRow::id_of(&id))
        .await?;
    let preimage = lock
        .as_ref()
        .and_then(HashLockRow::shared)
        .ok_or_else(|| worthless(&id))?;
    Ok(InitiatePreimageSwapResponse {
        preimage: preimage.0.to_vec(),
        transfer: Some(api.show_one(row, &sender).await?),
    })
}

fn worthless(id: &TransferId) -> Refusal {
    Refusal::new(
        Reason::InvalidState,
        format!(
            "transfer {id} is RETURNED: the shares that its receiver stored do not give the preimage"
        ),
    )
}

/// What one time is said in both parts must be the same.
fn check_equal(
    plain: &StartUserSignedTransferRequest,
    start: &StartTransferRequest,
    sender: &PublicKey,
    receiver: &PublicKey,
) -> Result<(), Refusal> {
    let differs = |field| Err(malformed(field, "transfer and transfer_request differ"));
    if transfer_id("transfer_request.transfer_id", &start.transfer_id)?
        != transfer_id("transfer.transfer_id", &plain.transfer_id)?
    {
        return differs("transfer_id");
    }
    if start.owner_identity_public_key != sender.serialize() {
        return differs("owner_identity_public_key");
    }
    if [
        &start.receiver_identity_public_key,
        &plain.receiver_identity_public_key,
    ]
    .iter()
    .any(|key| key.as_slice() != receiver.serialize())
    {
        return differs("receiver_identity_public_key");
    }
    let times = (
        instant("transfer.expiry_time", plain.expiry_time.as_ref())?,
        instant("transfer_request.expiry_time", start.expiry_time.as_ref())?,
    );
    match times {
        (Some(one), Some(other)) if one != other => differs("expiry_time"),
        _ => Ok(()),
    }
}

/// A payment from Lightning is settled at once if shares of its preimage are stored.
async fn mode(api: &Api, reason: i32, payment_hash: &[u8; 32]) -> Result<LockMode, ApiError> {
    match Direction::try_from(reason) {
        Ok(Direction::Send) => Ok(LockMode::Send),
        Ok(Direction::Receive) => {
            let share = api.tables.get::<PreimageShareRow>(*payment_hash);
            if share.await?.is_some() {
                return Ok(LockMode::Receive);
            }
            // The shares are gone once they were given: a retry is about a transfer that is there.
            let mut scan = tinderbox_store::Scan::prefix(
                tinderbox_flows::record::Index::HashLockByHash,
                payment_hash,
            );
            scan.limit = 64;
            let revealed = api.tables.scan::<HashLockRow>(scan).await?.into_iter();
            Ok(
                if revealed.map(|found| found.row.state).any(|state| {
                    matches!(state, HashLockState::Revealed(_) | HashLockState::Shared(_))
                }) {
                    LockMode::Receive
                } else {
                    LockMode::Hold
                },
            )
        }
        Err(_) => Err(malformed("reason", "unknown: use 0 to send, 1 to receive").into()),
    }
}

fn expiry_of(
    mode: LockMode,
    expiry: Option<Millis>,
    now: Millis,
) -> Result<Option<Millis>, Refusal> {
    match (mode, expiry) {
        (LockMode::Receive, _) => Ok(None),
        (_, None) => Err(missing("transfer.expiry_time")),
        (_, Some(expiry)) if expiry <= now => {
            Err(malformed("transfer.expiry_time", "it is over already"))
        }
        (_, given) => Ok(given),
    }
}

/// Waits for the settlement of a transfer whose preimage the operators hold, and brings it about.
async fn paid(
    api: &Api,
    id: &TransferId,
    receiver: &PublicKey,
) -> Result<(Preimage, TransferRow), ApiError> {
    let deadline = tokio::time::Instant::now() + SETTLE;
    loop {
        let row = api.transfer(id).await?;
        let lock = api
            .tables
            .get::<HashLockRow>(HashLockRow::id_of(id))
            .await?;
        match (row, lock.map(|lock| lock.state)) {
            (Some(row), Some(HashLockState::Shared(preimage))) if row.held.is_none() => {
                return Ok((preimage, row));
            }
            (Some(row), Some(HashLockState::Revealed(preimage))) if row.held.is_none() => {
                let settle = PreimageRequest {
                    now: api.now(),
                    transfer: *id,
                    receiver: *receiver,
                    preimage,
                };
                match api.run(Request::Preimage(Box::new(settle))).await {
                    Ok(_) => continue,
                    Err(refusal)
                        if refusal.is_transient()
                            || refusal.reason == Reason::DuplicateOperation => {}
                    Err(refusal) => return Err(refusal.into()),
                }
            }
            (_, Some(HashLockState::Returned)) => {
                return Err(worthless(id).into());
            }
            _ => {}
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(Refusal::new(
                Reason::OperatorUnavailable,
                format!("transfer {id} is being settled and cannot be returned: ask again"),
            )
            .into());
        }
        tokio::time::sleep(LOOK).await;
    }
}
