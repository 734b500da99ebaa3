//! `tinderbox wallet invoice`.

use std::time::Duration;

use anyhow::{Context, Result};
use bitcoin::secp256k1::PublicKey;
use clap::{Args, Subcommand};
use serde_json::json;
use tinderbox_protocol::{Sats, SparkInvoice};
use tinderbox_wallet::InvoiceTerms;

use super::folder::Folder;
use super::output::Output;

#[derive(Subcommand)]
pub(super) enum InvoiceCommand {
    /// Ask for a payment: print an invoice.
    Create(CreateArgs),
    /// Pay an invoice. Operators let it be paid once only.
    Pay(PayArgs),
}

#[derive(Args)]
pub(super) struct CreateArgs {
    /// Amount in sats; without one the payer chooses.
    amount: Option<u64>,
    /// A note to the payer, of at most 120 bytes.
    #[arg(long)]
    memo: Option<String>,
    /// Identity key of the only one who may pay: 66 hex digits.
    #[arg(long, value_name = "KEY")]
    payer: Option<PublicKey>,
    /// Seconds for which it can be paid; without them it does not end.
    #[arg(long, value_name = "SECONDS")]
    lasts: Option<u64>,
}

#[derive(Args)]
pub(super) struct PayArgs {
    /// The invoice.
    invoice: String,
    /// Amount in sats, if the invoice leaves it to the payer.
    #[arg(long, value_name = "SATS")]
    amount: Option<u64>,
}

pub(super) async fn run(folder: &Folder, command: InvoiceCommand, output: Output) -> Result<()> {
    match command {
        InvoiceCommand::Create(args) => create(folder, args, output),
        InvoiceCommand::Pay(args) => pay(folder, args, output).await,
    }
}

fn create(folder: &Folder, args: CreateArgs, output: Output) -> Result<()> {
    let invoice = folder.open()?.create_invoice(InvoiceTerms {
        amount: args.amount.map(Sats),
        memo: args.memo,
        payer: args.payer,
        lasts: args.lasts.map(Duration::from_secs),
    })?;
    let value = json!({ "invoice": invoice.to_string(), "id": invoice.fields.id });
    output.show(&value, || invoice.to_string())
}

async fn pay(folder: &Folder, args: PayArgs, output: Output) -> Result<()> {
    let invoice: SparkInvoice = args
        .invoice
        .trim()
        .parse()
        .context("this is no Spark invoice: check it for typing errors")?;
    let payment = folder
        .open()?
        .pay_invoice(&invoice, args.amount.map(Sats))
        .await?;
    output.show(&payment, || {
        format!("paid {} with payment {}", payment.amount, payment.id)
    })
}
