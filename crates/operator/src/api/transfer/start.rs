//! `start_transfer_v2`, `start_transfer_v3`.

use std::collections::BTreeMap;
use std::time::Duration;

use bitcoin::secp256k1::PublicKey;
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::{Request, SendRequest};
use tinderbox_flows::rows::{Millis, TransferRow};
use tinderbox_flows::send::fingerprint;
use tinderbox_protocol::{LeafId, TransferId};

use crate::api::{Api, ApiError};
use crate::convert::field::{instant, leaf_id, malformed, missing, public_key, transfer_id};
use crate::convert::package::send_package;
use crate::convert::spark::{
    StartTransferRequest, StartTransferResponse, StartTransferV3Request, TransferPackage,
};
use tinderbox_rpc::Caller;

/// How long a decided transfer may take to be finished before the wallet is told to ask again.
const FINISH: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// Sends leaves to one receiver.
pub async fn start_transfer_v2(
    api: Api,
    caller: Caller,
    request: StartTransferRequest,
) -> Result<StartTransferResponse, ApiError> {
    let sender = caller.require_key(
        "owner_identity_public_key",
        &request.owner_identity_public_key,
    )?;
    let receiver = public_key(
        "receiver_identity_public_key",
        &request.receiver_identity_public_key,
    )?;
    let package = request
        .transfer_package
        .as_ref()
        .ok_or_else(|| missing("transfer_package"))?;
    let receivers = leaves_of(package)?
        .into_iter()
        .map(|leaf| (leaf, receiver))
        .collect();
    let send = SendRequest {
        now: api.now(),
        transfer: transfer_id("transfer_id", &request.transfer_id)?,
        sender,
        receivers,
        package: send_package(package)?,
        expiry: expiry(&api, request.expiry_time.as_ref())?,
        invoice: request.spark_invoice,
    };
    start(&api, send).await
}

/// Sends leaves to several receivers at once.
pub async fn start_transfer_v3(
    api: Api,
    caller: Caller,
    request: StartTransferV3Request,
) -> Result<StartTransferResponse, ApiError> {
    let [sent] = request.sender_packages.as_slice() else {
        return Err(malformed(
            "sender_packages",
            format!(
                "{} packages, exactly one is served",
                request.sender_packages.len()
            ),
        )
        .into());
    };
    let sender = caller.require_key(
        "sender_packages.owner_identity_public_key",
        &sent.owner_identity_public_key,
    )?;
    let package = sent
        .transfer_package
        .as_ref()
        .ok_or_else(|| missing("sender_packages.transfer_package"))?;
    let field = "sender_packages.receiver_identity_public_keys";
    let receivers: BTreeMap<LeafId, PublicKey> = sent
        .receiver_identity_public_keys
        .iter()
        .map(|(leaf, key)| Ok((leaf_id(field, leaf)?, public_key(field, key)?)))
        .collect::<Result<_, Refusal>>()?;
    let send = SendRequest {
        now: api.now(),
        transfer: transfer_id("transfer_id", &request.transfer_id)?,
        sender,
        receivers,
        package: send_package(package)?,
        expiry: expiry(&api, request.expiry_time.as_ref())?,
        invoice: String::new(),
    };
    start(&api, send).await
}

pub(super) fn leaves_of(package: &TransferPackage) -> Result<Vec<LeafId>, Refusal> {
    package
        .leaves_to_send
        .iter()
        .map(|job| leaf_id("leaves_to_send.leaf_id", &job.leaf_id))
        .collect()
}

pub(super) fn expiry(
    api: &Api,
    time: Option<&prost_types::Timestamp>,
) -> Result<Option<Millis>, Refusal> {
    match instant("expiry_time", time)? {
        Some(expiry) if expiry <= api.now() => Err(malformed("expiry_time", "it is over already")),
        other => Ok(other),
    }
}

/// Runs the flow, or returns the outcome of an earlier call with the same request.
async fn start(api: &Api, send: SendRequest) -> Result<StartTransferResponse, ApiError> {
    let (id, sender, mark) = (send.transfer, send.sender, fingerprint(&send));
    let row = started(api, Request::Send(Box::new(send)), &id, &sender, &mark).await?;
    Ok(StartTransferResponse {
        transfer: Some(api.show_one(row, &sender).await?),
        signing_results: Vec::new(),
    })
}

/// The transfer that `request` starts, or that an earlier call with the same request has started;
/// `mark` is the request's fingerprint.
pub(in crate::api) async fn started(
    api: &Api,
    request: Request,
    id: &TransferId,
    sender: &PublicKey,
    mark: &[u8; 32],
) -> Result<TransferRow, ApiError> {
    if let Some(done) = outcome_of(api, id, sender, mark).await? {
        return Ok(done);
    }
    match api.run(request).await {
        Ok(_) => {}
        Err(refusal) if is_unclear(&refusal) => {
            // The same request may be on its way through another connection, or this one was
            // decided and only not finished in time.
            if let Some(done) = outcome_of(api, id, sender, mark).await? {
                return Ok(done);
            }
            return Err(refusal.into());
        }
        Err(refusal) => return Err(refusal.into()),
    }
    match outcome_of(api, id, sender, mark).await? {
        Some(done) => Ok(done),
        None => Err(Refusal::new(Reason::Internal, "a new transfer is not in the database").into()),
    }
}

fn is_unclear(refusal: &Refusal) -> bool {
    refusal.reason == Reason::DuplicateOperation
        || refusal.is_transient()
        || refusal.facts.contains_key("decided")
}

/// What became of an earlier call: none if there was none (or it was refused, which leaves
/// nothing), a refusal if it was another request.
async fn outcome_of(
    api: &Api,
    id: &TransferId,
    sender: &PublicKey,
    mark: &[u8; 32],
) -> Result<Option<TransferRow>, ApiError> {
    let deadline = tokio::time::Instant::now() + FINISH;
    loop {
        let Some(row) = api.transfer(id).await? else {
            return Ok(None);
        };
        if row.fingerprint != *mark || row.sender != *sender {
            return Err(Refusal::new(
                Reason::DuplicateOperation,
                format!("transfer {id} exists already: choose a new id, or send the same request"),
            )
            .into());
        }
        if row.held.is_none() {
            return Ok(Some(row));
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(Refusal::new(
                Reason::OperatorUnavailable,
                format!("transfer {id} waits for another operator: ask again"),
            )
            .into());
        }
        tokio::time::sleep(LOOK).await;
    }
}
