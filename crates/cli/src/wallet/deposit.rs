use anyhow::{Context, Result};
use bitcoin::Txid;
use clap::Args;
use serde_json::json;

use super::folder::Folder;
use super::output::{Output, table};

#[derive(Args)]
pub(super) struct AddressArgs {
    /// The address that stays the same and may be used again and again. Its deposits are claimed through a service
    /// provider.
    #[arg(long = "static", conflicts_with = "list")]
    static_address: bool,
    /// List addresses that wait for their deposit instead of making a new one.
    #[arg(long)]
    list: bool,
}

#[derive(Args)]
pub(super) struct ClaimArgs {
    /// Transactions that paid deposit addresses of this wallet.
    #[arg(required = true, value_name = "TXID")]
    txids: Vec<String>,
}

pub(super) async fn address(folder: &Folder, args: AddressArgs, output: Output) -> Result<()> {
    let wallet = folder.open()?;
    if args.list {
        let addresses = wallet.unused_deposit_addresses().await?;
        let rows = addresses
            .iter()
            .map(|a| vec![a.address.clone(), a.leaf.to_string()])
            .collect::<Vec<_>>();
        return output.show(&json!({ "unused": addresses }), || {
            table(&["address", "leaf"], &rows)
        });
    }
    let address = if args.static_address {
        wallet.static_deposit_address().await?
    } else {
        wallet.deposit_address().await?
    };
    output.show(&address, || address.address.clone())
}

pub(super) async fn claim(folder: &Folder, args: ClaimArgs, output: Output) -> Result<()> {
    let txids = args
        .txids
        .iter()
        .map(|text| {
            text.parse::<Txid>()
                .with_context(|| format!("\"{text}\" is no transaction id (64 hex digits)"))
        })
        .collect::<Result<Vec<_>>>()?;
    let wallet = folder.open()?;
    let leaves = wallet.claim_transactions(&txids).await?;
    let value = leaves
        .iter()
        .map(|leaf| json!({ "leaf": leaf.id, "value": leaf.value, "status": leaf.status }))
        .collect::<Vec<_>>();
    let rows = leaves
        .iter()
        .map(|leaf| {
            vec![
                leaf.id.to_string(),
                leaf.value.0.to_string(),
                leaf.status.to_string(),
            ]
        })
        .collect::<Vec<_>>();
    output.show(&json!({ "leaves": value }), || {
        table(&["leaf", "sats", "status"], &rows)
    })
}
