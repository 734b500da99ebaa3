//! `finalize_deposit_tree_creation`: a deposit becomes a leaf.

use bitcoin::consensus::deserialize;
use bitcoin::{OutPoint, Transaction};
use tinderbox_flows::refusal::{Reason, Refusal};
use tinderbox_flows::request::{DepositRequest, Request, deposit_outpoints};
use tinderbox_flows::rows::{AddressRow, NodeRow, TreeRow};
use tinderbox_protocol::{LeafId, TreeId};

use crate::api::{Api, ApiError};
use crate::convert::field::{check_network, malformed, missing};
use crate::convert::package::required_job;
use crate::convert::spark::{
    FinalizeDepositTreeCreationRequest, FinalizeDepositTreeCreationResponse, Utxo,
};
use tinderbox_rpc::Caller;

/// Makes a tree of one or more outputs. A repeated call for the same output returns the same leaf.
pub async fn finalize_deposit_tree_creation(
    api: Api,
    caller: Caller,
    request: FinalizeDepositTreeCreationRequest,
) -> Result<FinalizeDepositTreeCreationResponse, ApiError> {
    let owner = caller.require_key("identity_public_key", &request.identity_public_key)?;
    let primary = request
        .on_chain_utxo
        .as_ref()
        .ok_or_else(|| missing("on_chain_utxo"))?;
    for utxo in std::iter::once(primary).chain(&request.additional_on_chain_utxos) {
        check_network(utxo.network, api.core.site.network)?;
    }
    let outputs: Vec<(Vec<u8>, u32)> = std::iter::once(primary)
        .chain(&request.additional_on_chain_utxos)
        .map(|utxo| (utxo.raw_tx.clone(), utxo.vout))
        .collect();
    let address = address_of(&api, primary).await?;
    if let Some(root) = existing(&api, &address, primary).await? {
        return respond(&api, root).await;
    }
    let mut deposit = DepositRequest {
        now: api.now(),
        owner,
        tree: TreeId::from_bytes16(api.random_id()),
        fallback_leaf: LeafId::from_bytes16(api.random_id()),
        outputs,
        root: required_job("root_tx_signing_job", request.root_tx_signing_job.as_ref())?,
        refund: required_job(
            "refund_tx_signing_job",
            request.refund_tx_signing_job.as_ref(),
        )?,
        direct_from_cpfp: required_job(
            "direct_from_cpfp_refund_tx_signing_job",
            request.direct_from_cpfp_refund_tx_signing_job.as_ref(),
        )?,
        confirmed: false,
    };
    deposit.confirmed = confirmed(&api, &deposit).await?;
    match api.run(Request::Deposit(Box::new(deposit))).await {
        Ok(_) => {}
        Err(refusal) if refusal.reason == Reason::DuplicateOperation => {
            // A call for the same output was faster.
            let address = address_of(&api, primary).await?;
            return match existing(&api, &address, primary).await? {
                Some(root) => respond(&api, root).await,
                None => Err(refusal.into()),
            };
        }
        Err(refusal) => return Err(refusal.into()),
    }
    let address = address_of(&api, primary).await?;
    let root = existing(&api, &address, primary).await?.ok_or_else(|| {
        Refusal::new(
            Reason::OperatorUnavailable,
            "the deposit could not be signed: fetch new signing commitments and try again",
        )
    })?;
    respond(&api, root).await
}

/// The deposit address that an output pays.
async fn address_of(api: &Api, utxo: &Utxo) -> Result<AddressRow, ApiError> {
    let tx: Transaction = deserialize(&utxo.raw_tx).map_err(|error| {
        malformed(
            "on_chain_utxo.raw_tx",
            format!("not a transaction: {error}"),
        )
    })?;
    let output = usize::try_from(utxo.vout)
        .ok()
        .and_then(|vout| tx.output.get(vout))
        .ok_or_else(|| {
            malformed(
                "on_chain_utxo.vout",
                format!(
                    "{} of a transaction with {} outputs",
                    utxo.vout,
                    tx.output.len()
                ),
            )
        })?;
    let row = api
        .tables
        .get::<AddressRow>(output.script_pubkey.to_bytes())
        .await?;
    Ok(row.ok_or_else(|| {
        Refusal::new(
            Reason::MissingEntity,
            "the output pays no deposit address of this network: check vout, and the network",
        )
    })?)
}

/// The leaf that was made of exactly this output.
async fn existing(
    api: &Api,
    address: &AddressRow,
    utxo: &Utxo,
) -> Result<Option<LeafId>, ApiError> {
    let Some(tree) = address.tree.filter(|_| address.pending.is_none()) else {
        return Ok(None);
    };
    let Some(tree) = api.tables.get::<TreeRow>(tree.bytes16()).await? else {
        return Ok(None);
    };
    let tx: Transaction = deserialize(&utxo.raw_tx).map_err(|error| {
        malformed(
            "on_chain_utxo.raw_tx",
            format!("not a transaction: {error}"),
        )
    })?;
    let outpoint = OutPoint::new(tx.compute_txid(), utxo.vout);
    if tree.base == outpoint {
        // After a renewal the root is a node above the leaf.
        Ok(Some(address.leaf.unwrap_or(tree.root)))
    } else {
        Err(Refusal::new(
            Reason::DuplicateOperation,
            format!(
                "address {} was used for the deposit {}",
                address.address, tree.base
            ),
        )
        .into())
    }
}

/// Asks the node, not the rows: the wallet may call in the second in which a block comes.
async fn confirmed(api: &Api, deposit: &DepositRequest) -> Result<bool, ApiError> {
    let outpoints = deposit_outpoints(deposit);
    let several = outpoints.len() > 1;
    let needed = api.core.site.deposit_confirmations;
    for outpoint in &outpoints {
        let found = api
            .core
            .chain
            .confirmations_of(outpoint)
            .await
            .map_err(|error| {
                tracing::error!(%error, "the node does not answer");
                Refusal::new(
                    Reason::OperatorUnavailable,
                    "the operator's Bitcoin node does not answer: try again",
                )
            })?;
        let depth = match (&found, several) {
            (Some(view), _) => view.confirmations,
            (None, false) => 0,
            (None, true) => {
                return Err(Refusal::new(
                    Reason::InsufficientConfirmations,
                    format!("utxo not found on-chain: {outpoint}"),
                )
                .into());
            }
        };
        if depth < needed {
            if several {
                return Err(Refusal::new(
                    Reason::InsufficientConfirmations,
                    format!(
                        "utxo {outpoint} is not yet confirmed: {depth} of {needed} confirmations"
                    ),
                )
                .into());
            }
            return Ok(false);
        }
    }
    Ok(true)
}

async fn respond(api: &Api, root: LeafId) -> Result<FinalizeDepositTreeCreationResponse, ApiError> {
    let node: Option<NodeRow> = api.nodes([root]).await?.into_iter().next();
    let nodes = api.tree_nodes(node.into_iter().collect()).await?;
    match nodes.into_values().next() {
        Some(node) => Ok(FinalizeDepositTreeCreationResponse {
            root_node: Some(node),
        }),
        None => Err(Refusal::new(Reason::Internal, "a new leaf is not in the database").into()),
    }
}
